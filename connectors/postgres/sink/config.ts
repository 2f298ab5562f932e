import * as z from "zod";
import { passwordIn, withoutPassword } from "../../../src/passwords/in-url.ts";
import { freshPassword, idlePassword, passwordKeys } from "../../../src/passwords/password.ts";
import { refusing } from "../../../src/core/idle-keys.ts";
import { formChoices, idleDeletes, warehouseKeys, warehouseOptions } from "../../kit/row-form.ts";
import type { SinkContext, SinkFactory } from "../../../src/core/contracts/connector.ts";
import { parsePostgresUrl, placeOfUrl } from "../../../src/postgres/url.ts";
import { sinkError } from "./errors.ts";
import type { PostgresSinkOptions } from "./sink.ts";
import { isReserved, targetName } from "./tables/names.ts";
import { shellWord } from "../../../src/core/shell-word.ts";
import { quoteTable } from "../../../src/postgres/quote.ts";

const NAME_BYTES_MAX = 63;
const keys = warehouseKeys("Postgres", isReserved);

export const definition = z
  .object({
    url: z
      .string()
      .regex(/^postgres(ql)?:\/\//, { error: "expected postgres://user:password@host:port/database" })
      .describe(
        "postgres://user:password@host:port/database of the target itself, or of a pooler in session mode (another is refused, MR2004); parameters as for psql (sslmode, …).",
      ),
    ...passwordKeys,
    ...keys,
    schema: keys.schema.refine((name) => name === undefined || Buffer.byteLength(name) <= NAME_BYTES_MAX, {
      error: "expected 1 to 63 bytes",
    }),
  })
  .superRefine(
    refusing(function* (options) {
      yield idlePassword(options, passwordIn(options.url));
      yield idleDeletes(options);
    }),
  );

export type Options = z.output<typeof definition>;

export const factory: SinkFactory<Options> = {
  form: (options) => options.mode,
  adopts: true,
  create: async (context) => {
    const { PostgresSink } = await import("./sink.ts");
    return new PostgresSink(sinkOptions(context));
  },
  check: async (context, signal, tables) => {
    const { checkTarget } = await import("./check.ts");
    return await checkTarget(sinkOptions(context), signal, tables);
  },
  grants: async (context, tables) => {
    const { grants } = await import("./grants.ts");
    return grants(sinkOptions(context), tables);
  },
  divides: ({ schema }) => (schema === undefined ? "id" : "name"),
  reading: async ({ options: { url, schema } }, table) => {
    const { schema: of, table: name } = targetName(table, schema);
    const sql = `select * from ${quoteTable(of, name)} limit 10`;
    return { shell: `psql ${shellWord(withoutPassword(url))} -c ${shellWord(sql)}` };
  },
  firstRows: async (context, tables, request, signal) => {
    const { firstRows } = await import("./first-rows.ts");
    return await firstRows(sinkOptions(context), tables, request, signal);
  },
  byUrl: {
    name: "replica",
    forms: ["postgres://host/database"],
    keys: (given) => (/^postgres(ql)?:\/\//i.test(given) ? { url: given } : null),
    choices: (daemon) => [
      `schema: ${daemon}   # all tables in this schema. Default: the source's schemas`,
      ...formChoices,
    ],
  },
  places: ({ folder, options }) => {
    const place = placeOfUrl(options.url, folder);
    const schema = options.schema === undefined ? "the source's schemas" : `schema ${JSON.stringify(options.schema)}`;
    return place === null ? [] : [`${schema} in ${place}`];
  },
};

function sinkOptions(context: SinkContext<Options>): PostgresSinkOptions {
  const { folder, options } = context;
  const { owner: checkpointName, ...rest } = warehouseOptions(context);
  try {
    const address = { ...parsePostgresUrl(options.url, folder), freshPassword: freshPassword(options, folder) };
    return { ...rest, checkpointName, address };
  } catch (error) {
    throw sinkError(error, `reading the url of sink ${context.name}`);
  }
}
