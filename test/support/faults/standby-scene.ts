/** Writers on a primary, and a daemon that reads at its standby. */
import { expect } from "vitest";
import type { Daemon } from "../daemon/daemon-process.ts";
import type { SinkKind } from "../daemon/sink-set.ts";
import { createFreshDatabase } from "../run/fresh-database.ts";
import { FailoverPair } from "./failover-pair.ts";
import { Load, Victim } from "./fault-load.ts";

const ROWS = 150;

interface StandbyOptions {
  readonly seed: number;
  readonly kinds: readonly SinkKind[];
  /** The daemon knows the primary too. Else the publication is made there, as `check` says. Default: true. */
  readonly hasPrimary?: boolean;
}

export class StandbyScene implements AsyncDisposable {
  readonly pair: FailoverPair;
  readonly load: Load;
  readonly victim: Victim;
  readonly #owned: AsyncDisposableStack;

  private constructor(pair: FailoverPair, load: Load, victim: Victim, owned: AsyncDisposableStack) {
    this.pair = pair;
    this.load = load;
    this.victim = victim;
    this.#owned = owned;
  }

  static async set({ seed, kinds, hasPrimary = true }: StandbyOptions): Promise<StandbyScene> {
    await using owned = new AsyncDisposableStack();
    const pair = owned.use(await FailoverPair.start({ syncSlots: false, waits: false }));
    const load = owned.use(await Load.create(seed, ROWS, await createFreshDatabase(pair)));
    const victim = owned.use(await Victim.create(load, "s", kinds));
    await pair.addStandby();
    const { installation, sinks } = victim;
    const source = {
      kind: "postgres",
      url: FailoverPair.urlAt(pair.standby, load.source),
      ...(hasPrimary ? { primaryUrl: FailoverPair.urlAt(pair.primary, load.source) } : {}),
      heartbeat: "500ms",
    };
    installation.configure({ name: installation.name, source, sinks: sinks.config });
    if (!hasPrimary) {
      load.publication = `millrace_${installation.name}`;
      await load.source.query(`create publication ${load.publication} for table ${load.tables.join(", ")}`);
    }
    return new StandbyScene(pair, load, victim, owned.move());
  }

  /** Under writers a slot waits long for what the primary logs of running transactions. */
  async firstStart(daemon: Daemon): Promise<void> {
    await using _ = this.pair.logRunning();
    await daemon.streaming();
  }

  async expectEqual(daemon: Daemon): Promise<void> {
    await this.load.stop();
    const verdict = await this.victim.verdict(daemon);
    expect(verdict.faults).toEqual([]);
    expect(verdict.effectCount).toBeGreaterThan(0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned.disposeAsync();
  }
}
