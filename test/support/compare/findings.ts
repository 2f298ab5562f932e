/** What a comparison of one table has found. */
import { displayName, type SourceTable } from "./source-table.ts";

export interface TableDifference {
  /** `schema.table` */
  readonly table: string;
  readonly sourceRows: number;
  readonly sinkRows: number;
  /** Rows of the source that the sink does not have. */
  readonly missing: number;
  /** Rows of the sink that the source does not have, or that are there twice. */
  readonly extra: number;
  readonly different: number;
  /** Names of the columns that differ in some row, and what else is wrong with a row: see SinkRow.flaws. */
  readonly columns: readonly string[];
  /** Some of the rows, such as `missing 7` or `different 8: price, title`. */
  readonly samples: readonly string[];
}

const SAMPLES_MAX = 6;

export class Findings {
  readonly #table: SourceTable;
  readonly #extra = new Set<string>();
  readonly #columns = new Set<string>();
  readonly #samples: string[] = [];
  #metCount = 0;
  #differentCount = 0;
  #twiceCount = 0;

  constructor(table: SourceTable) {
    this.#table = table;
  }

  /** A row that both sides have. */
  met(id: string, columns: readonly number[], flaws: readonly string[]): void {
    this.#metCount++;
    if (columns.length === 0 && flaws.length === 0) return;
    this.#differentCount++;
    const names = [...columns.map((ordinal) => this.#table.columns[ordinal]!.name), ...flaws];
    for (const name of names) this.#columns.add(name);
    this.#sample(`different ${id}: ${names.join(", ")}`);
  }

  extra(id: string): void {
    if (this.#extra.has(id)) return;
    this.#extra.add(id);
    this.#sample(`extra ${id}`);
  }

  twice(id: string): void {
    this.#twiceCount++;
    this.#sample(`twice ${id}`);
  }

  /** `missing`: the first of their ids. */
  result(sourceRows: number, missingCount: number, missing: Iterable<string>): TableDifference {
    for (const id of missing) {
      if (this.#samples.length >= SAMPLES_MAX) break;
      this.#sample(`missing ${id}`);
    }
    const extra = this.#extra.size + this.#twiceCount;
    return {
      table: displayName(this.#table),
      sourceRows,
      sinkRows: this.#metCount + extra,
      missing: missingCount,
      extra,
      different: this.#differentCount,
      columns: [...this.#columns],
      samples: this.#samples,
    };
  }

  #sample(text: string): void {
    if (this.#samples.length < SAMPLES_MAX) this.#samples.push(text);
  }
}
