/**
 * Changes of a table's shape for which no sink has to read the table again, and those for which some have to.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import type { FreshDatabase } from "../../support/run/services.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";
import { KEPT_KINDS, SINK_KINDS } from "../../support/daemon/sink-set.ts";

const EACH = [...SINK_KINDS, ...KEPT_KINDS];
/** The search engine is by far the slowest, and goes by what the cache goes by. */
const KINDS = isLongForm() ? EACH : (["duckdb", "postgres", "redis", "postgres-history", "duckdb-soft"] as const);
/** Rows are kept there as they were written. */
const AS_WRITTEN = ["redis", "elasticsearch"];
const MIRRORS = [...SINK_KINDS, "postgres-soft", "duckdb-soft"];

/** What happens to a table (id int primary key, a text, b int, body text, v varchar(9)), and which sinks have to read it. */
const CHANGES: Readonly<
  Record<string, { readonly statements: readonly string[]; readonly readBy: readonly string[] }>
> = {
  added: { statements: ["alter table @ add column extra int"], readBy: [] },
  added_twice: {
    statements: ["alter table @ add column extra int, add column more text; alter table @ add column last jsonb"],
    readBy: [],
  },
  default_later: {
    statements: ["alter table @ add column extra int", "alter table @ alter extra set default 5"],
    readBy: [],
  },
  not_null: { statements: ["alter table @ alter b set not null", "alter table @ alter b drop not null"], readBy: [] },
  noted: {
    statements: ["comment on column @.b is 'x'; alter table @ alter b set default 7; create index on @ (b)"],
    readBy: [],
  },
  renamed: { statements: ["alter table @ rename column a to z"], readBy: AS_WRITTEN },
  renamed_key: { statements: ["alter table @ rename column id to key"], readBy: AS_WRITTEN },
  swapped: {
    statements: [
      "begin; alter table @ rename column a to x; alter table @ rename column body to a; alter table @ rename column x to body; commit",
    ],
    readBy: AS_WRITTEN,
  },
  // A column that stays in a mirror has to be null.
  dropped: { statements: ["alter table @ drop column b"], readBy: MIRRORS },
  goes: { statements: ["alter table @ drop column b"], readBy: AS_WRITTEN },
  goes_one_comes: { statements: ["alter table @ drop column b, add column extra int"], readBy: AS_WRITTEN },
  goes_for_another: {
    statements: [
      "alter table @ drop column b",
      "alter table @ add column extra int",
      "alter table @ rename column extra to b",
    ],
    readBy: AS_WRITTEN,
  },
  parted: { statements: ["alter table @ add column extra int"], readBy: [] },
  // Values that the log does not tell.
  defaulted: { statements: ["alter table @ add column extra int default 5"], readBy: EACH },
  defaulted_by_domain: { statements: ["alter table @ add column extra five"], readBy: EACH },
  defaulted_in_parts: { statements: ["alter table @ add column extra int default 5"], readBy: EACH },
  volatile: { statements: ["alter table @ add column extra float8 default random()"], readBy: EACH },
  numbered: { statements: ["alter table @ add column extra int generated always as identity"], readBy: EACH },
  computed: { statements: ["alter table @ alter doubled drop expression"], readBy: EACH },
  rewritten: {
    statements: ["begin; alter table @ add column extra int; alter table @ alter b type int using b * 2; commit"],
    readBy: EACH,
  },
  widened: { statements: ["alter table @ alter b type bigint"], readBy: EACH },
  lengthened: { statements: ["alter table @ alter v type varchar(20)"], readBy: EACH },
  // The column that is retired in the target has the name.
  re_added: { statements: ["alter table @ drop column b", "alter table @ add column b int"], readBy: EACH },
};
const NAMES = Object.keys(CHANGES);

async function makeTables(source: FreshDatabase, names: readonly string[]): Promise<void> {
  await source.query("create domain five as int default 5");
  for (const name of names) {
    const isParted = name.includes("part");
    await source.query(`create table ${name} (id int primary key, a text, b int, body text, v varchar(9)
      ${name === "computed" ? ", doubled int generated always as (b * 2) stored" : ""}) ${isParted ? "partition by range (id)" : ""}`);
    if (isParted) await source.query(`create table ${name}_1 partition of ${name} for values from (0) to (100000)`);
    await source.query(`alter table ${name} alter body set storage external;
      insert into ${name} (id, a, b, body, v) select g, 'a' || g, g, repeat(md5(g::text), 80), 'v' || g from generate_series(1, 60) g`);
  }
}

