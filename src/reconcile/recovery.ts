import type { Clock } from "../core/clock.ts";
import type { ComparePort } from "../core/contracts/comparing.ts";
import { type NotComparable, type ReconcileDocument, requestOf } from "../core/contracts/reconciliation.ts";
import type { TableSnapshot, SnapshotStore } from "../core/contracts/state-store.ts";
import type { Logger } from "../core/contracts/telemetry.ts";
import { isStubborn } from "../core/contracts/state-store.ts";
import type { Reconciler } from "./reconciler.ts";

interface RecoveryParts {
  readonly clock: Clock;
  /** Null while the daemon does not stream yet. */
  readonly port: () => ComparePort | null;
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
 * because tables may be added at any time. What can't be compared now is left out of a pass, so that it delays nobody.
 */
export async function repairDifferences(parts: RecoveryParts, signal: AbortSignal): Promise<never> {
  const { clock } = parts;
  const waiting = new Waiting(parts.logger);
  let stubbornAtMs = 0;
  for (;;) {
    const port = parts.port();
    const listed = port === null ? [] : await parts.snapshots.differences();
    const isDue = clock.elapsed() >= stubbornAtMs;
    if (isDue) stubbornAtMs = clock.elapsed() + STUBBORN_MS;
    const open = isDue ? listed : listed.filter((snapshot) => !isStubborn(snapshot));
    for (const [tableId, ofTable] of Map.groupBy(open, (snapshot) => snapshot.tableId)) {
      const ready = await readyOf(parts.port(), tableId, ofTable, waiting);
      if (ready.length > 0) await settleTable(parts, tableId, ready, waiting, signal);
    }
    await clock.sleep(AGAIN_MS, signal);
  }
}

/** Asked just before they are compared: a comparison would wait for a sink that is away. */
async function readyOf(
  port: ComparePort | null,
  tableId: string,
  listed: readonly TableSnapshot[],
  waiting: Waiting,
): Promise<readonly TableSnapshot[]> {
  if (port === null) return [];
  const table = port.tables.find(({ id }) => id === tableId);
  if (table === undefined) {
    const why = port.suspended.get(tableId);
    waiting.tell({ table: tableId }, why === undefined ? "it is not captured now" : `${why.code} ${why.message}`);
    return [];
  }
  waiting.end({ table: tableId });
  const ready: TableSnapshot[] = [];
  for (const snapshot of listed) {
    const { sink } = snapshot;
    // One that only passes changes on gets all rows of the table instead, when it is opened.
    if (!port.sinks.includes(sink) || !port.isComparable(sink)) continue;
    const unready = await port.unready(sink, table);
    if (unready === null) {
      waiting.end({ sink });
      ready.push(snapshot);
    } else waiting.tell(unready.isWhole ? { sink } : { table: tableId, sink }, unready.reason);
  }
  return ready;
}

interface Waits {
  readonly table?: string;
  readonly sink?: string;
}

/** What can't be compared yet: each reason is told once. */
class Waiting {
  readonly #logger: Logger;
  readonly #told = new Map<string, string>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  tell(what: Waits, reason: string): void {
    const key = keyOf(what);
    if (this.#told.get(key) === reason) return;
    this.#told.set(key, reason);
    this.#logger.info({ ...what, reason }, "what differs can't be compared yet; it is tried again");
  }

  end(what: Waits): void {
    this.#told.delete(keyOf(what));
  }
}

function keyOf({ table, sink }: Waits): string {
  return JSON.stringify([table, sink]);
}

async function settleTable(
  { logger, reconciler, snapshots }: RecoveryParts,
  tableId: string,
  listed: readonly TableSnapshot[],
  waiting: Waiting,
  signal: AbortSignal,
): Promise<void> {
  const sinks = listed.map(({ sink }) => sink);
  const request = requestOf({ tables: [tableId], sinks, repairs: true, sampleMax: 0 });
  let found: ReconcileDocument;
  try {
    await reconciler.idle(signal);
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
    if (result === undefined || obstacle !== undefined) {
      waiting.tell({ table: tableId, sink }, obstacle?.reason ?? "it is not captured now");
      continue;
    }
    waiting.end({ table: tableId, sink });
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
