/** The versions of tables as sinks see them behind their routes, and rows in that shape. */
import { createHash } from "node:crypto";
import { ByteWriter } from "../core/bytes.ts";
import type { KeyText } from "../core/contracts/row-reads.ts";
import { MillraceError } from "../core/errors.ts";
import type { Sink } from "../core/contracts/sink.ts";
import { invariant } from "../core/invariant.ts";
import type { TableWrites } from "../core/model/batch.ts";
import { Block, NO_TUPLE } from "../core/model/block.ts";
import { type Column, type DialectName, isKeyed, type TableVersion } from "../core/model/schema.ts";
import { CELL_BINARY, CellMap, tupleEnd, TupleWriter } from "../core/model/tuple.ts";
import type { Route, Routes } from "./routes.ts";

const NATIVE: Readonly<Record<DialectName, string>> = { postgres: "text", mysql: "longtext" };

/** A table behind its route: its own columns, then those that the route adds, which begin its key. */
export interface RoutedTable {
  readonly own: TableVersion;
  readonly version: TableVersion;
  readonly route: Route;
  /** The values of the added columns. */
  readonly values: KeyText;
  /** What its keys begin with. */
  readonly keyStart: KeyText;
  /** The values as cells. */
  readonly cells: Uint8Array;
  /** Ordinals of integers that have more bits behind the route. */
  readonly widened: ReadonlySet<number>;
}

export class RoutedTables {
  readonly #routes: Routes;
  readonly #scopedBy: Sink["scopedBy"];
  /** Null: no route. */
  readonly #routed = new WeakMap<TableVersion, RoutedTable | null>();
  readonly #own = new WeakMap<TableVersion, TableVersion>();
  readonly #lists = new WeakMap<readonly TableWrites[], readonly TableWrites[]>();
  readonly #ownWrites = new WeakMap<TableWrites, TableWrites>();

  /** `scopedBy`: see `Sink`. */
  constructor(routes: Routes, scopedBy: Sink["scopedBy"]) {
    this.#routes = routes;
    this.#scopedBy = scopedBy;
  }

