/**
 * Writes few rows of a table by statements with their values: to stage them takes four times as long. For batches with
 * one row in each of hundreds of tables that is most of the time.
 */
import { DELETE, type TableWrites } from "../../../src/core/model/batch.ts";
import { tupleEnd } from "../../../src/core/model/tuple.ts";
import { quoteIdentifier, quoteLiteral } from "../names.ts";
import { alsoSets, insert, mergedExact, type TableLayout, type LayoutColumn, upTo } from "./layout.ts";
import type { Staging } from "./stage.ts";
import { LIST } from "../types.ts";
import { COMMIT_TIME_COLUMN, DELETED_COLUMN, EXACT_COLUMN, VERSION_COLUMN } from "../../warehouse/own-columns.ts";

/** With one statement for each row. */
const CHANGED_MAX = 2;
/** With one statement for all of them. */
const WRITTEN_MAX = 8;
const BYTES_MAX = 16 * 1024;

/** A row's fields as they would be staged: cells, or the key's cells, and the columns after them. Null is null. */
export type Fields = readonly (string | null)[];

/** Whether the entries may be written this way. DuckDB never changes a row with a list in place. */
export function isSmall({ pass, layout, writes, entries }: Staging): boolean {
  if (pass === "patch" || pass === "append" || pass === "touch") return false;
  const isTogether = pass === "insert" || (pass === "put" && layout.key.length === 1);
  if (entries.length > (isTogether ? WRITTEN_MAX : CHANGED_MAX)) return false;
  if (pass === "update" && layout.columns.some(({ duck }) => duck.form === LIST)) return false;
  return entries.every((entry) => sizeOf(writes, entry) <= BYTES_MAX / entries.length);
}

export function sizeOf({ blocks, block, row, action }: TableWrites, entry: number): number {
  const { bytes, before, after } = blocks[block[entry]!]!;
  const offset = (action[entry] === DELETE ? before : after)[row[entry]!]!;
  return tupleEnd(bytes, offset) - offset;
}

/** Parses a staged line into its fields: the reverse of what a stage writes. */
export function fieldsOf(line: string): Fields {
  const fields: (string | null)[] = [];
  for (let at = 0; at <= line.length;) {
    if (line[at] === '"') {
      let end = line.indexOf('"', at + 1);
      while (line[end + 1] === '"') end = line.indexOf('"', end + 2);
      fields.push(line.slice(at + 1, end).replaceAll('""', '"'));
      at = end + 2;
    } else {
      const comma = line.indexOf(",", at);
      const end = comma < 0 ? line.length : comma;
      fields.push(end === at ? null : line.slice(at, end));
      at = end + 1;
    }
  }
  return fields;
}

export function insertRowsSql(layout: TableLayout, rows: readonly Fields[], withExact: boolean): string {
  const values = rows.map((fields) => {
    const cells = layout.columns.map((column, i) => valueOf(column, fields[i]!));
    return `(${[...cells, ...tailOf(layout, fields, withExact)].join(", ")})`;
  });
  return `${insert(layout, withExact)} VALUES ${values.join(", ")}`;
}

/** Removes the rows that these replace; one that is newer may stay, and the insert fails then. */
export function removeRowsSql(layout: TableLayout, rows: readonly Fields[]): string {
  const keys = rows.map((fields) => layout.table.key.map((ordinal) => fields[ordinal]!));
  const versions = rows.map((fields) => fields[layout.columns.length]!);
  const [column, ...others] = layout.key;
  const conditions =
    others.length > 0
      ? keys.map((key, i) => isRow(layout, key, versions[i]!))
      : [
          `${nameOf(column!)} IN (${keys.map(([key]) => valueOf(column!, key!)).join(", ")}) AND ${upTo(lowest(versions))}`,
        ];
  return conditions.map((where) => `DELETE FROM ${layout.sqlName} AS millrace_row WHERE ${where}`).join("; ");
}

function lowest(versions: readonly string[]): bigint {
  return versions.map(BigInt).reduce((low, version) => (version < low ? version : low));
}

const nameOf = ({ name }: LayoutColumn): string => `millrace_row.${quoteIdentifier(name)}`;

/** Changes an existing row that is not newer. `unchanged` has a `u` for each column to leave alone. */
export function changeRowSql(layout: TableLayout, fields: Fields, withExact: boolean, unchanged = ""): string {
  const [version, time, exact] = tailOf(layout, fields, true);
  const sets = layout.columns.flatMap((column, i) =>
    column.isKey || unchanged[i] === "u" ? [] : [`${quoteIdentifier(column.name)} = ${valueOf(column, fields[i]!)}`],
  );
  sets.push(`${VERSION} = ${version}`, `${quoteIdentifier(COMMIT_TIME_COLUMN)} = ${time}`, ...alsoSets(layout));
  if (withExact) {
    const name = quoteIdentifier(EXACT_COLUMN);
    sets.push(`${name} = ${unchanged === "" ? exact : mergedExact(`millrace_row.${name}`, exact!)}`);
  }
  const key = layout.table.key.map((ordinal) => fields[ordinal]!);
  return `UPDATE ${layout.sqlName} AS millrace_row SET ${sets.join(", ")} WHERE ${isRow(layout, key, version!)}`;
}

/** Deletes, or marks, an existing row that is not newer. */
export function deleteRowSql(layout: TableLayout, fields: Fields): string {
  const [version, time] = fields.slice(layout.key.length);
  const where = `WHERE ${isRow(layout, fields, version!)}`;
  if (layout.form.deletes === "hard") return `DELETE FROM ${layout.sqlName} AS millrace_row ${where}`;
  const sets = [
    `${quoteIdentifier(DELETED_COLUMN)} = true`,
    `${VERSION} = ${version}`,
    `${quoteIdentifier(COMMIT_TIME_COLUMN)} = make_timestamptz(${time})`,
  ];
  return `UPDATE ${layout.sqlName} AS millrace_row SET ${sets.join(", ")} ${where}`;
}

const VERSION = quoteIdentifier(VERSION_COLUMN);

/** Invariant: a newer row is never replaced by an older one. */
function isRow(layout: TableLayout, key: Fields, version: string): string {
  const matches = layout.key.map((column, i) => `${nameOf(column)} = ${valueOf(column, key[i]!)}`);
  return [...matches, upTo(version)].join(" AND ");
}

function valueOf({ duck }: LayoutColumn, field: string | null): string {
  if (field === null) return "NULL";
  const text = quoteLiteral(field);
  return duck.expression(duck.field === "VARCHAR" ? text : `CAST(${text} AS ${duck.field})`);
}

function tailOf(layout: TableLayout, fields: Fields, withExact: boolean): string[] {
  const [version, time, exact = null] = fields.slice(layout.columns.length);
  const tail = [version!, `make_timestamptz(${time})`];
  if (withExact) tail.push(exact === null ? "CAST(NULL AS VARCHAR)" : quoteLiteral(exact));
  return tail;
}
