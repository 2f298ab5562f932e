/** Does what a plan with Kafka says. */
import { recoverIn, type RecoverConfig } from "../../../src/cli/recover/recover-in.ts";
import { findMillraceError, isAborted } from "../../../src/core/errors.ts";
import { logTopic } from "../../../connectors/kafka/names.ts";
import { releaseLease, takeLease } from "../../../src/daemon/lease.ts";
import type { SimulatedProcess } from "../scheduler.ts";
import { fairWeather, worsen } from "../network.ts";
import { postgresLikeSource } from "../postgres-source.ts";
import { OTHER_NAME } from "../ruling.ts";
import { transact } from "../transacting.ts";
import { briefly, wholly } from "../tracing.ts";
import { SINK_MS, SOURCE_MS } from "../world.ts";
import { BROKER_MS } from "./broker.ts";
import type { KafkaHappening } from "./happenings.ts";
import { NAMING } from "./log-checks.ts";
import { captureSinks } from "./parts.ts";
import type { KafkaWorld } from "./world.ts";

/** A lease is free after so long. */
const TAKEN_OVER_MS = 15_100;

export class KafkaActs {
  readonly #world: KafkaWorld;

  constructor(world: KafkaWorld) {
    this.#world = world;
  }

  happen(happening: KafkaHappening): void {
    const world = this.#world;
    if (!world.isStormy) return;
    if (happening.what !== "transaction") world.say(() => `** ${JSON.stringify(happening)}`);
    this.#happen(happening).catch((error: unknown) => world.checks.fail(`an act failed: ${wholly(error)}`));
  }

  async #happen(happening: KafkaHappening): Promise<void> {
    const world = this.#world;
    const { scheduler, server, machines, capture } = world;
    switch (happening.what) {
      case "transaction":
        return transact(world, happening);
      case "alter": {
        const table = server.database.table(happening.table);
        if (table !== undefined) server.database.alter(table, happening.how);
        return;
      }
      case "rename":
        return world.renameNamed(OTHER_NAME);
      case "capture crash":
        if (capture === null) return;
        capture.process.killAfter(happening.afterCalls);
        capture.process.onDeath(() => scheduler.after(happening.downMs, () => world.startCapture()));
        return;
      case "capture stop":
        return await world.whileCaptureStopped(happening.downMs, async () => undefined);
      case "capture stands still": {
        if (capture === null) return;
        capture.process.standStill(happening.forMs);
        if (happening.forMs < TAKEN_OVER_MS) return;
        await world.sleep(TAKEN_OVER_MS);
        if (!world.isStormy || world.capture !== capture) return;
        // The server has given up who is silent for so long.
        if (server.reader === capture.process) server.reader = null;
        return world.replaceCapture();
      }
      case "capture rules":
        return await world.whileCaptureStopped(happening.downMs, async () => void (world.rules = happening.kind));
      case "capture recovers":
        return await world.whileCaptureStopped(0, () => this.#recover());
      case "crash": {
        const machine = machines.machine(happening.process);
        const { downMs } = happening;
        if (machine === undefined) return;
        machine.process.killAfter(happening.afterCalls);
        machine.process.onDeath(() => this.#again(downMs));
        return;
      }
      case "stop": {
        const machine = machines.machine(happening.process);
        if (machine === undefined) return;
        machine.process.onDeath(() => this.#again(happening.downMs));
        machine.scope.end();
        return;
      }
      case "stands still": {
        const machine = machines.machine(happening.process);
        if (machine === undefined) return;
        machine.process.standStill(happening.forMs);
        if (happening.withShares)
          for (const { process } of machine.children.values()) process.standStill(happening.forMs);
        return;
      }
      case "another process":
        return machines.start();
      case "share crash":
        machines.childOf(happening.share)?.process.killAfter(happening.afterCalls);
        return;
      case "share stands still":
        machines.childOf(happening.share)?.process.standStill(happening.forMs);
        return;
      case "snapshot": {
        const control = machines.daemonOf(happening.share)?.running?.control;
        return await this.#told("snapshot start", async () => {
          await control?.startSnapshot({ sinks: [], tables: [], where: null });
        });
      }
      case "weather": {
        const { place, kind, forMs } = happening;
        const places =
          place === "broker"
            ? [[world.broker.weather, BROKER_MS] as const]
            : place === "source"
              ? [[server.weather, SOURCE_MS] as const]
              : world.shares[place - 1]!.targets.map(({ weather }) => [weather, SINK_MS] as const);
        for (const [weather, usualMs] of places) {
          worsen(weather, kind);
          scheduler.after(forMs, () => Object.assign(weather, fairWeather(usualMs)));
        }
        return;
      }
      case "brokers killed":
        return world.broker.killAtNextEnd(happening.downMs);
      case "retention":
        return await this.#retention();
      default:
        happening satisfies never;
    }
  }

  #again(downMs: number | null): void {
    const world = this.#world;
    if (downMs !== null) world.scheduler.after(downMs, () => world.machines.start());
  }

  /** What every share has stored that its sinks have; one that has stored nothing yet begins at the end. */
  async #retention(): Promise<void> {
    const { shares, broker } = this.#world;
    const log = broker.log(logTopic(NAMING), 0);
    if (log === null) return;
    let least = log.stable;
    for (const { state } of shares) {
      const offset = (await this.#world.beside(state).source.get())?.identity?.["offset"];
      if (offset !== undefined && BigInt(offset) < least) least = BigInt(offset);
    }
    log.cut(least);
  }

  /** `millrace recover --anyway` of the capturing daemon. */
  async #recover(): Promise<void> {
    const world = this.#world;
    const process = world.newProcess("o");
    await this.#told("recover", async () => {
      const state = world.captureState.open(process);
      const isGone = (holder: string): boolean => world.captureSite.isGone(holder, process);
      const { number: lease } = (await takeLease({ state, holder: process.name, isGone })).lease;
      try {
        const log = world.loggerOf(process);
        await recoverIn({ log, clock: process.clock }, this.#config(process), state, {
          sink: null,
          isForced: true,
          isConfirmed: true,
        });
      } finally {
        await releaseLease(state, lease, world.loggerOf(process));
      }
    });
    process.kill();
  }

  async #told(what: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#world.say(() => `${what}: ${briefly(error)}`);
      if (findMillraceError(error) === undefined && !isAborted(error)) throw error;
    }
  }

  #config(process: SimulatedProcess): RecoverConfig {
    const { server, broker, plan } = this.#world;
    const made = () => captureSinks(process, broker, plan);
    const sinks = made().map(({ name }, i) => ({
      name,
      tables: [],
      documents: null,
      connector: { create: async () => made()[i]! },
    }));
    const source = { tables: ["public.*"], connector: { create: async () => postgresLikeSource(process, server) } };
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what the command asks of a configuration
    return { sinks, source, rules: this.#world.captureSite.configuredRules } as unknown as RecoverConfig;
  }
}
