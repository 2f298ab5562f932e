/**
 * Random documents over random tables, and random changes of their rows. The oracle builds each document in JavaScript from the
 * rows as they are now. After each batch every document that differs is listed, and the statement builds what the oracle does.
 */
import * as fc from "fast-check";
import type { SQLOutputValue } from "node:sqlite";
import { setImmediate as turn } from "node:timers/promises";
import { expect, test } from "vitest";
import { assemblyOf, ROOT } from "../../connectors/nest/assembly.ts";
import { CHANGED, Climbing, createLists, widthOf } from "../../connectors/nest/climbing.ts";
import { indexesOf } from "../../connectors/nest/indexes.ts";
import { planDocument, type PlannedDocument } from "../../connectors/nest/plan.ts";
import { defineFunctions, textOf } from "../../connectors/nest/values.ts";
import { SqliteFile } from "../../connectors/sqlite/file.ts";
import { packedText } from "../../connectors/sqlite/packed.ts";
import { createSql, layoutOf, MirrorSql, type SqliteLayout } from "../../connectors/sqlite/tables/layout.ts";
import { Slices } from "../../connectors/sqlite/write/slices.ts";
import { DEFAULT_FORM } from "../../connectors/warehouse/own-columns.ts";
import { expectedPlain, spelledJson } from "../../src/core/targets/expected-json.ts";
import type { Column, KeyedTable } from "../../src/core/model/schema.ts";
import type { Document, DocumentNode, Order, Relation } from "../../src/documents/document.ts";
import { columnsIndexed } from "../../src/documents/places.ts";
import { type ColumnSpec, tableVersion } from "../support/model/blocks.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const NUMBERS = ["0", "1", "2", "3"];
const UUIDS = ["00000000-0000-0000-0000-000000000000", "6f1d2c3b-4a59-4687-9aab-bccddeeff001"];
const VALUES: Readonly<Record<string, readonly (string | null)[]>> = {
  n: [null, ...NUMBERS],
  d: [null, "0", "1.0", "1", "2.50", "-1", "-1.25", "-12", "NaN"],
  s: [null, "", "a", "ab", "b", "é", UUIDS[1]!, "\u{ffff}", "\u{1f600}", 'a"\\\n'],
  t: [
    null,
    "2024-02-29 12:00:00+00",
    "2024-02-29 12:00:00.5+00",
    "0044-03-15 00:00:00+00 BC",
    "0044-05-15 00:00:00+00 BC",
    "0045-03-15 00:00:00+00 BC",
    "infinity",
    "-infinity",
    "10000-01-01 00:00:00+00",
  ],
  u: [null, ...UUIDS],
  w: [null, "2024-02-29", "0001-01-01", "0044-03-15 BC", "0045-03-15 BC", "infinity", "-infinity", "12000-01-01"],
  f: [null, "1", "-0", "0", "1.5", "NaN", "Infinity", "-Infinity", "1e+20"],
  g: [null, "t", "f"],
  j: [null, '{"a": 1.50, "b": [1, null]}', "null", '"x"'],
  e: [null, "lo", "mid", "hi"],
  y: [null, "\\x00ff", "\\x"],
  l: [null, "{1,NULL,3}", "{}"],
  v: [null, "[1,-0.5]", "[-0,3e+10]"],
  z: [null, "{1:1.5,4:-2}/5", "{}/5"],
  r1: [null, ...NUMBERS],
  r2: [null, ...NUMBERS],
};
const COLUMNS: readonly ColumnSpec[] = [
  ["n", "int4"],
  ["d", "numeric"],
  ["s", "text"],
  ["t", "timestamptz"],
  ["u", "uuid"],
  ["w", "date"],
  ["f", "float8"],
  ["g", "bool"],
  ["j", "jsonb"],
  ["e", "mood", { kind: "enum", labels: ["lo", "mid", "hi"] }],
  ["y", "bytea"],
  ["l", "int4[]"],
  ["v", "vector(2)", { kind: "vector", form: "single", dimension: 2 }],
  ["z", "sparsevec(5)", { kind: "vector", form: "sparse", dimension: 5 }],
  ["r1", "int4"],
  ["r2", "int8"],
];
const KEYS: Readonly<Record<string, readonly (readonly [string, string, readonly string[]])[]>> = {
  a: [["id", "int4", NUMBERS]],
  b: [
    ["p", "int8", NUMBERS],
    ["q", "text", ["", "x", "é"]],
  ],
  c: [["id", "numeric", ["0", "1", "2"]]],
  k: [["id", "uuid", UUIDS]],
  link: [
    ["x", "int4", NUMBERS],
    ["y1", "int4", NUMBERS],
  ],
};
const TABLES = new Map(
  Object.entries(KEYS).map(([table, key]): [string, KeyedTable] => {
    const columns = [...key.map(([name, native]) => [name, native] as const), ...COLUMNS];
    return [table, tableVersion({ table, columns, key: key.map(([name]) => name) })];
  }),
);
const LAYOUTS = new Map(
  [...TABLES.values()].map((table): [string, SqliteLayout] => [table.id, storedLayout(table, new Set())]),
);

