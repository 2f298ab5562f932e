/** The processes that share the tables: the product's supervisor in each, and its shares' daemons as processes of their own. */
import { pause, type Scope, scopeOf } from "../../../src/core/clock.ts";
import { findMillraceError, isAborted } from "../../../src/core/errors.ts";
import { isTriedAgain } from "../../../src/runtime/retry.ts";
import { keepShareRunning, supervise } from "../../../src/sharing/supervisor.ts";
import type { Daemon } from "../daemon.ts";
import type { SimulatedProcess } from "../scheduler.ts";
import { wholly } from "../tracing.ts";
import { SimulatedChild } from "./child.ts";
import { groupOf } from "./parts.ts";
import type { KafkaWorld } from "./world.ts";

const START_AGAIN_MS = 500;

export interface Machine {
  readonly process: SimulatedProcess;
  readonly scope: Scope;
  /** By share, the process that runs it, or ran it last. */
  readonly children: Map<number, SimulatedChild>;
}

export class Machines {
  readonly #world: KafkaWorld;
  #running: Machine[] = [];

  constructor(world: KafkaWorld) {
    this.#world = world;
  }

  get running(): readonly Machine[] {
    return this.#running;
  }

  start(): void {
    const world = this.#world;
    const process = world.newProcess("m");
    const machine: Machine = { process, scope: scopeOf(), children: new Map() };
    this.#running.push(machine);
    world.say(() => `${process.name} starts`);
    process.onDeath(() => (this.#running = this.#running.filter((one) => one !== machine)));
    const { clock } = process;
    const logger = world.loggerOf(process);
    const { broker, division } = world;
    const keepRunning = async (number: number, signal: AbortSignal): Promise<void> =>
      await keepShareRunning({ number, start: () => this.#startChild(machine, number), clock, logger }, signal);
    const { signal: until } = machine.scope;
    const run = async (): Promise<void> => {
      const group = groupOf(process, broker, division);
      await supervise({ group, joined: async () => undefined, keepRunning, logger }, until);
    };
    // As a process does while the brokers are away when it starts.
    const runUntilHealed = async (): Promise<void> => {
      for (;;) {
        try {
          return await run();
        } catch (error) {
          if (until.aborted || !process.isAlive || !isTriedAgain(error)) throw error;
          await pause(clock, START_AGAIN_MS, until);
        }
      }
    };
    void runUntilHealed().then(
      () => process.kill(),
      (error: unknown) => {
        if (process.isAlive) world.checks.fail(`${process.name} ended: ${wholly(error)}`);
      },
    );
  }

  #startChild(machine: Machine, number: number): SimulatedChild {
    const world = this.#world;
    const process = world.newProcess("c", machine.process);
    world.say(() => `${process.name} of ${machine.process.name} runs share ${number}`);
    const site = world.shares[number - 1]!;
    const onEnd = (daemon: Daemon): void => this.#ended(daemon, number);
    const child = new SimulatedChild({ supervisor: machine.process, process, site, onEnd });
    machine.children.set(number, child);
    return child;
  }

  #ended({ process, error, isStopping }: Daemon, number: number): void {
    const world = this.#world;
    if (error === null || isAborted(error)) return;
    const known = findMillraceError(error);
    if (isStopping && known?.kind === "retryable") return;
    world.say(() => `${process.name} ended: ${known?.code ?? ""} ${wholly(error)}`);
    if (known === undefined) world.checks.fail(`the daemon of share ${number} ended: ${wholly(error)}`);
    else world.judge(known, number);
  }

  /** The daemon that has this share and streams; null: none does now. */
  daemonOf(share: number): Daemon | null {
    for (const { children } of this.#running) {
      const child = children.get(share);
      if (child?.process.isAlive === true && child.daemon.running !== null) return child.daemon;
    }
    return null;
  }

  /** One that runs. */
  machine(ordinal: number): Machine | undefined {
    return this.#running[ordinal % Math.max(1, this.#running.length)];
  }

  childOf(share: number): SimulatedChild | undefined {
    const children = this.#running.flatMap((machine) => machine.children.get(share) ?? []);
    return children.find(({ process }) => process.isAlive);
  }
}
