/** A walk through a table that has not ended, as it is kept. */
import type { DriftSample, MovingRow } from "../../core/contracts/reconciliation.ts";
import type { KeyText } from "../../core/contracts/row-reads.ts";

/** A table in a sink, in the middle of its walk. */
export interface KeptTable {
  readonly table: string;
  readonly sink: string;
  /** Of another shape of the table it is begun again. */
  readonly fingerprint: string;
  /** The row up to which the walk came. */
  readonly lastId: string;
  readonly counts: FoundCounts;
  readonly sample: readonly DriftSample[];
  /** Rows that have to be looked at again; see `Suspect`. */
  readonly suspects: readonly (readonly [key: KeyText, isRepaired: boolean, isMet?: boolean])[];
  readonly movingSample?: readonly MovingRow[];
  /** Ids of what is in the counts. */
  readonly known: readonly string[];
}

export interface FoundCounts {
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

/** What `Run.open` knows a walk by. */
export function openId(table: string, sink: string): string {
  return JSON.stringify([table, sink]);
}

export function withoutValues({ values: _values, ...sample }: DriftSample): DriftSample {
  return sample;
}