function storedLayout(table: KeyedTable, indexed: ReadonlySet<string>): SqliteLayout {
  return layoutOf(table, `public.${table.table}`, { form: DEFAULT_FORM, dropsColumns: false }, true, { indexed });
}

type Row = Readonly<Record<string, string | null>>;
/** By table, then by key. */
type State = ReadonlyMap<string, Map<string, Row>>;

const WHERES: readonly (readonly [string, (row: Row) => boolean])[] = [
  ["n > 1", ({ n }) => n != null && Number(n) > 1],
  ["s <> 'b'", ({ s }) => s != null && s !== "b"],
  ["n is null or g", ({ n, g }) => n == null || g === "t"],
  ["d >= 1", ({ d }) => d === "NaN" || (d != null && Number(d) >= 1)],
  ["t < '2024-02-29 12:00:00.25+00'", ({ t }) => t != null && timeOf(t) < timeOf("2024-02-29 12:00:00.25+00")],
  ["f = 0", ({ f }) => f != null && Number(f) === 0],
  ["s like 'a%'", ({ s }) => s?.startsWith("a") === true],
  ["e > 'lo'", ({ e }) => e != null && e !== "lo"],
  ["not g", ({ g }) => g === "f"],
];

function timeOf(text: string): number {
  if (text.endsWith("infinity")) return text.startsWith("-") ? -Infinity : Infinity;
  const [, year, rest] = /^(\d+)(.*?)( BC)?$/.exec(text)!;
  const shown = text.endsWith("BC") ? 1 - Number(year) : Number(year);
  return Date.parse(
    `${shown < 0 ? "-" : "+"}${String(Math.abs(shown)).padStart(6, "0")}${rest!.replace(" ", "T").replace("+00", "Z")}`,
  );
}

class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  below(count: number): number {
    this.#state = (Math.imul(this.#state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((this.#state / 2 ** 32) * count);
  }

  of<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }

  is(percent: number): boolean {
    return this.below(100) < percent;
  }
}

/** Columns that may equal each other. */
function joinable(table: KeyedTable, random: Random, like: "number" | "text" | null): Column {
  const isOf = (kinds: readonly string[]) => table.columns.filter(({ type }) => kinds.includes(type.kind));
  const numbers = isOf(["int", "decimal"]).filter(({ name }) => name !== "d" || random.is(20));
  return random.of(like === "text" ? isOf(["text", "uuid"]) : numbers);
}

function joinsOf(above: KeyedTable, below: KeyedTable, random: Random): Relation["on"] {
  return Array.from({ length: random.is(15) ? 2 : 1 }, () => {
    const like = random.is(10) ? "text" : "number";
    return { above: joinable(above, random, like).name, below: joinable(below, random, like).name };
  });
}

function nodeOf(random: Random, depth: number, isRoot: boolean): DocumentNode {
  const table = random.of([...TABLES.values()]);
  const chosen = table.columns.filter(
    ({ name }, i) => (isRoot && table.key.includes(i)) || random.is(25) || name === "",
  );
  const relations: Relation[] = [];
  for (let i = random.below(depth === 0 ? 1 : 3); i > 0; i--) {
    const node = nodeOf(random, depth - 1, false);
    const own = TABLES.get(node.table.table)!;
    const between = random.is(25) ? random.of([...TABLES.values()]) : null;
    const isValue = random.is(15);
    relations.push({
      name: `r"${i}`,
      many: random.is(70),
      through: between === null ? null : { table: between, on: joinsOf(table, between, random) },
      on: joinsOf(between ?? table, own, random),
      where: random.is(25) ? random.of(WHERES)[0] : null,
      orderBy: Array.from({ length: random.below(3) }, (): Order => ({
        column: random.of(["n", "d", "s", "t", "u", "w", "f", "g", "e", "r2"]),
        isDescending: random.is(50),
      })),
      limit: random.is(25) ? 1 + random.below(3) : null,
      value: isValue ? random.of(own.columns).name : null,
      node: isValue ? { ...node, relations: [] } : node,
    });
  }
  return { table, fields: chosen.map(({ name }) => ({ name: `f'${name}`, column: name })), relations, transform: null };
}

