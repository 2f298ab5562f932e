/** The nest's sink: what it stores, and which documents it lists for what a batch does. */
import { rmSync, writeFileSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { lastEntry, lastOpening, MARK, openingOf, readingOf, trimmedTo } from "../../connectors/nest/stored.ts";
import type { ReadDelayLimits } from "../../connectors/nest/read-delay.ts";
import type { ClimbLimits } from "../../connectors/nest/climbing.ts";
import { openNest, type OpenedNest } from "../../connectors/nest/open.ts";
import type { TableShape } from "../../src/core/contracts/catalog.ts";
import { keyText } from "../../src/core/model/row-id.ts";
import type { KeyedTable, TableVersion } from "../../src/core/model/schema.ts";
import type { Batch } from "../../src/core/model/batch.ts";
import type { Block } from "../../src/core/model/block.ts";
import { CellMap, failedCell } from "../../src/core/model/tuple.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import type { Document } from "../../src/documents/document.ts";
import { systemClock } from "../../src/core/clock.ts";
import { checkpointAt, patch, put, remove, type Write, writes } from "../conformance/stage.ts";
import { firstVersion, tableVersion, UNCHANGED } from "../support/model/blocks.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";
import { eventually } from "../support/run/waiting.ts";

const orders = tableVersion({
  table: "orders",
  columns: { note: "text", id: "int4", customer: "int4", status: "text" },
  key: ["id"],
});
const customers = tableVersion({ table: "customers", columns: { id: "int4", secret: "text", name: "text" } });
const items = tableVersion({
  table: "items",
  columns: { order: "int4", line: "int4", qty: "int4", body: "text" },
  key: ["order", "line"],
});

const field = (name: string) => ({ name, column: name });
const DOCUMENT: Document = {
  name: "orders",
  where: null,
  root: {
    table: orders,
    fields: [field("id"), field("status")],
    relations: [
      {
        name: "customer",
        many: false,
        through: null,
        on: [{ above: "customer", below: "id" }],
        where: null,
        orderBy: [],
        limit: null,
        value: null,
        node: { table: customers, fields: [field("name")], relations: [], transform: null },
      },
      {
        name: "items",
        many: true,
        through: null,
        on: [{ above: "id", below: "order" }],
        where: "qty > 0",
        orderBy: [{ column: "line", isDescending: true }],
        limit: 2,
        value: null,
        node: { table: items, fields: [field("qty"), field("body")], relations: [], transform: null },
      },
    ],
    transform: null,
  },
};

const NEVER = AbortSignal.timeout(600_000);
const OUTCOME = { incomplete: async () => undefined, poison: async () => undefined };

/** The nest has all rows of these tables. */
const WHOLE = Object.fromEntries([items, customers, orders].map(({ id }) => [id, "whole"]));

class Stage implements AsyncDisposable {
  readonly #folder = temporaryFolder();
  readonly path = this.#folder.file("nest.sqlite");
  opened!: OpenedNest;
  #commit = 1000n;
  #lease = 0;

  static async open(): Promise<Stage> {
    const stage = new Stage();
    await stage.start();
    await stage.prepare(items, customers, orders);
    return stage;
  }

  async start(
    documents: readonly Document[] = [DOCUMENT],
    climbing?: ClimbLimits,
    documentBytesMax?: number,
    readDelay?: ReadDelayLimits,
  ): Promise<void> {
    const options = { name: "documents", owner: "shop/documents", path: this.path, documents };
    this.opened = openNest({
      ...options,
      ...(climbing === undefined ? {} : { climbing }),
      ...(documentBytesMax === undefined ? {} : { documentBytesMax }),
      ...(readDelay === undefined ? {} : { readDelay }),
    });
    await this.opened.sink.open(++this.#lease, NEVER);
    await this.opened.nest.hold(new Set(), NEVER);
  }

  async prepare(...tables: TableVersion[]): Promise<void> {
    await this.opened.sink.prepare(tables, NEVER);
  }

  async apply(batch: Batch): Promise<void> {
    await this.opened.sink.apply(batch, OUTCOME, NEVER);
  }

  async write(...entries: readonly (readonly [KeyedTable, ...Write[]])[]): Promise<void> {
    const at = (this.#commit += 10n);
    const tables = entries.map(([table, ...list]) => writes(table, at, list));
    await this.apply({ kind: "rows", tables, checkpoint: checkpointAt(at, WHOLE) });
  }

  async truncate(table: TableVersion): Promise<void> {
    const at = (this.#commit += 10n);
    await this.apply({ kind: "truncate", table, version: rowVersion(1, at), checkpoint: checkpointAt(at, WHOLE) });
  }

  async sweep(table: TableVersion): Promise<void> {
    const at = (this.#commit += 10n);
    await this.apply({
      kind: "sweep",
      sweeps: [{ table, below: rowVersion(1, at) }],
      checkpoint: checkpointAt(at, WHOLE),
    });
  }

  query(sql: string): readonly (readonly unknown[])[] {
    using database = new DatabaseSync(this.path, { readOnly: true });
    return readingOf(database).rows(sql);
  }

  /** The keys of the orders that are listed since the last call. */
  #seen = 0n;
  listed(): number[] {
    const rows = this.query(
      `SELECT seq, k1 FROM _millrace_changed WHERE document > 0 AND seq > ${this.#seen} ORDER BY k1`,
    );
    for (const [seq] of rows) if (typeof seq === "bigint" && seq > this.#seen) this.#seen = seq;
    return rows.map(([, key]) => Number(key));
  }

  /** Statements of this kind fail until it is disposed of, so that nothing of their transaction is in the file. */
  failing(event: string): Disposable {
    const change = (sql: string): void => {
      using database = new DatabaseSync(this.path, { timeout: 10_000 });
      database.exec(sql);
    };
    change(`CREATE TRIGGER fails BEFORE ${event} BEGIN SELECT RAISE(ABORT, 'it fails'); END`);
    return { [Symbol.dispose]: () => change("DROP TRIGGER fails") };
  }

  /** What the file says. */
  get isHeld(): boolean {
    return this.query("SELECT 1 FROM _millrace_documents WHERE held = 0").length > 0;
  }

  async workedOff(): Promise<void> {
    const { news } = this.opened.nest;
    for (let { count } = news; this.query("SELECT 1 FROM _millrace_climbs").length > 0; { count } = news)
      await news.after(count, systemClock, 50, NEVER);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.opened.sink.close();
    this.#folder[Symbol.dispose]();
  }
}

async function filled(): Promise<Stage> {
  const stage = await Stage.open();
  await stage.write(
    [customers, put(["1", "a secret", "ann"]), put(["2", "a secret", "bob"])],
    [items, put(["1", "1", "5", "x"]), put(["1", "2", "5", "y"]), put(["2", "1", "5", "z"]), put(["3", "1", "0", "z"])],
    [orders, put(["n", "1", "1", "new"]), put(["n", "2", "1", "new"]), put(["n", "3", "2", "new"])],
  );
  return stage;
}

test("columns that no document takes are not stored, and nothing is listed before somebody follows", async () => {
  await using stage = await filled();
  expect(
    stage.query(`SELECT name FROM pragma_table_info('public.customers') WHERE name NOT LIKE '_millrace%'`),
  ).toEqual([["id"], ["name"]]);
  expect(stage.query(`SELECT "order", line, qty, body FROM "public.items" ORDER BY 1, 2`)[1]).toEqual([
    1n,
    2n,
    5n,
    "y",
  ]);
  expect(stage.listed()).toEqual([]);
  expect(await stage.opened.nest.beginLists(NEVER)).toBe(0n);
  expect(stage.listed()).toEqual([]);
});

test("each change lists the documents that differ, before and after", async () => {
  await using stage = await filled();
  await stage.opened.nest.beginLists(NEVER);
  await stage.write([customers, put(["1", "another secret", "ann"])], [orders, put(["another note", "1", "1", "new"])]);
  expect(stage.listed()).toEqual([]);
  await stage.write([customers, put(["1", "s", "anna"])]);
  expect(stage.listed()).toEqual([1, 2]);
  await stage.write([items, patch(["1", "1", "6", UNCHANGED])]);
  expect(stage.listed()).toEqual([1]);
  // Under another order, with a cell that the log left out.
  await stage.write([
    items,
    patch(["2", "2", "6", UNCHANGED], { from: ["1", "1", "6", "x"] }),
    remove(["1", "1", "6", "x"]),
  ]);
  expect(stage.listed()).toEqual([1, 2]);
  expect(stage.query(`SELECT body FROM "public.items" WHERE "order" = 2 AND line = 2`)).toEqual([["x"]]);
  await stage.write([items, put(["3", "1", "-1", "not counted"])]);
  expect(stage.listed()).toEqual([]);
  await stage.write([orders, remove(["n", "3", "2", "new"])]);
  expect(stage.listed()).toEqual([3]);
  await stage.write([orders, put(["n", "1", "2", "new"])]);
  expect(stage.listed()).toEqual([1]);
  await stage.write([customers, remove(["1", "s", "anna"])]);
  expect(stage.listed()).toEqual([2]);
});

test("truncates, sweeps and removed rows list what they change", async () => {
  await using stage = await filled();
  await stage.opened.nest.beginLists(NEVER);
  await stage.truncate(items);
  expect(stage.listed()).toEqual([1, 2]);
  await stage.write([items, put(["3", "7", "1", "x"])]);
  expect(stage.listed()).toEqual([3]);
  await stage.sweep(customers);
  expect(stage.listed()).toEqual([1, 2, 3]);
  await stage.opened.sink.expel([items], rowVersion(1, 0n), NEVER);
  expect(stage.listed()).toEqual([3]);
  await stage.truncate(orders);
  expect(stage.listed()).toEqual([1, 2, 3]);
});

test("a batch that fails lists nothing, and the same batch lists once", async () => {
  await using stage = await filled();
  await stage.opened.nest.beginLists(NEVER);
  const at = 5000n;
  const batch: Batch = {
    kind: "rows",
    tables: [writes(customers, at, [put(["2", "s", "rob"])]), writes(orders, at, [put(["n", "1", "1", "bad"])])],
    checkpoint: checkpointAt(at, WHOLE),
  };
  const stop = new AbortController();
  const failing = stage.opened.sink.apply(batch, OUTCOME, stop.signal);
  stop.abort();
  await expect(failing).rejects.toThrow();
  expect(stage.listed()).toEqual([]);
  await stage.apply(batch);
  expect(stage.listed()).toEqual([1, 3]);
});

test("a customer with many orders: other changes are listed at once, and all are in the end", async () => {
  await using stage = await filled();
  const count = 60_000;
  const all = Array.from({ length: count }, (_, i) => put(["n", `${i + 10}`, "1", "new"]));
  await stage.write([orders, ...all]);
  await stage.opened.nest.beginLists(NEVER);
  await stage.write([customers, put(["1", "s", "anna"]), put(["2", "s", "bobby"])]);
  expect(stage.listed()).toEqual([3]);
  await stage.write([items, put(["3", "9", "1", "x"])]);
  // The process ends in between.
  await stage.opened.sink.close();
  await stage.start();
  await stage.prepare(customers);
  await stage.workedOff();
  expect(new Set(stage.listed()).size).toBe(count + 3);
  // Sinks are behind: what is left goes on in pieces, as one of them may be paused.
  stage.opened.nest.passed(0n);
  await stage.write([customers, put(["1", "s", "annie"])]);
  let listed = 0;
  await eventually(() => expect((listed += stage.listed().length)).toBeGreaterThan(1_000));
  expect(listed).toBeLessThan(count / 2);
  stage.opened.nest.passed(10_000_000n);
  await stage.workedOff();
  expect(listed + stage.listed().length).toBe(count + 2);
});

test("many customers with some orders each: a batch lists few of them, and all are in the end", async () => {
  await using stage = await Stage.open();
  const [customerCount, orderCount] = [500, 10_000];
  const named = (name: string): Write[] => Array.from({ length: customerCount }, (_, i) => put([`${i}`, "s", name]));
  const all = Array.from({ length: orderCount }, (_, i) => put(["n", `${i}`, `${i % customerCount}`, "new"]));
  await stage.write([customers, ...named("ann")], [orders, ...all]);
  await stage.opened.nest.beginLists(NEVER);
  stage.opened.nest.passed(0n);
  await stage.write([customers, ...named("bob")]);
  await stage.write([orders, put(["n", "0", "1", "changed"])]);
  // What comes next is behind these alone.
  expect(stage.listed().length).toBeLessThan(orderCount / 2);
  stage.opened.nest.passed(10_000_000n);
  await stage.workedOff();
  expect(stage.query("SELECT count(*), count(DISTINCT k1) FROM _millrace_changed WHERE document > 0")).toEqual([
    [BigInt(orderCount), BigInt(orderCount)],
  ]);
});

test("rows that lie in the order of their key are climbed and removed in pieces, and an index over them is made beside", async () => {
  const seats = tableVersion({
    table: "seats",
    columns: { row: "uuid", seat: "int8", customer: "int4" },
    key: ["row", "seat"],
  });
  const document: Document = {
    ...DOCUMENT,
    name: "seats",
    root: {
      table: seats,
      fields: [field("row"), field("seat")],
      relations: [{ ...DOCUMENT.root.relations[0]! }],
      transform: null,
    },
  };
  await using stage = await Stage.open();
  await stage.opened.sink.close();
  await stage.start([document], { batchRows: 10, stepRows: 900, stepValues: 500 });
  await stage.prepare(customers, seats);
  const uuid = (i: number): string => `00000000-0000-4000-8000-${String(i).padStart(12, "0")}`;
  const count = 6_000;
  const all = Array.from({ length: count }, (_, i) => put([uuid(i % 7), `${i}`, "1"]));
  await stage.write([customers, put(["1", "s", "ann"])], [seats, ...all]);
  expect(stage.query(`SELECT wr FROM pragma_table_list('public.seats')`)).toEqual([[1n]]);
  expect(stage.query("SELECT 1 FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'public.seats'")).toEqual([]);
  await stage.opened.nest.beginLists(NEVER);
  const plan = stage.query(`EXPLAIN QUERY PLAN SELECT 1 FROM "public.seats" WHERE customer = 1`);
  expect(String(plan[0]?.at(-1))).toContain("_millrace_join");
  const changed = (): number => Number(stage.query("SELECT count(*) FROM _millrace_changed WHERE document > 0")[0]![0]);
  await stage.write([customers, put(["1", "s", "anna"])]);
  expect(changed()).toBe(0);
  // The process ends in between.
  await stage.opened.sink.close();
  await stage.start([document], { batchRows: 10, stepRows: 900, stepValues: 500 });
  await stage.prepare(customers, seats);
  await stage.workedOff();
  expect(changed()).toBe(count);
  await stage.opened.nest.trim(10_000_000n, NEVER);
  await stage.truncate(seats);
  expect([changed(), stage.query(`SELECT count(*) FROM "public.seats"`)]).toEqual([count, [[0n]]]);
});

test("rows have no index that begins as another one does, and none that repeats their key", async () => {
  const relation = (name: string, on: readonly (readonly [string, string])[], besides: object) => ({
    ...DOCUMENT.root.relations[1]!,
    name,
    on: on.map(([above, below]) => ({ above, below })),
    where: null,
    ...besides,
  });
  const of = (table: KeyedTable, column: string) => ({
    node: { table, fields: [field(column)], relations: [], transform: null },
  });
  const byStatus = { orderBy: [{ column: "status", isDescending: false }], limit: 2 };
  const document: Document = {
    ...DOCUMENT,
    name: "people",
    root: {
      table: customers,
      fields: [field("id")],
      relations: [
        relation("orders", [["id", "customer"]], { ...of(orders, "id"), orderBy: [], limit: null }),
        relation("first", [["id", "customer"]], { ...of(orders, "id"), orderBy: [], limit: 1 }),
        relation("some", [["id", "customer"]], { ...of(orders, "id"), ...byStatus }),
        relation(
          "lines",
          [
            ["id", "line"],
            ["id", "order"],
          ],
          { ...of(items, "qty"), orderBy: [], limit: null },
        ),
      ],
      transform: null,
    },
  };
  await using stage = await Stage.open();
  await stage.opened.sink.close();
  await stage.start([document]);
  await stage.prepare(items, customers, orders);
  await stage.opened.nest.beginLists(NEVER);
  const made = stage.query(
    "SELECT tbl_name, sql FROM sqlite_schema WHERE type = 'index' AND name GLOB '_millrace_join*'",
  );
  expect(made.map(([table, sql]) => [table, /\(([^()]*)\)$/.exec(String(sql))?.[1]])).toEqual([
    ["public.orders", '"customer", "status"'],
  ]);
  for (const order of ['"status", "id"', '"id"']) {
    const sql = `EXPLAIN QUERY PLAN SELECT "id" FROM "public.orders" WHERE "customer" = 1 ORDER BY ${order} LIMIT 2`;
    expect({ order, plan: String(stage.query(sql)) }).toMatchObject({
      plan: expect.stringContaining("_millrace_join"),
    });
  }
});

test("another definition lists all documents, reads again what it lacks, and one that can't be built waits", async () => {
  await using stage = await filled();
  await stage.opened.nest.beginLists(NEVER);
  await stage.opened.sink.close();
  const root = { ...DOCUMENT.root, fields: [...DOCUMENT.root.fields, field("note")] };
  await stage.start([{ ...DOCUMENT, root }]);
  expect(await stage.opened.sink.missing([customers, orders], NEVER)).toEqual([orders]);
  expect(stage.listed()).toEqual([]);
  await stage.prepare(orders);
  await stage.workedOff();
  expect(stage.listed()).toEqual([1, 2, 3]);
  await stage.write([orders, put(["now known", "1", "1", "new"])]);
  expect(stage.listed()).toEqual([1]);
});

test("a change of columns that no document takes lists none, and one of a column that they take lists all", async () => {
  await using stage = await filled();
  await stage.opened.nest.beginLists(NEVER);
  const shapes = (): unknown => stage.query("SELECT value FROM _millrace_nest WHERE name = 'shapes'");
  const before = shapes();
  let version = 1;
  const altered = (...columns: TableVersion["columns"][number][]): TableVersion => {
    version++;
    return { ...orders, columns, version, fingerprint: String(version) };
  };
  const [note, id, customer, status] = orders.columns;
  const more = { ...note!, name: "more", identity: 9 };
  for (const table of [
    altered(note!, id!, customer!, status!, more),
    altered({ ...note!, name: "remark" }, id!, customer!, status!, more),
    altered({ ...note!, native: "varchar(9)" }, id!, customer!, status!),
  ]) {
    await stage.prepare(table);
    await stage.workedOff();
    expect(stage.listed()).toEqual([]);
    expect(shapes()).toEqual(before);
  }
  await stage.prepare(
    altered(note!, id!, customer!, { ...status!, type: { kind: "int", bits: 32, signed: true }, native: "int4" }),
  );
  await stage.workedOff();
  expect(stage.listed()).toEqual([1, 2, 3]);
});

test("documents whose vectors were shown in another way are all listed by who opens the nest", async () => {
  await using stage = await Stage.open();
  const vector = { kind: "vector", form: "single", dimension: 2 } as const;
  const texts = tableVersion({
    table: "texts",
    columns: [
      ["id", "int4"],
      ["near", "vector(2)", vector],
    ],
    key: ["id"],
  });
  const root = { table: texts, fields: [field("id"), field("near")], relations: [], transform: null };
  const open = async (): Promise<readonly number[]> => {
    await stage.opened.sink.close();
    await stage.start([{ ...DOCUMENT, root }]);
    await stage.prepare(texts);
    await stage.workedOff();
    return stage.listed();
  };
  await open();
  await stage.opened.nest.beginLists(NEVER);
  await stage.write([texts, put(["1", "[1,2]"]), put(["2", null])]);
  expect(stage.listed()).toEqual([1, 2]);
  expect(await open()).toEqual([]);
  {
    using database = new DatabaseSync(stage.path);
    database.exec(`UPDATE _millrace_shapes SET shape = json_set(shape, '$.version', 1) WHERE id = '${texts.id}'`);
  }
  expect(await open()).toEqual([1, 2]);
  expect(await open()).toEqual([]);
});

describe("while full batches come", () => {
  /** The keys of orders as they are read; whatever has rows is a full batch. One order: a block may end with each. */
  async function reading(limits: Omit<ReadDelayLimits, "fullFrom">): Promise<{
    readonly stage: Stage;
    readonly next: () => Promise<readonly number[]>;
    readonly change: (status: string) => Promise<void>;
    readonly [Symbol.asyncDispose]: () => Promise<void>;
  }> {
    const stage = await filled();
    await stage.opened.sink.close();
    await stage.start([DOCUMENT], undefined, undefined, { ...limits, fullFrom: 1e-9 });
    await stage.prepare(items, customers, orders);
    const { source } = stage.opened;
    const { position } = await source.admin.create({ epoch: 1, wantCopy: false, resumeIntent: false }, NEVER);
    const resolve = async (shape: TableShape) => firstVersion(shape);
    const stream = await source.log.stream(position, { temporary: true, resolve }, NEVER);
    const map = new CellMap();
    return {
      stage,
      next: async () => {
        const { bytes, after, count } = await stream.next(NEVER);
        return Array.from({ length: count }, (_, i) => {
          map.read(bytes, after[i]!);
          return Number(Buffer.from(bytes).toString("utf8", map.start[0], map.start[0]! + map.length[0]!));
        });
      },
      change: async (status) => await stage.write([orders, put(["n", "1", "1", status])]),
      [Symbol.asyncDispose]: async () => {
        await stream[Symbol.asyncDispose]();
        await source.close();
        await stage[Symbol.asyncDispose]();
      },
    };
  }

  test("a document that changes in each is read once, when one comes that is not full", async () => {
    await using read = await reading({ quietMs: 500_000, waitMs: 500_000 });
    await read.change("first");
    const next = read.next();
    for (let i = 0; i < 5; i++) await read.change(`${i}`);
    await read.stage.apply({ kind: "checkpoint", checkpoint: checkpointAt(5_000n, WHOLE) });
    expect(await next).toEqual([1]);
    const { nest } = read.stage.opened;
    await nest.mark("nothing else is listed", NEVER);
    expect(await read.next()).toEqual([]);
    await read.change("again");
    await nest.mark("somebody waits", NEVER);
    expect(await read.next()).toEqual([1]);
  });

  test("it is read when none follows", async () => {
    await using read = await reading({ quietMs: 10, waitMs: 500_000 });
    await read.change("first");
    expect(await read.next()).toEqual([1]);
  });

  test("it is read at intervals while they follow", async () => {
    await using read = await reading({ quietMs: 500_000, waitMs: 20 });
    for (let round = 0; round < 2; round++) {
      await read.change(`first ${round}`);
      const found: (readonly number[])[] = [];
      const next = read.next().then((keys) => found.push(keys));
      for (let i = 0; found.length === 0; i++) {
        await read.change(`${round} ${i}`);
        await turn();
      }
      await next;
      expect(found).toEqual([[1]]);
    }
  });
});

test("marks and trimming: the list keeps what follows, and each opening has its place in it", async () => {
  await using stage = await filled();
  const { nest } = stage.opened;
  await nest.beginLists(NEVER);
  await stage.write([orders, put(["n", "1", "1", "paid"]), put(["n", "2", "1", "paid"])]);
  const mark = await nest.mark("here", NEVER);
  expect(stage.query(`SELECT k1 FROM _millrace_changed WHERE seq = ${mark} AND document = ${MARK}`)).toEqual([
    ["here"],
  ]);
  await stage.write([orders, put(["n", "1", "1", "sent"])]);
  await nest.trim(mark, NEVER);
  expect(stage.listed()).toEqual([1]);
  // Whoever reads the list of one document reads it in its order.
  const list = "SELECT seq FROM _millrace_changed WHERE document = 1 AND seq > 0 ORDER BY seq";
  expect(stage.query(`EXPLAIN QUERY PLAN ${list}`).map((row) => row[3])).toEqual([
    "SEARCH _millrace_changed USING INTEGER PRIMARY KEY (rowid>?)",
  ]);
  const [before] = stage.query("SELECT id FROM _millrace_openings ORDER BY number DESC");
  await stage.opened.sink.close();
  await stage.start();
  using database = new DatabaseSync(stage.path, { readOnly: true });
  const reading = readingOf(database);
  expect(trimmedTo(reading)).toBe(mark);
  expect(openingOf(reading, String(before?.[0]))?.last).toBe(lastEntry(reading));
  expect(lastOpening(reading)?.id).not.toBe(before?.[0]);
});

test("a list that could not be trimmed is, when the same position is told again", async () => {
  await using stage = await filled();
  const { source, nest } = stage.opened;
  const { position } = await source.admin.create({ epoch: 1, resumeIntent: false, wantCopy: false }, NEVER);
  await stage.write([orders, put(["n", "1", "1", "told"])]);
  const resolve = async (shape: TableShape) => firstVersion(shape);
  await using stream = await source.log.stream(position, { temporary: false, resolve }, NEVER);
  const { commit } = (await stream.next(NEVER)).until;
  const isTrimmed = () => {
    using database = new DatabaseSync(stage.path, { readOnly: true });
    return trimmedTo(readingOf(database)) === commit - 1n;
  };
  {
    const trim = nest.trim.bind(nest);
    let fail!: () => void;
    const failed = new Promise<void>((resolved) => (fail = resolved));
    using _ = stage.failing("DELETE ON _millrace_changed");
    nest.trim = async (...all) => await trim(...all).finally(fail);
    stream.acknowledge(commit);
    await failed;
    nest.trim = trim;
    expect(isTrimmed()).toBe(false);
  }
  await eventually(() => {
    stream.acknowledge(commit);
    expect(isTrimmed()).toBe(true);
  });
  await source.close();
});

test("a file that is no database is waited for by who reads it: its sink says when it is another one", async () => {
  await using stage = await Stage.open();
  const { source } = stage.opened;
  await source.admin.create({ epoch: 1, resumeIntent: false, wantCopy: false }, NEVER);
  const away = () => ["", "-wal", "-shm"].forEach((suffix) => rmSync(stage.path + suffix, { force: true }));
  away();
  writeFileSync(stage.path, "no database, and longer than the header of one ".repeat(200));
  await expect(source.admin.health(NEVER)).rejects.toMatchObject({ code: "MR3202", kind: "blocked" });
  away();
  await stage.start();
  await stage.prepare(items, customers, orders);
  await expect(source.admin.health(NEVER)).resolves.toMatchObject({ retainedBytes: 0 });
});

test("documents of a table that is not whole stay in the list, and go to its end when it is", async () => {
  await using stage = await filled();
  const { nest } = stage.opened;
  await nest.beginLists(NEVER);
  const { [items.id]: _, ...others } = WHOLE;
  await stage.write([orders, put(["n", "1", "1", "before"])]);
  await stage.apply({ kind: "checkpoint", checkpoint: checkpointAt(2000n, others) });
  expect(nest.held).toEqual([{ name: "orders", tableIds: [items.id] }]);
  await stage.apply({
    kind: "rows",
    tables: [writes(orders, 2010n, [put(["n", "2", "1", "held"])])],
    checkpoint: checkpointAt(2020n, others),
  });
  expect(stage.listed()).toEqual([1, 2]);
  await nest.trim(1_000n, NEVER);
  const seqs = (): unknown[] => stage.query("SELECT seq FROM _millrace_changed ORDER BY seq").flat();
  expect(seqs()).toEqual([1n, 2n]);
  // Whoever decides that it is read again may know it before the checkpoint does.
  await stage.apply({ kind: "checkpoint", checkpoint: checkpointAt(2030n, WHOLE) });
  await nest.listed(NEVER);
  expect(stage.listed()).toEqual([1, 2]);
  await nest.hold(new Set([customers.id]), NEVER);
  expect(nest.held).toEqual([{ name: "orders", tableIds: [customers.id] }]);
  await nest.trim(1_000n, NEVER);
  expect(seqs()).toEqual([3n, 4n]);
  await nest.hold(new Set(), NEVER);
  await nest.listed(NEVER);
  expect(seqs()).toEqual([5n, 6n]);
  await nest.trim(1_000n, NEVER);
  expect(seqs()).toEqual([]);
});

test("a document that is too large for a text says so in its place, and holds up no other", async () => {
  await using stage = await filled();
  await stage.opened.sink.close();
  await stage.start([DOCUMENT], undefined, 20_000);
  await stage.prepare(items, customers, orders);
  const { source } = stage.opened;
  const { position } = await source.admin.create({ epoch: 1, resumeIntent: false, wantCopy: false }, NEVER);
  const ids = ["1", "2", "3", "4"];
  const body = (id: string) => (id === "2" || id === "4" ? "x".repeat(15_000) : "small");
  await stage.write(
    [orders, ...ids.map((id) => put(["n", id, "1", "new"]))],
    [items, ...ids.flatMap((id) => ["1", "2"].map((line) => put([id, line, "5", body(id)])))],
  );
  const tables: TableVersion[] = [];
  const resolve = async (shape: TableShape) => {
    const table = firstVersion(shape);
    tables.push(table);
    return table;
  };
  const told = ({ tables: [table], after, count, bytes }: Block) =>
    Array.from({ length: count }, (_, i) => {
      const [id = ""] = keyText(table!, bytes, after[i]!);
      return [id, failedCell(table!, bytes, after[i]!)?.how.includes("larger") ?? false] as const;
    });
  const expected = ids.map((id) => [id, body(id) !== "small"] as const);
  await using stream = await source.log.stream(position, { temporary: false, resolve }, NEVER);
  const streamed: (readonly [string, boolean])[] = [];
  while (streamed.length < ids.length) streamed.push(...told(await stream.next(NEVER)));
  expect(new Map(streamed)).toEqual(new Map(expected));
  const [table] = tables;
  const range = await source.rows.readRange(table!, { after: null, where: null }, NEVER);
  expect(told(range.block!)).toEqual(expected);
  const behind = await source.rows.readRange(table!, { after: ["3"], where: null }, NEVER);
  expect(told(behind.block!)).toEqual(expected.slice(3));
  const keys = await source.rows.readKeys(
    table!,
    ids.map((id) => [id]),
    NEVER,
  );
  expect(told(keys.block!)).toEqual(expected);
  await source.close();
});

test("entries that are held cost the list nothing: it is trimmed from where it was, and they are moved once", async () => {
  const others: Document = { ...DOCUMENT, name: "others", root: { ...DOCUMENT.root, relations: [] } };
  await using stage = await Stage.open();
  await stage.opened.sink.close();
  await stage.start([DOCUMENT, others]);
  await stage.prepare(items, customers, orders);
  const { nest } = stage.opened;
  await nest.beginLists(NEVER);
  await stage.write([orders, put(["n", "1", "1", "first"])]);
  await nest.listed(NEVER);
  await nest.hold(new Set([items.id]), NEVER);
  const count = 1_200;
  const all = Array.from({ length: count }, (_, i) => put(["n", `${i}`, "1", "new"]));
  await stage.write([orders, ...all]);
  const [[last] = []] = stage.query("SELECT max(seq) FROM _millrace_changed");
  await nest.trim(BigInt(String(last)), NEVER);
  const of = (name: string): unknown[] =>
    stage
      .query(
        `SELECT k1 FROM _millrace_changed JOIN _millrace_documents AS d ON d.id = document WHERE name = '${name}' ORDER BY seq`,
      )
      .flat();
  expect([of("orders").length, of("others")]).toEqual([count, []]);
  const first = of("orders");
  // One that does not hold and lies before all others: nobody comes that far back.
  await nest.transaction(NEVER, (file) => {
    file.run(
      "INSERT INTO _millrace_changed (seq, document, k1) SELECT -1, id, 5000 FROM _millrace_documents WHERE name = 'others'",
    );
  });
  await nest.mark("later", NEVER);
  await nest.trim(lastIn(stage), NEVER);
  expect(of("others")).toEqual([5000n]);
  await nest.hold(new Set(), NEVER);
  await nest.listed(NEVER);
  expect(of("orders")).toEqual(first);
  await nest.trim(lastIn(stage), NEVER);
  expect(of("orders")).toEqual([]);
});

function lastIn(stage: Stage): bigint {
  using database = new DatabaseSync(stage.path, { readOnly: true });
  return lastEntry(readingOf(database));
}

test("a transaction that fails changes nothing that the nest knows, and succeeds when it is tried again", async () => {
  await using stage = await filled();
  const { nest } = stage.opened;
  await nest.beginLists(NEVER);
  const { [items.id]: _, ...others } = WHOLE;
  const lacksItems = [{ name: "orders", tableIds: [items.id] }];
  const steps: readonly (readonly [() => Promise<void>, typeof nest.held])[] = [
    [() => stage.apply({ kind: "checkpoint", checkpoint: checkpointAt(2000n, others) }), lacksItems],
    [() => stage.apply({ kind: "checkpoint", checkpoint: checkpointAt(2010n, WHOLE) }), []],
    [() => nest.hold(new Set([items.id]), NEVER), lacksItems],
    [() => nest.hold(new Set(), NEVER), []],
  ];
  for (const [step, held] of steps) {
    const isHeld = held.length > 0;
    {
      using _failing = stage.failing("UPDATE OF held ON _millrace_documents");
      await expect(step()).rejects.toThrow();
      expect(stage.isHeld).toBe(!isHeld);
    }
    // Whatever else commits meanwhile notes nothing of it.
    await nest.mark("meanwhile", NEVER);
    expect(stage.isHeld).toBe(!isHeld);
    await step();
    expect(nest.held).toEqual(held);
    expect(stage.isHeld).toBe(isHeld);
  }
});

test("a commit that fails while tables are told to lack rows releases no document until it is told again", async () => {
  await using stage = await filled();
  const { nest } = stage.opened;
  await nest.beginLists(NEVER);
  await nest.hold(new Set([items.id]), NEVER);
  {
    using _failing = stage.failing("UPDATE OF held ON _millrace_documents");
    await expect(nest.hold(new Set(), NEVER)).rejects.toThrow();
  }
  expect(nest.plan).toBeNull();
  await stage.write([orders, put(["n", "1", "1", "held"])]);
  expect(stage.isHeld).toBe(true);
  await nest.hold(new Set(), NEVER);
  expect(stage.isHeld).toBe(false);
  expect(nest.plan).not.toBeNull();
});

test("an opening that fails is tried again as a whole: changes are listed", async () => {
  await using stage = await filled();
  await stage.opened.nest.beginLists(NEVER);
  await stage.opened.sink.close();
  {
    using _failing = stage.failing("INSERT ON _millrace_openings");
    await expect(stage.start()).rejects.toThrow();
  }
  await stage.opened.sink.open(3, NEVER);
  await stage.opened.nest.hold(new Set(), NEVER);
  await stage.prepare(orders);
  await stage.write([orders, put(["n", "1", "1", "paid"])]);
  expect(stage.listed()).toEqual([1]);
});

test("documents that change after they are whole again follow at once, whatever of them still waits to go to the end", async () => {
  await using stage = await filled();
  const { nest, source } = stage.opened;
  await nest.beginLists(NEVER);
  await nest.hold(new Set([items.id]), NEVER);
  await stage.write([orders, put(["n", "1", "1", "held"]), put(["n", "3", "2", "held"])]);
  // What follows is so far behind that nothing goes to the end yet.
  nest.passed(-100_000n);
  await nest.hold(new Set(), NEVER);
  await stage.write([orders, put(["n", "2", "1", "later"]), put(["n", "3", "2", "later"])]);
  const resolve = async (shape: TableShape): Promise<TableVersion> => firstVersion(shape);
  const position = { epoch: 1, commit: 1n, index: 0 };
  await using stream = await source.log.stream(position, { temporary: false, resolve }, NEVER);
  const keys: string[] = [];
  const shows = async (): Promise<void> => {
    const { table, tables, bytes, after, count } = await stream.next(NEVER);
    for (let row = 0; row < count; row++) keys.push(...keyText(tables[table[row]!]!, bytes, after[row]!));
  };
  while (keys.length < 2) await shows();
  nest.passed(1_000n);
  while (keys.length < 3) await shows();
  expect(keys).toEqual(["2", "3", "1"]);
});

test("rows are not carried into a column that gets a name which documents take, and are if they take none of it", async () => {
  await using stage = await filled();
  const { sink } = stage.opened;
  const later = (columns: TableVersion["columns"]): TableVersion => ({
    ...orders,
    columns,
    version: 2,
    fingerprint: "2",
  });
  const [note, id, customer, status] = orders.columns;
  const renamed = later([{ ...note!, name: "status" }, id!, customer!]);
  const dropped = later([note!, id!, customer!]);
  const grown = later([...orders.columns, { ...note!, name: "more", identity: 9 }]);
  expect(status!.name).toBe("status");
  expect(await sink.carries(orders, dropped, NEVER)).toBe(true);
  expect(await sink.carries(orders, grown, NEVER)).toBe(true);
  await stage.prepare(dropped);
  expect(await sink.carries(dropped, renamed, NEVER)).toBe(false);
  expect(sink.kept(grown).columns.map(({ name }) => name)).toEqual(["id", "customer", "status"]);
});

test("a process that ends when a table has changed, and nothing else yet, is followed by one that opens the nest", async () => {
  await using stage = await filled();
  const people: Document = {
    name: "people",
    where: null,
    root: { table: customers, fields: [field("id"), field("name")], relations: [], transform: null },
  };
  await stage.opened.sink.close();
  await stage.start([DOCUMENT, people]);
  await stage.prepare(items, customers, orders);
  await stage.opened.nest.beginLists(NEVER);
  // Its column by which customers are joined is gone, and with it an index.
  const columns = orders.columns.filter(({ name }) => name !== "customer");
  const altered: KeyedTable = { ...orders, columns, key: [1], version: 2, fingerprint: "2" };
  stage.opened.nest.prepared = () => Promise.reject(new Error("the process ends"));
  await expect(stage.prepare(altered)).rejects.toThrow("preparing public.orders");
  await stage.opened.sink.close();
  await stage.start([DOCUMENT, people]);
  await stage.prepare(items, customers, altered);
  await stage.write([customers, put(["1", "a secret", "anna"])], [altered, remove([null, "1", null])]);
  const whose = stage.query("SELECT name, k1 FROM _millrace_changed JOIN _millrace_documents AS d ON d.id = document");
  expect(whose).toContainEqual(["people", 1n]);
  // Nobody can build it now. Which of its roots go is known when somebody can.
  expect(whose).toContainEqual(["orders", 1n]);
  expect(stage.isHeld).toBe(true);
});
