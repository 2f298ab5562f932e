import { resolve } from "node:path";
import { z } from "zod";
import { fileGrants, realPath } from "../kit/file-target.ts";
import { idleDeletes, refusing } from "../kit/idle-keys.ts";
import { deletes, mode, schemaFor } from "../kit/row-form.ts";
import type { SinkContext, SinkFactory } from "../../src/core/contracts/connector.ts";
import { isReserved } from "./names.ts";
import type { SqliteSinkOptions } from "./sink.ts";

export const definition = z
  .object({
    path: z.string().min(1).describe("The SQLite file. Created if missing; its folder must exist."),
    schema: schemaFor("SQLite", isReserved),
    deletes,
    mode,
  })
  .superRefine(
    refusing(function* (options) {
      yield idleDeletes(options);
    }),
  );

export type Options = z.infer<typeof definition>;

function sinkOptions({ name, daemon, folder, options, dropsColumns }: SinkContext<Options>): SqliteSinkOptions {
  const { path, schema, deletes, mode } = options;
  return {
    name,
    owner: `${daemon}/${name}`,
    path: resolve(folder, path),
    schema,
    form: { deletes, mode },
    dropsColumns,
  };
}

export const factory: SinkFactory<Options> = {
  form: (options) => options.mode,
  create: async (context) => {
    const { SqliteSink } = await import("./sink.ts");
    return new SqliteSink(sinkOptions(context));
  },
  check: async (context, signal) => {
    const { checkFile } = await import("./check.ts");
    return await checkFile(sinkOptions(context), signal);
  },
  grants: async (context) => fileGrants(sinkOptions(context).path),
  query: async (context, request, _copy, signal) => {
    const { queryFile } = await import("./inspect/query.ts");
    return await queryFile(sinkOptions(context).path, request, signal);
  },
  /** SQLite lets readers in beside the writer. */
  isQueriedInPlace: true,
  places: (context) => [`the SQLite file ${realPath(sinkOptions(context).path)}`],
};
