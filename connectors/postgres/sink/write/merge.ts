/**
 * Writes many rows: rows with new keys by COPY into the table, all others by COPY into a staging table and from there
 * by SQL. If nothing has to be checked in between, everything is one simple query with its data after it: one write,
 * one transaction. Otherwise the transaction stays open until the answer has been read.
 */
import { PUT, DELETE, type TableWrites } from "../../../../src/core/model/batch.ts";
import { isUpdate } from "../../../../src/core/model/block.ts";
import { failpoint } from "../../../../src/core/failpoint.ts";
import { invariant } from "../../../../src/core/invariant.ts";
import type { Outcome } from "../../../../src/core/contracts/sink.ts";
import type { Copy, RenderedCopies } from "./copies.ts";
import { type Advance, advance as advanceStatement, behindFence } from "../wire/checkpoint.ts";
import type { Session } from "../wire/session.ts";
import type { TableBatch } from "./small.ts";
import type { Answer } from "../../../../src/postgres/exchange.ts";
import { holdsReads } from "../../../../src/core/targets/history.ts";
import type { HistoryTable } from "../tables/history-table.ts";
import { stageName, type TargetTable } from "../tables/target-table.ts";
import { postgresError } from "../errors.ts";
import type { MillraceError } from "../../../../src/core/errors.ts";
import type { EntryRange } from "../tables/staged.ts";
import { CELL_BINARY, readInt32 } from "../../../../src/core/model/tuple.ts";
import type { ColumnType } from "../../../../src/core/model/types.ts";
import { groupsOf } from "../../../../src/core/each-of.ts";
import { cellEnd } from "../values/cells.ts";

/** Fewer new rows than this go with the staged ones, if there are any. */
const DIRECT_ROWS_MIN = 20;

/** What earlier attempts at the batch have shown. */
export interface Approach {
  /** Trust the hint that keys are new. */
  readonly direct: boolean;
  /** Two entries of the batch have the same key for the target. */
  readonly distinct: boolean;
  /** First delete the old rows of the keys that are put: a second unique index conflicted with the order of writing. */
  readonly displace: boolean;
}

interface Part extends TableBatch {
  readonly direct: Uint32Array;
  readonly staged: Uint32Array;
  /** How many of the staged entries put a row, and how many of these come from an update in the log. */
  readonly putCount: number;
  readonly updateCount: number;
}

/** Which rows are written in which way. */
export interface Merge {
  readonly staged: readonly Part[];
  readonly staging: readonly Copy[];
  readonly filling: readonly Copy[];
}

/** What every way of writing a batch needs. */
export interface BatchCall {
  readonly session: Session;
  readonly advance: Advance;
  readonly outcome: Outcome;
  readonly signal: AbortSignal;
}

/** A batch of rows, and the buffers for rendering them. */
export interface RowsBatch {
  readonly tables: readonly TableBatch[];
  readonly copies: RenderedCopies;
  /** The rendered merge, if there is one already. */
  readonly merge: Merge | null;
}

/** Groups the rows by the way they are written, and renders them. */
export function prepareMerge(tables: readonly TableBatch[], useDirect: boolean, copies: RenderedCopies): Merge {
  const parts = tables.map((batch) => partOf(batch, useDirect));
  const staged = parts.filter((part) => part.staged.length > 0);
  const direct = parts.filter((part) => part.direct.length > 0);
  const staging = staged.map((part): Copy => ({ ...part, entries: part.staged, into: "stage" }));
  const filling = direct.map((part): Copy => ({ ...part, entries: part.direct, into: "table" }));
  copies.render([...staging, ...filling]);
  return { staged, staging, filling };
}

export async function applyMerged(batch: RowsBatch, approach: Approach, call: BatchCall): Promise<void> {
  const { session, advance, outcome, signal } = call;
  const { copies } = batch;
  const merge = batch.merge ?? prepareMerge(batch.tables, approach.direct, copies);
  const { staged, staging, filling } = merge;
  await createStages(session, staged, signal);
  const fence = advanceStatement(advance);
  const unwritten = unwrittenIn(staged);
  if (unwritten.length === 0 && !staged.some((part) => part.writes.patchCount > 0)) {
    if (approach.direct && staged.some(areHeld) && staged.every(mayUpdateFirst)) {
      if (await updateFirst(merge, copies, call)) return;
    }
    await behindFence(
      copies.send(session, [fence, ...staging, ...changes(staged, approach), ...filling], outcome, signal),
    );
    return;
  }
  const { rows } = await behindFence(
    copies.send(session, [fence, "BEGIN", ...staging, ...completions(staged)], outcome, signal),
  );
  await reportIncomplete(rows, staged, outcome);
  const changing = [...changes(staged, approach), ...filling];
  if (unwritten.length > 0) {
    const { rows: left } = await copies.send(session, [...changing, ...unwritten], outcome, signal);
    await reportUnwritten(left, staged, outcome);
    failpoint("postgres-sink.before-commit");
    await session.query("COMMIT", signal);
    return;
  }
  failpoint("postgres-sink.before-commit");
  await copies.send(session, [...changing, "COMMIT"], outcome, signal);
}

