/** Rows whose every value is known, so that single faults can be planted in what the sinks hold of them. */
import type { Random } from "../run/random.ts";

/** A value in the spellings that it has in the sinks. */
export interface Cell {
  /** For Postgres and DuckDB alike. */
  readonly sql: string;
  /** In a hash of the cache; null: the field is not there. */
  readonly plain: string | null;
  readonly json: string;
}

export type Row = Readonly<Record<string, Cell>>;

/** What has to be said of a row, and how each sink comes to it. */
export interface Fault {
  readonly what: string;
  readonly id: number;
  readonly kind: "different" | "missing" | "extra";
  readonly columns: readonly string[];
  /** What stands there afterwards, besides the key; null: nothing, or of an extra row the key alone. */
  readonly row: Row | null;
  /** With the version that it had before. */
  readonly isStale: boolean;
}

export const COLUMNS = ["a", "b", "note", "seen", "amount", "ratio", "n", "flag", "tags", "body"] as const;

/** Rows of these ids are changed once more when they are in the sinks. */
export const CHANGED_EVERY = 5;

export function sourceSql(table: string, rowCount: number): string {
  return `create table ${table} (id int, part text, a text not null, b text not null, note text, seen timestamptz,
      amount numeric(12,2), ratio float8, n bigint, flag bool, tags text[], body jsonb, primary key (id, part));
    insert into ${table} select g, 'p:' || g, 'a' || g, 'b' || g, case g % 2 when 0 then '' end,
      '2026-11-20 06:43:15.123456+00', g + 0.01, case g % 3 when 0 then '0' when 1 then '-0' else '1.5' end::float8, g * 7,
      g % 2 = 0, array['t' || g, null], jsonb_build_object('n', g) from generate_series(1, ${rowCount}) g`;
}

export function changeSql(table: string): string {
  return `update ${table} set a = a || '!', n = n + 1 where id % ${CHANGED_EVERY} = 0`;
}

export function rowOf(id: number): Row {
  const isChanged = id % CHANGED_EVERY === 0;
  return {
    a: text(isChanged ? `a${id}!` : `a${id}`),
    b: text(`b${id}`),
    note: id % 2 === 0 ? text("") : NOTHING,
    seen: seen("123456"),
    amount: decimal(`${id}.01`),
    ratio: float(["0", "-0", "1.5"][id % 3]!),
    n: int(isChanged ? id * 7 + 1 : id * 7),
    flag: bool(id % 2 === 0),
    tags: list([`t${id}`, null]),
    body: json(`{"n": ${id}}`),
  };
}

const NOTHING: Cell = { sql: "null", plain: null, json: "null" };
const WRONG_TYPES: Readonly<Record<string, (right: Cell) => string>> = {
  a: () => "17",
  amount: ({ json: right }) => JSON.parse(right),
  ratio: ({ json: right }) => JSON.stringify(right),
  n: ({ json: right }) => JSON.stringify(right),
  flag: ({ json: right }) => JSON.stringify(right),
  tags: ({ json: right }) => JSON.stringify(right),
};

/** Each takes as many rows as it needs from the ids that are still whole. */
type Plant = (ids: Ids, random: Random) => readonly Fault[];

interface Ids {
  readonly next: (isRight?: (id: number) => boolean) => number;
  readonly unused: () => number;
}

function changed(what: string, id: number, values: Row, isStale = false): Fault {
  const right = rowOf(id);
  const columns = COLUMNS.filter((name) => values[name] !== undefined && values[name].json !== right[name]!.json);
  if (columns.length === 0) throw new Error(`nothing is wrong with row ${id}: ${what}`);
  return { what, id, kind: "different", columns, row: { ...right, ...values }, isStale };
}

const VALUES: Readonly<Record<string, (random: Random) => Cell>> = {
  a: (random) => text(`wrong ${random.text(6)}`),
  note: (random) => text(`wrong ${random.below(100)}`),
  amount: (random) => decimal(`-${random.below(1000)}.5${random.below(10)}`),
  ratio: (random) => float(String(-2 - random.next())),
  n: (random) => int(-1 - random.below(1000)),
  tags: (random) => list(["t", String(random.below(100))]),
  body: (random) => json(`{"n": "${random.below(100)}"}`),
};

