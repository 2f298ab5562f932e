import * as z from "zod";
import type { SinkContext, SinkFactory, TableName, TargetRow } from "../../src/core/contracts/connector.ts";
import { rowsOfEach, targetRow } from "../kit/first-rows.ts";
import { passwordIn, withoutPassword } from "../../src/passwords/in-url.ts";
import { freshPassword, idlePassword, passwordKeys } from "../../src/passwords/password.ts";
import { idleTlsKeys, tlsKeys, tlsSettings } from "../../src/tls/keys.ts";
import { placeOfServer } from "../../src/core/targets/places.ts";
import { urlKey } from "../../src/tls/url-parts.ts";
import { refusing } from "../../src/core/idle-keys.ts";
import { isPrefixUsable } from "./keys.ts";
import type { RedisSinkSettings } from "./sink.ts";
import { shellWord } from "../../src/core/shell-word.ts";

export const definition = z
  .object({
    url: urlKey(/^rediss?:\/\//, "expected redis://user:password@host:port/db, or rediss:// for TLS").describe(
      "redis://user:password@host:port/db; rediss:// for TLS. In a cluster: any of its nodes.",
    ),
    ...passwordKeys,
    prefix: z
      .string()
      .refine(isPrefixUsable, { error: "expected no braces, or one whole hash tag such as {shop}:" })
      .default("")
      .describe("What every key begins with."),
    format: z
      .enum(["hash", "json"])
      .default("hash")
      .describe("A row as a hash with a field per column, or as one string holding a JSON object."),
    cluster: z.boolean().default(false).describe("Whether the server is a Redis Cluster."),
    waitReplicas: z
      .int()
      .min(0)
      .max(16)
      .default(0)
      .describe("Replicas that must have a batch before its position is confirmed to the source (WAIT)."),
    ...tlsKeys("a rediss://"),
  })
  .superRefine(
    refusing(function* (options) {
      yield* idleTlsKeys(options, options.url);
      yield idlePassword(options, passwordIn(options.url));
    }),
  );

export type RedisOptions = z.output<typeof definition>;

export const factory: SinkFactory<RedisOptions> = {
  create: async (context, log) => {
    const { RedisSink } = await import("./sink.ts");
    return new RedisSink(settingsOf(context), log);
  },
  check: async (context, signal, tables) => {
    const { check } = await import("./check.ts");
    return await check(settingsOf(context), signal, tables);
  },
  grants: async (context) => {
    const { grants } = await import("./check.ts");
    return grants(settingsOf(context));
  },
  readable: async (context, signal) => {
    const { ReadableKeys } = await import("./readable.ts");
    return await ReadableKeys.open(settingsOf(context), signal);
  },
  divides: () => "id",
  firstRows: async (context, tables, { rowCount }, signal) => {
    const { tableKeyStart } = await import("./write/table-target.ts");
    const { ReadableKeys } = await import("./readable.ts");
    const settings = settingsOf(context);
    const keys = await ReadableKeys.open(settings, signal);
    try {
      const rowsOf = async (table: TableName): Promise<readonly TargetRow[]> => {
        const rows = await keys.first(tableKeyStart(settings, table), rowCount, signal);
        return rows.map((row) => targetRow(Object.fromEntries(row)));
      };
      return await rowsOfEach(tables, rowsOf, signal);
    } finally {
      await keys.close();
    }
  },
  reading: async ({ options: { url, prefix }, isOfDocuments }, table) => {
    const { tableKeyStart } = await import("./write/table-target.ts");
    const start = tableKeyStart({ prefix, isOfDocuments }, table).replaceAll(/[*?[\]\\]/g, "\\$&");
    return { shell: `redis-cli -u ${shellWord(withoutPassword(url))} --scan --pattern ${shellWord(`${start}*`)}` };
  },
  byUrl: {
    name: "cache",
    forms: ["redis://host:6379/0 (rediss:// with TLS)"],
    keys: (given) => (/^rediss?:\/\//i.test(given) ? { url: given } : null),
    choices: (daemon) => [
      `prefix: "${daemon}:"   # what every key begins with. Default: nothing`,
      "format: json        # a row as one string. Default, hash: a field per column",
    ],
  },
  places: ({ options }) => {
    const url = URL.parse(options.url);
    if (url === null) return [];
    const database = Number(url.pathname.replace(/^\//, ""));
    return [{ at: `database ${database} at ${placeOfServer(url.hostname, url.port, "6379")}`, start: options.prefix }];
  },
};

function settingsOf({ name, daemon, folder, options, isOfDocuments }: SinkContext<RedisOptions>): RedisSinkSettings {
  const { url, prefix, format, cluster, waitReplicas } = options;
  return {
    name,
    daemon,
    url,
    prefix,
    isOfDocuments,
    format,
    cluster,
    waitReplicas,
    tls: tlsSettings(options, folder),
    freshPassword: freshPassword(options, folder),
  };
}