function partOf(batch: TableBatch, useDirect: boolean): Part {
  const { table, writes } = batch;
  const isDirect = useDirect && table.triggers.length === 0;
  const direct = new Uint32Array(writes.count);
  const staged = new Uint32Array(writes.count);
  let directCount = 0;
  let stagedCount = 0;
  for (let i = 0; i < writes.count; i++) {
    if (isDirect && writes.fresh[i] === 1 && writes.action[i] === PUT) direct[directCount++] = i;
    else staged[stagedCount++] = i;
  }
  if (directCount < DIRECT_ROWS_MIN && stagedCount > 0) {
    for (let i = 0; i < directCount; i++) staged[stagedCount++] = direct[i]!;
    directCount = 0;
  }
  const entries = staged.subarray(0, stagedCount);
  let putCount = 0;
  let updateCount = 0;
  for (let i = 0; i < entries.length; i++) {
    const entry = entries[i]!;
    if (writes.action[entry] !== PUT) continue;
    putCount++;
    if (isUpdate(writes.blocks[writes.block[entry]!]!.op[writes.row[entry]!]!)) updateCount++;
  }
  return {
    ...batch,
    direct: direct.subarray(0, directCount),
    staged: sortByKey(writes, entries),
    putCount,
    updateCount,
  };
}

/** Whether the target probably has the rows that are put. */
function areHeld({ putCount, updateCount }: Part): boolean {
  return updateCount * 2 > putCount;
}

/** Counts the batches that use the other way after one in which rows were missing. */
function mayUpdateFirst({ table }: Part): boolean {
  if (table.batchesWithoutUpdate === 0) return true;
  table.batchesWithoutUpdate--;
  return false;
}

/**
 * Updates existing rows (measured against ON CONFLICT on uniform updates of a million rows: a tenth less CPU time of
 * the target). False, with nothing done, if the counts show that not every put matched: a row is missing or newer, or
 * two entries have the same key for the target.
 */
async function updateFirst(
  { staged, staging, filling }: Merge,
  copies: RenderedCopies,
  { session, advance, outcome, signal }: BatchCall,
): Promise<boolean> {
  const fence = advanceStatement(advance);
  const puts = staged.filter(({ putCount }) => putCount > 0);
  const updates = puts.map(({ table }) => table.updateStaged());
  const statements = [fence, "BEGIN", ...staging, ...deletes(staged), ...updates, ...filling];
  const { tags } = await behindFence(copies.send(session, statements, outcome, signal));
  failpoint("postgres-sink.before-commit");
  const answered = tags.filter((tag) => tag.startsWith(UPDATED)).map((tag) => Number(tag.slice(UPDATED.length)));
  // Soft truncates and deletes are answered by the same tag, and come first.
  const counts = answered.slice(answered.length - puts.length);
  invariant(counts.length === puts.length, "every update is answered");
  const missed = puts.filter(({ putCount }, i) => counts[i] !== putCount);
  // Invariant: a row is written once in a batch, so the updates are rolled back rather than overwritten.
  await session.query(missed.length === 0 ? "COMMIT" : "ROLLBACK", signal);
  for (const { table } of missed) table.batchesWithoutUpdate = BATCHES_WITHOUT_UPDATE;
  return missed.length === 0;
}

const UPDATED = "UPDATE ";
/** While a table is being filled under load most batches lack rows: do not write each of them twice. */
const BATCHES_WITHOUT_UPDATE = 64;

/** Reads unchanged cells before any delete; returns the entries without a base. */
export function completions(staged: readonly TableBatch[]): readonly string[] {
  return staged.flatMap(({ table, writes }, i) => {
    if (writes.patchCount === 0) return [];
    return table.history === null ? [table.complete, table.incomplete(i)] : [table.history.incomplete(i)];
  });
}

function deletes(staged: readonly Part[]): readonly string[] {
  return staged.filter(({ writes }) => writes.deleteCount > 0).map(({ table }) => table.deleteStaged());
}

/** The statements that change the tables, in the only safe order: first deletes, then puts. */
function changes(staged: readonly Part[], approach: Approach): readonly string[] {
  const puts = staged.filter(({ writes }) => writes.deleteCount < writes.count);
  return [
    ...deletes(staged),
    ...(approach.displace ? puts.map(({ table }) => table.displaceStaged()) : []),
    ...puts.map(({ table }) => table.putStaged(approach.distinct)),
  ];
}

