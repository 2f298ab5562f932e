/** An unfinished walk through a table, as it is stored. */
import type { DriftSample, MovingRow, TableReconciliation } from "../../core/contracts/reconciliation.ts";
import type { KeyText } from "../../core/contracts/row-reads.ts";

/** One table in one sink, in the middle of its walk. */
export interface KeptTable {
  readonly table: string;
  readonly sink: string;
  /** If the table has another shape now, the walk restarts. */
  readonly fingerprint: string;
  /** The last row that the walk reached. */
  readonly lastId: string;
  readonly counts: FoundCounts;
  readonly sample: readonly DriftSample[];
  /** Rows that need another look; see `Suspect`. */
  readonly suspects: readonly (readonly [key: KeyText, isRepaired: boolean, isMet?: boolean])[];
  readonly movingSample?: readonly MovingRow[];
  readonly positions: TableReconciliation["positions"];
  /** Ids of the rows in the counts. */
  readonly known: readonly string[];
}

interface FoundCounts {
  readonly missing: number;
  readonly extra: number;
  readonly different: number;
  readonly compared: number;
  readonly sourceBytes: number;
  readonly sinkBytes: number;
  readonly repaired: number;
  readonly unrepairable: number;
  readonly beyondLog?: number;
  readonly deadLetters: number;
  readonly unsettled: number;
  readonly moving?: number;
}

/** The key of a walk in `Run.open`. */
export function openId(table: string, sink: string): string {
  return JSON.stringify([table, sink]);
}

export function withoutValues({ values: _values, ...sample }: DriftSample): DriftSample {
  return sample;
}
