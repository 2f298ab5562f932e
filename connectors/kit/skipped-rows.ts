import type { TableWrites } from "../../src/core/model/batch.ts";
import type { Outcome, RefusedEntry } from "../../src/core/contracts/sink.ts";
import type { MillraceError } from "../../src/core/errors.ts";

/** The runtime could not store a report: not an error of the target. */
export class ReportFailure extends Error {}

/** Rows of a batch that the target did not take. They are reported before its checkpoint is durable. */
export class SkippedRows {
  #incomplete = new Map<TableWrites, number[]>();
  #refused: RefusedEntry[] = [];

  get isEmpty(): boolean {
    return this.#incomplete.size === 0 && this.#refused.length === 0;
  }

  /** The target lacks what the entry leaves unchanged. */
  incomplete(writes: TableWrites, entry: number): void {
    const entries = this.#incomplete.get(writes);
    if (entries === undefined) this.#incomplete.set(writes, [entry]);
    else entries.push(entry);
  }

  refused(writes: TableWrites, entry: number, error: MillraceError): void {
    this.#refused.push({ writes, entry, error });
  }

  /** Those since the last report. */
  async report(outcome: Outcome): Promise<void> {
    const [incomplete, refused] = [this.#incomplete, this.#refused];
    this.#incomplete = new Map();
    this.#refused = [];
    try {
      await outcome.poison(refused);
      for (const [writes, entries] of incomplete) await outcome.incomplete(writes, entries);
    } catch (error) {
      throw new ReportFailure("the rows that the sink skipped could not be reported", { cause: error });
    }
  }
}