  find(table: TableVersion): RoutedTable | null {
    let found = this.#routed.get(table);
    if (found !== undefined) return found;
    const route = this.#routes.of(table);
    found = route === null ? null : routed(table, route, this.#scopedBy);
    this.#routed.set(table, found);
    if (found !== null) this.#own.set(found.version, table);
    return found;
  }

  version(table: TableVersion): TableVersion {
    return this.find(table)?.version ?? table;
  }

  versions(tables: readonly TableVersion[]): readonly TableVersion[] {
    return tables.map((table) => this.version(table));
  }

  /** The version that the runtime knows. */
  own(table: TableVersion): TableVersion {
    return this.#own.get(table) ?? table;
  }

  /** The same list for the same list: a sink recognises what it prepared. */
  writes(tables: readonly TableWrites[]): readonly TableWrites[] {
    if (tables.every(({ table }) => this.find(table) === null)) return tables;
    let list = this.#lists.get(tables);
    if (list === undefined) {
      list = tables.map((writes) => {
        const found = this.find(writes.table);
        if (found === null) return writes;
        const made = routedWrites(found, writes);
        this.#ownWrites.set(made, writes);
        return made;
      });
      this.#lists.set(tables, list);
    }
    return list;
  }

  ownWrites(writes: TableWrites): TableWrites {
    return this.#ownWrites.get(writes) ?? writes;
  }
}

function routed(own: TableVersion, route: Route, scopedBy: Sink["scopedBy"]): RoutedTable {
  const names = Object.keys(route.added);
  const values = Object.values(route.added);
  const added = names.map((name): Column => ({
    name,
    type: { kind: "text" },
    native: NATIVE[own.dialect],
    nullable: false,
    identity: 0,
  }));
  const ordinals = added.map((_, i) => own.columns.length + i);
  const isWide = scopedBy === "rows" && names.length > 0;
  const columns = isWide ? own.columns.map((column) => wideColumn(column, own.dialect)) : own.columns;
  const narrow = own.columns.flatMap(({ type }, i) => (isWide && type.kind === "int" && type.bits < 64 ? [i] : []));
  const version: TableVersion = {
    ...own,
    ...route.into,
    columns: [...columns, ...added],
    key: own.key.length === 0 || scopedBy === "names" ? own.key : [...ordinals, ...own.key],
    fingerprint: createHash("sha256")
      .update(JSON.stringify([own.fingerprint, route]))
      .digest("hex"),
    ...(names.length === 0 || scopedBy === undefined ? {} : { scope: route.added }),
  };
  const keyStart = scopedBy === "names" ? [] : values;
  return { own, version, route, values, keyStart, cells: cellsOf(values), widened: new Set(narrow) };
}

/** Throws if the table has a column of the name that its route adds. */
export function expectOwnNames({ own, route }: RoutedTable): void {
  const clash = own.columns.find(({ name }) => Object.hasOwn(route.added, name));
  if (clash === undefined) return;
  throw new MillraceError({
    code: "MR1023",
    kind: "fatal",
    table: own.id,
    message: `the route of table ${own.id} adds a column ${JSON.stringify(clash.name)}, and the table has one of that name`,
    hint: "Give the added column another name, or rename the table's own under `columns`.",
  });
}

function cellsOf(values: KeyText): Uint8Array {
  const out = new ByteWriter(64);
  const cells = new TupleWriter(out);
  for (const value of values) {
    const bytes = Buffer.from(value);
    cells.text(bytes, 0, bytes.length);
  }
  return out.view();
}

/** Where a row of a block that was made here comes from; null: it was not made here. */
export function originOf(made: Block, row: number): { readonly block: Block; readonly row: number } | null {
  return origins.get(made)?.(row) ?? null;
}

const origins = new WeakMap<Block, (row: number) => { readonly block: Block; readonly row: number }>();

/** Rows of these blocks in a block of their own. `block`, `row`: by entry, which block and which of its rows; absent: the only one. */
export function routedBlock(
  { version, values, cells, widened }: RoutedTable,
  blocks: readonly Block[],
  {
    count,
    block,
    row,
  }: { readonly count: number; readonly block?: ArrayLike<number>; readonly row: ArrayLike<number> },
): Block {
  const out = new ByteWriter(1024);
  const made = new Block(out.bytes, Math.max(64, count));
  made.tables.push(version);
  const transactions = blocks.map(() => new Map<number, number>());
  const tuple = (bytes: Uint8Array, offset: number): number => {
    if (offset === NO_TUPLE) return NO_TUPLE;
    const at = out.length;
    if (widened.size === 0) out.copy(bytes, offset, tupleEnd(bytes, offset) - offset);
    else copyWide(out, bytes, offset, widened);
    const cellCount = ((bytes[offset]! << 8) | bytes[offset + 1]!) + values.length;
    out.bytes[at] = cellCount >> 8;
    out.bytes[at + 1] = cellCount;
    out.copy(cells, 0, cells.length);
    return at;
  };
  for (let i = 0; i < count; i++) {
    const b = block?.[i] ?? 0;
    const from = blocks[b]!;
    const r = row[i]!;
    const { bytes, op, after, before, beforeKind, tx, index } = from;
    let ordinal = transactions[b]!.get(tx[r]!);
    if (ordinal === undefined) {
      const { commit, version: of, commitTimeUs, xid, origins } = from.transactions;
      const t = tx[r]!;
      ordinal = made.transactions.add(commit[t]!, of[t]!, commitTimeUs[t]!, xid[t]!);
      made.transactions.origins[ordinal] = origins[t];
      transactions[b]!.set(t, ordinal);
    }
    const [newer, older] = [tuple(bytes, after[r]!), tuple(bytes, before[r]!)];
    made.append(op[r]!, 0, newer, older, beforeKind[r]!, ordinal, index[r]!);
  }
  origins.set(made, (i) => ({ block: blocks[block?.[i] ?? 0]!, row: row[i]! }));
  made.bytes = out.view();
  made.byteCount = out.length;
  made.until = blocks.at(-1)?.until ?? made.until;
  made.arrivedMs = blocks.at(-1)?.arrivedMs ?? 0;
  return made;
}

const wideMap = new CellMap();
const EIGHT = Buffer.alloc(8);

/** A binary integer gets the form of its wider type. */
function copyWide(out: ByteWriter, bytes: Uint8Array, offset: number, widened: RoutedTable["widened"]): void {
  const tuple = new TupleWriter(out);
  wideMap.read(bytes, offset);
  tuple.begin(wideMap.count);
  for (let i = 0; i < wideMap.count; i++) {
    if (wideMap.kind[i] !== CELL_BINARY || !widened.has(i)) tuple.copyCell(bytes, wideMap, i);
    else {
      const view = Buffer.from(bytes.buffer, bytes.byteOffset + wideMap.start[i]!, wideMap.length[i]);
      EIGHT.writeBigInt64BE(view.length === 8 ? view.readBigInt64BE() : BigInt(view.readIntBE(0, view.length)));
      tuple.binary(EIGHT, 0, EIGHT.length);
    }
  }
}

function routedWrites(table: RoutedTable, writes: TableWrites): TableWrites {
  const { count } = writes;
  invariant(isKeyed(table.version), "a table whose rows are written has a key");
  return {
    ...writes,
    table: table.version,
    blocks: [routedBlock(table, writes.blocks, writes)],
    block: new Uint16Array(count),
    row: Uint32Array.from({ length: count }, (_, i) => i),
  };
}

/**
 * The columns of a table that shares its target with others: of the widest type that holds their values as they are, so that
 * columns of other sizes are one column. No table has to be known for another one's, and none changes when another one comes.
 */
/** What warehouses have at most. */
const DECIMAL_DIGITS_MAX = 38;

export function wideColumn(column: Column, dialect: DialectName): Column {
  const { type, native } = column;
  const isMysql = dialect === "mysql";
  switch (type.kind) {
    case "int":
      if (!type.signed && type.bits === 64) return column;
      return { ...column, type: { kind: "int", bits: 64, signed: true }, native: "bigint" };
    case "text":
      return type.padded === true ? column : { ...column, native: isMysql ? "longtext" : "text" };
    case "enum":
      return { ...column, type: { kind: "text" }, native: isMysql ? "longtext" : "text" };
    case "decimal": {
      const { precision, scale } = type;
      if (precision === null || precision > DECIMAL_DIGITS_MAX || (scale ?? 0) < 0) return column;
      const wide = { kind: "decimal", precision: DECIMAL_DIGITS_MAX, scale } as const;
      return {
        ...column,
        type: wide,
        native: `${isMysql ? "decimal" : "numeric"}(${DECIMAL_DIGITS_MAX},${scale ?? 0})`,
      };
    }
    case "bytes":
      return isMysql && !/^bit/i.test(native) ? { ...column, native: "longblob" } : column;
    case "time":
    case "timestamp":
      return { ...column, native: isMysql ? `${native.replace(/\(\d\)/, "")}(6)` : native.replace(/\(\d\)/, "") };
    case "bool":
    case "float":
    case "date":
    case "uuid":
    case "json":
    case "array":
    case "vector":
    case "opaque":
      return column;
    default:
      return type satisfies never;
  }
}
