import { resolve } from "node:path";
import * as z from "zod";
import type { SinkContext, SinkFactory } from "../../src/core/contracts/connector.ts";
import type { StreamFileSettings } from "./sink.ts";

/** The keys that only this kind has. `kind`, `tables`, `onPoison`, `onLost` and `batch` belong to every sink. */
export const definition = z.object({
  path: z.string().min(1).describe("The file, relative to the config file. It is made when it is missing."),
});

export type StreamFileOptions = z.output<typeof definition>;

export const factory: SinkFactory<StreamFileOptions> = {
  form: () => "stream",
  create: async (context) => {
    const { StreamFileSink } = await import("./sink.ts");
    return new StreamFileSink(settingsOf(context));
  },
  check: async (context, signal) => {
    const { check } = await import("./check.ts");
    return await check(settingsOf(context), signal);
  },
  places: (context) => [settingsOf(context).path],
};

function settingsOf({ name, folder, options }: SinkContext<StreamFileOptions>): StreamFileSettings {
  return { name, path: resolve(folder, options.path) };
}
