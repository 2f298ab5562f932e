import type { TableWrites } from "../../../src/core/model/batch.ts";
import { isDataError } from "../errors.ts";
import {
  completedBytesSql,
  completedPatches,
  completeSql,
  displaceSql,
  DROP_PUTS,
  INCOMPLETE_SQL,
  insertSql,
  mergeStagedSql,
  missingBasesSql,
  putFewSql,
  putSql,
  ROW_BYTES_DEFAULT,
  type StagedFile,
  stagedPuts,
  type StagedRows,
  stagePatchesSql,
  stagePutsSql,
  type TableLayout,
  updateSql,
} from "./layout.ts";
import { deleteRows, expectLookups, replaceRows, type ReplaceTools } from "./replace.ts";
import { byUnchanged, type Pass, type RowStage, staging, type Staging } from "./stage.ts";
import { changeRowSql, deleteRowSql, fieldsOf, insertRowsSql, isSmall, removeRowsSql } from "./small.ts";
import type { StageFile } from "./stage-file.ts";
import { readTextRows } from "../../kit/duckdb-engine/engine.ts";

/** Bytes of rows per statement. Two files of this size are in use: one is filled while DuckDB reads the other. */
export const STAGE_BYTES_MAX = 8 * 1024 * 1024;
/** DuckDB starts with this much while the rest is rendered. */
const FIRST_BYTES_MAX = 1024 * 1024;

/**
 * So many new rows go into a lake's catalogue rather than a file. Each later commit reads both: 10,000 rows in the catalogue
 * cost it 16 ms of processor time, 100 files of 100 rows 2 ms.
 */
export const LAKE_FEW_ROWS = 10;

/** In a lake several pieces would be staged once more, in a table, because only one statement may look for their keys. */
const LAKE_BYTES_MAX = 4 * STAGE_BYTES_MAX;

/** Each delete statement may read the keys of the whole table. */
function bytesOfTurn({ pass, layout }: Staging, turn: number): number {
  if (layout.form.isLake === true) return LAKE_BYTES_MAX;
  return pass === "delete" ? STAGE_BYTES_MAX : Math.min(STAGE_BYTES_MAX, FIRST_BYTES_MAX * 4 ** turn);
}

/**
 * A row contradicts the log's hints: it is new although it should exist, or the reverse, or it is newer. The batch is
 * repeated without the hints.
 */
export class HintWrong extends Error {
  readonly writes: TableWrites;

  constructor(writes: TableWrites) {
    super("a row is not as the log's hints say");
    this.writes = writes;
  }
}

/**
 * A row holds a value that only `_millrace_exact` can hold, and the target lacks that column. It gets it in a transaction
 * before this one: DuckDB commits no column of a table whose rows the same transaction has changed or removed, reports
 * that as a conflict or as a broken key, and may end the process over it.
 */
export class ExactMissing extends Error {
  readonly layout: TableLayout;

  constructor(layout: TableLayout) {
    super("a target lacks its column for exact texts");
    this.layout = layout;
  }
}

/** A statement failed because of the content of some of these entries. */
export class EntriesRefused extends Error {
  readonly writes: TableWrites;
  readonly pass: Pass;
  readonly entries: readonly number[];

  constructor(writes: TableWrites, pass: Pass, entries: readonly number[], cause: unknown) {
    super("a row was refused", { cause });
    this.writes = writes;
    this.pass = pass;
    this.entries = entries;
  }
}

export interface WriteTools extends ReplaceTools {
  readonly stage: RowStage;
  readonly files: readonly [StageFile, StageFile];
  readonly signal: AbortSignal;
  /** Provides DuckDB with memory for a row of this size; between two statements. */
  readonly makeRoom: (rowBytes: number) => Promise<void>;
}

export interface UnwrittenEntries {
  /** Entries whose base row is missing. */
  readonly incomplete: readonly number[];
  /** Entries whose key does not fit. */
  readonly unfit: readonly number[];
}

