/**
 * The primary dies and its standby takes over (Postgres 17 and newer: failover slots). What was set up as docs/failover.md
 * says goes on by itself and ends equal; what was not ends with a numbered error, never with a gap.
 * @module-tag heavy
 */
import { beforeEach, describe, expect, test } from "vitest";
import type { Daemon } from "../../support/daemon/daemon-process.ts";
import { Load, Victim } from "../../support/faults/fault-load.ts";
import { FailoverPair, type PairOptions } from "../../support/faults/failover-pair.ts";
import { createFreshDatabase } from "../../support/run/fresh-database.ts";
import { isLeastMode } from "../../support/postgres/least-mode.ts";
import { tcpProxy } from "../../support/network/proxy.ts";
import { needsPostgres, redisUrl } from "../../support/run/services.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";
import type { SinkKind } from "../../support/daemon/sink-set.ts";
import { eventually } from "../../support/run/waiting.ts";

const ROWS = 150;
const PAUSE_MS = 20;
const KINDS: readonly SinkKind[] = ["postgres", "duckdb", "redis"];

beforeEach((context) => needsPostgres(17, context));

/** A pair with its load, and a daemon's installation that reads by the common address. */
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

  static async set(seed: number, options: PairOptions & { readonly standby?: boolean } = {}): Promise<Scene> {
    await using owned = new AsyncDisposableStack();
    const pair = owned.use(await FailoverPair.start(options));
    const load = owned.use(await Load.create(seed, ROWS, await createFreshDatabase(pair)));
    const victim = owned.use(await Victim.create(load, "f", KINDS));
    if (options.standby !== false) await pair.addStandby();
    return new Scene(pair, load, victim, owned.move());
  }

  get slot(): string {
    return `millrace_${this.victim.installation.name}`;
  }

  /** The daemon reads from that server by its own address, or by the common one. */
  readFrom(url: string): void {
    const { sinks, installation } = this.victim;
    const source = { kind: "postgres", url, heartbeat: "500ms" };
    installation.configure({ name: installation.name, source, sinks: sinks.config });
  }

  async sourceError(): Promise<string | undefined> {
    return (await this.victim.installation.status())?.source.error?.code;
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

describe.concurrent("a standby that has everything is promoted", () => {
  test("at the same address, under the running daemon and a running re-read", async () => {
    await using scene = await Scene.set(11);
    const { pair, load, victim } = scene;
    const daemon = victim.run();
    await daemon.streaming();
    load.start(PAUSE_MS);
    await pair.untilSlot(scene.slot, "ready");
    await scene.load.workload.written(200);
    const asked = await victim.installation.command("snapshot", "start", "--tables", "public.line");
    expect(asked).toMatchObject({ exitCode: 0 });
    await pair.losePrimary();
    // It is told what it waits for, and reads nothing before the promotion.
    await eventually(async () => (await scene.sourceError()) === "MR2031", { withinMs: 60_000 });
    await pair.promote();
    await scene.load.workload.written(200);
    await scene.expectEqual(daemon);
    expect(daemon.said).toMatch(/the slot \S+ is there and ready/);
  });

  test(
    "at another address, with a daemon that is killed in between; in the long form twice",
    { tags: "long" },
    async () => {
      // That address and a kill apart: the others of this file.
      await using scene = await Scene.set(12);
      const { pair, load, victim } = scene;
      scene.readFrom(FailoverPair.urlAt(pair.primary, load.source));
      let daemon = victim.run();
      await daemon.streaming();
      load.start(PAUSE_MS);
      const rounds = ["before the promotion", "after the promotion"] as const;
      for (const [i, killed] of rounds.slice(0, isLongForm() ? 2 : 1).entries()) {
        // A further standby, of the server that was promoted: the second promotion is the second switch of timelines.
        if (i > 0) await pair.addStandby();
        await pair.untilSlot(scene.slot, "ready");
        await scene.load.workload.written(150);
        await pair.losePrimary();
        if (killed === "before the promotion") {
          await victim.kill(daemon);
          scene.readFrom(FailoverPair.urlAt(pair.standby, load.source));
          daemon = victim.run();
          await eventually(async () => (await scene.sourceError()) === "MR2031", { withinMs: 60_000 });
          await pair.promote();
        } else {
          await pair.promote();
          await scene.load.workload.written(50);
          await victim.kill(daemon);
          scene.readFrom(FailoverPair.urlAt(pair.primary, load.source));
          daemon = victim.run();
        }
        await scene.load.workload.written(150);
      }
      await scene.expectEqual(daemon);
    },
  );

  test("a sink that was away before catches up afterwards by a copy of the slot", { tags: "long" }, async () => {
    await using scene = await Scene.set(13);
    await using toRedis = await tcpProxy(redisUrl());
    const { pair, load, victim } = scene;
    const { config, keyPrefix } = victim.sinks;
    Object.assign(config, { redis: { kind: "redis", url: toRedis.url(redisUrl()), prefix: keyPrefix } });
    scene.readFrom(load.source.url);
    const daemon = victim.run();
    await daemon.streaming();
    load.start(PAUSE_MS);
    await pair.untilSlot(scene.slot, "ready");
    await toRedis.refuse();
    toRedis.cut();
    const stateOf = async (name: string) =>
      (await victim.installation.status())?.sinks.find((sink) => sink.name === name)?.state;
    await eventually(async () => (await stateOf("redis")) === "retrying", { withinMs: 60_000 });
    await scene.load.workload.written(200);
    await pair.losePrimary();
    await pair.promote();
    await scene.load.workload.written(100);
    expect(await stateOf("redis")).toBe("retrying");
    await toRedis.resume();
    await eventually(async () => (await stateOf("redis")) === "streaming", { withinMs: 60_000 });
    await scene.load.workload.written(50);
    await scene.expectEqual(daemon);
  });
});

describe.concurrent("a promoted standby that lacks something is no way to go on", () => {
  test("it was behind what the daemon had read", { tags: "long" }, async () => {
    await using scene = await Scene.set(14, { waits: false });
    const { pair, load, victim } = scene;
    const daemon = victim.run();
    await daemon.streaming();
    load.start(PAUSE_MS);
    await pair.untilSlot(scene.slot, "ready");
    const checked = await victim.installation.command("check", "--json");
    expect(checked.stdout).toContain("SET synchronized_standby_slots = 'standby_1'");
    await pair.standby.stop();
    await scene.load.workload.written(200);
    await load.stop();
    expect((await victim.installation.command("wait", "--timeout", "240s")).exitCode).toBe(0);
    // Not before: it would catch up.
    await pair.losePrimary();
    await pair.standby.start();
    await pair.promote();
    await using session = await load.source.connect();
    await session.query("insert into small values (4711, 'of the new history')");
    expectGap(await daemon.ended, "MR2016");
    expectGap(await victim.run().ended, "MR2016");
    const { target } = victim.sinks;
    const { rows } = (await target?.query("select id from public.small where id = 4711")) ?? { rows: [{}] };
    expect(rows).toEqual([]);
  });

  test("it keeps no slots", { tags: "long" }, async () => {
    await using scene = await Scene.set(15, { syncSlots: false });
    const { pair, load, victim } = scene;
    const daemon = victim.run();
    await daemon.streaming();
    load.start(PAUSE_MS);
    await scene.load.workload.written(100);
    await pair.losePrimary();
    await eventually(async () => (await scene.sourceError()) === "MR2031", { withinMs: 60_000 });
    expect(daemon.said).toMatch(/the slot \S+ does not exist there/);
    await pair.promote();
    expectGap(await daemon.ended, "MR2010");
    await load.stop();
  });

  test("its slot was not ready yet", { tags: "long" }, async () => {
    await using scene = await Scene.set(16, { standby: false });
    const { pair, load, victim } = scene;
    let daemon = victim.run();
    await daemon.streaming();
    await daemon.stop();
    load.start(PAUSE_MS);
    await scene.load.workload.written(100);
    // Its own horizon is ahead of a slot that nobody moves.
    await pair.addStandby();
    await pair.untilSlot(scene.slot, "temporary");
    daemon = victim.run();
    await pair.losePrimary();
    await eventually(async () => (await scene.sourceError()) === "MR2031", { withinMs: 60_000 });
    await pair.promote();
    expectGap(await daemon.ended, "MR2010");
    await load.stop();
  });
});

test.concurrent(
  "a standby that is waited for holds the stream up while it is away, and nothing else",
  { tags: "long" },
  async () => {
    await using scene = await Scene.set(18);
    const { pair, load, victim } = scene;
    const daemon = victim.run();
    await daemon.streaming();
    load.start(PAUSE_MS);
    await pair.untilSlot(scene.slot, "ready");
    await pair.standby.stop();
    await scene.load.workload.written(50);
    const position = async () => (await victim.installation.status())?.source.position;
    const before = await position();
    // Longer than a connection may be silent.
    await expect(
      eventually(async () => (await scene.sourceError()) !== undefined, { withinMs: 40_000, everyMs: 500 }),
    ).rejects.toThrow("not within");
    expect(await position()).toBe(before);
    await pair.standby.start();
    await scene.load.workload.written(50);
    await scene.expectEqual(daemon);
  },
);

test.concurrent("a first start on a standby asks for what its primary lacks, and check says so before", async ({
  skip,
}) => {
  skip(isLeastMode, "a standby takes no roles");
  await using scene = await Scene.set(17);
  const { pair, load, victim } = scene;
  scene.readFrom(FailoverPair.urlAt(pair.standby, load.source));
  const checked = await victim.installation.command("check", "--json");
  expect(checked).toMatchObject({ exitCode: 1 });
  expect(checked.stdout).toContain("CREATE PUBLICATION");
  const { exitCode, stderr } = await victim.run().ended;
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 1,
    stderr: expect.stringMatching(/"code":"MR2008","kind":"\w+","message":"[^"].*","hint":"On the primary /),
  });
});

function expectGap({ exitCode, stderr }: { exitCode: number | null; stderr: string }, code: string) {
  expect({ exitCode, stderr: stderr.slice(-1_500) }).toMatchObject({
    exitCode: 1,
    stderr: expect.stringMatching(new RegExp(`"code":"${code}","kind":"\\w+","message":"[^"].*","hint":"[^"]`)),
  });
}