function documentOf(name: string, random: Random): Document {
  return { name, where: random.is(20) ? random.of(WHERES)[0] : null, root: nodeOf(random, 3, true) };
}

function isEqual(a: string | null | undefined, b: string | null | undefined): boolean {
  if (a == null || b == null) return false;
  const isNumeric = /^-?[\d.]+$/.test(a) && /^-?[\d.]+$/.test(b);
  return isNumeric ? Number(a) === Number(b) : a === b;
}

function passes(where: string | null, row: Row): boolean {
  return where === null || WHERES.find(([text]) => text === where)![1](row);
}

function compared(column: Column, a: string | null, b: string | null): number {
  if (a === b) return 0;
  if (a === null || b === null) return a === null ? 1 : -1;
  const by = (of: (text: string) => number) => (of(a) === of(b) ? 0 : of(a) < of(b) ? -1 : 1);
  const { kind } = column.type;
  if (kind === "timestamp" || kind === "date") return by(timeOf);
  if (kind === "enum") return by((text) => ["lo", "mid", "hi"].indexOf(text));
  if (kind === "bool") return by((text) => (text === "t" ? 1 : 0));
  if (kind === "text" || kind === "uuid") return Buffer.compare(Buffer.from(a), Buffer.from(b));
  return (a === "NaN") === (b === "NaN") ? by(Number) : a === "NaN" ? 1 : -1;
}

function rowsUnder(relation: Relation, above: Row, state: State): Row[] {
  const { through, on, node, where, limit } = relation;
  const rowsOf = (table: string) => [...state.get(table)!.values()];
  const joins = (pairs: Relation["on"], upper: Row, lower: Row) =>
    pairs.every((pair) => isEqual(upper[pair.above], lower[pair.below]));
  const middle =
    through === null ? [above] : rowsOf(through.table.table).filter((row) => joins(through.on, above, row));
  const found = middle
    .flatMap((upper) => rowsOf(node.table.table).filter((row) => joins(on, upper, row)))
    .filter((row) => passes(where, row));
  const table = TABLES.get(node.table.table)!;
  const order = [
    ...relation.orderBy,
    ...table.key.map((i) => ({ column: table.columns[i]!.name, isDescending: false })),
  ];
  const sorted = found.toSorted((a, b) => {
    for (const { column, isDescending } of order) {
      const by = compared(
        table.columns.find(({ name }) => name === column)!,
        a[column]!,
        b[column]!,
      );
      if (by !== 0) return isDescending ? -by : by;
    }
    return 0;
  });
  return limit === null ? sorted : sorted.slice(0, limit);
}

function jsonOf(table: KeyedTable, column: string, row: Row): string {
  const text = row[column] ?? null;
  return text === null ? "null" : spelledJson(table.columns.find(({ name }) => name === column)!.type, text);
}

function relationJson(relation: Relation, above: Row, state: State): string | null {
  const { node, value, many } = relation;
  const table = TABLES.get(node.table.table)!;
  const shown = rowsUnder(relation, above, state).map((row) => {
    if (value !== null) return jsonOf(table, value, row);
    const fields = [
      ...node.fields.map(({ name, column }) => [name, jsonOf(table, column, row)] as const),
      ...node.relations.map((one) => [one.name, relationJson(one, row, state) ?? "null"] as const),
    ];
    return `{${fields.map(([name, json]) => `${JSON.stringify(name)}:${json}`).join(",")}}`;
  });
  return many ? `[${shown.join(",")}]` : (shown[0] ?? null);
}

/** The values of its columns, by key. */
function documentsOf({ root, where }: Document, state: State): Map<string, readonly (string | null)[]> {
  const rows = [...state.get(root.table.table)!].filter(([, row]) => passes(where, row));
  return new Map(
    rows.map(([key, row]) => [
      key,
      [
        ...root.fields.map(({ column }) => shownText(TABLES.get(root.table.table)!, column, row)),
        ...root.relations.map((relation) => relationJson(relation, row, state)),
      ],
    ]),
  );
}

