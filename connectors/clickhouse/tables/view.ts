/** The view of a table's live rows. */
import { createHash } from "node:crypto";
import { quoteIdentifier, quoteLiteral } from "../names.ts";
import type { TableLayout } from "./layout.ts";
import { onCluster } from "./statements.ts";
import {
  COMMIT_TIME_COLUMN,
  DELETED_COLUMN,
  EXACT_COLUMN,
  OFFSET_COLUMN,
  OP_COLUMN,
  VERSION_COLUMN,
} from "../../warehouse/own-columns.ts";

const MARK = "millrace view ";

export function isOurView({ isView, comment }: { readonly isView: boolean; readonly comment: string }): boolean {
  return isView && comment.startsWith(MARK);
}

export interface View {
  /** Tells this definition from others. */
  readonly comment: string;
  readonly createSql: (sqlName: string) => string;
}

/** `target`: the target's columns with their types, where they are not the table's. */
export function viewFor(layout: TableLayout, target: ReadonlyMap<string, string> | null = null): View {
  const own = [VERSION_COLUMN, COMMIT_TIME_COLUMN, EXACT_COLUMN];
  const columns = target ?? new Map(layout.columns.map(({ name, type }) => [name, type.name]));
  const names = [...columns.keys(), ...own].map(quoteIdentifier).join(", ");
  const select = `SELECT ${names} FROM ${liveRows(layout)}`;
  // A view keeps the types that its columns had when it was made, and casts what it reads to them.
  const types = [...columns.values()].join();
  const comment = `${MARK}${createHash("sha256").update(`${select} ${types}`).digest("hex").slice(0, 16)}`;
  const on = onCluster(layout.placement);
  return {
    comment,
    createSql: (sqlName) => `CREATE VIEW ${sqlName}${on} AS ${select} COMMENT ${quoteLiteral(comment)}`,
  };
}

/** What a SELECT reads to see the rows that exist. `where`: a condition on all rows, such as a choice of keys. */
export function liveRows({ sqlName, form, key }: Pick<TableLayout, "sqlName" | "form" | "key">, where = ""): string {
  const and = where === "" ? "" : ` AND ${where}`;
  if (form.mode === "mirror") return `${sqlName} FINAL WHERE ${quoteIdentifier(DELETED_COLUMN)} = 0${and}`;
  const [op, version, offset] = [OP_COLUMN, VERSION_COLUMN, OFFSET_COLUMN].map(quoteIdentifier);
  const keys = key.map(({ name }) => quoteIdentifier(name)).join(", ");
  const truncated = `(SELECT max((${version}, ${offset})) FROM ${sqlName} WHERE ${op} = 't')`;
  return (
    `(SELECT * FROM ${sqlName} FINAL WHERE ${op} != 't'${and} ORDER BY ${version} DESC, ${offset} DESC LIMIT 1 BY ${keys}) ` +
    `WHERE ${op} != 'd' AND (${version}, ${offset}) > ${truncated}`
  );
}
