import { type ErrorPages, MillraceError, raising } from "../core/errors.ts";

export const pages = {
  MR1040: {
    title: "A document that does not fit its tables",
    remedy:
      "Correct the place that the message names. Where no foreign key joins two tables, or more than one does, name the columns: `on: { column: column of the table above }`. A function's path is relative to the configuration's file. Documents take tables by their own names, not by those of routes (`into`); `millrace explain MR1021` says how tables are named.",
    cause:
      "`documents` names a table that is not captured or a column that its table lacks, joins tables that nothing joins or by columns whose equal values may be written in several ways, gives two fields one name, or has a `transform` whose file can't be loaded or lacks that plain function.",
  },
} as const satisfies ErrorPages;

/** One thing that is wrong, and where. */
export interface DocumentProblem {
  readonly document: string;
  readonly place: string;
  readonly message: string;
  /**
   * The document does not stay as it was: a function that can't be used, or a rule that masks what joins, would be ignored, and
   * a collation joins other rows.
   */
  readonly isBinding?: true;
}

export function documentsError(problems: readonly [DocumentProblem, ...DocumentProblem[]]): MillraceError {
  return raising(pages)("MR1040", problems.map((one) => `${one.place}: ${one.message}`).join("\n"));
}

/** Not an error: the documents are other ones now. */
export function columnsChanged(): MillraceError {
  const message = "tables of documents have other columns now";
  return new MillraceError({ code: "MR1040", kind: "reopen", message, reason: "moved" });
}
