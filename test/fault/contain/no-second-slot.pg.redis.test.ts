/**
 * No slot, or no WAL sender, is left for a sink that lies behind: the one stream goes back for it, the others wait, and
 * `status` says so. Where one becomes free in time nobody waits.
 */
import { expect, test } from "vitest";
import type { SinkKind } from "../../support/daemon/sink-set.ts";
import type { StatusDocument } from "../../../src/core/contracts/status.ts";
import type { Daemon } from "../../support/daemon/daemon-process.ts";
import { Load, Victim } from "../../support/faults/fault-load.ts";
import { testSeed } from "../../support/run/random.ts";
import { type FreshDatabase, freshDatabase, ownPostgres } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

/** Takes every slot that is left. */
async function takeSlots(source: FreshDatabase): Promise<void> {
  await source.query(`do $$ declare free int; begin
    select current_setting('max_replication_slots')::int - count(*) into free from pg_replication_slots;
    for i in 1 .. free loop perform pg_create_physical_replication_slot('taken_' || replace(gen_random_uuid()::text, '-', '')); end loop;
  end $$`);
}

/** Names of the temporary slots of this database: of sinks that catch up now, or left behind. */
async function temporarySlots(source: FreshDatabase): Promise<readonly string[]> {
  const { rows } = await source.query<{ slot_name: string }>(
    "select slot_name from pg_replication_slots where database = current_database() and temporary order by 1",
  );
  return rows.map(({ slot_name }) => slot_name);
}

/** Ends the session of the stream: that of the slot which stays. */
async function endStream(source: FreshDatabase): Promise<void> {
  await source.query(
    `select pg_terminate_backend(active_pid) from pg_replication_slots
     where database = current_database() and active_pid is not null and not temporary`,
  );
}

const WITHIN_MS = 90_000;
const PAUSE_MS = 15;
const WAIT_SECONDS = 170;
const BULK_TABLE = "bulk";

type SinkState = StatusDocument["sinks"][number];

/** A daemon under load whose sinks go away, get slow and come back, on a server of its own whose slots are few. */
class DetachScene implements AsyncDisposable {
  readonly source: FreshDatabase;
  readonly load: Load;
  readonly victim: Victim;
  daemon: Daemon;
  readonly seed: number;
  readonly #stack: AsyncDisposableStack;
  #bulkCount = 0;

  private constructor(seed: number, load: Load, victim: Victim, stack: AsyncDisposableStack) {
    this.seed = seed;
    this.source = load.source;
    this.load = load;
    this.victim = victim;
    this.#stack = stack;
    this.daemon = victim.run();
  }

  /** `settings` of the source's server. */
  static async create(kinds: readonly SinkKind[], settings: Readonly<Record<string, number>>): Promise<DetachScene> {
    await using stack = new AsyncDisposableStack();
    const seed = testSeed();
    const server = stack.use(await ownPostgres({ settings }));
    const load = stack.use(await Load.create(seed, 200, await freshDatabase(server)));
    await load.addTable(BULK_TABLE);
    const victim = stack.use(await Victim.create(load, "parked", kinds, true));
    const scene = new DetachScene(seed, load, victim, stack.move());
    await scene.daemon.streaming();
    load.start(PAUSE_MS);
    return scene;
  }

  status(): Promise<StatusDocument> {
    return this.victim.installation.status();
  }

  async leave(kind: SinkKind): Promise<void> {
    const proxy = this.victim.sinks.proxies.get(kind)!;
    await proxy.refuse();
    proxy.cut();
  }

  /** Leaves, and waits until that is noticed. */
  async away(kind: SinkKind): Promise<void> {
    await this.leave(kind);
    await this.until((status) => sinkOf(status, kind).state === "retrying");
  }

  async back(kind: SinkKind, bytesPerSecond?: number): Promise<void> {
    const proxy = this.victim.sinks.proxies.get(kind)!;
    await proxy.resume();
    if (bytesPerSecond !== undefined) proxy.limit(bytesPerSecond);
  }

  async until(holds: (status: StatusDocument) => boolean): Promise<StatusDocument> {
    return await eventually(
      async () => {
        const status = await this.status();
        if (!holds(status)) throw new Error(JSON.stringify(status));
        return status;
      },
      { withinMs: WITHIN_MS },
    );
  }

