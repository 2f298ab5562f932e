/**
 * Tables, tuples, blocks and writes from plain values, for tests.
 *
 *   const users = tableVersion({ table: "users", columns: { id: "int8", name: "text" } });
 *   const block = blockOf([
 *     { table: users, op: "c", after: ["1", "ann"] },
 *     { table: users, op: "u", after: ["2", UNCHANGED], before: ["1", null] },
 *   ]);
 */
import { createHash } from "node:crypto";
import { type Batch, DELETE, PATCH, PUT, type TableWrites } from "../../../src/core/model/batch.ts";
import type { Checkpoint } from "../../../src/core/checkpoint.ts";
import {
  BEFORE_DOUBTED,
  BEFORE_FULL,
  BEFORE_KEY,
  BEFORE_NONE,
  Block,
  type LogMessage,
  NO_TUPLE,
  OP_IF_HELD,
  OP_LETTERS,
} from "../../../src/core/model/block.ts";
import { ByteWriter } from "../../../src/core/bytes.ts";
import { type Position, rowVersion } from "../../../src/core/model/position.ts";
import { type Column, isKeyed, type KeyedTable, tableId, type TableVersion } from "../../../src/core/model/schema.ts";
import { hasUnchanged, TupleWriter } from "../../../src/core/model/tuple.ts";
import type { ColumnType } from "../../../src/core/model/types.ts";
import type { TableShape } from "../../../src/core/contracts/catalog.ts";
import { postgresType } from "../postgres/postgres-types.ts";
import { checkpointOf } from "../daemon/complete.ts";

/** A cell that the log did not carry. */
export const UNCHANGED = Symbol("unchanged");

/** A string is a text cell, bytes are a binary cell. */
export type Cell = string | Uint8Array | null | typeof UNCHANGED;

export type ColumnSpec = readonly [name: string, native: string, type?: ColumnType];

export interface TableSpec {
  readonly schema?: string;
  readonly table: string;
  /** Name, Postgres type (`enum('a','b')` for an enum) and, where it differs from what the type tells, the canonical one. */
  readonly columns: Readonly<Record<string, string>> | readonly ColumnSpec[];
  /** Default: the first column. */
  readonly key?: readonly string[];
  readonly deferrableKey?: boolean;
  readonly version?: number;
  readonly relation?: number;
  readonly dialect?: TableVersion["dialect"];
  /** By column name, where it is not the column's place. */
  readonly identities?: Readonly<Record<string, number>>;
}

export function tableVersion(spec: TableSpec): KeyedTable {
  const {
    schema = "public",
    table,
    deferrableKey = false,
    version = 1,
    relation = 1,
    identities = {},
    dialect = "postgres",
  } = spec;
  const specs: readonly ColumnSpec[] = isList(spec.columns) ? spec.columns : Object.entries(spec.columns);
  const key = (spec.key ?? [specs[0]![0]]).map((name) => {
    const ordinal = specs.findIndex(([column]) => column === name);
    if (ordinal < 0) throw new Error(`no column ${name} in ${table}`);
    return ordinal;
  });
  const columns = specs.map(([name, native, type], i): Column => ({
    name,
    type: type ?? postgresType(native),
    native,
    nullable: !key.includes(i),
    identity: Object.hasOwn(identities, name) ? identities[name]! : i + 1,
  }));
  const fingerprint = createHash("sha256")
    .update(JSON.stringify([relation, columns, key]))
    .digest("hex");
  const made: TableVersion = {
    id: tableId(schema, table),
    schema,
    table,
    dialect,
    relation,
    columns,
    key,
    deferrableKey,
    version,
    since: { epoch: 1, commit: BigInt(version), index: 0 },
    fingerprint,
  };
  if (!isKeyed(made)) throw new Error(`${table} has no key`);
  return made;
}

function isList(columns: TableSpec["columns"]): columns is readonly ColumnSpec[] {
  return Array.isArray(columns);
}

/** A shape as the first version of its table. */
export function firstVersion(shape: TableShape): TableVersion {
  return { ...shape, version: 1, since: { epoch: 1, commit: 0n, index: 0 } };
}

/** Writes a tuple and returns its offset. */
export function writeTuple(writer: TupleWriter, cells: readonly Cell[]): number {
  const offset = writer.begin(cells.length);
  for (const cell of cells) {
    if (cell === null) writer.null();
    else if (cell === UNCHANGED) writer.unchanged();
    else if (typeof cell === "string") {
      const bytes = Buffer.from(cell);
      writer.text(bytes, 0, bytes.length);
    } else writer.binary(cell, 0, cell.length);
  }
  return offset;
}

/** One tuple alone, at offset 0. */
export function tupleOf(cells: readonly Cell[]): Buffer {
  const out = new ByteWriter(256);
  writeTuple(new TupleWriter(out), cells);
  return out.view();
}

const BEFORE_KINDS = { key: BEFORE_KEY, full: BEFORE_FULL, doubted: BEFORE_DOUBTED } as const;

export interface Change {
  readonly table: TableVersion;
  readonly op: (typeof OP_LETTERS)[number];
  /** An update of a row that is wanted if it was wanted before: OP_IF_HELD. */
  readonly isIfHeld?: true;
  readonly after?: readonly Cell[];
  /** As wide as the table; without `beforeKind` "full" all but the key columns are written as null. */
  readonly before?: readonly Cell[];
  /** Default: "full" where the table's key is deferrable, else "key". */
  readonly beforeKind?: keyof typeof BEFORE_KINDS;
  /** Commit position of the transaction. Default: the one of the change before, at first 1000n. */
  readonly commit?: bigint;
  /** Default: the row version of epoch and commit position. Another version begins another transaction. */
  readonly version?: bigint;
  readonly commitTimeUs?: bigint;
  readonly xid?: number;
  /** Default: counts from 0 in each transaction. */
  readonly index?: number;
}

