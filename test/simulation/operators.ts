/** What people do: the product's own commands, without their files and without arguments. */
import { recoverIn, type RecoverConfig } from "../../src/cli/recover/recover-in.ts";
import { resetIn } from "../../src/cli/offsets/offset-reset.ts";
import { expectReachable } from "../../src/cli/offsets/offset-transfer.ts";
import { findMillraceError, isAborted } from "../../src/core/errors.ts";
import type { StateDump, StateStore } from "../../src/core/contracts/state-store.ts";
import { askWhileStopped, pauseWhileStopped, resumeWhileStopped } from "../../src/runtime/control/while-stopped.ts";
import { releaseLease, takeLease } from "../../src/daemon/lease.ts";
import type { AllSaved } from "./proofs.ts";
import type { SimulatedProcess } from "./scheduler.ts";
import { SimulatedSink } from "./sinks.ts";
import { briefly } from "./tracing.ts";
import type { World } from "./world.ts";

export interface SnapshotAsked {
  readonly sinks: readonly string[];
  readonly tables: readonly string[];
  readonly where: string | null;
}

export class Operators {
  readonly #world: World;
  readonly #commands = new Set<{ readonly daemon: World["daemon"] }>();

  constructor(world: World) {
    this.#world = world;
  }

  /** Somebody waits for a command's answer. A daemon that is dead gives none. */
  get isAtWork(): boolean {
    return [...this.#commands].some(({ daemon }) => daemon === this.#world.daemon);
  }

  async pause(name: string): Promise<void> {
    const control = this.#world.daemon?.running?.control;
    await this.#told("pause", async () => {
      if (control !== undefined) await control.pause(name);
      else await this.#beside((state) => state.sinks.setPaused(name, true));
    });
  }

  async resume(name: string): Promise<void> {
    const control = this.#world.daemon?.running?.control;
    await this.#told("resume", async () => {
      if (control !== undefined) await control.resume(name);
      else await this.#beside((state) => state.sinks.setPaused(name, false));
    });
  }

  async pauseTable(name: string, id: string): Promise<void> {
    const control = this.#world.daemon?.running?.control;
    await this.#told("pause --tables", async () => {
      if (control !== undefined) await control.pause(name, [id]);
      else await this.#beside((state) => pauseWhileStopped(state, this.#world.newProcess("c").clock, name, [id]));
    });
  }

  async resumeTable(name: string, id: string): Promise<void> {
    const control = this.#world.daemon?.running?.control;
    await this.#told("resume --tables", async () => {
      if (control !== undefined) await control.resume(name, [id]);
      else await this.#beside((state) => resumeWhileStopped(state, "initial", name, [id]));
    });
  }

  /** Through the daemon where one runs, else in the state. */
  async snapshot(request: SnapshotAsked): Promise<void> {
    const control = this.#world.daemon?.running?.control;
    await this.#told("snapshot start", async () => {
      if (control !== undefined) {
        await control.startSnapshot(request);
        return;
      }
      const takers = this.#world.configured.map(({ traits }) => traits.name);
      await this.#beside(async (state) => {
        const known = (await state.schemas.list()).map(({ id }) => id);
        const tableIds = request.tables.length === 0 ? known : known.filter((id) => request.tables.includes(id));
        const sinks = request.sinks.length === 0 ? takers : request.sinks;
        const isWhole = request.tables.length === 0;
        await askWhileStopped(state, { sinks, tableIds, where: request.where, isWhole, takers });
      });
    });
  }

  /** Lets a table go on that waits for it. */
  async approve(id: string): Promise<void> {
    const suspended = await this.#world.beside.suspensions.list();
    if (suspended.some(({ sink, tableId }) => sink === null && tableId === id))
      await this.snapshot({ sinks: [], tables: [id], where: null });
  }

  async reset(sink: string | null, to: string): Promise<void> {
    await this.#alone(`offsets reset --to ${to}`, async (state, process) => {
      const source = this.#world.sourceFor(process);
      const chosen = sink === null ? this.#world.configured.map(({ traits }) => traits.name) : [sink];
      await resetIn(this.#config(process), state, source, chosen, { to, isConfirmed: true });
      for (const target of this.#world.targets) this.#world.checks.forget(target);
    });
  }

  async recover(sink: string | null, isForced: boolean): Promise<void> {
    await this.#alone("recover", async (state, process) => {
      const log = this.#world.loggerOf(process);
      const request = { sink, isForced, isConfirmed: true };
      const { lost, epoch, applied } = await recoverIn(
        { log, clock: process.clock },
        this.#config(process),
        state,
        request,
      );
      this.#world.say(() => `recover: ${applied ? `epoch ${epoch}` : "nothing to do"} ${lost?.code ?? ""}`);
      if (!applied) return;
      this.#world.server.isRestored = false;
      for (const target of this.#world.targets) this.#world.checks.forget(target);
    });
  }

  /** What Millrace made goes; rows stay. */
  async teardown(withSinks: boolean): Promise<void> {
    await this.#alone("teardown", async (_state, process) => {
      const { server, targets, state, checks } = this.#world;
      await this.#world
        .sourceFor(process)
        .admin.remove?.({ identity: null, makes: true }, new AbortController().signal);
      server.slot = null;
      if (withSinks) for (const target of targets) target.forget();
      state.clear();
      for (const target of targets) checks.restart(target);
    });
  }

  async export(): Promise<StateDump> {
    return await this.#world.beside.dump();
  }

  async import(dump: StateDump, saved: AllSaved): Promise<void> {
    await this.#alone("offsets import", async (state, process) => {
      const log = this.#world.loggerOf(process);
      await expectReachable({ log, clock: process.clock }, this.#config(process), this.#world.sourceFor(process), dump);
      await state.restore(dump);
      await this.#world.proofs.stateRestored(saved);
    });
  }

  /** What it promises is looked at, where nothing was committed, or taken back, meanwhile. */
  async wait(): Promise<void> {
    const { checks, daemon, server, plan } = this.#world;
    const control = daemon?.running?.control;
    if (control === undefined) return;
    const { database } = server;
    const before = database.commitCount;
    await this.#told("wait", async () => {
      const { reached } = await control.wait(2_000, new AbortController().signal);
      this.#world.say(() => `wait: ${reached ? "everything is there" : "not in time"}`);
      const isStill = database.commitCount === before && database.committingXids.length === 0;
      // Whoever changes a sink by hand, or the source without a word, is seen at the next look.
      const isSeen = !plan.happenings.some(({ what }) => UNSEEN.has(what));
      if (reached && isStill && isSeen) checks.equal(database.tables, this.#world, this.#world.configured);
    });
  }

  /** In the place of a daemon, under its lease. */
  async #alone(what: string, work: (state: StateStore, process: SimulatedProcess) => Promise<void>): Promise<void> {
    const world = this.#world;
    const process = world.newProcess("c");
    world.holds++;
    await this.#told(what, async () => {
      const state = world.state.open(process);
      const isGone = (holder: string): boolean => world.isGone(holder);
      const { number: lease } = (await takeLease({ state, holder: process.name, isGone })).lease;
      try {
        await work(state, process);
      } finally {
        await releaseLease(state, lease, world.loggerOf(process));
      }
    });
    process.kill();
    world.holds--;
  }

  async #beside(work: (state: StateStore) => Promise<void>): Promise<void> {
    await work(this.#world.beside);
  }

  /** What the product refuses is said; whatever else goes wrong is a defect. */
  async #told(what: string, work: () => Promise<void>): Promise<void> {
    const command = { daemon: this.#world.daemon };
    this.#commands.add(command);
    try {
      await work();
    } catch (error) {
      const known = findMillraceError(error);
      this.#world.say(() => `${what}: ${briefly(error)}`);
      if (known === undefined && !isAborted(error)) throw error;
    } finally {
      this.#commands.delete(command);
    }
  }

  #config(process: SimulatedProcess): RecoverConfig {
    const sinks = this.#world.configured.map((target) => ({
      name: target.traits.name,
      tables: [],
      documents: null,
      connector: { create: async () => new SimulatedSink(process, target) },
    }));
    const source = { tables: ["*.*"], connector: { create: async () => this.#world.bareSourceFor(process) } };
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what the commands ask of a configuration
    return { sinks, source, rules: this.#world.configuredRules } as unknown as RecoverConfig;
  }
}

const UNSEEN: ReadonlySet<string> = new Set([
  "evict",
  "empty",
  "table lost",
  "sink restored",
  "unlogged",
  "detach",
  "source restored",
  "state restored",
  "refuse",
  "spoil",
  "export",
  "without sink",
  "pause table",
]);