const PLANTS: Readonly<Record<string, Plant>> = {
  "a cell changed": (ids, random) => {
    const name = random.pick(Object.keys(VALUES));
    return [changed("a cell changed", ids.next(), { [name]: VALUES[name]!(random) })];
  },
  "a flag turned": (ids) => {
    const id = ids.next();
    return [changed("a flag turned", id, { flag: bool(id % 2 !== 0) })];
  },
  "NULL against ''": (ids) => {
    const id = ids.next();
    return [changed("NULL against ''", id, { note: id % 2 === 0 ? NOTHING : text("") })];
  },
  "a space at the end": (ids) => {
    const id = ids.next();
    return [changed("a space at the end", id, { b: text(`b${id} `) })];
  },
  "the last microsecond": (ids) => [changed("the last microsecond", ids.next(), { seen: seen("123457") })],
  "-0 against 0": (ids) => {
    const id = ids.next((one) => one % 3 !== 2);
    return [changed("-0 against 0", id, { ratio: float(id % 3 === 0 ? "-0" : "0") })];
  },
  "two columns swapped": (ids) => {
    const id = ids.next();
    return [changed("two columns swapped", id, { a: rowOf(id)["b"]!, b: rowOf(id)["a"]! })];
  },
  "two rows swapped": (ids) => {
    const [one, other] = [ids.next(), ids.next()];
    return [changed("two rows swapped", one, rowOf(other)), changed("two rows swapped", other, rowOf(one))];
  },
  "a row missing": (ids) => [
    { what: "a row missing", id: ids.next(), kind: "missing", columns: [], row: null, isStale: false },
  ],
  "a row extra": (ids) => [
    { what: "a row extra", id: ids.unused(), kind: "extra", columns: [], row: null, isStale: false },
  ],
  "a stale version": (ids) => {
    const id = ids.next((one) => one % CHANGED_EVERY === 0);
    return [changed("a stale version", id, { a: text(`a${id}`), n: int(id * 7) }, true)];
  },
};

/** In documents only. */
const WRONG_TYPE: Plant = (ids, random) => {
  const id = ids.next();
  const name = random.pick(Object.keys(WRONG_TYPES));
  const right = rowOf(id)[name]!;
  return [changed("a wrong type", id, { [name]: { ...right, json: WRONG_TYPES[name]!(right) } })];
};

/** `count` of them, every kind as often, each in rows of its own. */
export function faultsFor(random: Random, rowCount: number, count: number, isDocument: boolean): readonly Fault[] {
  const whole = new Set(Array.from({ length: rowCount }, (_, i) => i + 1));
  let unused = rowCount;
  const ids: Ids = {
    next: (isRight = () => true) => {
      const left = [...whole].filter(isRight);
      const id = random.pick(left);
      whole.delete(id);
      return id;
    },
    unused: () => ++unused,
  };
  const plants = [...Object.values(PLANTS), ...(isDocument ? [WRONG_TYPE] : [])];
  return Array.from({ length: count }, (_, i) => plants[i % plants.length]!(ids, random)).flat();
}

/** As `driftOf` tells it. */
export function lineOf(table: string, { id, kind, columns }: Fault): string {
  return [table, id, `p:${id}`, kind, ...columns].join(" ");
}

function text(value: string): Cell {
  return { sql: quoted(value), plain: value, json: JSON.stringify(value) };
}

function seen(fraction: string): Cell {
  const iso = `2026-11-20T06:43:15.${fraction}Z`;
  return { sql: `'2026-11-20 06:43:15.${fraction}+00'`, plain: iso, json: JSON.stringify(iso) };
}

function decimal(digits: string): Cell {
  return { sql: digits, plain: digits, json: JSON.stringify(digits) };
}

function float(digits: string): Cell {
  return { sql: `'${digits}'::double precision`, plain: digits, json: digits };
}

function int(value: number): Cell {
  return { sql: String(value), plain: String(value), json: String(value) };
}

function bool(value: boolean): Cell {
  return { sql: String(value), plain: String(value), json: String(value) };
}

function list(values: readonly (string | null)[]): Cell {
  const items = values.map((value) => (value === null ? "null" : quoted(value)));
  return { sql: `array[${items.join(", ")}]`, plain: JSON.stringify(values), json: JSON.stringify(values) };
}

function json(value: string): Cell {
  return { sql: quoted(value), plain: value, json: value };
}

function quoted(value: string): string {
  return `'${value.replaceAll("'", "''")}'`;
}