export interface BlockSpec {
  readonly epoch?: number;
  /** Default: behind the transaction of the last change. */
  readonly until?: Position;
  readonly messages?: readonly LogMessage[];
  readonly onRelease?: (block: Block) => void;
}

const COMMIT_TIME_US = 1_795_000_000_000_000n;

const out = new ByteWriter(1024);
const writer = new TupleWriter(out);

export function blockOf(changes: readonly Change[], spec: BlockSpec = {}): Block {
  const epoch = spec.epoch ?? 1;
  out.reset();
  const block = new Block(out.bytes, 4, spec.onRelease);
  let commit = 1000n;
  let tx = -1;
  let index = 0;
  for (const change of changes) {
    commit = change.commit ?? commit;
    const version = change.version ?? rowVersion(epoch, commit);
    const { transactions } = block;
    if (tx < 0 || transactions.commit[tx] !== commit || transactions.version[tx] !== version) {
      tx = transactions.add(commit, version, change.commitTimeUs ?? COMMIT_TIME_US, change.xid ?? 700 + tx + 1);
      index = 0;
    }
    index = change.index ?? index;
    const beforeKind = beforeKindOf(change);
    const before = change.before === undefined ? NO_TUPLE : writeTuple(writer, beforeCells(change, beforeKind));
    const after = change.after === undefined ? NO_TUPLE : writeTuple(writer, widthChecked(change.table, change.after));
    block.append(
      change.isIfHeld === true ? OP_IF_HELD : OP_LETTERS.indexOf(change.op),
      tableOrdinal(block, change.table),
      after,
      before,
      beforeKind,
      tx,
      index,
    );
    index++;
  }
  block.bytes = Buffer.from(out.view());
  block.byteCount = out.length;
  block.until = spec.until ?? { epoch, commit: tx < 0 ? commit : commit + 1n, index: 0 };
  block.messages.push(...(spec.messages ?? []));
  return block;
}

function beforeKindOf(change: Change): number {
  if (change.before === undefined) return BEFORE_NONE;
  return BEFORE_KINDS[change.beforeKind ?? (change.table.deferrableKey ? "full" : "key")];
}

function beforeCells(change: Change, beforeKind: number): readonly Cell[] {
  const cells = widthChecked(change.table, change.before ?? []);
  return beforeKind === BEFORE_FULL ? cells : cells.map((cell, i) => (change.table.key.includes(i) ? cell : null));
}

function widthChecked(table: TableVersion, cells: readonly Cell[]): readonly Cell[] {
  if (cells.length !== table.columns.length) {
    throw new Error(`${table.id} has ${table.columns.length} columns, the tuple has ${cells.length}`);
  }
  return cells;
}

function tableOrdinal(block: Block, table: TableVersion): number {
  const known = block.tables.indexOf(table);
  return known >= 0 ? known : block.tables.push(table) - 1;
}

export interface Entry {
  /** Default: the only block. */
  readonly block?: number;
  readonly row: number;
  /** Default: told by the row: no new tuple is a delete, unchanged cells are a patch. */
  readonly action?: typeof PUT | typeof PATCH | typeof DELETE;
  readonly fresh?: boolean;
  readonly moved?: boolean;
}

/** The writes of one table; by default every row of the block, so give rows of distinct keys. */
export function writesOf(
  table: TableVersion,
  blocks: Block | readonly Block[],
  entries?: readonly Entry[],
): TableWrites {
  const list = blocks instanceof Block ? [blocks] : blocks;
  const chosen = entries ?? list.flatMap((block, b) => rowsOf(block, table).map((row): Entry => ({ block: b, row })));
  const actions = chosen.map((entry) => entry.action ?? actionOf(list[entry.block ?? 0], entry.row));
  if (!isKeyed(table)) throw new Error(`${table.id} has no key`);
  return {
    table,
    blocks: list,
    count: chosen.length,
    action: Uint8Array.from(actions),
    block: Uint16Array.from(chosen, (entry) => entry.block ?? 0),
    row: Uint32Array.from(chosen, (entry) => entry.row),
    fresh: Uint8Array.from(chosen, (entry) => Number(entry.fresh ?? false)),
    moved: Uint8Array.from(chosen, (entry) => Number(entry.moved ?? false)),
    deleteCount: actions.filter((action) => action === DELETE).length,
    patchCount: actions.filter((action) => action === PATCH).length,
  };
}

/** A batch of rows whose checkpoint is the end of the last block. */
export function rowsBatch(tables: readonly TableWrites[], checkpoint?: Checkpoint): Batch {
  const last = tables.at(-1)?.blocks.at(-1);
  const position = last?.until ?? { epoch: 1, commit: 0n, index: 0 };
  return { kind: "rows", tables, checkpoint: checkpoint ?? checkpointOf(position) };
}

function rowsOf(block: Block, table: TableVersion): number[] {
  const rows: number[] = [];
  for (let row = 0; row < block.count; row++) if (block.tables[block.table[row] ?? -1] === table) rows.push(row);
  return rows;
}

function actionOf(block: Block | undefined, row: number): number {
  const after = block?.after[row] ?? NO_TUPLE;
  if (block === undefined || after === NO_TUPLE) return DELETE;
  return hasUnchanged(block.bytes, after) ? PATCH : PUT;
}
