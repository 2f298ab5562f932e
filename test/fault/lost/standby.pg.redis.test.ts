/**
 * A standby is the source (Postgres 16 and newer): its slot, its stream and its rows are there, and what has to be written goes
 * to the primary.
 * @module-tag heavy
 */
import { beforeEach, describe, expect, test } from "vitest";
import { Load, Victim } from "../../support/faults/fault-load.ts";
import { FailoverPair } from "../../support/faults/failover-pair.ts";
import { createFreshDatabase } from "../../support/run/fresh-database.ts";
import { isLeastMode } from "../../support/postgres/least-mode.ts";
import { needsPostgres } from "../../support/run/services.ts";
import type { Daemon } from "../../support/daemon/daemon-process.ts";
import type { SinkKind } from "../../support/daemon/sink-set.ts";
import { eventually } from "../../support/run/waiting.ts";

const ROWS = 150;
const PAUSE_MS = 20;
const KINDS: readonly SinkKind[] = ["postgres", "duckdb", "redis"];

beforeEach((context) => {
  needsPostgres(16, context);
  context.skip(isLeastMode, "a standby takes no roles");
});

/** Writers on the primary, and a daemon that reads at the standby. */
class Scene implements AsyncDisposable {
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

  /** `hasPrimary`: the daemon knows the primary too. Else the publication is made there, as `check` says. */
  static async set(seed: number, hasPrimary = true): Promise<Scene> {
    await using owned = new AsyncDisposableStack();
    const pair = owned.use(await FailoverPair.start({ syncSlots: false, waits: false }));
    const load = owned.use(await Load.create(seed, ROWS, await createFreshDatabase(pair)));
    const victim = owned.use(await Victim.create(load, "s", KINDS));
    await pair.addStandby();
    const scene = new Scene(pair, load, victim, owned.move());
    const { installation, sinks } = victim;
    const source = {
      kind: "postgres",
      url: FailoverPair.urlAt(pair.standby, load.source),
      ...(hasPrimary ? { primaryUrl: FailoverPair.urlAt(pair.primary, load.source) } : {}),
      heartbeat: "500ms",
    };
    installation.configure({ name: installation.name, source, sinks: sinks.config });
    if (!hasPrimary)
      await load.source.query(`create publication ${scene.publication} for table ${load.tables.join(", ")}`);
    return scene;
  }

  get publication(): string {
    return `millrace_${this.victim.installation.name}`;
  }

  /** By itself the primary logs which transactions run every 15 s, and under writers a slot needs three such records. */
  async firstStart(daemon: Daemon): Promise<void> {
    await using primary = await this.load.source.connect();
    let streams = false;
    const streaming = daemon.streaming().finally(() => (streams = true));
    const logRunning = async () => {
      await primary.query("select pg_log_standby_snapshot()");
      return streams;
    };
    await eventually(logRunning, { withinMs: 90_000, everyMs: 200 });
    await streaming;
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

describe.concurrent("a standby is the source", () => {
  test("the first copy, a further table, a resync and a comparison, under writers", async () => {
    await using scene = await Scene.set(21);
    const { load, victim } = scene;
    load.start(PAUSE_MS);
    const { installation } = victim;
    const checked = await installation.command("check", "--json");
    expect(checked).toMatchObject({ exitCode: 0, stdout: expect.stringContaining("the source is a standby") });
    const daemon = victim.run();
    await daemon.streaming();
    await load.addTable("later");
    await scene.load.workload.written(50);
    expect(await installation.command("snapshot", "start", "--tables", "public.line")).toMatchObject({ exitCode: 0 });
    await scene.load.workload.written(50);
    const compared = await installation.command("reconcile", "--json");
    expect(compared).toMatchObject({ exitCode: 0 });
    await scene.expectEqual(daemon);
  });

  test("it is promoted under the running daemon and a running re-read, while the primary dies", async () => {
    await using scene = await Scene.set(22);
    const { pair, load, victim } = scene;
    const daemon = victim.run();
    await daemon.streaming();
    load.start(PAUSE_MS);
    await scene.load.workload.written(100);
    const { installation } = victim;
    expect(await installation.command("snapshot", "start", "--tables", "public.line")).toMatchObject({ exitCode: 0 });
    await pair.losePrimary();
    await pair.promote();
    await scene.load.workload.written(100);
    await load.addTable("later");
    expect(await installation.command("snapshot", "start", "--tables", "public.account")).toMatchObject({
      exitCode: 0,
    });
    await scene.load.workload.written(50);
    await scene.expectEqual(daemon);
    expect(daemon.said).toContain("MR2032");
  });

  test("it is promoted while the daemon is killed, and the former primary lives on", async () => {
    await using scene = await Scene.set(23);
    const { pair, load, victim } = scene;
    let daemon = victim.run();
    await daemon.streaming();
    load.start(PAUSE_MS);
    await scene.load.workload.written(100);
    await victim.kill(daemon);
    await scene.load.workload.written(50);
    await pair.leavePrimary();
    await pair.promote();
    await scene.load.workload.written(50);
    daemon = victim.run();
    await daemon.streaming();
    await load.addTable("later");
    await scene.load.workload.written(50);
    await scene.expectEqual(daemon);
  });

  test("without its primary: the first copy, a further table, a resync, a comparison, a kill and the promotion", async () => {
    await using scene = await Scene.set(25, false);
    const { pair, load, victim } = scene;
    const { installation } = victim;
    load.start(PAUSE_MS);
    let daemon = victim.run();
    await scene.firstStart(daemon);
    await load.addTable("later");
    await load.source.query(`alter publication ${scene.publication} add table later`);
    await scene.load.workload.written(50);
    expect(await installation.command("snapshot", "start", "--tables", "public.line")).toMatchObject({ exitCode: 0 });
    await scene.load.workload.written(50);
    // A table that is still being read can't be compared, and a read of a standby may wait for a minute.
    await daemon.settled(120_000);
    const compared = await installation.command("reconcile", "--json");
    expect(compared, compared.stdout + compared.stderr).toMatchObject({ exitCode: 0 });
    await pair.checkpoint();
    await victim.kill(daemon);
    daemon = victim.run();
    await scene.load.workload.written(50);
    await pair.losePrimary();
    await pair.promote();
    await scene.load.workload.written(50);
    expect(await installation.command("snapshot", "start", "--tables", "public.account")).toMatchObject({
      exitCode: 0,
    });
    await scene.expectEqual(daemon);
  });

  test("daemon, standby and primary are killed one after the other", async () => {
    await using scene = await Scene.set(24);
    const { pair, load, victim } = scene;
    let daemon = victim.run();
    await daemon.streaming();
    load.start(PAUSE_MS);
    await scene.load.workload.written(60);
    // What the primary keeps for the standby outlives its crash from its next checkpoint on.
    await pair.checkpoint();
    await victim.kill(daemon);
    daemon = victim.run();
    await scene.load.workload.written(60);
    await pair.standby.kill();
    await scene.load.workload.written(60);
    await pair.standby.start();
    await daemon.streaming();
    await scene.load.workload.written(60);
    await pair.primary.kill();
    await victim.kill(daemon);
    daemon = victim.run();
    await pair.primary.start();
    await scene.load.workload.written(60);
    await scene.expectEqual(daemon);
  });
});
