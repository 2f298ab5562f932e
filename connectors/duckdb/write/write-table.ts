/** Writes the rows of one table in a batch. */
import type { TableWrites } from "../../../src/core/model/batch.ts";
import { isDataError } from "../errors.ts";
import { INLINED_ROW_BYTES_MAX, INLINED_ROWS } from "../lake/engine.ts";
import {
  appendStagedSql,
  completedPatches,
  insertSql,
  removeAnySql,
  stagedDeletes,
  stagedKeys,
  type StagedRows,
  type TableLayout,
} from "./layout.ts";
import {
  completePatches,
  expectExact,
  HintWrong,
  LAKE_FEW_ROWS,
  putCompleted,
  runPass,
  type UnwrittenEntries,
  updateRows,
  type WriteTools,
} from "./merge.ts";
import { isLarge, versionsOf } from "./replace.ts";
import { sizeOf } from "./small.ts";
import { partition, staging, type Staging } from "./stage.ts";

/** More rows are merged. */
const DISPLACED_MAX = 1_000;

/**
 * Writes one table's entries inside the batch's transaction. Invariant: base rows are read before any write to the
 * table, and deletes precede puts, so that of two keys that differ only in bytes the put wins.
 */
export async function writeTable(
  tools: WriteTools,
  layout: TableLayout,
  writes: TableWrites,
  without: ReadonlySet<number>,
): Promise<UnwrittenEntries> {
  // A lake refuses no second row of a key.
  const trust = tools.trust && layout.form.isLake !== true;
  const inPlace = layout.form.deletes === "hard" && writes.patchCount > 0 && !(await isLarge(tools, layout));
  const entries = partition(writes, without, trust, inPlace);
  const patches = staging(layout, writes, "patch", entries.patch);
  const inserts = staging(layout, writes, "insert", entries.insert);
  const puts = staging(layout, writes, "put", entries.put);
  const isDisplaced = await mayDisplace(tools, layout, writes);
  tools.newest.wrote(layout, writes);
  const incomplete = await completePatches(tools, patches);
  if (isDisplaced) {
    await displaceFew(tools, staging(layout, writes, "delete", entries.delete), puts, patches);
    return { incomplete, unfit: [...puts.unfit, ...patches.unfit] };
  }
  const unfit = await updateRows(tools, staging(layout, writes, "update", entries.update));
  await runPass(tools, staging(layout, writes, "delete", entries.delete));
  await runPass(tools, inserts);
  await runPass(tools, puts);
  if (entries.patch.length > 0) await putCompleted(tools, patches);
  tools.sizes.appended(layout, entries.insert.length);
  return { incomplete, unfit: [...unfit, ...inserts.unfit, ...puts.unfit, ...patches.unfit] };
}

/** Whether `displaceFew` can write all entries. */
async function mayDisplace(tools: WriteTools, layout: TableLayout, writes: TableWrites): Promise<boolean> {
  if (layout.form.isLake !== true || layout.form.deletes !== "hard") return false;
  if (!tools.trust || tools.isFrugal || writes.count > DISPLACED_MAX) return false;
  let fresh = 0;
  for (let i = 0; i < writes.count; i++) {
    if (sizeOf(writes, i) > INLINED_ROW_BYTES_MAX) return false;
    fresh += writes.fresh[i]!;
  }
  // A merge makes a file of new rows.
  if (fresh > LAKE_FEW_ROWS && writes.count - writes.deleteCount <= INLINED_ROWS) return false;
  const newest = await tools.newest.of(tools.connection, layout);
  for (const version of versionsOf(writes)) if (version < newest) return false;
  return true;
}

/**
 * Few rows of a table in a lake, none of which may have a newer one there: one statement deletes what they replace, and
 * they are added without another look at the table. However few the rows are, a statement that reads a table of a lake
 * takes ten times as long as one that only adds rows.
 */
async function displaceFew(tools: WriteTools, deletes: Staging, puts: Staging, patches: Staging): Promise<void> {
  const { connection, files, stage } = tools;
  const { layout, writes } = puts;
  await stage.fill(files[0], deletes, Number.POSITIVE_INFINITY);
  await stage.fill(files[1], puts, Number.POSITIVE_INFINITY);
  expectExact(tools, puts);
  const withExact = tools.hasExact(layout);
  const hasPuts = files[1].byteCount > 0;
  const replaced: StagedRows[] = [];
  if (files[0].byteCount > 0) replaced.push(stagedDeletes(layout, files[0]));
  if (hasPuts) replaced.push(stagedKeys(layout, files[1]));
  if (patches.entries.length > 0) replaced.push(completedPatches(layout));
  if (replaced.length === 0) return;
  try {
    await connection.run(removeAnySql(layout, replaced));
    if (hasPuts) await connection.run(insertSql(layout, files[1], withExact));
    if (patches.entries.length > 0)
      await connection.run(appendStagedSql(layout, completedPatches(layout), withExact, true));
  } catch (error) {
    throw isDataError(error) ? new HintWrong(writes) : error;
  }
}
