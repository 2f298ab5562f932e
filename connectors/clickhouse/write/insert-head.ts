/**
 * What an insert says before its rows. The columns' names and types go with the rows, so that the server refuses rows
 * for a table that somebody altered: RowBinary alone would read an integer's bytes as those of a float.
 */
import { quoteIdentifier } from "../names.ts";
import type { TableLayout } from "../tables/layout.ts";
import { ownColumns } from "../tables/statements.ts";
import { ByteWriter } from "../../../src/core/bytes.ts";
import { writeLength } from "./cells.ts";
import {
  COMMIT_TIME_COLUMN,
  DELETED_COLUMN,
  EXACT_COLUMN,
  OFFSET_COLUMN,
  OP_COLUMN,
  SEEN_COLUMN,
  UNCHANGED_COLUMN,
  VERSION_COLUMN,
} from "../../warehouse/own-columns.ts";

interface InsertHead {
  readonly sql: string;
  readonly bytes: Buffer;
}

/** Millrace's own columns, in the order in which rows are rendered. */
const OWN = {
  mirror: [VERSION_COLUMN, COMMIT_TIME_COLUMN, DELETED_COLUMN, EXACT_COLUMN],
  history: [OP_COLUMN, OFFSET_COLUMN, UNCHANGED_COLUMN, SEEN_COLUMN, VERSION_COLUMN, COMMIT_TIME_COLUMN, EXACT_COLUMN],
} as const;

const made = new WeakMap<TableLayout, InsertHead & { readonly column: string }>();

/** `column`: the fence's. The rows have no value for it, and need none. */
export function insertHead(layout: TableLayout, column: string): InsertHead {
  const known = made.get(layout);
  if (known?.column === column) return known;
  const types = new Map(ownColumns(layout.form));
  const own = OWN[layout.form.mode].map((name) => [name, types.get(name) ?? ""] as const);
  const columns = [...layout.columns.map(({ name, type }) => [name, type.name] as const), ...own];
  const names = [...columns.map(([name]) => name), column].map(quoteIdentifier).join(", ");
  const out = new ByteWriter(1024);
  writeLength(out, columns.length);
  for (const part of [0, 1] as const) for (const column of columns) writeString(out, column[part]);
  const head = {
    column,
    sql: `INSERT INTO ${layout.sqlName} (${names}) FORMAT RowBinaryWithNamesAndTypes`,
    bytes: Buffer.from(out.view()),
  };
  made.set(layout, head);
  return head;
}

function writeString(out: ByteWriter, text: string): void {
  const bytes = Buffer.from(text);
  writeLength(out, bytes.length);
  out.copy(bytes, 0, bytes.length);
}