  /** One transaction of so many rows of 960 bytes each. */
  async bulk(rowCount: number): Promise<void> {
    const from = (this.#bulkCount += 1_000_000);
    await this.source.query(
      `insert into ${BULK_TABLE} (id, body) select g, repeat(md5(g::text), 30) from generate_series(${from}, ${from + rowCount - 1}) g`,
    );
  }

  async kill(environment: Readonly<Record<string, string>> = {}): Promise<void> {
    await this.victim.kill(this.daemon);
    this.daemon = this.victim.run(environment);
  }

  async restart(): Promise<void> {
    await eventually(async () => (await this.victim.installation.ask("GET", "/api/v1/status")) !== undefined);
    const { exitCode, stderr } = await this.daemon.stop();
    expect(exitCode, stderr.slice(-2_000)).toBe(0);
    this.daemon = this.victim.run();
  }

  /** Everything has arrived, row by row, nothing twice, and no slot is left behind. */
  async expectEqual(): Promise<void> {
    await this.load.stop();
    const { faults, effectCount } = await this.victim.verdict(this.daemon, WAIT_SECONDS);
    expect(faults).toEqual([]);
    expect(effectCount).toBeGreaterThan(20);
    await eventually(async () => expect(await temporarySlots(this.source)).toEqual([]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack[Symbol.asyncDispose]();
  }
}

function sinkOf(status: StatusDocument, name: string): SinkState {
  const found = status.sinks.find((sink) => sink.name === name);
  if (found === undefined) throw new Error(`status knows no sink ${name}`);
  return found;
}

/** Nobody is away, nobody catches up, nobody waits. */
function allStream({ source, sinks }: StatusDocument): boolean {
  const areWell = sinks.every(({ state, catchingUp, error }) => state === "streaming" && !catchingUp && error === null);
  return areWell && source.goneBack === null;
}

const KINDS: readonly SinkKind[] = ["postgres", "redis", "duckdb"];
const REFUSED = "MR2030";

test.concurrent(
  "no slot is left: the stream goes back, the others wait and status says for whom; killed in between too",
  { tags: "long" },
  async () => {
    await using scene = await DetachScene.create(KINDS, { max_replication_slots: 3 });
    const { source, victim } = scene;
    await takeSlots(source);
    for (const ends of ["lives", "is killed"] as const) {
      await scene.away("redis");
      await scene.bulk(15_000);
      await scene.until((status) => sinkOf(status, "duckdb").lagBytes! < 100_000);
      await scene.back("redis", 4_000_000);
      const refused = await scene.until((status) => sinkOf(status, "redis").error?.code === REFUSED);
      expect(sinkOf(refused, "redis")).toMatchObject({ state: "retrying", catchingUp: true });
      const waiting = await scene.until(({ source: { goneBack } }) => goneBack !== null);
      expect(waiting.source.goneBack).toMatchObject({ sinks: ["redis"], error: { code: REFUSED } });
      expect(sinkOf(waiting, "redis")).toMatchObject({ catchingUp: true, waitsFor: [] });
      expect(sinkOf(waiting, "duckdb")).toMatchObject({ state: "streaming", catchingUp: false, waitsFor: ["redis"] });
      const { stdout } = await victim.installation.command("status");
      expect(stdout).toMatch(
        /the stream went back for redis; the other sinks wait until it is at [\dA-F]+\/[\dA-F]+ again/,
      );
      expect(stdout).toMatch(/streaming, waits for redis/);
      if (ends === "is killed") {
        await scene.kill();
        await scene.daemon.streaming();
      }
      await scene.back("redis");
      const after = await scene.until(allStream);
      expect(after.sinks.flatMap(({ waitsFor }) => waitsFor)).toEqual([]);
    }
    await scene.expectEqual();
  },
);

test.concurrent("killed as the stream goes back, all goes on at the next start", { tags: "long" }, async () => {
  await using scene = await DetachScene.create(KINDS, { max_replication_slots: 3 });
  await takeSlots(scene.source);
  await scene.kill({ MILLRACE_FAILPOINTS: "go-back.moved=kill" });
  await scene.daemon.streaming();
  await scene.away("redis");
  await scene.bulk(2_000);
  await scene.back("redis");
  expect((await scene.daemon.ended).signal).toBe("SIGKILL");
  await scene.kill();
  await scene.until(allStream);
  await scene.expectEqual();
});

test.concurrent("no WAL sender is left but the one of the stream, whose session is ended too", async () => {
  await using scene = await DetachScene.create(KINDS, { max_wal_senders: 1 });
  await scene.away("redis");
  await scene.back("redis");
  await scene.until((status) => sinkOf(status, "redis").error?.code === REFUSED);
  await endStream(scene.source);
  await scene.until(allStream);
  await scene.expectEqual();
});
