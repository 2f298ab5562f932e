import { existsSync } from "node:fs";
import type { Finding } from "../../src/core/contracts/connector.ts";
import { findMillraceError } from "../../src/core/errors.ts";
import { capturedTables } from "./catalog.ts";
import { Database, type SqliteSettings } from "./database.ts";

/** For `millrace check`: looks, changes nothing, and names the fix of what would fail. */
export async function check({ path, selection }: SqliteSettings, signal: AbortSignal): Promise<readonly Finding[]> {
  signal.throwIfAborted();
  const id = "sqlite.file";
  if (!existsSync(path)) return [{ id, level: "error", what: `${path} is missing`, fix: "correct `source.path`" }];
  try {
    using database = new Database(path, true);
    if (!database.hasLog) return [{ id, level: "ok", what: `${path} can be read`, fix: null }];
    const { tables, refused } = database.read("reading the tables", () => capturedTables(database, selection));
    return [
      { id, level: "ok", what: `${path} can be read: ${tables.length} tables are captured`, fix: null },
      ...refused.map((one): Finding => ({
        id: "sqlite.table",
        level: "warning",
        what: `${one.id}: ${one.reason}`,
        fix: one.fix,
      })),
    ];
  } catch (error) {
    const known = findMillraceError(error);
    if (known === undefined) throw error;
    return [{ id, level: "error", what: `${known.code}: ${known.message}`, fix: known.hint ?? null }];
  }
}
