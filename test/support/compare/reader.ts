import { createHash } from "node:crypto";
import type { Cells, SourceColumn, SourceTable } from "./source-table.ts";

/** A row as it is in a sink. */
export interface SinkRow {
  /** Spelt as `SinkReader.idOf` spells it. */
  readonly id: string;
  /** In the order of the source's columns, each spelt as `SinkReader.expected` spells it. */
  readonly cells: Cells;
  /** What should not be there, or is not and should be: a field of no column, a row without its version. */
  readonly flaws: readonly string[];
}

/** One sink through its own client, and what the documentation says of how values land there. */
export interface SinkReader extends AsyncDisposable {
  /** True where reading may show one row more than once (a scan of a cache). */
  readonly mayRepeat: boolean;
  /** How the sink shows a value that the source prints as `text`; null: as it shows NULL. */
  expected(column: SourceColumn, text: string): string | null;
  /** `key`: the source's texts; `landed`: the same as the sink shows them. */
  idOf(key: Cells, landed: Cells): string;
  /** Every row, in any order, nothing where the sink does not have the table. */
  rows(table: SourceTable): AsyncIterable<readonly SinkRow[]>;
}

const ID_BYTES_MAX = 512;

/** Ids of documents and keys of the cache, by the sinks' READMEs: key values joined by colons, encoded so that no two keys share an id; a digest where that is too long. */
export function rowId(key: Cells): string {
  const id = key.map(encodedValue).join(":");
  if (Buffer.byteLength(id) <= ID_BYTES_MAX) return id;
  return `sha256:${createHash("sha256").update(id).digest("hex")}`;
}

function encodedValue(value: string | null): string {
  if (value === null) throw new Error("a key value is null");
  return value === "" ? "%" : encodedPart(value);
}

export function encodedPart(text: string): string {
  return text.replaceAll("%", "%25").replaceAll(":", "%3A");
}

export const VERSION = "_millrace_version";

export function versionFlaws(version: unknown): readonly string[] {
  return typeof version === "string" && /^\d+$/.test(version) ? [] : [VERSION];
}
