import type { CoveredRange, DriftSample, MovingRow, TableReconciliation } from "../../core/contracts/reconciliation.ts";
import type { ProofMark } from "../../core/contracts/state-store.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { KeyText } from "../../core/contracts/row-reads.ts";
import { withCovered } from "./coverage.ts";
import type { Finding } from "./judge.ts";

/** How many ids are remembered: a listing may show one twice. */
const FOREIGN_MAX = 10_000;

/** See `TableReconciliation`. `unsettled`: keys that changed at every look, so that nothing can be said about them. */
const NOTHING_FOUND = {
  compared: 0,
  sourceBytes: 0,
  sinkBytes: 0,
  missing: 0,
  extra: 0,
  different: 0,
  repaired: 0,
  unrepairable: 0,
  beyondLog: 0,
  deadLetters: 0,
  moving: 0,
  unsettled: 0,
};

export class Findings {
  readonly #table: TableVersion;
  readonly #sink: string;
  readonly #sampleMax: number;
  readonly #sample: DriftSample[] = [];
  readonly #moving: MovingRow[] = [];
  readonly #foreign = new Set<string>();
  readonly counts = { ...NOTHING_FOUND };
  sourceRows = 0;
  sinkRows = 0;
  #positions: TableReconciliation["positions"] = null;
  #coverage: readonly CoveredRange[] = [];

  constructor(table: TableVersion, sink: string, sampleMax: number) {
    this.#table = table;
    this.#sink = sink;
    this.#sampleMax = sampleMax;
  }

  add(key: KeyText, { kind, columns, why, values }: Finding): void {
    if (why === "beyond-log") this.addKeptOut();
    if (why === "beyond-epochs") this.counts.unrepairable++;
    this.#add({ kind, key: this.#named(key), columns, why, ...(values === undefined ? {} : { values }) });
  }

  /** Counts a found row that no change of the present epoch replaces. */
  addKeptOut(): void {
    this.counts.unrepairable++;
    this.counts.beyondLog++;
  }

  comparedAt(position: string): void {
    this.#positions = { from: this.#positions?.from ?? position, to: position };
  }

  /** The walk has reached this key; null: the end. */
  covered(last: KeyText | null, range: Omit<CoveredRange, "upTo">): void {
    this.#coverage = withCovered(this.#coverage, { upTo: last === null ? null : this.#named(last), ...range });
  }

  addMoving(key: KeyText, equalAt: string): void {
    this.counts.moving++;
    if (this.#moving.length < this.#sampleMax) this.#moving.push({ key: this.#named(key), equalAt });
  }

  #named(key: KeyText): Record<string, string> {
    const { key: ordinals, columns } = this.#table;
    return Object.fromEntries(ordinals.map((ordinal, part) => [columns[ordinal]!.name, key[part]!]));
  }

  /** Counts a row whose id no row of the source can have. */
  addForeign(id: string): void {
    if (this.#foreign.has(id)) return;
    if (this.#foreign.size < FOREIGN_MAX) this.#foreign.add(id);
    this.counts.unrepairable++;
    this.#add({ kind: "extra", key: { _id: id }, columns: [], why: "written-outside" });
  }

  #add(found: DriftSample): void {
    this.counts[found.kind]++;
    if (this.#sample.length < this.#sampleMax) this.#sample.push(found);
  }

  /** For another process that continues. */
  get kept(): Pick<KeptTable, "counts" | "sample" | "movingSample" | "positions" | "coverage"> {
    return {
      counts: { ...this.counts },
      sample: this.#sample,
      movingSample: this.#moving,
      positions: this.#positions,
      coverage: this.#coverage,
    };
  }

  goOn({ counts, sample, movingSample, positions, coverage }: Findings["kept"]): void {
    this.#positions = positions;
    this.#coverage = coverage;
    Object.assign(this.counts, counts);
    this.#sample.push(...sample);
    this.#moving.push(...movingSample);
  }

  result(): TableReconciliation {
    const { sourceRows, sinkRows } = this;
    const { unsettled: _unsettled, ...counts } = this.counts;
    return {
      table: this.#table.id,
      sink: this.#sink,
      sourceRows,
      sinkRows,
      positions: this.#positions,
      coverage: this.#coverage,
      ...counts,
      movingSample: this.#moving,
      sample: this.#sample,
    };
  }
}

/** One table in one sink, in the middle of its walk. */
export interface KeptTable {
  readonly table: string;
  readonly sink: string;
  /** If the table has another shape now, the walk restarts. */
  readonly fingerprint: string;
  /** If it does not stand (`ProofStore.stands`), the same. */
  readonly mark: ProofMark;
  /** The last row that the walk reached. */
  readonly lastId: string;
  readonly counts: Readonly<typeof NOTHING_FOUND>;
  readonly sample: readonly DriftSample[];
  /** Rows that need another look; see `Suspect`. */
  readonly suspects: readonly (readonly [key: KeyText, isRepaired: boolean, isMet: boolean])[];
  readonly movingSample: readonly MovingRow[];
  readonly positions: TableReconciliation["positions"];
  /** Up to `lastId`. */
  readonly coverage: readonly CoveredRange[];
  /** Ids of the rows in the counts. */
  readonly known: readonly string[];
}

/** The key of a walk in `Run.open`. */
export function openId(table: string, sink: string): string {
  return JSON.stringify([table, sink]);
}

export function withoutValues({ values: _values, ...sample }: DriftSample): DriftSample {
  return sample;
}
