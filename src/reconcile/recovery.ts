import type { Clock } from "../core/clock.ts";
import { type NotComparable, type ReconcileDocument, requestOf } from "../core/contracts/reconciliation.ts";
import type { TableSnapshot, SnapshotStore } from "../core/contracts/state-store.ts";
import type { Logger } from "../core/contracts/telemetry.ts";
import { isStubborn } from "../core/contracts/state-store.ts";
import { PASSES_ON, type Reconciler } from "./reconciler.ts";

interface RecoveryParts {
  readonly clock: Clock;
  readonly reconciler: Reconciler;
  readonly snapshots: SnapshotStore;
  readonly logger: Logger;
}

const AGAIN_MS = 1_000;
/** The pause before comparing a table that still differs after its differing rows were read again. */
const STUBBORN_MS = 60_000;

/**
 * Compares tables of which a sink may hold anything: after `recover`, or when the sink and the state come from
 * different moments. Lists the differing rows to be read, while source and sink are live. Removes a table from the list
 * when its rows are durable; after a crash the next process starts with it again. It checks the list repeatedly,
 * because tables may be added at any time.
 */
export async function repairDifferences(parts: RecoveryParts, signal: AbortSignal): Promise<never> {
  const { clock } = parts;
  let stubbornAtMs = 0;
  for (;;) {
    const listed = await parts.snapshots.differences();
    const isDue = clock.elapsed() >= stubbornAtMs;
    if (isDue) stubbornAtMs = clock.elapsed() + STUBBORN_MS;
    const open = isDue ? listed : listed.filter((snapshot) => !isStubborn(snapshot));
    for (const [tableId, ofTable] of Map.groupBy(open, (snapshot) => snapshot.tableId)) {
      await settleTable(parts, tableId, ofTable, signal);
    }
    await clock.sleep(AGAIN_MS, signal);
  }
}

async function settleTable(
  { logger, reconciler, snapshots }: RecoveryParts,
  tableId: string,
  listed: readonly TableSnapshot[],
  signal: AbortSignal,
): Promise<void> {
  const sinks = listed.map(({ sink }) => sink);
  const request = requestOf({ tables: [tableId], sinks, repairs: true, sampleMax: 0 });
  let found: ReconcileDocument;
  try {
    found = await reconciler.run(request, signal, false);
  } catch (error) {
    signal.throwIfAborted();
    logger.warn({ error, table: tableId }, "the table could not be compared yet; it is tried again");
    return;
  }
  for (const snapshot of listed) {
    const { sink } = snapshot;
    const result = found.tables.find((one) => one.sink === sink);
    const obstacle = found.notComparable.find((one) => one.sink === sink && isWhole(one));
    // It gets all rows of the table instead, when it is opened.
    if (obstacle?.reason === PASSES_ON) continue;
    if (result === undefined || obstacle !== undefined) {
      const reason = obstacle?.reason ?? "it is not captured now";
      logger.warn({ table: tableId, sink, reason }, "the table could not be compared yet; it is tried again");
      continue;
    }
    const { compared, different, extra, missing, repaired } = result;
    const outcome = { table: tableId, sink, compared, missing, extra, different, repaired };
    // Invariant: only a comparison without findings removes a table from the list. A repaired table is compared once
    // more.
    const rowsDone = snapshot.rowsDone + repaired;
    if (missing + extra + different > 0) {
      await snapshots.advance([{ ...snapshot, rowsDone, chunksDone: snapshot.chunksDone + 1 }]);
      logger.info(outcome, "differing rows were read again; the table is compared once more");
      continue;
    }
    if (await snapshots.finish({ ...snapshot, rowsDone })) logger.info(outcome, "the table is equal");
  }
}

/** Rows that changed at every look arrived through the stream, so they are current. */
function isWhole({ rows }: NotComparable): boolean {
  return rows === undefined;
}