function shownText(table: KeyedTable, column: string, row: Row): string | null {
  const { type } = table.columns.find(({ name }) => name === column)!;
  const text = row[column] ?? null;
  return text !== null && type.kind === "array" ? spelledJson(type, text) : text;
}

/** As the sink stores it. */
function storedOf({ type }: Column, text: string | null): number | bigint | string | Buffer | null {
  if (text === null) return null;
  if (type.kind === "bool") return text === "t" ? 1 : 0;
  if (type.kind === "int") return Number(text);
  if (type.kind === "float") return text === "NaN" ? text : Number(text);
  if (type.kind === "bytes") return Buffer.from(text.slice(2), "hex");
  if (["timestamp", "date", "uuid"].includes(type.kind)) return packedText(type, expectedPlain(type, text));
  return type.kind === "array" ? spelledJson(type, text) : text;
}

/** Of a row that begins with the key's values. */
function keyText({ key }: SqliteLayout, row: readonly SQLOutputValue[]): string {
  return key.map((column, i) => textOf(column, row[i]!)).join("|");
}

class Nest implements AsyncDisposable {
  readonly state: State = new Map([...TABLES.keys()].map((table) => [table, new Map<string, Row>()]));
  readonly #file: SqliteFile;
  readonly #sql: ReadonlyMap<string, MirrorSql>;
  readonly documents: readonly PlannedDocument[];
  readonly #climbing: Climbing;

  static async open(path: string, documents: readonly Document[], random: Random): Promise<Nest> {
    const file = await SqliteFile.open(path, AbortSignal.timeout(60_000));
    let numbered = 0;
    const planned = documents.map((document, i) => {
      const one = planDocument(document, i + 1, LAYOUTS, numbered);
      numbered += one.places.length;
      return one;
    });
    const isNarrow = random.is(50);
    const limits = isNarrow
      ? { batchRows: random.below(6), stepRows: 1 + random.below(3), stepValues: 1 + random.below(3) }
      : undefined;
    return new Nest(file, planned, limits, random);
  }

