import type { Column, TableVersion } from "../../../src/core/model/schema.ts";
import { sqlNameOf, type TargetName } from "../names.ts";
import { type ClickhouseType, clickhouseType } from "../types.ts";
import type { TargetForm } from "../../warehouse/own-columns.ts";

export interface Placement {
  /** The cluster's name on the server; undefined: tables are made on the server itself. */
  readonly cluster: string | undefined;
  /** Whether an insert waits until its files are on the disk. */
  readonly fsync: boolean;
}

export interface LayoutColumn {
  readonly name: string;
  readonly source: Column;
  readonly type: ClickhouseType;
  readonly isKey: boolean;
}

/** A version of a table as the sink writes it. */
export interface TableLayout {
  readonly table: TableVersion;
  readonly target: TargetName;
  /** Quoted. */
  readonly sqlName: string;
  readonly form: TargetForm;
  readonly placement: Placement;
  /** In the order of the table's columns, under the same names. */
  readonly columns: readonly LayoutColumn[];
  /** In the order of the key. */
  readonly key: readonly LayoutColumn[];
  /** Whether the target drops columns that the table no longer has. */
  readonly dropsColumns: boolean;
  /** See TargetNote. */
  readonly owner: string;
}

type LayoutParts = Pick<TableLayout, "target" | "form" | "placement" | "dropsColumns" | "owner">;

export function layoutOf(table: TableVersion, parts: LayoutParts): TableLayout {
  const columns = table.columns.map((source, i): LayoutColumn => {
    const isKey = table.key.includes(i);
    return { name: source.name, source, type: clickhouseType(source, isKey), isKey };
  });
  return {
    ...parts,
    table,
    sqlName: sqlNameOf(parts.target),
    columns,
    key: table.key.map((ordinal) => columns[ordinal]!),
  };
}