/** Reports the rows that `completions` selected: the table's index in `staged`, and the entry. */
export async function reportIncomplete(
  rows: Answer["rows"],
  staged: readonly TableBatch[],
  outcome: Outcome,
): Promise<void> {
  for (const [i, list] of marked(rows, staged).entries())
    if (list.length > 0) await outcome.incomplete(staged[i]!.writes, list);
}

/** Of each of these tables, the entries that statements with marks selected. */
function marked(rows: Answer["rows"], staged: readonly TableBatch[]): readonly (readonly number[])[] {
  const entries = staged.map((): number[] => []);
  // The fence selects one column, these statements two.
  for (const row of rows) if (row.length === 2) entries[Number(row[0])]!.push(Number(row[1]));
  return entries;
}

/** Selects the rows that triggers kept from being written. */
export function unwrittenIn(staged: readonly TableBatch[]): readonly string[] {
  return staged.flatMap(({ table, writes }, i) => {
    if (table.triggers.length === 0) return [];
    if (table.history === null) return [table.unwritten(i)];
    return holdsReads(writes) ? [] : [table.history.unwritten(i)];
  });
}

/** Reports the rows that `unwrittenIn` selected, but for those of which it is known why they were not written. */
export async function reportUnwritten(
  rows: Answer["rows"],
  staged: readonly TableBatch[],
  outcome: Outcome,
  isRefused: (table: number, entry: number) => boolean = () => false,
): Promise<void> {
  for (const [i, list] of marked(rows, staged).entries()) {
    const { table, writes } = staged[i]!;
    const left = list.filter((entry) => !isRefused(i, entry));
    if (left.length > 0) await outcome.poison(left.map((entry) => ({ writes, entry, error: keptByTrigger(table) })));
  }
}

function keptByTrigger({ quoted, triggers }: TargetTable): MillraceError {
  const what = `a BEFORE trigger on ${quoted} (${triggers.join(", ")}) kept a row from being written or deleted`;
  return postgresError("MR3111", "poison", what, {
    hint: "Let the trigger return the row; then `millrace dlq replay --sink NAME --all` reads these rows again. If the target is to keep deleted rows: `deletes: soft`.",
  });
}

/**
 * Each table gets its staging table once per session, outside the batch's transaction. Every commit that uses one empties all
 * that the session has, and locks them meanwhile, so those that were not used for the longest time are dropped.
 */
export async function createStages(
  session: Session,
  batches: readonly TableBatch[],
  signal: AbortSignal,
): Promise<void> {
  const { staged, stageCountMax } = session;
  const missing = batches.map(({ table }) => table).filter(({ ordinal }) => !staged.has(ordinal));
  for (const { table } of batches) if (staged.delete(table.ordinal)) staged.add(table.ordinal);
  if (missing.length === 0) return;
  const kept = Math.max(batches.length, stageCountMax) - missing.length;
  const dropped = [...staged].slice(0, Math.max(0, staged.size - kept));
  for (const some of groupsOf(dropped, DROPPED_TOGETHER)) {
    await session.query(`DROP TABLE IF EXISTS ${some.map(stageName).join(", ")}`, signal);
    for (const ordinal of some) staged.delete(ordinal);
  }
  await session.query(missing.map((table) => table.createStage).join("; "), signal);
  for (const { ordinal } of missing) staged.add(ordinal);
}

/** In one transaction, which locks them all. */
const DROPPED_TOGETHER = 64;

/** Of a history: copies all rows into the staging tables, then appends them. */
export async function applyAppended(
  tables: readonly TableBatch[],
  copies: RenderedCopies,
  { session, advance, outcome, signal }: BatchCall,
): Promise<void> {
  await createStages(session, tables, signal);
  const staging = tables.map((batch): Copy => {
    const entries = Uint32Array.from({ length: batch.writes.count }, (_, i) => i);
    return { ...batch, entries, into: "stage" };
  });
  copies.render(staging);
  const appends = tables.flatMap((batch) =>
    batch.table.history === null ? [] : appending(batch.table.history, batch),
  );
  const fence = advanceStatement(advance);
  const looking = completions(tables);
  const unwritten = unwrittenIn(tables);
  if (looking.length + unwritten.length === 0) {
    await behindFence(copies.send(session, [fence, ...staging, ...appends], outcome, signal));
    return;
  }
  const { rows } = await behindFence(copies.send(session, [fence, "BEGIN", ...staging, ...looking], outcome, signal));
  await reportIncomplete(rows, tables, outcome);
  if (unwritten.length > 0) {
    const { rows: left } = await session.query([...appends, ...unwritten].join("; "), signal);
    await reportUnwritten(left, tables, outcome);
    appends.length = 0;
  }
  failpoint("postgres-sink.before-commit");
  await session.query([...appends, "COMMIT"].join("; "), signal);
}

