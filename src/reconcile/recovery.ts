import type { Clock } from "../core/clock.ts";
import type { NotComparable, ReconcileDocument, ReconcileRequest } from "../core/contracts/reconciliation.ts";
import type { Refill, RefillStore } from "../core/contracts/state-store.ts";
import type { Logger } from "../core/contracts/telemetry.ts";
import { isStubborn } from "../core/contracts/state-store.ts";
import type { Reconciler } from "./reconciler.ts";

export interface RecoveryParts {
  readonly clock: Clock;
  readonly reconciler: Reconciler;
  readonly refills: RefillStore;
  readonly logger: Logger;
}

/** As long as a sink may get no further before its tables are left for the next round. */
const PATIENCE_MS = 60_000;
const AGAIN_MS = 1_000;
/** How often a table is compared that went on to differ when what differed was read again. */
const STUBBORN_MS = 60_000;

/**
 * Tables of which a sink may hold anything: after `recover`, or where a sink and the state are not of one moment. Each is
 * compared with the source while both are live, and what differs is listed to be read. A table is struck off when that is
 * durable; a process that ends before begins with it again. Whoever lists one, and whenever: it is looked at again and again.
 */
export async function settleDifferences(parts: RecoveryParts, signal: AbortSignal): Promise<never> {
  const { clock } = parts;
  let stubbornAtMs = 0;
  for (;;) {
    const listed = (await parts.refills.list()).filter(({ scope }) => scope.kind === "differences");
    const isDue = clock.elapsed() >= stubbornAtMs;
    if (isDue) stubbornAtMs = clock.elapsed() + STUBBORN_MS;
    const open = isDue ? listed : listed.filter((refill) => !isStubborn(refill));
    for (const [tableId, ofTable] of Map.groupBy(open, (refill) => refill.tableId)) {
      await settleTable(parts, tableId, ofTable, signal);
    }
    await clock.sleep(AGAIN_MS, signal);
  }
}

async function settleTable(
  { logger, reconciler, refills }: RecoveryParts,
  tableId: string,
  listed: readonly Refill[],
  signal: AbortSignal,
): Promise<void> {
  const sinks = listed.map(({ sink }) => sink);
  let found: ReconcileDocument;
  try {
    found = await reconciler.run(requestFor(tableId, sinks), signal, false);
  } catch (error) {
    signal.throwIfAborted();
    logger.warn({ error, table: tableId }, "the table could not be compared yet; it is tried again");
    return;
  }
  for (const refill of listed) {
    const { sink } = refill;
    const result = found.tables.find((one) => one.sink === sink);
    const obstacle = found.notComparable.find((one) => one.sink === sink && isWhole(one));
    if (result === undefined || obstacle !== undefined) {
      const reason = obstacle?.reason ?? "it is not captured now";
      logger.warn({ table: tableId, sink, reason }, "the table could not be compared yet; it is tried again");
      continue;
    }
    const { compared, different, extra, missing, repaired } = result;
    const outcome = { table: tableId, sink, compared, missing, extra, different, repaired };
    // Invariant: a table is struck off by a comparison that finds nothing: what was repaired is looked at once more.
    const rowsDone = refill.rowsDone + repaired;
    if (missing + extra + different > 0) {
      await refills.advance([{ ...refill, rowsDone, chunksDone: refill.chunksDone + 1 }]);
      logger.info(outcome, "what differed was read again; it is compared once more");
      continue;
    }
    if (await refills.finish({ ...refill, rowsDone })) logger.info(outcome, "the table is equal");
  }
}

function requestFor(tableId: string, sinks: readonly string[]): ReconcileRequest {
  return {
    tables: [tableId],
    sinks,
    patienceMs: PATIENCE_MS,
    repairs: true,
    mode: "full",
    sampleMax: 0,
    showsValues: false,
    resume: null,
  };
}

/** Rows that moved each time they were looked at came by the stream, as they are now. */
function isWhole({ rows }: NotComparable): boolean {
  return rows === undefined;
}
