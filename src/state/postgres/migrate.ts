import { readFileSync } from "node:fs";
import { join } from "node:path";
import { stateError } from "../errors.ts";
import { migrationsIn, newestMigration } from "../sqlite/migrate.ts";
import type { Link, Query } from "./link.ts";

const FOLDER = join("migrations", "state", "postgres");
/** Two processes that migrate at once wait for each other. */
const LOCK = 7_308_320_948;

/** Creates or upgrades the schema `millrace`, and the row of this name. */
export async function migrate(link: Link, name: string): Promise<void> {
  await link.transaction(async (query) => {
    if ((await appliedNumber(query)) < newest()) await apply(query);
    await refuseNewer(query);
    await query("INSERT INTO millrace.state (name, form) VALUES ($1, $2) ON CONFLICT DO NOTHING", [
      name,
      newestMigration(),
    ]);
  });
}

/** For a reader, which changes nothing. */
export async function verifyThere(link: Link, name: string): Promise<void> {
  await link.once(async (query) => {
    const applied = await appliedNumber(query);
    if (applied > 0) await refuseNewer(query);
    const found = applied === 0 ? [] : await query("SELECT 1 FROM millrace.state WHERE name = $1", [name]);
    if (found.length === 0)
      throw stateError("MR1203", `the state's Postgres database holds nothing of ${name}`, { reason: "absent" });
  });
}

async function apply(query: Query): Promise<void> {
  await query("SELECT pg_advisory_xact_lock($1)", [LOCK]);
  // IF NOT EXISTS needs CREATE on the database also where the schema exists.
  const [schema] = await query<{ is: boolean }>("SELECT to_regnamespace('millrace') IS NOT NULL AS is");
  if (schema?.is !== true) await query("CREATE SCHEMA millrace");
  await query(
    "CREATE TABLE IF NOT EXISTS millrace.migration (number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL)",
  );
  const applied = await appliedNumber(query);
  for (const { number, name, file } of migrationsIn(FOLDER)) {
    if (number <= applied) continue;
    await query(readFileSync(file, "utf8"));
    await query("INSERT INTO millrace.migration VALUES ($1, $2, clock_timestamp())", [number, name]);
  }
}

async function appliedNumber(query: Query): Promise<number> {
  const [table] = await query<{ is: boolean }>("SELECT to_regclass('millrace.migration') IS NOT NULL AS is");
  if (table?.is !== true) return 0;
  const [row] = await query<{ number: number }>("SELECT coalesce(max(number), 0) AS number FROM millrace.migration");
  return row?.number ?? 0;
}

async function refuseNewer(query: Query): Promise<void> {
  const applied = await appliedNumber(query);
  if (applied > newest())
    throw stateError("MR1206", `the state on Postgres was written by a newer Millrace (migration ${applied})`);
}

function newest(): number {
  return migrationsIn(FOLDER).at(-1)?.number ?? 0;
}
