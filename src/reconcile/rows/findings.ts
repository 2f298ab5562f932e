import type { DriftSample, MovingRow, TableReconciliation } from "../../core/contracts/reconciliation.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { KeyText } from "../../core/contracts/row-reads.ts";
import type { Finding } from "./judge.ts";
import type { KeptTable } from "./kept-table.ts";

/** Ids that are remembered, for a listing may show one twice. */
const FOREIGN_MAX = 10_000;

/** What is found of one table in one sink. */
export class Findings {
  readonly #table: TableVersion;
  readonly #sink: string;
  readonly #sampleMax: number;
  readonly #sample: DriftSample[] = [];
  readonly #moving: MovingRow[] = [];
  #counts = { missing: 0, extra: 0, different: 0 };
  readonly #foreign = new Set<string>();
  sourceRows = 0;
  sinkRows = 0;
  compared = 0;
  sourceBytes = 0;
  sinkBytes = 0;
  repaired = 0;
  unrepairable = 0;
  /** See `TableReconciliation`. */
  beyondLog = 0;
  deadLetters = 0;
  /** Keys that changed whenever they were looked at, and of which nothing can be told. */
  unsettled = 0;
  /** See `TableReconciliation`. */
  moving = 0;

  constructor(table: TableVersion, sink: string, sampleMax: number) {
    this.#table = table;
    this.#sink = sink;
    this.#sampleMax = sampleMax;
  }

  add(key: KeyText, { kind, columns, why, values }: Finding): void {
    if (why === "beyond-log") this.addKeptOut();
    if (why === "beyond-epochs") this.unrepairable++;
    this.#add({ kind, key: this.#named(key), columns, why, ...(values === undefined ? {} : { values }) });
  }

  /** A row that was found, and that nothing of the present epoch changes. */
  addKeptOut(): void {
    this.unrepairable++;
    this.beyondLog++;
  }

  addMoving(key: KeyText, equalAt: string): void {
    this.moving++;
    if (this.#moving.length < this.#sampleMax) this.#moving.push({ key: this.#named(key), equalAt });
  }

  #named(key: KeyText): Record<string, string> {
    const { key: ordinals, columns } = this.#table;
    return Object.fromEntries(ordinals.map((ordinal, part) => [columns[ordinal]!.name, key[part]!]));
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
  get kept(): Pick<KeptTable, "counts" | "sample" | "movingSample"> {
    const { compared, sourceBytes, sinkBytes, repaired, unrepairable, beyondLog, deadLetters, unsettled, moving } =
      this;
    const counts = {
      ...this.#counts,
      compared,
      sourceBytes,
      sinkBytes,
      repaired,
      unrepairable,
      beyondLog,
      deadLetters,
      unsettled,
      moving,
    };
    return { counts, sample: this.#sample, movingSample: this.#moving };
  }

  goOn({ counts, sample, movingSample = [] }: Pick<KeptTable, "counts" | "sample" | "movingSample">): void {
    const { missing, extra, different, ...others } = counts;
    this.#counts = { missing, extra, different };
    Object.assign(this, others);
    this.#sample.push(...sample);
    this.#moving.push(...movingSample);
  }

  result(): TableReconciliation {
    const { sourceRows, sinkRows, compared, sourceBytes, sinkBytes, repaired, deadLetters, moving } = this;
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
      unrepairable: this.unrepairable,
      beyondLog: this.beyondLog,
      deadLetters,
      moving,
      movingSample: this.#moving,
      sample: this.#sample,
    };
  }
}
