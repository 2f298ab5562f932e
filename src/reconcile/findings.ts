import type { DriftSample, TableReconciliation } from "../core/reconciliation.ts";
import type { TableVersion } from "../core/schema.ts";
import type { KeyText } from "../core/source.ts";
import type { Finding } from "./judge.ts";
import type { FoundCounts } from "./kept.ts";

/** Ids that are remembered, for a listing may show one twice. */
const FOREIGN_MAX = 10_000;

/** What is found of one table in one sink. */
export class Findings {
  readonly #table: TableVersion;
  readonly #sink: string;
  readonly #sampleMax: number;
  readonly #sample: DriftSample[] = [];
  #counts = { missing: 0, extra: 0, different: 0 };
  readonly #foreign = new Set<string>();
  sourceRows = 0;
  sinkRows = 0;
  compared = 0;
  sourceBytes = 0;
  sinkBytes = 0;
  repaired = 0;
  unrepairable = 0;
  deadLetters = 0;
  /** Keys that changed whenever they were looked at. */
  unsettled = 0;

  constructor(table: TableVersion, sink: string, sampleMax: number) {
    this.#table = table;
    this.#sink = sink;
    this.#sampleMax = sampleMax;
  }

  add(key: KeyText, { kind, columns, why, values }: Finding): void {
    const { key: ordinals, columns: all } = this.#table;
    const named = Object.fromEntries(ordinals.map((ordinal, part) => [all[ordinal]!.name, key[part]!]));
    if (why === "beyond-log") this.unrepairable++;
    this.#add({ kind, key: named, columns, why, ...(values === undefined ? {} : { values }) });
  }

  /** A row under an id that no row of the source can have. */
  addForeign(id: string): void {
    if (this.#foreign.has(id)) return;
    if (this.#foreign.size < FOREIGN_MAX) this.#foreign.add(id);
    this.unrepairable++;
    this.#add({ kind: "extra", key: { _id: id }, columns: [], why: "written-outside" });
  }

  #add(found: DriftSample): void {
    this.#counts[found.kind]++;
    if (this.#sample.length < this.#sampleMax) this.#sample.push(found);
  }

  /** For another process, which goes on with them. */
  get kept(): { readonly counts: FoundCounts; readonly sample: readonly DriftSample[] } {
    const { compared, sourceBytes, sinkBytes, repaired, unrepairable, deadLetters, unsettled } = this;
    const counts = {
      ...this.#counts,
      compared,
      sourceBytes,
      sinkBytes,
      repaired,
      unrepairable,
      deadLetters,
      unsettled,
    };
    return { counts, sample: this.#sample };
  }

  goOn({ missing, extra, different, ...others }: FoundCounts, sample: readonly DriftSample[]): void {
    this.#counts = { missing, extra, different };
    Object.assign(this, others);
    this.#sample.push(...sample);
  }

  result(): TableReconciliation {
    const { sourceRows, sinkRows, compared, sourceBytes, sinkBytes, repaired, unrepairable, deadLetters } = this;
    return {
      table: this.#table.id,
      sink: this.#sink,
      sourceRows,
      sinkRows,
      compared,
      sourceBytes,
      sinkBytes,
      ...this.#counts,
      repaired,
      unrepairable,
      deadLetters,
      sample: this.#sample,
    };
  }
}
