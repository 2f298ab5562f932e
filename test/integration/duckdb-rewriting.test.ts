/** A table with more dead rows than live ones is written anew beside the stream, in turns, and ends as the batches say. */
import { copyFileSync } from "node:fs";
import { setImmediate as turn } from "node:timers/promises";
import { DuckDBInstance } from "@duckdb/node-api";
import { expect, test } from "vitest";
import { Shadow } from "../../connectors/duckdb/tables/shadow.ts";
import { layoutOf } from "../../connectors/duckdb/write/layout.ts";
import { StageFile } from "../../connectors/duckdb/write/stage-file.ts";
import { TouchedKeys } from "../../connectors/duckdb/write/touched-keys.ts";
import type { KeyedTable } from "../../src/core/model/schema.ts";
import type { Logger } from "../../src/core/contracts/telemetry.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import {
  type Cells,
  patch,
  checkpointAt,
  put,
  remove,
  rowsBatch,
  Stage,
  timeout,
  type Write,
  writes,
} from "../conformance/stage.ts";
import { tableVersion, UNCHANGED } from "../support/model/blocks.ts";
import { landed } from "../support/warehouses/duckdb-landing.ts";
import { type DuckdbTarget, duckdbTarget } from "../support/warehouses/duckdb-target.ts";
import { Random, testSeed } from "../support/run/random.ts";
import { isLongForm } from "../support/run/service-suffixes.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";
import { eventually } from "../support/run/waiting.ts";
import { DEFAULT_FORM, type TargetForm } from "../../connectors/warehouse/own-columns.ts";

const ROWS = 1_500;
const WITHIN_MS = 60_000;
const WORN = { deadMin: 500, spanMax: 150 };
const columns = [
  ["id", "int8"],
  ["code", "text"],
  ["amount", "numeric(12,2)"],
  ["body", "text"],
  ["tags", "text[]"],
] as const;
const items = tableVersion({ table: "items", columns, key: ["id", "code"] });
/** Keys of one column are looked up in the index. */
const byCode = tableVersion({
  table: "items",
  columns,
  key: ["code"],
});
const wider = tableVersion({
  table: "items",
  columns: [...columns, ["note", "text"]],
  key: ["id", "code"],
  version: 2,
});

const named = tableVersion({
  schema: "sch\"e.ma's",
  table: `sel"ect." ${"x".repeat(120)} ☃ $1`,
  columns: [
    ['i"d', "int8"],
    ["select", "text"],
    ["a.b' ", "numeric(12,2)"],
    ["Body", "text"],
    ["bODY", "text[]"],
  ],
  key: ['i"d', "select"],
});

/** What the sink has said, last word last. */
class Told implements Logger {
  readonly lines: { readonly fields: object; readonly message: string }[] = [];
  debug = (): void => undefined;
  info = (fields: object, message: string): void => void this.lines.push({ fields, message });
  warn = this.info;
  error = this.info;
  child = (): Logger => this;

  with(word: string): Readonly<Record<string, unknown>>[] {
    return this.lines.filter(({ message }) => message.includes(word)).map(({ fields }) => ({ ...fields }));
  }
}

class Worn implements AsyncDisposable {
  readonly stage: Stage;
  readonly told: Told;
  readonly rows = new Map<string, Cells>();
  readonly #random = new Random(testSeed());
  #at = 100n;
  table: KeyedTable = items;

  private constructor(stage: Stage, told: Told) {
    this.stage = stage;
    this.told = told;
  }

  /** A table that has two dead rows to a live one. */
  static async create(upkeep: typeof WORN = WORN, form: TargetForm = DEFAULT_FORM, table = items): Promise<Worn> {
    const told = new Told();
    const target = async (): Promise<DuckdbTarget> => duckdbTarget(form, { logger: told, upkeep });
    const stage = await Stage.of({ name: "duckdb", target, landed, transactional: true }, table);
    const worn = new Worn(stage, told);
    worn.table = table;
    await worn.fill();
    return worn;
  }

