/** Parts of statements that define tables. */
import type { WantedColumn } from "../../warehouse/following.ts";
import { inScope, quoteIdentifier, quoteLiteral } from "../names.ts";
import type { Placement, TableLayout } from "./layout.ts";
import { noteText } from "../../warehouse/table-change.ts";
import {
  COMMIT_TIME_COLUMN,
  DELETED_COLUMN,
  EXACT_COLUMN,
  OFFSET_COLUMN,
  OP_COLUMN,
  SEEN_COLUMN,
  type TargetForm,
  UNCHANGED_COLUMN,
  VERSION_COLUMN,
} from "../../warehouse/own-columns.ts";

export function onCluster({ cluster }: Placement): string {
  return cluster === undefined ? "" : ` ON CLUSTER ${quoteIdentifier(cluster)}`;
}

/** Of rows with one sorting key the engine keeps the one that is highest in the first of these columns. */
export function engineOf({ cluster }: Placement, columns: readonly string[]): string {
  return `${cluster === undefined ? "" : "Replicated"}ReplacingMergeTree(${columns.join(", ")})`;
}

export function tableSettings({ fsync }: Placement, more: Readonly<Record<string, number>> = {}): string {
  const settings = { ...(fsync ? { fsync_after_insert: 1, fsync_part_directory: 1 } : {}), ...more };
  const list = Object.entries(settings).map(([name, value]) => `${name} = ${value}`);
  return list.length === 0 ? "" : ` SETTINGS ${list.join(", ")}`;
}

/** With hard deletes the engine hides rows that are marked as deleted; with soft deletes readers see the mark. */
export function replacingColumns({ mode, deletes }: TargetForm): readonly string[] {
  if (mode === "history") return [SEEN_COLUMN];
  return deletes === "hard" ? [VERSION_COLUMN, DELETED_COLUMN] : [VERSION_COLUMN];
}

/** Of a fence's column: it stores nothing, but a statement can name it. */
export const RUN_TYPE = "UInt8 EPHEMERAL";
const TIME = "DateTime64(6, 'UTC')";

/** Millrace's own columns, and their types. */
export function ownColumns({ mode }: TargetForm): readonly (readonly [name: string, definition: string])[] {
  const common = [
    [VERSION_COLUMN, "UInt64"],
    [COMMIT_TIME_COLUMN, TIME],
    [EXACT_COLUMN, "String"],
  ] as const;
  if (mode === "mirror") return [...common, [DELETED_COLUMN, "UInt8"]];
  return [
    ...common,
    [OP_COLUMN, "LowCardinality(String)"],
    [OFFSET_COLUMN, "UInt64"],
    [UNCHANGED_COLUMN, "Array(String)"],
    [SEEN_COLUMN, "UInt64"],
    [DELETED_COLUMN, `UInt8 ALIAS ${OP_COLUMN} = 'd'`],
  ];
}

interface Creation {
  /** The fence's. */
  readonly column: string;
  readonly sqlName?: string;
  /** Definitions of columns that the table no longer has and the target keeps. */
  readonly kept?: readonly string[];
}

export function createSql(layout: TableLayout, { column, sqlName = layout.sqlName, kept = [] }: Creation): string {
  const { form, placement } = layout;
  const definitions = [...ownColumns(form), [column, RUN_TYPE] as const];
  const own = definitions.map(([name, definition]) => `${quoteIdentifier(name)} ${definition}`);
  const columns = layout.columns.map(({ name, type }) => `${quoteIdentifier(name)} ${type.name}`);
  const key = layout.key.map(({ name }) => quoteIdentifier(name));
  if (form.mode === "history") key.push(quoteIdentifier(VERSION_COLUMN), quoteIdentifier(OFFSET_COLUMN));
  return (
    `CREATE TABLE ${sqlName}${onCluster(placement)} (${[...columns, ...kept, ...own].join(", ")}) ` +
    `ENGINE = ${engineOf(placement, replacingColumns(form))} ORDER BY (${key.join(", ")})` +
    `${tableSettings(placement)} COMMENT ${quoteLiteral(noteText({ wanted: wantedColumns }, layout))}`
  );
}

/** `base`: the type without what allows nulls. */
export function wantedColumns(layout: TableLayout): readonly (WantedColumn & { readonly base: string })[] {
  return layout.columns.map(({ name, source, type }) => ({
    name,
    identity: source.identity,
    type: type.name,
    base: type.base,
  }));
}

/** Removes rows that no batch can have written; a row that somebody wrote without a version has 0. `condition`: see WriteFence. */
export function expelSql({ table, sqlName, placement }: TableLayout, version: bigint, condition: string): string {
  return `ALTER TABLE ${sqlName}${onCluster(placement)} DELETE WHERE (${VERSION_COLUMN} > ${version} OR ${VERSION_COLUMN} = 0) AND ${condition}${inScope(table)}`;
}
