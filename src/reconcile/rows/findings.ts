import type { DriftSample, MovingRow, TableReconciliation } from "../../core/contracts/reconciliation.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { KeyText } from "../../core/contracts/row-reads.ts";
import type { Finding } from "./judge.ts";
import type { KeptTable } from "./kept-table.ts";

/** How many ids are remembered: a listing may show one twice. */
const FOREIGN_MAX = 10_000;

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
  /** Keys that changed at every look, so that nothing can be said about them. */
  unsettled = 0;
  /** See `TableReconciliation`. */
  moving = 0;
  #positions: TableReconciliation["positions"] = null;

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

  /** Counts a found row that no change of the present epoch replaces. */
  addKeptOut(): void {
    this.unrepairable++;
    this.beyondLog++;
  }

  comparedAt(position: string): void {
    this.#positions = { from: this.#positions?.from ?? position, to: position };
  }

  addMoving(key: KeyText, equalAt: string): void {
    this.moving++;
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
    this.unrepairable++;
    this.#add({ kind: "extra", key: { _id: id }, columns: [], why: "written-outside" });
  }

  #add(found: DriftSample): void {
    this.#counts[found.kind]++;
    if (this.#sample.length < this.#sampleMax) this.#sample.push(found);
  }

  /** For another process that continues. */
  get kept(): Pick<KeptTable, "counts" | "sample" | "movingSample" | "positions"> {
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
    return { counts, sample: this.#sample, movingSample: this.#moving, positions: this.#positions };
  }

  goOn({ counts, sample, movingSample = [], positions }: Findings["kept"]): void {
    this.#positions = positions;
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
      positions: this.#positions,
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