  async fill(): Promise<void> {
    for (let round = 0; round < 3; round++) {
      await this.write(Array.from({ length: ROWS }, (_, id) => this.#put(id, `${round}`)));
    }
  }

  get target(): DuckdbTarget {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- `create` makes nothing else
    return this.stage.target as DuckdbTarget;
  }

  /** Rows that are not there may be made, and those that are there changed in any way, or taken away. */
  async writeAny(): Promise<void> {
    const ids = new Set(Array.from({ length: 1 + this.#random.below(30) }, () => this.#random.below(ROWS + 200)));
    await this.write([...ids].map((id) => this.#any(id)));
  }

  #any(id: number): Write {
    const there = this.rows.get(keyOf(id));
    const kind = this.#random.below(4);
    if (there === undefined || kind === 0) return this.#put(id, `${this.#at}`);
    if (kind === 1) {
      this.rows.delete(keyOf(id));
      return remove(there);
    }
    const changed = kind === 2 ? there.with(2, `${this.#at}.00`) : there.with(4, `{again,${this.#at}}`);
    this.rows.set(keyOf(id), changed);
    return patch(changed.map((cell, i) => (i === 3 || (kind === 2 && i === 4) ? UNCHANGED : cell)));
  }

  #put(id: number, mark: string): Write {
    const code = this.table === byCode ? `${codeOf(id)} ${id}` : codeOf(id);
    const cells = [`${id}`, code, `${id}.50`, `body of ${id} ${mark}`, `{a,"b ${mark}"}`];
    if (this.table === wider) cells.push(`note ${mark}`);
    this.rows.set(keyOf(id), cells);
    return put(cells);
  }

  async write(entries: readonly Write[]): Promise<void> {
    this.#at += 10n;
    const reports = await this.stage.write(this.table, this.#at, entries);
    expect([reports.incompletes, reports.poisons]).toEqual([[], []]);
  }

  async truncate(): Promise<void> {
    this.#at += 10n;
    const version = rowVersion(1, this.#at);
    const { table } = this;
    await this.stage.apply({ kind: "truncate", table, version, checkpoint: checkpointAt(this.#at + 1n) });
    this.rows.clear();
  }

  /** Rows that were not written since some time are gone. */
  async sweep(): Promise<void> {
    this.#at += 10n;
    const kept = [...this.rows.values()].filter((_, i) => i % 2 === 0);
    const { table } = this;
    await this.stage.apply(rowsBatch(this.#at, [table, kept.map((cells) => put(cells))]));
    const sweeps = [{ table, below: rowVersion(1, this.#at) }];
    await this.stage.apply({ kind: "sweep", sweeps, checkpoint: checkpointAt(this.#at + 2n) });
    this.rows.clear();
    for (const cells of kept) this.rows.set(keyOf(Number(cells[0])), cells);
  }

  async widen(): Promise<void> {
    this.table = wider;
    await this.stage.prepare(wider);
    for (const [key, cells] of this.rows) this.rows.set(key, [...cells, null]);
  }

  /** It is being rewritten: some rows are copied, and others are not. */
  async halfway(): Promise<void> {
    await this.stage.sink.verify(timeout());
    await eventually(async () => expect(await this.copied()).toBeGreaterThan(ROWS / 8), { everyMs: 1 });
    expect(await this.copied()).toBeLessThan(ROWS);
  }

  async copied(): Promise<number> {
    const rows = await this.target.query("select count(*)::integer from public._millrace_rewritten").catch(() => []);
    return Number(rows[0]?.[0] ?? 0);
  }

  /** It has few dead rows, the rows that it has to have, its note and its key; and nothing is left of the copy. */
  async expectWell(): Promise<void> {
    await this.rewritten();
    await this.stage.expectRows(this.table, [...this.rows.values()]);
    const tables = await this.target.query(
      "select table_name, comment like 'millrace {%' from duckdb_tables() where schema_name = 'public'",
    );
    expect(tables).toEqual([["items", true]]);
    await this.stage.restart(this.table);
    await this.writeAny();
    await this.stage.expectRows(this.table, [...this.rows.values()]);
  }

  async rewritten(): Promise<void> {
    await eventually(
      async () => {
        await this.stage.sink.verify(timeout());
        const [[stored] = []] = await this.target.query(
          "select sum(count)::integer from pragma_storage_info('public.items') where column_name = 'id' and segment_type <> 'VALIDITY'",
        );
        expect(Number(stored)).toBeLessThan(this.rows.size + 2 * WORN.deadMin);
        expect(this.stage.sink.engine?.deadRows).toBeLessThan(2 * WORN.deadMin);
      },
      { withinMs: WITHIN_MS },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stage[Symbol.asyncDispose]();
  }
}

const keyOf = (id: number): string => `${id} ${codeOf(id)}`;
/** Some that a file of rows has to quote, and some with more than one line. */
const codeOf = (id: number): string => (id % 7 === 0 ? `two\nlines, "${id}"` : `c${id % 3}`);

test("a table is rewritten whatever its names are", async () => {
  await using worn = await Worn.create(WORN, DEFAULT_FORM, named);
  await eventually(
    async () => {
      await worn.stage.sink.verify(timeout());
      expect(worn.told.with("was rewritten")).toHaveLength(1);
    },
    { withinMs: WITHIN_MS },
  );
  expect(worn.told.with("abandoned")).toEqual([]);
  expect(worn.stage.sink.engine?.deadRows).toBeLessThan(2 * WORN.deadMin);
  await worn.stage.restart(named);
  await worn.writeAny();
  await worn.stage.expectRows(named, [...worn.rows.values()]);
});

test.concurrent.for([
  { deletes: "soft", key: "two columns", table: items, isLong: false },
  { deletes: "hard", key: "one column", table: byCode, isLong: true },
  { deletes: "hard", key: "two columns", table: items, isLong: true },
] as const)(
  "rows that are changed, removed and made again while their table is rewritten are as they were written (deletes: $deletes, key: $key)",
  { tags: "heavy", timeout: 2 * WITHIN_MS },
  async ({ deletes, table, isLong }, { skip }) => {
    skip(isLong && !isLongForm(), "it is part of the long form");
    await using worn = await Worn.create(WORN, { ...DEFAULT_FORM, deletes }, table);
    await worn.halfway();
    let batches = 0;
    for (; worn.told.with("was rewritten").length === 0; batches++) {
      await worn.writeAny();
      expect(worn.told.with("abandoned")).toEqual([]);
      await turn();
    }
    expect(batches).toBeGreaterThan(5);
    expect(worn.told.with("was rewritten")).toMatchObject([{ table: "public.items" }]);
    const [done] = worn.told.with("was rewritten");
    expect(done?.["turnCount"]).toBeGreaterThan((2 * ROWS) / WORN.spanMax);
    expect(done?.["touchedCount"]).toBeGreaterThan(20);
    await worn.expectWell();
  },
);

test.concurrent("a small table takes few turns", async () => {
  await using worn = await Worn.create({ deadMin: WORN.deadMin, spanMax: 4 * ROWS });
  await worn.rewritten();
  expect(worn.told.with("was rewritten")).toMatchObject([{ touchedCount: 0 }]);
  expect(worn.told.with("was rewritten")[0]?.["turnCount"]).toBeLessThan(20);
  await worn.expectWell();
});

test.concurrent.for(["widen", "truncate", "sweep"] as const)(
  "a table that meets a %s while it is rewritten is rewritten from the beginning",
  { timeout: 2 * WITHIN_MS, tags: "long" },
  async (change) => {
    await using worn = await Worn.create();
    await worn.halfway();
    await worn[change]();
    await worn.writeAny();
    await worn.fill();
    await worn.expectWell();
    expect(worn.told.with("abandoned")).toEqual([]);
  },
);

test.concurrent(
  "a table that gets another column of Millrace's while it is rewritten keeps it",
  { tags: "long" },
  async () => {
    await using worn = await Worn.create();
    await worn.halfway();
    const cells = ["1", codeOf(1), "NaN", "not a number", "{{1,2},{3,4}}"];
    await worn.write([put(cells)]);
    worn.rows.set(keyOf(1), cells);
    await worn.expectWell();
  },
);

/** Each says what the log of DuckDB would be read for: rows of the old table that are dead, changed or gone. */
test.for([
  ["a row that is deleted", "", "delete from steps where id = 2"],
  ["a row that is changed", "", "update steps set tags = ['new'] where id = 2"],
  [
    "a row that is deleted, behind dead ones",
    "delete from steps where id between 50 and 149",
    "delete from steps where id = 260",
  ],
  [
    "a row that is changed, behind dead ones",
    "delete from steps where id between 50 and 149",
    "update steps set tags = ['new'] where id = 260",
  ],
] as const)(
  "killed before DuckDB's log is folded in, a rewritten table is whole: %s meanwhile",
  async ([, before, change]) => {
    using folder = temporaryFolder();
    const path = folder.file("worn.duckdb");
    const instance = await DuckDBInstance.create(path, { checkpoint_threshold: "1TB" });
    const connection = await instance.connect();
    const read = async (from = connection): Promise<unknown> =>
      (await from.runAndReadAll("select * from steps order by id")).getRowsJson();
    /** What another process finds that opens the file as it is now. */
    const afterKill = async (name: string): Promise<unknown> => {
      for (const end of ["", ".wal"]) copyFileSync(`${path}${end}`, `${folder.file(name)}${end}`);
      const other = await DuckDBInstance.create(folder.file(name));
      const reader = await other.connect();
      try {
        return await read(reader);
      } finally {
        reader.closeSync();
        other.closeSync();
      }
    };
    await connection.run("create table steps (id bigint primary key, tags text[]); checkpoint");
    await connection.run("insert into steps select g, ['old'] from range(300) as r(g)");
    await connection.run(`${before}; checkpoint`);
    await connection.run("comment on column steps.tags is 'somebody''s'");
    const steps = tableVersion({ table: "steps", columns: { id: "int8", tags: "text[]" } });
    const target = { schema: "main", table: "steps" };
    const stage = new StageFile("self");
    const touched = new TouchedKeys(stage, layoutOf(steps, target, "worn", DEFAULT_FORM));
    const shadow = (await Shadow.make(connection, "worn", target))!;
    const turns = { begin: () => connection.run("begin transaction"), touched, withinMs: WITHIN_MS };
    expect(await shadow.turn({ ...turns, span: 280 })).toMatchObject({ isLast: false });
    await connection.run(change);
    const id = /\d+$/.exec(change)![0];
    await touched.add(writes(steps, 10n, [put([id, "{new}"])]), layoutOf(steps, target, "worn", DEFAULT_FORM));
    expect(await shadow.turn({ ...turns, span: 280 })).toMatchObject({ isLast: true });
    const rows = await read();
    expect(await afterKill("at-once.duckdb")).toEqual(rows);
    // The log may stay while somebody reads the file, and batches go on.
    await connection.run("delete from steps where id in (150, 299)");
    await connection.run("update steps set tags = ['later'] where id in (151, 298)");
    await connection.run("insert into steps values (150, ['again']), (1000, ['more'])");
    const later = await read();
    expect(later).not.toEqual(rows);
    expect(await afterKill("later.duckdb")).toEqual(later);
    stage.close();
    connection.closeSync();
    instance.closeSync();
  },
);

test.concurrent("what a killed process left of a rewriting is removed, and no table of anybody else's", async () => {
  await using worn = await Worn.create();
  await worn.stage.sink.close();
  await worn.target.query("create table public._millrace_rewritten as select 1 as one");
  await worn.target.query("comment on table public._millrace_rewritten is 'millrace rewrites'");
  await worn.target.query("create schema other");
  await worn.target.query("create table other._millrace_rewritten as select 2 as two");
  await worn.stage.restart(items);
  const left = "select schema_name from duckdb_tables() where table_name = '_millrace_rewritten'";
  expect(await worn.target.query(left)).toEqual([["other"]]);
});

test.concurrent("a table with an index of somebody's is left as it is", async () => {
  await using worn = await Worn.create();
  await worn.target.query("create index his on public.items (amount)");
  await worn.stage.sink.verify(timeout());
  await eventually(() => expect(worn.stage.sink.engine?.deadRows).toBeGreaterThan(ROWS));
  await eventually(() =>
    expect(worn.stage.sink.hints).toMatchObject([
      { table: "public.items", what: expect.stringContaining("because the table has an index") },
    ]),
  );
  await worn.writeAny();
  await worn.stage.expectRows(items, [...worn.rows.values()]);
  expect(worn.told.with("was rewritten")).toEqual([]);
});

test.concurrent("a table that can't be rewritten is told for as long as that is so, and no batch fails", async () => {
  await using worn = await Worn.create();
  await worn.target.query("create view public._millrace_rewritten as select 1 as one");
  await worn.stage.sink.verify(timeout());
  await eventually(() =>
    expect(worn.stage.sink.hints).toMatchObject([
      { table: "public.items", what: expect.stringMatching(/^dead rows of public\.items stay in the file.*MR\d{4}/) },
    ]),
  );
  await worn.writeAny();
  await worn.target.query("drop view public._millrace_rewritten");
  await worn.stage.restart(items);
  await worn.expectWell();
  expect(worn.stage.sink.hints).toEqual([]);
});
