/** What a comparison may have found, for tests of what becomes of it. */
import type { ReconcileDocument, TableReconciliation } from "../../../src/core/contracts/reconciliation.ts";

export function tableFound(found: Partial<TableReconciliation> = {}): TableReconciliation {
  return {
    table: "public.orders",
    sink: "warehouse",
    sourceRows: 10,
    sinkRows: 9,
    positions: { from: "0/10", to: "0/20" },
    compared: 10,
    sourceBytes: 1000,
    sinkBytes: 1200,
    missing: 0,
    extra: 0,
    different: 0,
    repaired: 0,
    unrepairable: 0,
    beyondLog: 0,
    deadLetters: 0,
    sample: [],
    ...found,
  };
}

/** Of one table. */
export function reportOf({ id, ...found }: Partial<TableReconciliation> & { readonly id: string }): ReconcileDocument {
  const table = tableFound(found);
  const drift = table.missing + table.extra + table.different > 0;
  return {
    id,
    name: "shop",
    startedAt: "2026-11-20T02:00:00.000Z",
    finishedAt: "2026-11-20T02:01:30.500Z",
    part: null,
    drift,
    alarm: drift,
    tables: [table],
    notComparable: [],
    suspended: [],
    besides: [],
    whole: true,
    version: "0.1.0",
    config: "ab".repeat(32),
  };
}
