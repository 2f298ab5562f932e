import { resolve } from "node:path";
import * as z from "zod";
import type { SourceContext, SourceFactory } from "../../src/core/contracts/connector.ts";
import { TableSelection } from "../../src/core/table-selection.ts";
import type { SqliteSettings } from "./database.ts";

/** The keys that only this kind has. `kind`, `tables`, `snapshot` and `heartbeat` belong to every source. */
export const sourceDefinition = z.object({
  path: z.string().min(1).describe("The SQLite file, relative to the config file. It must be in WAL mode."),
});

export type SqliteOptions = z.output<typeof sourceDefinition>;

/** Every command loads this module, so the code that does the work is imported where it is first needed. */
export const sourceFactory: SourceFactory<SqliteOptions> = {
  create: async (context) => {
    const { sqliteSource } = await import("./source.ts");
    return sqliteSource(settingsOf(context));
  },
  positions: async () => (await import("./source.ts")).POSITIONS,
  check: async (context, signal) => {
    const { check } = await import("./check.ts");
    return await check(settingsOf(context), signal);
  },
};

function settingsOf({ folder, options, tables }: SourceContext<SqliteOptions>): SqliteSettings {
  return { path: resolve(folder, options.path), selection: new TableSelection(tables) };
}
