/** The stored part of an unfinished comparison, for `--resume`. */
import type { NotComparable, ReconcileRequest, TableReconciliation } from "../core/contracts/reconciliation.ts";
import type { TableVersion } from "../core/model/schema.ts";
import { type KeptTable, openId, withoutValues } from "./rows/findings.ts";
import type { Run } from "./run.ts";

interface StoredRun {
  readonly startedAt: string;
  readonly request: ReconcileRequest;
  readonly part: Run["part"];
  readonly done: readonly (readonly [table: string, fingerprint: string])[];
  readonly tables: readonly TableReconciliation[];
  readonly notComparable: readonly NotComparable[];
  readonly open: readonly KeptTable[];
}

export function keptText(run: Run): string {
  const { startedAt, request, part, done, tables, notComparable, open } = run;
  // Values of rows are only for the user who asked for them. They are never stored.
  const kept: StoredRun = {
    startedAt,
    request,
    part,
    done: [...done],
    tables: tables.map((table) => ({ ...table, sample: table.sample.map(withoutValues) })),
    notComparable,
    open: [...open.values()],
  };
  return JSON.stringify(kept);
}

export function keptRequest(text: string): ReconcileRequest {
  return parsed(text).request;
}

/** Continues with the findings of an earlier run, without those of tables that have another shape, or other rules, now. */
export function takeUp(run: Run, text: string, present: readonly TableVersion[]): void {
  const { startedAt, part, done, tables, notComparable, open } = parsed(text);
  run.startedAt = startedAt;
  run.part = part;
  const fingerprints = new Map(present.map(({ id, fingerprint }) => [id, fingerprint]));
  for (const [table, fingerprint] of done)
    if (fingerprints.get(table) === fingerprint) run.done.set(table, fingerprint);
  // For an unfinished table only its open walks count.
  run.tables.push(...tables.filter(({ table }) => run.done.has(table)));
  run.notComparable.push(...notComparable.filter(({ table }) => table !== null && run.done.has(table)));
  run.rowsCompared = run.tables.reduce((sum, { compared }) => sum + compared, 0);
  for (const one of open) run.open.set(openId(one.table, one.sink), one);
}

function parsed(text: string): StoredRun {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- written by this package, into its own state
  return JSON.parse(text) as StoredRun;
}