/** Runs one pass alone, for its effect or, in a transaction that is rolled back, to test whether it is refused. */
export async function runPass(tools: WriteTools, whole: Staging): Promise<void> {
  const work = await withoutFew(tools, whole);
  if (work.pass === "patch") {
    await completePatches(tools, work);
    if (work.entries.length > 0) await putCompleted(tools, work);
    return;
  }
  const puts: StagedPuts = { any: false };
  // While DuckDB works on one file the other one is filled.
  let running: Promise<void> = Promise.resolve();
  try {
    for (let turn = 0; work.next < work.entries.length; turn++) {
      tools.signal.throwIfAborted();
      const file = tools.files[turn % 2 === 0 ? 0 : 1];
      const from = work.next;
      await tools.stage.fill(file, work, bytesOfTurn(work, turn));
      const staged = work.entries.slice(from, work.next);
      await running;
      if (file.byteCount === 0) continue;
      await tools.makeRoom(file.rowBytesMax);
      expectExact(tools, work);
      running = refusing(work, staged, writing(tools, work, file, puts, staged.length));
      // The failure surfaces at the next await; until then the handler marks it as handled.
      running.catch(() => undefined);
    }
  } finally {
    await running;
  }
  if (!puts.any) return;
  await putStaged(tools, work, stagedPuts(work.layout));
  await tools.connection.run(DROP_PUTS);
}

/** Whether staged puts wait. The rows of a pass with several pieces are written together. */
interface StagedPuts {
  any: boolean;
}

async function putStaged(tools: WriteTools, work: Staging, staged: StagedRows): Promise<void> {
  const { layout, writes, entries } = work;
  try {
    if (layout.form.isLake === true) await tools.connection.run(mergeStagedSql(layout, staged, tools.hasExact(layout)));
    else await replaceRows(tools, layout, staged, entries.length);
  } catch (error) {
    if (!isDataError(error)) throw error;
    if (tools.trust) throw new HintWrong(writes);
    throw new EntriesRefused(writes, work.pass, entries, error);
  }
}

export async function putCompleted(tools: WriteTools, work: Staging): Promise<void> {
  await putStaged(tools, work, completedPatches(work.layout));
}

/** Writes a piece, or stages it. */
function writing(
  tools: WriteTools,
  work: Staging,
  file: StagedFile,
  puts: StagedPuts,
  count: number,
): () => Promise<void> {
  const { pass, layout } = work;
  if (pass === "delete") return () => deleteRows(tools, layout, file, count);
  const sql = pass === "insert" ? insertSql(layout, file, tools.hasExact(layout)) : putting(tools, work, file, puts);
  return async () => void (await tools.connection.run(sql));
}

function putting(tools: WriteTools, work: Staging, file: StagedFile, puts: StagedPuts): string {
  const { layout, entries } = work;
  const hasExact = tools.hasExact(layout);
  if (tools.isFrugal || file.rowBytesMax > ROW_BYTES_DEFAULT) return displaceSql(layout, file, hasExact);
  if (layout.form.isLake === true && !puts.any && work.next === entries.length)
    return entries.length <= LAKE_FEW_ROWS ? putFewSql(layout, file, hasExact) : putSql(layout, file, hasExact);
  const sql = stagePutsSql(layout, file, puts.any);
  puts.any = true;
  return sql;
}

