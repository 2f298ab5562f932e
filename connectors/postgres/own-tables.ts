/** Millrace's own tables in a Postgres database, which are never tables of a user. */
import type { TableName } from "../../src/core/contracts/connector.ts";

/** Where a sink keeps its checkpoint. */
export const METADATA_SCHEMA = "_millrace";
/** Of the state: `migrations/state/postgres`, and where its migrations are counted. */
const STATE_SCHEMA = "millrace";
const STATE_TABLES: ReadonlySet<string> = new Set(["migration", "state", "state_row"]);

/** To capture them would make each checkpoint a change, which is followed by a checkpoint. */
export function isOwnTable({ schema, table }: TableName): boolean {
  return schema === METADATA_SCHEMA || (schema === STATE_SCHEMA && STATE_TABLES.has(table));
}