/** A row changes, its long value staying as it was, and another goes. */
const move = (name: string, id: number, key = name === "renamed_key" ? "key" : "id"): string => {
  return `update ${name} set v = 'w' where "${key}" = ${id}; delete from ${name} where "${key}" = ${id + 1}`;
};

test("what is read again after a change of shape, and what need not be", async () => {
  await using pipeline = await RunningPipeline.start((source) => makeTables(source, NAMES), {
    kinds: KINDS,
    configure: (config) => ({ ...config, tables: { "public.goes*": { droppedColumns: "drop" } } }),
  });
  // Of each kind of change, in turn: rows move before and after, or not at all.
  const moving = NAMES.filter((_, i) => isLongForm() || i % 2 === 0);
  for (const name of moving) await pipeline.run(move(name, 1, "id"));
  await pipeline.settled();
  const since = await pipeline.lastRead();
  const batches = Math.max(...NAMES.map((name) => CHANGES[name]!.statements.length));
  for (let batch = 0; batch < batches; batch++) {
    for (const name of NAMES) {
      const sql = CHANGES[name]!.statements[batch]?.replaceAll("@", name);
      if (sql === undefined) continue;
      await pipeline.run(sql);
      if (moving.includes(name)) await pipeline.run(move(name, 10 + batch * 2));
    }
    await pipeline.settled();
  }
  const expected = NAMES.flatMap((name): [string, readonly string[]][] => {
    const readBy = KINDS.filter((kind) => CHANGES[name]!.readBy.includes(kind));
    return readBy.length === 0 ? [] : [[name, readBy.toSorted()]];
  });
  expect(await pipeline.readers(since)).toEqual(Object.fromEntries(expected));
  await expectEqual(pipeline);
  for (const name of NAMES) await pipeline.run(move(name, 30));
  await expectEqual(pipeline);
});

/** A history's rows keep the values of columns that were dropped. */
async function expectEqual(pipeline: RunningPipeline): Promise<void> {
  await pipeline.settled();
  const differences = await pipeline.sinks.differences(pipeline.source.url, pipeline.installation.folder, NAMES);
  const isKept = /history public\.(dropped|goes|goes_one_comes|goes_for_another):.* b(_until_\d)?\)$/;
  expect(differences.filter((line) => !isKept.test(line))).toEqual([]);
}

test("killed between a change and the word that nothing has to be read", { tags: "long" }, async () => {
  const points = ["sink.voided", "sink.prepared", "sink.carried"] as const;
  const tables = points.map((point) => point.replace(".", "_"));
  await using pipeline = await RunningPipeline.start((source) => makeTables(source, tables), {
    kinds: ["duckdb", "postgres", "redis"],
  });
  await pipeline.settled();
  await pipeline.daemon.stop();
  for (const [i, point] of points.entries()) {
    const table = tables[i]!;
    pipeline.daemon = pipeline.installation.run({ MILLRACE_FAILPOINTS: `${point}:public.${table}/2=kill` });
    await pipeline.daemon.streaming();
    await pipeline.settled();
    await pipeline.run(`alter table ${table} add column extra text, alter b set not null`);
    if (i > 0) await pipeline.run(move(table, 5));
    expect(await pipeline.daemon.ended).toMatchObject({ signal: "SIGKILL" });
    await pipeline.run(`update ${table} set extra = 'x' where id = 20`);
  }
  await pipeline.start();
  await pipeline.expectEqual(tables);
  for (const table of tables) await pipeline.run(`${move(table, 30)}; alter table ${table} rename column a to z`);
  await pipeline.expectEqual(tables);
});

test("who asks for the rows gets them, whatever changed", async () => {
  await using pipeline = await RunningPipeline.start((source) => makeTables(source, ["asked"]), {
    kinds: ["postgres"],
  });
  await pipeline.settled();
  await pipeline.sinks.target!.query("update asked set a = 'spoiled' where id < 30");
  await pipeline.run("alter table asked add column extra int");
  await pipeline.readAgain("public.asked");
  await pipeline.expectEqual(["asked"]);
});
