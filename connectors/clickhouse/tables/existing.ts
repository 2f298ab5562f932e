/** Finds existing targets in the server's catalogue. */
import { decodeNote, type TargetNote } from "../../../src/core/targets/following.ts";
import type { Client } from "../client.ts";
import {
  COMMIT_TIME_COLUMN,
  DELETED_COLUMN,
  EXACT_COLUMN,
  OP_COLUMN,
  quoteLiteral,
  sqlNameOf,
  type TargetName,
  VERSION_COLUMN,
} from "../names.ts";
import type { TargetForm } from "./form.ts";

export interface ExistingTarget {
  readonly isView: boolean;
  /** Types by name. */
  readonly columns: ReadonlyMap<string, string>;
  /** Names of the sorting key's columns, in the table's order. */
  readonly sorted: readonly string[];
  readonly comment: string;
  readonly note: TargetNote | null;
  /** Null: Millrace did not make it. */
  readonly form: TargetForm | null;
}

/** How many names one statement asks for. */
const NAMES_MAX = 500;

/** By `sqlNameOf`; missing targets are left out. */
export async function lookUpTargets(
  client: Client,
  targets: readonly TargetName[],
  signal: AbortSignal,
): Promise<ReadonlyMap<string, ExistingTarget>> {
  const found = new Map<string, ExistingTarget>();
  for (const names of listsOf(targets)) {
    const tables = await client.rows(
      `SELECT database, name, engine, engine_full, comment FROM system.tables WHERE (database, name) IN (${names})`,
      signal,
    );
    if (tables.length === 0) continue;
    const columns = await client.rows(
      `SELECT database, table, name, type, is_in_sorting_key FROM system.columns WHERE (database, table) IN (${names}) ORDER BY position`,
      signal,
    );
    const byTable = Map.groupBy(columns, nameOf);
    for (const row of tables) found.set(nameOf(row), existing(row, byTable.get(nameOf(row)) ?? []));
  }
  return found;
}

function* listsOf(targets: readonly TargetName[]): Generator<string> {
  for (let from = 0; from < targets.length; from += NAMES_MAX) {
    const names = targets.slice(from, from + NAMES_MAX);
    yield names.map(({ database, table }) => `(${quoteLiteral(database)}, ${quoteLiteral(table)})`).join(", ");
  }
}

type Row = readonly (string | null)[];

function nameOf([database, table]: Row): string {
  return sqlNameOf({ database: database ?? "", table: table ?? "" });
}

function existing([, , engine, engineFull, comment]: Row, columns: readonly Row[]): ExistingTarget {
  const types = new Map(columns.map(([, , name, type]) => [name ?? "", type ?? ""]));
  const isOurs = [VERSION_COLUMN, COMMIT_TIME_COLUMN, EXACT_COLUMN].every((name) => types.has(name));
  return {
    isView: engine === "View",
    columns: types,
    sorted: columns.filter((row) => row[4] === "1").map(([, , name]) => name ?? ""),
    comment: comment ?? "",
    note: decodeNote(comment ?? null),
    form: isOurs && engine !== "View" ? formOf(types, engineFull ?? "") : null,
  };
}

function formOf(columns: ReadonlyMap<string, string>, engine: string): TargetForm {
  if (columns.has(OP_COLUMN)) return { mode: "history", deletes: "hard" };
  return { mode: "mirror", deletes: engine.split(" ORDER BY ")[0]!.includes(DELETED_COLUMN) ? "hard" : "soft" };
}
