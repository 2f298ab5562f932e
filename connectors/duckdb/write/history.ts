/** Batches of a history sink: stages all rows in the order of the log, then appends them. */
import type { TableWrites } from "../../../src/core/model/batch.ts";
import { holdsReads } from "../../../src/core/targets/history.ts";
import {
  appendReadsSql,
  appendSql,
  findBasesSql,
  findLatestSql,
  stageChangesSql,
  unknownSql,
} from "./history-statements.ts";
import { expectExact, type UnwrittenEntries, refusing, STAGE_BYTES_MAX, type WriteTools } from "./merge.ts";
import type { TableLayout } from "./layout.ts";
import { staging, type Staging } from "./stage.ts";
import { readTextRows } from "./text-rows.ts";

export async function appendTable(
  tools: WriteTools,
  layout: TableLayout,
  writes: TableWrites,
  without: ReadonlySet<number>,
): Promise<UnwrittenEntries> {
  const entries = Array.from({ length: writes.count }, (_, i) => i).filter((i) => !without.has(i));
  const work = staging(layout, writes, "append", entries);
  const incomplete = await appendEntries(tools, work);
  return { incomplete, unfit: work.unfit };
}

/** Piece by piece: a later piece can build on earlier ones. Returns the entries with cells whose value is unknown. */
export async function appendEntries(tools: WriteTools, work: Staging): Promise<number[]> {
  const { connection, stage } = tools;
  const file = tools.files[0];
  const { layout, writes, entries } = work;
  const unknown: number[] = [];
  while (work.next < entries.length) {
    tools.signal.throwIfAborted();
    const from = work.next;
    await stage.fill(file, work, STAGE_BYTES_MAX);
    if (file.byteCount === 0) continue;
    await tools.makeRoom(file.rowBytesMax);
    expectExact(tools, work);
    const withExact = tools.hasExact(layout);
    await refusing(work, entries.slice(from, work.next), async () => {
      await connection.run(stageChangesSql(layout, file));
      if (holdsReads(writes)) {
        await connection.run(findLatestSql(layout, withExact));
        for (const sql of appendReadsSql(layout, withExact)) await connection.run(sql);
        return;
      }
      const withBases = writes.patchCount > 0;
      if (withBases) {
        await connection.run(findBasesSql(layout, withExact));
        const rows = await readTextRows(connection, unknownSql(layout));
        for (const [entry] of rows) unknown.push(Number(entry));
      }
      await connection.run(appendSql(layout, withExact, withBases));
    });
  }
  return unknown;
}
