import { resolve } from "node:path";
import * as z from "zod";
import type { SinkContext, SinkFactory } from "../../src/core/contracts/connector.ts";
import type { JsonFileSettings } from "./sink.ts";

/** The keys that only this kind has. `kind`, `tables`, `onPoison`, `onLost` and `batch` belong to every sink. */
export const definition = z.object({
  path: z.string().min(1).describe("The file, relative to the config file. It is made when it is missing."),
});

export type JsonFileOptions = z.output<typeof definition>;

/** Every command loads this module, so the code that does the work is imported where it is first needed. */
export const factory: SinkFactory<JsonFileOptions> = {
  create: async (context) => {
    const { JsonFileSink } = await import("./sink.ts");
    return new JsonFileSink(settingsOf(context));
  },
  check: async (context, signal) => {
    const { check } = await import("./check.ts");
    return await check(settingsOf(context), signal);
  },
  places: (context) => [settingsOf(context).path],
};

function settingsOf({ name, folder, options }: SinkContext<JsonFileOptions>): JsonFileSettings {
  return { name, path: resolve(folder, options.path) };
}