export function appending(history: HistoryTable, { writes }: TableBatch, range?: EntryRange): readonly string[] {
  return holdsReads(writes) ? history.appendReads(range) : [history.append(writes.patchCount > 0, range)];
}

// Sorts entries by key, so that the upsert visits the target's index in order (measured: 160k against 134k rows/s).
// Only locality matters: keys are ordered by a number computed from the first key column, which need not be unique.

/** The low bits of a packed number hold the entry's index; together with the key's 32 bits they fit into a double. */
const PLACE_COUNT_MAX = 2 ** 20;
/** Longer numbers count as equal: a sum over a thousand digits would be infinite. */
const DIGITS_MAX = 1e18;
const KEY_STEPS = 2 ** 32 - 1;

let keys = new Float64Array(1024);
let packed = new Float64Array(1024);

function sortByKey(writes: TableWrites, entries: Uint32Array): Uint32Array {
  const count = entries.length;
  if (count < 2 || count > PLACE_COUNT_MAX) return entries;
  if (count > keys.length) {
    keys = new Float64Array(count * 2);
    packed = new Float64Array(count * 2);
  }
  const column = writes.table.key[0];
  const numeric = isNumeric(writes.table.columns[column]!.type);
  const skipped = numeric ? 0 : commonPrefixLength(writes, entries, column);
  let low = Infinity;
  let high = -Infinity;
  for (let i = 0; i < count; i++) {
    const key = keyNumber(writes, entries[i]!, column, numeric, skipped);
    keys[i] = key;
    if (key < low) low = key;
    if (key > high) high = key;
  }
  const scale = high > low ? KEY_STEPS / (high - low) : 0;
  for (let i = 0; i < count; i++) packed[i] = Math.floor((keys[i]! - low) * scale) * PLACE_COUNT_MAX + i;
  const order = packed.subarray(0, count).toSorted();
  return Uint32Array.from(order, (value) => entries[value % PLACE_COUNT_MAX]!);
}

function isNumeric(type: ColumnType): boolean {
  return type.kind === "int" || type.kind === "decimal";
}

/** The position of the last found cell. */
const cell: { bytes: Uint8Array; kind: number; start: number; end: number } = {
  bytes: new Uint8Array(),
  kind: 0,
  start: 0,
  end: 0,
};

function find(writes: TableWrites, entry: number, column: number): void {
  const block = writes.blocks[writes.block[entry]!]!;
  const row = writes.row[entry]!;
  const { bytes } = block;
  const tuple = writes.action[entry] === DELETE ? block.before[row]! : block.after[row]!;
  let at = tuple + 2;
  for (let i = 0; i < column; i++) at = cellEnd(bytes[at]!, bytes, at + 1);
  cell.bytes = bytes;
  cell.kind = bytes[at]!;
  cell.end = cellEnd(cell.kind, bytes, at + 1);
  cell.start = Math.min(at + 5, cell.end);
}

/** Bytes with which all keys begin (`user-000…`): they do not affect the order. */
function commonPrefixLength(writes: TableWrites, entries: Uint32Array, column: number): number {
  find(writes, entries[0]!, column);
  const { bytes, start } = cell;
  let length = cell.end - start;
  for (let i = 1; i < entries.length && length > 0; i++) {
    find(writes, entries[i]!, column);
    length = Math.min(length, cell.end - cell.start);
    for (let b = 0; b < length; b++) if (bytes[start + b] !== cell.bytes[cell.start + b]) length = b;
  }
  return length;
}

function keyNumber(writes: TableWrites, entry: number, column: number, numeric: boolean, skipped: number): number {
  find(writes, entry, column);
  const { bytes, kind, start, end } = cell;
  if (!numeric) return prefix(bytes, start + skipped, end);
  return kind === CELL_BINARY ? integer(bytes, start, end - start) : digits(bytes, start, end);
}

/** A big-endian integer, to the 53 bits that the order needs. */
function integer(bytes: Uint8Array, start: number, length: number): number {
  if (length === 8) return readInt32(bytes, start) * 2 ** 32 + (readInt32(bytes, start + 4) >>> 0);
  if (length === 4) return readInt32(bytes, start);
  return prefix(bytes, start, start + length);
}

function digits(bytes: Uint8Array, start: number, end: number): number {
  const negative = bytes[start] === 0x2d;
  let value = 0;
  for (let i = negative ? start + 1 : start; i < end; i++) {
    const digit = bytes[i]! - 0x30;
    if (digit < 0 || digit > 9 || value > DIGITS_MAX) break;
    value = value * 10 + digit;
  }
  return negative ? -value : value;
}

/** The first six bytes as a number: orders texts and uuids as far as their beginnings differ. */
function prefix(bytes: Uint8Array, start: number, end: number): number {
  let value = 0;
  for (let i = start; i < start + 6; i++) value = value * 256 + (i < end ? bytes[i]! : 0);
  return value;
}
