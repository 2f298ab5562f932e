/** Targets that other tables inherit from, or that somebody partitioned: the rows of heirs are never the target's. */
import { expect, onTestFinished, test } from "vitest";
import { DEFAULT_FORM, type TargetForm } from "../../connectors/warehouse/own-columns.ts";
import { PostgresSink } from "../../connectors/postgres/sink/sink.ts";
import { parsePostgresUrl } from "../../src/postgres/url.ts";
import type { ListedKey } from "../../src/core/contracts/comparing.ts";
import type { Batch } from "../../src/core/model/batch.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import {
  checkpointAt,
  failure,
  patch,
  put,
  remove,
  Reports,
  rowsBatch,
  timeout,
  UNCHANGED,
} from "../conformance/stage.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { type FreshDatabase, freshDatabase } from "../support/run/services.ts";

const SOFT: TargetForm = { deletes: "soft", mode: "mirror" };
const HISTORY: TargetForm = { deletes: "hard", mode: "history" };

const people = tableVersion({ table: "people", columns: { id: "integer", email: "text", bio: "text" } });
const IDS = Array.from({ length: 60 }, (_, id) => `${id}`);

/** Each key that the target gets, and one that it never has. */
const HEIR = "create table former () inherits (people)";
const fillOf = ({ mode }: TargetForm): string => {
  const [names, values] = mode === "history" ? [", _millrace_op, _millrace_offset", ", 'c', 0"] : ["", ""];
  return `insert into former (id, email, bio, _millrace_version${names}) select id, 'heir', 'kept', 1${values} from generate_series(0, 60) id`;
};
const PARTITIONED = `alter table people rename to whole;
  create table people (like whole including all) partition by hash (id); drop table whole;
  create table people_0 partition of people for values with (modulus 2, remainder 0);
  create table people_1 partition of people for values with (modulus 2, remainder 1)`;

async function sinkOf(database: FreshDatabase, lease: number, form: TargetForm, dropsColumns = false) {
  const address = parsePostgresUrl(database.url);
  const options = { name: "replica", checkpointName: "shop/replica", address, schema: undefined, form };
  const sink = new PostgresSink({ ...options, dropsColumns: () => dropsColumns });
  onTestFinished(() => sink.close());
  await sink.open(lease, timeout());
  return sink;
}

async function apply(sink: PostgresSink, batch: Batch): Promise<Reports> {
  const reports = new Reports();
  await sink.apply(batch, reports, timeout());
  expect(reports.poisons).toEqual([]);
  return reports;
}

async function rowsOf(database: FreshDatabase, sql: string): Promise<unknown[][]> {
  const { rows } = await database.query<Record<string, unknown>>(sql);
  return rows.map((row) => Object.values(row));
}

async function keysIn(sink: PostgresSink, table: TableVersion): Promise<readonly (readonly string[] | null)[]> {
  await using inspection = await sink.inspect();
  const paged = await inspection.page!(table, null, timeout());
  const listed: ListedKey[] = [];
  for await (const some of inspection.keys(table, timeout())) listed.push(...some);
  expect(listed.map(({ id }) => id).toSorted()).toEqual(paged.keys.map(({ id }) => id).toSorted());
  return paged.keys.map(({ key }) => key);
}

const truncate = (at: bigint): Batch => ({
  kind: "truncate",
  table: people,
  version: rowVersion(1, at),
  record: { index: 0, commitTimeUs: 0n, xid: 1, origin: undefined },
  checkpoint: checkpointAt(at + 1n),
});

