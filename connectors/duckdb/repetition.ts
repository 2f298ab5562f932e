/** Tells work that fails in the same way each time from work that may pass when it is repeated. */
import { findMillraceError, type MillraceError } from "../../src/core/errors.ts";
import { type Batch, tablesOf } from "../../src/core/model/batch.ts";
import { driverKind, duckdbError } from "./errors.ts";

/**
 * How often in a row the same work may fail in the same way, while nobody else writes to the target. Of what is no
 * conflict, the first failures may be an instance that DuckDB has given up, or weather.
 */
const FAILURES_MAX: Partial<Record<string, number>> = { MR3216: 5, MR2027: 5, MR3220: 2, MR3235: 2 };
/** The same, while others write: each failure may be another conflict. */
const CONFLICTS_MAX = 30;

/** What DuckDB says without a value of ours, where its kind of error says too little. */
const PHRASES = [
  /another transaction has altered this table/,
  /another transaction has dropped this table/,
  /write-write conflict/,
  /PRIMARY KEY or UNIQUE constraint violation/,
  /Failed to append to \w+/,
  /attempting to \w+(?: \w+){0,3} (?:but|that) another transaction has \w+/,
];

export class Repetition {
  #work = "";
  #mark = "";
  #inARow = 0;
  #sinceMark = 0;

  /** `work` ended well: what failed before it does not count any more. */
  passed(work: string): void {
    if (this.#work === work) this.#work = "";
  }

  /** `mark`: another value says that somebody else has written to the target. What may pass is returned as it is. */
  judged(known: MillraceError, error: unknown, work: string, mark: string): MillraceError {
    const max = FAILURES_MAX[known.code];
    if (max === undefined || known.kind !== "retryable" || isHeld(known, error)) return known;
    const isSame = this.#work === work;
    const isUnmoved = isSame && this.#mark === mark;
    this.#inARow = isSame ? this.#inARow + 1 : 1;
    this.#sinceMark = isUnmoved ? this.#sinceMark + 1 : 1;
    this.#work = work;
    this.#mark = mark;
    if (this.#sinceMark < max && this.#inARow < CONFLICTS_MAX) return known;
    this.#work = "";
    const code = known.code === "MR3235" ? "MR3235" : "MR3234";
    const message = `${known.message}: it fails in the same way each time${said(error)}`;
    return duckdbError(code, "fatal", message, { cause: known });
  }
}

/** By another program, or a reader in this process: for as long as they like. */
function isHeld({ reason }: MillraceError, error: unknown): boolean {
  return reason === "in-use" || (error instanceof Error && error.message.includes("database is locked"));
}

function said(error: unknown): string {
  if (findMillraceError(error) !== undefined) return "";
  const text = error instanceof Error ? error.message : "";
  const phrase = PHRASES.map((known) => known.exec(text)?.[0]).find((found) => found !== undefined);
  return phrase === undefined ? ` (${driverKind(error)})` : ` (${driverKind(error)}: ${phrase})`;
}

/** Equal for attempts at one batch. */
export function batchName(batch: Batch): string {
  const { epoch, commit, index } = batch.checkpoint.position;
  return JSON.stringify([batch.kind, epoch, String(commit), index, tablesOf(batch).map(({ id }) => id)]);
}
