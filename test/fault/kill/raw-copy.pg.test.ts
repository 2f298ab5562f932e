/** A raw copy of a large table that is interrupted: the sink never calls a table complete that is not, and ends equal. */
import { expect, test } from "vitest";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { LARGE, undecodedTables } from "../../support/postgres/large-tables.ts";
import { tcpProxy } from "../../support/network/proxy.ts";
import { freshDatabase } from "../../support/run/services.ts";
import { SinkSet } from "../../support/daemon/sink-set.ts";
import { eventually } from "../../support/run/waiting.ts";

const ROWS = 1_400;
const NEXT_ROWS = 700;
/** Some 11 MB, in two parts, and a table that waits behind it. */
const TABLES = `create table big (id int primary key, n int, ${LARGE.column}); ${LARGE.external("big")};
  insert into big select g, 0, ${LARGE.value} from generate_series(1, ${ROWS}) g;
  create table next (like big including all); insert into next select * from big where id <= ${NEXT_ROWS}`;
const NAMES = ["big", "next"];

interface Scene extends AsyncDisposable {
  readonly installation: Installation;
  readonly sinks: SinkSet;
  /** Changes some rows, also of parts that are copied already or not yet. */
  readonly change: () => Promise<void>;
  readonly expectEqual: () => Promise<void>;
  readonly completeTables: () => Promise<readonly string[]>;
  readonly countOf: (table: string) => Promise<number>;
  /** The tables of the target that have their primary key. */
  readonly keyed: () => Promise<readonly string[]>;
}

async function scene(
  options: { readonly url?: (url: string) => string; readonly isProxied?: boolean } = {},
): Promise<Scene> {
  const source = await freshDatabase();
  await source.query(TABLES);
  const sinks = await SinkSet.create(["postgres"], options.isProxied ?? false);
  const url = options.url?.(source.url) ?? source.url;
  const config = { name: source.name, source: { kind: "postgres", url, heartbeat: "500ms" }, sinks: sinks.config };
  const installation = new Installation(config);
  let n = 0;
  return {
    installation,
    sinks,
    async change() {
      n++;
      await source.query(`update big set n = ${n} where id % 100 = ${n}; delete from big where id % 100 = ${n + 50};
        insert into big values (${ROWS + n}, ${n}, 'new'); update next set id = -id where id % 100 = ${n}`);
    },
    async expectEqual() {
      const differences = await sinks.differences(source.url, installation.folder, NAMES);
      expect(differences).toEqual([]);
    },
    async completeTables() {
      const sql = "select jsonb_object_keys(coalesce(tables -> 'tables', '{}')) as id from _millrace.progress";
      const { rows } = await sinks.target!.query<{ id: string }>(sql);
      return rows.map(({ id }) => id);
    },
    async countOf(table) {
      const { rows } = await sinks.target!.query<{ n: number }>(`select count(*)::int as n from ${table}`);
      return rows[0]!.n;
    },
    async keyed() {
      const sql =
        "select conrelid::regclass::text as name from pg_constraint where contype = 'p' and conrelid::regclass::text = any($1) order by 1";
      const { rows } = await sinks.target!.query<{ name: string }>(sql, [NAMES]);
      return rows.map(({ name }) => name);
    },
    async [Symbol.asyncDispose]() {
      await installation[Symbol.asyncDispose]();
      await sinks[Symbol.asyncDispose]();
      await source[Symbol.asyncDispose]();
    },
  };
}

/** Runs the daemon to the end of all that it has to do. */
async function goesOn({ installation, change, expectEqual, keyed }: Scene): Promise<void> {
  const daemon = installation.run();
  await daemon.streaming();
  await change();
  expect(await installation.command("wait", "--timeout", "60s")).toMatchObject({ exitCode: 0 });
  await daemon.stop();
  await expectEqual();
  expect(await keyed()).toEqual(NAMES);
}

async function killedAt(entry: string): Promise<void> {
  await using place = await scene();
  const daemon = place.installation.run({ MILLRACE_FAILPOINTS: entry });
  const { signal } = await daemon.ended;
  expect(signal).toBe("SIGKILL");
  for (const id of await place.completeTables()) {
    const table = id.replace("public.", "");
    expect({ id, n: await place.countOf(table) }).toEqual({ id, n: table === "big" ? ROWS : NEXT_ROWS });
  }
  await place.change();
  await goesOn(place);
}

test.for(["postgres-sink.part-committed=kill", "postgres-sink.key-made=kill"])(
  "killed at %s, when some parts are durable, it calls no part of a table the whole",
  killedAt,
);

test.for(["postgres-sink.part-written=kill@2", "postgres-sink.part-committed=kill@3", "copy.table-complete=kill"])(
  "killed at %s, it goes on with what is complete, and reads the rest again",
  { tags: "long" },
  killedAt,
);

test(
  "if the sessions to the target are cut, the part is tried again, and nothing is missing or twice",
  { tags: "heavy" },
  async () => {
    await using place = await scene({ isProxied: true });
    const proxy = place.sinks.proxies.get("postgres")!;
    proxy.limit(1_500_000);
    const daemon = place.installation.run();
    await eventually(() => proxy.counters.bytesToServer > 3_000_000);
    proxy.cut();
    await place.change();
    await eventually(() => daemon.said.includes("is retried") || daemon.said.includes("could not be copied undecoded"));
    await proxy.resume();
    await daemon.streaming();
    await daemon.stop();
    await goesOn(place);
  },
);

test(
  "if the sessions to the source are cut, the snapshot with them, the tables are read beside the stream",
  { tags: "heavy" },
  async () => {
    const first = await freshDatabase();
    await using proxy = await tcpProxy(first.url);
    await first[Symbol.asyncDispose]();
    await using place = await scene({ url: (url) => proxy.url(url) });
    proxy.limit(1_500_000);
    const daemon = place.installation.run();
    await eventually(() => proxy.counters.bytesToClient > 3_000_000);
    proxy.cut();
    await place.change();
    await proxy.resume();
    await daemon.streaming();
    expect(undecodedTables({ daemon })).not.toContain("public.big");
    await daemon.stop();
    await goesOn(place);
  },
);