  private constructor(
    file: SqliteFile,
    documents: readonly PlannedDocument[],
    limits: ConstructorParameters<typeof Climbing>[2],
    random: Random,
  ) {
    this.#file = file;
    this.documents = documents;
    const indexed = columnsIndexed(documents.map(({ document }) => document));
    this.#sql = new Map(
      [...TABLES.values()].map((table) => [
        table.id,
        new MirrorSql(storedLayout(table, indexed.get(table.id) ?? new Set())),
      ]),
    );
    this.#climbing = new Climbing(file, documents, limits);
    // As tables of narrow columns are.
    const inKeyOrder = (sql: string): string => (random.is(50) ? sql.replace(/STRICT$/, "STRICT, WITHOUT ROWID") : sql);
    for (const layout of LAYOUTS.values()) file.exec(inKeyOrder(createSql(layout)));
    defineFunctions(file);
    const indexes = indexesOf(
      documents.map(({ document }) => document),
      LAYOUTS,
    );
    for (const { sql } of indexes) file.exec(sql);
    createLists(file, Math.max(...documents.map(widthOf)));
    this.#climbing.begin();
  }

  /** Commits the changes in between, and works off what is left. Returns the listed keys, by document, and forgets them. */
  async batch(random: Random, changeCount: number): Promise<Map<string, Set<string>>> {
    const signal = AbortSignal.timeout(60_000);
    await this.#file.transaction(
      signal,
      () => undefined,
      async () => {
        for (let i = 0; i < changeCount; i++) this.#change(random);
        await this.#climbing.list(new Slices(signal));
      },
    );
    while (this.#climbing.hasLeft) {
      await this.#file.transaction(
        signal,
        () => undefined,
        async () => await this.#climbing.workOff(new Slices(signal), 1_000),
      );
    }
    const listed = new Map(this.documents.map(({ document }) => [document.name, new Set<string>()]));
    for (const { document, id, places } of this.documents) {
      const names = places[0]!.layout.key.map((_, i) => `k${i + 1}`).join(", ");
      for (const row of this.#file.rows(`SELECT ${names} FROM ${CHANGED} WHERE document = ?`, id))
        listed.get(document.name)!.add(keyText(places[0]!.layout, row));
    }
    this.#file.exec(`DELETE FROM ${CHANGED}`);
    return listed;
  }

  #change(random: Random): void {
    const table = random.of([...TABLES.values()]);
    const rows = this.state.get(table.table)!;
    if (rows.size > 0 && random.is(2)) {
      rows.clear();
      this.#file.run(`DELETE FROM ${LAYOUTS.get(table.id)!.sqlName}`);
      return;
    }
    if (rows.size > 0 && random.is(25)) return this.#remove(table, random.of([...rows.keys()]));
    const before = rows.size > 0 && random.is(60) ? random.of([...rows.entries()]) : null;
    // A change of the key, of one column, or a new row.
    if (before !== null && random.is(15)) this.#remove(table, before[0]);
    const row: Record<string, string | null> = {};
    const isOneColumn = random.is(60);
    const one = random.of(COLUMNS)[0];
    for (const { name } of table.columns) {
      const keyValues = KEYS[table.table]!.find(([column]) => column === name)?.[2];
      if (before !== null && rows.has(before[0]) && (keyValues !== undefined || (isOneColumn && name !== one)))
        row[name] = before[1][name]!;
      else row[name] = random.of(keyValues ?? VALUES[name]!);
    }
    this.#put(table, row);
  }

  #put(table: KeyedTable, row: Row): void {
    const key = table.key.map((i) => row[table.columns[i]!.name]).join("|");
    this.state.get(table.table)!.set(key, row);
    const cells = table.columns.map((column) => storedOf(column, row[column.name]!));
    const { change, put } = this.#sql.get(table.id)!;
    if (change === null || this.#file.run(change, ...cells, 1, "now") === 0) this.#file.run(put, ...cells, 1, "now");
  }

  #remove(table: KeyedTable, key: string): void {
    const row = this.state.get(table.table)!.get(key)!;
    this.state.get(table.table)!.delete(key);
    const cells = table.key.map((i) => storedOf(table.columns[i]!, row[table.columns[i]!.name]!));
    this.#file.run(this.#sql.get(table.id)!.remove, ...cells, 1);
  }

  built(planned: PlannedDocument): Map<string, readonly (string | null)[]> {
    const { root, columns, values, condition } = assemblyOf(planned);
    const { layout } = root;
    const key = layout.key.map(({ sqlName }) => `${ROOT}.${sqlName}`);
    const where = condition === null ? "" : ` WHERE ${condition}`;
    const rows = this.#file.rows(`SELECT ${[...key, ...values].join(", ")} FROM ${layout.sqlName} AS ${ROOT}${where}`);
    return new Map(
      rows.map((row) => [
        keyText(layout, row),
        row
          .slice(key.length)
          .map((value, i) => (i < columns.length ? textOf(columns[i]!, value) : value === null ? null : String(value))),
      ]),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#climbing.end();
    await this.#file.close();
  }
}

test("every document that differs is listed, and is built as it is", { timeout: 300_000 }, async () => {
  const differing = { listed: 0, differed: 0 };
  await fc.assert(
    fc.asyncProperty(fc.noShrink(fc.integer({ min: 0 })), async (seed) => {
      const random = new Random(seed);
      using folder = temporaryFolder();
      const documents = Array.from({ length: 1 + random.below(3) }, (_, i) => documentOf(`d${i}`, random));
      await using nest = await Nest.open(folder.file("nest.sqlite"), documents, random);
      let before = documents.map((document) => documentsOf(document, nest.state));
      for (let batch = 0; batch < 6; batch++) {
        const listed = await nest.batch(random, batch === 0 ? 25 : 1 + random.below(12));
        await turn();
        const now = documents.map((document) => documentsOf(document, nest.state));
        for (const [i, document] of documents.entries()) {
          const keys = new Set([...before[i]!.keys(), ...now[i]!.keys()]);
          const differ = [...keys].filter(
            (key) => JSON.stringify(before[i]!.get(key)) !== JSON.stringify(now[i]!.get(key)),
          );
          differing.differed += differ.length;
          differing.listed += listed.get(document.name)!.size;
          expect(differ.filter((key) => !listed.get(document.name)!.has(key))).toEqual([]);
          expect(nest.built(nest.documents[i]!)).toEqual(now[i]!);
        }
        before = now;
      }
    }),
    { numRuns: Number(process.env["MILLRACE_RUNS"] ?? 60) },
  );
  // The list is not simply of everything.
  expect(differing.differed).toBeGreaterThan(0.2 * differing.listed);
});