/** The rest after the rows of a small pass were written with their values in statements. */
async function withoutFew(tools: WriteTools, work: Staging, unchanged?: string): Promise<Staging> {
  const { connection, isFrugal, stage } = tools;
  const { layout, pass, entries, unfit, writes } = work;
  // In a lake a statement costs the same for any number of rows.
  if (isFrugal || entries.length === 0 || layout.form.isLake === true || !isSmall(work)) return work;
  // Without the hints a newer row has to be expected, and keys in a statement are looked up in the index.
  if (!tools.trust) return work;
  const trial = staging(layout, writes, pass, entries);
  const rows = entries.flatMap((entry) => stage.line(trial, entry) ?? []).map(fieldsOf);
  const hasExact = tools.hasExact(layout);
  if (rows.length < entries.length || (trial.needsExact && !hasExact)) return work;
  const left: number[] = [];
  if (pass === "insert" || pass === "put") {
    try {
      if (pass === "put") await connection.run(removeRowsSql(layout, rows));
      await connection.run(insertRowsSql(layout, rows, hasExact));
    } catch (error) {
      throw isDataError(error) ? new HintWrong(writes) : error;
    }
  } else {
    // If a row to delete does not exist, nothing is left; if one to change does not match, the hint may be wrong.
    for (const [i, fields] of rows.entries()) {
      const sql = pass === "delete" ? deleteRowSql(layout, fields) : changeRowSql(layout, fields, hasExact, unchanged);
      await refusing(work, entries, async () => {
        const { rowsChanged } = await connection.run(sql);
        if (rowsChanged === 0 && pass !== "delete") left.push(entries[i]!);
      });
    }
  }
  return { ...staging(layout, writes, pass, left), unfit };
}

/** Changes columns of existing rows, one statement for each set of unchanged columns. */
export async function updateRows(tools: WriteTools, work: Staging): Promise<number[]> {
  const { connection, files, stage } = tools;
  const { layout, writes } = work;
  const unfit: number[] = [];
  for (const [unchanged, entries] of byUnchanged(layout, writes, work.entries)) {
    const group = await withoutFew(tools, staging(layout, writes, "update", entries), unchanged);
    while (group.next < group.entries.length) {
      tools.signal.throwIfAborted();
      await stage.fill(files[0], group, STAGE_BYTES_MAX);
      if (files[0].byteCount === 0) continue;
      await tools.makeRoom(files[0].rowBytesMax);
      expectExact(tools, group);
      await refusing(group, group.entries, async () => {
        const missing = await connection.run(missingBasesSql(layout, files[0]));
        if (missing.rowsChanged > 0) throw new HintWrong(writes);
        await connection.run(updateSql(layout, files[0], tools.hasExact(layout), unchanged));
      });
    }
    unfit.push(...group.unfit);
  }
  return unfit;
}

/** Stages the patches and completes them from their base rows; returns the entries without base. */
export async function completePatches(tools: WriteTools, work: Staging): Promise<number[]> {
  const { connection, files, stage } = tools;
  if (work.entries.length === 0) return [];
  await stage.fill(files[0], work, Number.POSITIVE_INFINITY);
  await tools.makeRoom(files[0].rowBytesMax);
  await refusing(work, work.entries, async () => {
    await connection.run(stagePatchesSql(work.layout, files[0]));
  });
  expectExact(tools, work);
  await expectLookups(tools, work.layout);
  await connection.run(completeSql(work.layout, tools.hasExact(work.layout)));
  if (work.layout.form.isLake === true) {
    const [largest = []] = await readTextRows(connection, completedBytesSql(work.layout));
    await tools.makeRoom(Number(largest[0]));
  }
  const rows = await readTextRows(connection, INCOMPLETE_SQL);
  return rows.map(([entry]) => Number(entry));
}

/** Throws if a staged row needs the column and the target lacks it. */
export function expectExact(tools: WriteTools, { needsExact, layout }: Staging): void {
  if (needsExact && !tools.hasExact(layout)) throw new ExactMissing(layout);
}

export async function refusing(work: Staging, entries: readonly number[], run: () => Promise<void>): Promise<void> {
  try {
    await run();
  } catch (error) {
    if (!isDataError(error)) throw error;
    if (work.pass === "insert" || work.pass === "update") throw new HintWrong(work.writes);
    throw new EntriesRefused(work.writes, work.pass, entries, error);
  }
}
