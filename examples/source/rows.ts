/** Reads rows beside the stream, and the initial snapshot. */
import { ByteWriter } from "../../src/core/bytes.ts";
import { type Chunk, type KeyText, type RowRange, SCAN_ROW_COUNT_MAX } from "../../src/core/contracts/row-reads.ts";
import { EVERYTHING_VISIBLE } from "../../src/core/contracts/watermarks.ts";
import { addRead, type Block, finishRead, readBlock } from "../../src/core/model/block.ts";
import { keyText } from "../../src/core/model/row-id.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { TupleWriter } from "../../src/core/model/tuple.ts";
import { isAsNow } from "./catalog.ts";
import { listOf, parameter, writeTuple } from "./cells.ts";
import { type Database, quoteName, type SqlRow } from "./database.ts";
import { sqliteError } from "./errors.ts";

const CHUNK_ROWS = 5_000;
const NOWHERE = { epoch: 1, commit: 0n, index: 0 };
/** A commit shows a transaction to all readers at once. */
const { sees } = EVERYTHING_VISIBLE;

export function readRange(
  database: Database,
  table: TableVersion,
  { after, where, scanRowCountMax = SCAN_ROW_COUNT_MAX }: RowRange,
): Chunk {
  return database.read(`reading ${table.id}`, () => {
    expectShape(database, table);
    const isTried = scanRowCountMax === 0;
    const end = where === null || isTried ? null : endOfScan(database, table, after, scanRowCountMax);
    const conditions = [
      ...(where === null ? [] : [`(${where}\n)`]),
      ...(after === null ? [] : [`${keyOf(table)} > ${places(table)}`]),
      ...(end === null ? [] : [`${keyOf(table)} <= ${places(table)}`]),
    ];
    const values = [after, end].flatMap((key) => (key === null ? [] : parametersOf(table, key)));
    const filter = conditions.length === 0 ? "" : ` WHERE ${conditions.join(" AND ")}`;
    const sql = `SELECT ${selected(table)}${filter} ORDER BY ${keyOf(table).slice(1, -1)} LIMIT ${isTried ? 0 : CHUNK_ROWS}`;
    const rows = database.rows(sql, ...values);
    const block = blockOf(table, rows);
    const isFinished = rows.length < CHUNK_ROWS;
    return { block, last: isFinished || block === null ? end : lastKey(table, block), sees };
  });
}

export function readKeys(database: Database, table: TableVersion, keys: readonly KeyText[]): Chunk {
  return database.read(`reading keys of ${table.id}`, () => {
    expectShape(database, table);
    const sql = `SELECT ${selected(table)} WHERE ${keyOf(table)} = ${places(table)}`;
    const rows = keys.flatMap((key) => database.rows(sql, ...parametersOf(table, key)));
    return { block: blockOf(table, rows), last: null, sees };
  });
}

/** All rows, as the connection sees them. */
export function* readAll(database: Database, table: TableVersion): Generator<Block> {
  let after: KeyText | null = null;
  do {
    const filter: string = after === null ? "" : ` WHERE ${keyOf(table)} > ${places(table)}`;
    const sql = `SELECT ${selected(table)}${filter} ORDER BY ${keyOf(table).slice(1, -1)} LIMIT ${CHUNK_ROWS}`;
    const rows = database.rows(sql, ...(after === null ? [] : parametersOf(table, after)));
    const block = blockOf(table, rows);
    after = block === null || rows.length < CHUNK_ROWS ? null : lastKey(table, block);
    if (block !== null) yield block;
  } while (after !== null);
}

/** The key up to which rows are looked at; null: up to the last one. A condition may match none of millions. */
function endOfScan(database: Database, table: TableVersion, after: KeyText | null, rowCount: number): KeyText | null {
  const filter = after === null ? "" : ` WHERE ${keyOf(table)} > ${places(table)}`;
  const order = `ORDER BY ${keyOf(table).slice(1, -1)} LIMIT 1 OFFSET ${rowCount - 1}`;
  const rows = database.rows(
    `SELECT ${selected(table)}${filter} ${order}`,
    ...(after === null ? [] : parametersOf(table, after)),
  );
  const block = blockOf(table, rows);
  return block === null ? null : lastKey(table, block);
}

function expectShape(database: Database, table: TableVersion): void {
  if (!isAsNow(database, table)) throw sqliteError("MR2025", "retryable", `${table.id} is not as it was`);
}

function selected({ table, columns }: TableVersion): string {
  return `${listOf(columns, quoteName(table))} AS list FROM ${quoteName(table)}`;
}

function keyOf({ key, columns }: TableVersion): string {
  return `(${key.map((i) => quoteName(columns[i]!.name)).join(", ")})`;
}

function places({ key }: TableVersion): string {
  return `(${key.map(() => "?").join(", ")})`;
}

function parametersOf({ key, columns }: TableVersion, texts: KeyText) {
  return texts.map((text, i) => parameter(columns[key[i]!]!.native, text));
}

function blockOf(table: TableVersion, rows: readonly SqlRow[]): Block | null {
  if (rows.length === 0) return null;
  const out = new ByteWriter();
  const tuples = new TupleWriter(out);
  const block = readBlock(table, 1, out);
  for (const row of rows) addRead(block, writeTuple(tuples, table, row["list"]));
  return finishRead(block, out, NOWHERE);
}

function lastKey(table: TableVersion, block: Block): KeyText {
  return keyText(table, block.bytes, block.after[block.count - 1]!);
}
