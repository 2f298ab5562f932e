/** What comparisons have proven until now as a report, which is stored, signed and chained like those of comparisons. */
import { type Clock, timestamp } from "../../core/clock.ts";
import { driftIn } from "../../core/comparison-verdict.ts";
import type { CoveredRange, ReconcileDocument, TableReconciliation } from "../../core/contracts/reconciliation.ts";
import type { ProofLedger, ProofPlace, ProofRecord, StateStore } from "../../core/contracts/state-store.ts";
import { span } from "../../core/figures.ts";
import { withinReport } from "../rows/coverage.ts";
import type { DocumentParts } from "../run.ts";
import { type Ledger, ledgerOf, recordOf } from "./ledger.ts";

export interface ProofReportParts extends DocumentParts {
  readonly state: Pick<StateStore, "proofs" | "schemas" | "suspensions" | "deadLetters">;
  /** All sinks of the configuration. */
  readonly sinks: readonly string[];
  /** An older proof is named; null: nothing is promised. */
  readonly maxAgeMs: number | null;
}

export async function proofReport(parts: ProofReportParts): Promise<ReconcileDocument> {
  const { state, clock, name, version, config, driftMax, maxAgeMs, sinks } = parts;
  const records = await state.proofs.list();
  const letters = Map.groupBy(await state.deadLetters.list({ state: "waiting" }), ({ sink, tableId }) =>
    placeId({ sink, table: tableId }),
  );
  const known = new Map((await state.schemas.list()).map((table) => [table.id, table]));
  const tables: TableReconciliation[] = [];
  for (const table of new Set(records.map((one) => one.table))) {
    const shape = known.get(table);
    const names = shape?.key.map((ordinal) => shape.columns[ordinal]!.name) ?? [];
    for (const stored of await state.proofs.ofTable(table))
      tables.push(found(stored, names, letters.get(placeId(stored))?.length ?? 0));
  }
  const finishedAt = timestamp(clock);
  const suspended = (await state.suspensions.list()).map(({ tableId, error: { code, message } }) => ({
    table: tableId,
    code,
    message,
  }));
  return {
    kind: "proof",
    id: `${finishedAt.replaceAll(/[-:.]/g, "")}-${clock.unique(2)}`,
    name,
    startedAt: oldestOf(records) ?? finishedAt,
    finishedAt,
    part: null,
    drift: tables.some((row) => driftIn(row) > 0),
    alarm: tables.some((row) => driftIn(row) > driftMax(row.table)),
    tables: withinReport(tables),
    notComparable: [...unproven(records, maxAgeMs, clock), ...withoutProofs(records, sinks)],
    suspended,
    besides: [],
    whole: true,
    version,
    config,
  };
}

function placeId({ table, sink }: ProofPlace): string {
  return JSON.stringify([table, sink]);
}

/** Of those that are proven. */
function oldestOf(records: readonly ProofRecord[]): string | null {
  return records.flatMap(({ provenAt }) => provenAt ?? []).toSorted()[0] ?? null;
}

function found(stored: ProofLedger, names: readonly string[], deadLetters: number): TableReconciliation {
  const { table, sink } = stored;
  const ledger = ledgerOf(stored.content);
  const { missing, extra, different } = recordOf(stored, ledger);
  const sourceRows = ledger.ranges.reduce((sum, { rows }) => sum + (rows ?? 0), 0);
  return {
    table,
    sink,
    sourceRows,
    sinkRows: ledger.keys.rows ?? 0,
    positions: positionsOf(ledger),
    coverage: ledger.ranges.map((range) => coveredOf(range, names)),
    listing: { at: ledger.keys.proven?.at ?? null, position: ledger.keys.proven?.position ?? null },
    compared: sourceRows,
    sourceBytes: 0,
    sinkBytes: 0,
    missing,
    extra,
    different,
    repaired: 0,
    unrepairable: 0,
    beyondLog: 0,
    deadLetters,
    sample: [],
  };
}

function coveredOf({ upTo, rows, proven }: Ledger["ranges"][number], names: readonly string[]): CoveredRange {
  const key = upTo === null ? null : Object.fromEntries(names.map((name, part) => [name, upTo[part] ?? ""]));
  return { upTo: key, rows: rows ?? null, at: proven?.at ?? null, position: proven?.position ?? null };
}

/** Of the oldest proof and of the newest one. */
function positionsOf({ ranges, keys }: Ledger): TableReconciliation["positions"] {
  const proven = [...ranges, keys]
    .flatMap((one) => one.proven ?? [])
    .filter(({ position }) => position !== null)
    .toSorted((a, b) => (a.at < b.at ? -1 : Number(a.at > b.at)));
  const [first] = proven;
  return first === undefined ? null : { from: first.position!, to: proven.at(-1)!.position! };
}

function unproven(
  records: readonly ProofRecord[],
  maxAgeMs: number | null,
  clock: Pick<Clock, "now">,
): ReconcileDocument["notComparable"] {
  return records.flatMap(({ table, sink, provenAt, since }) => {
    const ageMs = clock.now() - Date.parse(provenAt ?? since);
    if (provenAt === null)
      return [{ table, sink, reason: `not all of it was ever proven; it is known since ${since}` }];
    if (maxAgeMs === null || ageMs <= maxAgeMs) return [];
    return [{ table, sink, reason: `its oldest proof is of ${provenAt}, older than ${span(maxAgeMs)}` }];
  });
}

function withoutProofs(records: readonly ProofRecord[], sinks: readonly string[]): ReconcileDocument["notComparable"] {
  const proven = new Set(records.map(({ sink }) => sink));
  // Where nothing is known yet, nothing is known of this either.
  const expected = records.length === 0 ? {} : { isExpected: true as const };
  const reason =
    records.length === 0
      ? "nothing is proven yet"
      : "nothing of it is to be proven: it only passes changes on, or takes no table";
  return sinks.filter((sink) => !proven.has(sink)).map((sink) => ({ sink, table: null, reason, ...expected }));
}