for (const [name, form] of [
  ["a mirror", DEFAULT_FORM],
  ["a mirror that marks deleted rows", SOFT],
  ["a history", HISTORY],
] as const) {
  for (const [of, sql] of [
    ["with heirs", HEIR],
    ["that is partitioned", PARTITIONED],
  ] as const) {
    test(`${name} ${of} has its own rows, and changes no others`, async () => {
      await using database = await freshDatabase();
      const first = await sinkOf(database, 1, form);
      await first.prepare([people], timeout());
      await database.query(sql);
      if (sql === HEIR) await database.query(fillOf(form));
      const heirs = () => rowsOf(database, sql === HEIR ? "select * from former order by id" : "select 1");
      const before = await heirs();
      const sink = await sinkOf(database, 2, form);
      await sink.prepare([people], timeout());
      const keys = async () => (await keysIn(sink, people)).map((key) => Number(key?.[0])).toSorted((a, b) => a - b);
      expect(await sink.highestVersion([people], timeout())).toBe(0n);
      expect(await keys()).toEqual([]);
      // A row that the target lacks supplies no cells.
      const lacking = await apply(sink, rowsBatch(5n, [people, [patch(["3", "x", UNCHANGED])]]));
      expect(lacking.incompleteEntries).toEqual([0]);
      await apply(sink, rowsBatch(10n, [people, IDS.map((id) => put([id, "a", "long"], { fresh: true }))]));
      await apply(sink, rowsBatch(20n, [people, IDS.map((id) => put([id, "b", "long"]))]));
      await apply(sink, rowsBatch(30n, [people, IDS.map((id) => patch([id, "c", UNCHANGED]))]));
      await apply(sink, rowsBatch(40n, [people, [remove(["1", null, null]), patch(["2", "d", UNCHANGED])]]));
      await apply(sink, rowsBatch(50n, [people, IDS.slice(30).map((id) => remove([id, null, null]))]));
      await sink.verify(timeout());
      expect(await keys()).toEqual(
        IDS.slice(0, 30)
          .map(Number)
          .filter((id) => id !== 1),
      );
      const { rows } = await inspected(sink, ["2", "3", "40", "60"]);
      expect(rows).toEqual([
        ["2", "d", "long"],
        ["3", "c", "long"],
      ]);
      await sink.expel([people], rowVersion(1, 45n), timeout());
      expect(await sink.highestVersion([people], timeout())).toBe(rowVersion(1, 40n));
      const sweep = { table: people, below: rowVersion(1, 35n) };
      await apply(sink, { kind: "sweep", sweeps: [sweep], checkpoint: checkpointAt(60n) });
      await apply(sink, truncate(70n));
      expect(await keys()).toEqual([]);
      await sink.verify(timeout());
      expect(await heirs()).toEqual(before);
    });
  }
}

async function inspected(sink: PostgresSink, ids: readonly string[]) {
  await using inspection = await sink.inspect();
  const keys = ids.map((id) => [id]);
  const found = await inspection.rows(people, keys, timeout());
  return { rows: found.map(({ cells }) => cells).toSorted((a, b) => Number(a[0]) - Number(b[0])) };
}

test("a target with heirs gets another form, key and columns, and its heirs keep what they have", async () => {
  await using database = await freshDatabase();
  const soft = await sinkOf(database, 1, SOFT);
  await soft.prepare([people], timeout());
  await apply(soft, rowsBatch(10n, [people, [put(["1", "a", "7"]), put(["2", "b", "8"])]]));
  await database.query(`${HEIR}; ${fillOf(DEFAULT_FORM)}`);
  await apply(soft, rowsBatch(20n, [people, [remove(["2", null, null])]]));
  await database.query("update former set _millrace_deleted = true where id = 5");
  const hard = await sinkOf(database, 2, DEFAULT_FORM, true);
  await hard.prepare([people], timeout());
  expect(await rowsOf(database, "select id from only people")).toEqual([[1]]);
  expect(await rowsOf(database, "select count(*)::int from former")).toEqual([[61]]);

  const without = tableVersion({
    table: "people",
    version: 2,
    columns: people.columns.slice(0, 2).map(native),
    key: ["id"],
  });
  await hard.prepare([without], timeout());
  expect(await rowsOf(database, "select count(*)::int from former where bio = 'kept'")).toEqual([[61]]);
  expect(
    await rowsOf(
      database,
      "select count(*)::int from pg_attribute where attrelid = 'people'::regclass and attname = 'bio'",
    ),
  ).toEqual([[0]]);

  const keyed = tableVersion({
    table: "people",
    version: 3,
    columns: without.columns.map(native),
    key: ["id", "email"],
  });
  await apply(hard, rowsBatch(30n, [without, [put(["9", null])]]));
  await hard.prepare([keyed], timeout());
  expect(await rowsOf(database, "select count(*)::int from only people")).toEqual([[0]]);
  expect(await rowsOf(database, "select count(*)::int from former")).toEqual([[61]]);
});

test("a type that the values of heirs don't fit is refused, not emptied", async () => {
  await using database = await freshDatabase();
  const sink = await sinkOf(database, 1, DEFAULT_FORM);
  await sink.prepare([people], timeout());
  await apply(sink, rowsBatch(10n, [people, [put(["1", "7", null])]]));
  await database.query(`${HEIR}; ${fillOf(DEFAULT_FORM)}`);
  const numbers = tableVersion({
    table: "people",
    version: 2,
    columns: { id: "integer", email: "integer", bio: "text" },
  });
  const refused = await failure(sink.prepare([numbers], timeout()));
  expect([refused.code, refused.table]).toEqual(["MR3107", "public.people"]);
  expect(refused.message).toContain("inherit");
  expect(await rowsOf(database, "select count(*)::int from former where email = 'heir'")).toEqual([[61]]);
});

function native({ name, native: type }: TableVersion["columns"][number]): readonly [string, string] {
  return [name, type];
}
