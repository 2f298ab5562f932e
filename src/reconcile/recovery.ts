import type { Clock } from "../core/clock.ts";
import type { ComparePort } from "../core/contracts/comparing.ts";
import { type NotComparable, type ReconcileDocument, requestOf } from "../core/contracts/reconciliation.ts";
import type { TableVersion } from "../core/model/schema.ts";
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
    let readiness = new Readiness(port, waiting);
    let untilMs = clock.elapsed() + AGAIN_MS;
    for (const [tableId, ofTable] of Map.groupBy(open, (snapshot) => snapshot.tableId)) {
      await parts.reconciler.idle(signal);
      if (clock.elapsed() >= untilMs) {
        readiness = new Readiness(parts.port(), waiting);
        untilMs = clock.elapsed() + AGAIN_MS;
      }
      const ready = await readiness.of(tableId, ofTable);
      if (ready.length > 0) await settleTable(parts, tableId, ready, waiting, signal);
    }
    await clock.sleep(AGAIN_MS, signal);
  }
}

/**
 * What can be compared now: a comparison would wait for a sink that is away. The list may hold thousands of tables: what
 * concerns a whole sink, or all tables, is asked once in a moment.
 */
class Readiness {
  readonly #port: ComparePort | null;
  readonly #waiting: Waiting;
  readonly #tables: ReadonlyMap<string, TableVersion>;
  readonly #suspended: ComparePort["suspended"];
  readonly #sinks: Set<string>;

  constructor(port: ComparePort | null, waiting: Waiting) {
    this.#port = port;
    this.#waiting = waiting;
    this.#tables = new Map(port?.tables.map((table) => [table.id, table]));
    this.#suspended = port?.suspended ?? new Map();
    // One that only passes changes on gets all rows of a table instead, when it is opened.
    this.#sinks = new Set(port?.sinks.filter((sink) => port.isComparable(sink)));
  }

  async of(tableId: string, listed: readonly TableSnapshot[]): Promise<readonly TableSnapshot[]> {
    const [port, waiting] = [this.#port, this.#waiting];
    if (port === null) return [];
    const table = this.#tables.get(tableId);
    if (table === undefined) {
      const why = this.#suspended.get(tableId);
      waiting.tell({ table: tableId }, why === undefined ? "it is not captured now" : `${why.code} ${why.message}`);
      return [];
    }
    waiting.end({ table: tableId });
    const ready: TableSnapshot[] = [];
    for (const snapshot of listed) {
      const { sink } = snapshot;
      if (!this.#sinks.has(sink)) continue;
      const unready = await port.unready(sink, table);
      if (unready === null) {
        waiting.end({ sink });
        ready.push(snapshot);
      } else waiting.tell(unready.isWhole ? { sink } : { table: tableId, sink }, unready.reason);
      if (unready?.isWhole === true) this.#sinks.delete(sink);
    }
    return ready;
  }
}

interface Waits {
  readonly table?: string;
  readonly sink?: string;
}

/** Reasons may name what changes all the time: so many are told. */
const REASONS_MAX = 10;

/** What can't be compared yet: each reason is told once. */
class Waiting {
  readonly #logger: Logger;
  readonly #told = new Map<string, Set<string>>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  tell(what: Waits, reason: string): void {
    const key = keyOf(what);
    const told = this.#told.get(key) ?? new Set();
    if (told.has(reason) || told.size >= REASONS_MAX) return;
    this.#told.set(key, told.add(reason));
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
