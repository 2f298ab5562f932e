import * as z from "zod";
import type { SinkContext, SinkFactory, TableName, UrlKeys } from "../../src/core/contracts/connector.ts";
import { passwordIn } from "../../src/passwords/in-url.ts";
import { freshPassword, idlePassword, passwordKeys } from "../../src/passwords/password.ts";
import { idleTlsKeys, tlsKeys, tlsSettings } from "../../src/tls/keys.ts";
import { decodedOrNull, STRAY, urlKey } from "../../src/tls/url-parts.ts";
import { placeOfHttp } from "../../src/core/targets/places.ts";
import { refusing } from "../../src/core/idle-keys.ts";
import { formChoices, idleDeletes, warehouseKeys, warehouseOptions } from "../kit/row-form.ts";
import { isReserved, sqlNameOf, targetOf, viewOf } from "./names.ts";
import type { ClickhouseSinkSettings } from "./sink.ts";
import { shellWord } from "../../src/core/shell-word.ts";
import { curlOf } from "../kit/curl.ts";

const QUORUM_MAX = 100;

export const definition = z
  .object({
    url: urlKey(/^https?:\/\//, "expected http://user:password@host:8123, or https:// for TLS").describe(
      "http://user:password@host:8123 of ClickHouse's HTTP interface; https:// for TLS, mostly port 8443. Without a port it is 80, or 443, as of any such address.",
    ),
    ...passwordKeys,
    ...tlsKeys("an https://"),
    ...warehouseKeys("ClickHouse", isReserved, "database", "databases named like the source's schemas"),
    cluster: z
      .string()
      .min(1)
      .optional()
      .describe(
        "Makes databases, tables and views ON CLUSTER this one, as ReplicatedReplacingMergeTree. Not for ClickHouse Cloud, which replicates itself. Default: on the server alone.",
      ),
    quorum: z
      .union([z.literal("auto"), z.int().min(2).max(QUORUM_MAX)])
      .optional()
      .describe(
        "How many replicas take a batch before it counts as written; auto: most of them. Reads then see what such a quorum has taken.",
      ),
    fsync: z
      .boolean()
      .default(true)
      .describe(
        "New tables have an insert wait until its files are on the disk. false: a power cut can lose the last batches.",
      ),
  })
  .superRefine(
    refusing(function* (options) {
      yield* idleTlsKeys(options, options.url);
      yield idlePassword(options, passwordIn(options.url));
      yield idleDeletes(options);
    }),
  );

export type Options = z.output<typeof definition>;

export const factory: SinkFactory<Options> = {
  form: (options) => options.mode,
  create: async (context, log) => {
    const { ClickhouseSink } = await import("./sink.ts");
    return new ClickhouseSink(settingsOf(context), log);
  },
  check: async (context, signal, tables) => {
    const { check } = await import("./check.ts");
    return await check(settingsOf(context), signal, tables);
  },
  grants: async (context, tables) => {
    const { grants } = await import("./grants.ts");
    return grants(settingsOf(context), tables);
  },
  readable: async (context, signal) => {
    const { readableServer } = await import("./inspect/readable.ts");
    const { url, tls, freshPassword: password, quorum, schema } = settingsOf(context);
    return await readableServer({ url, tls, freshPassword: password, quorum }, schema, signal);
  },
  divides: ({ schema }) => (schema === undefined ? "id" : "name"),
  firstRows: async (context, tables, request, signal) => {
    const { firstRows } = await import("./inspect/first-rows.ts");
    const { url, tls, freshPassword: password, quorum } = settingsOf(context);
    const settings = { url, tls, freshPassword: password, quorum };
    return await firstRows(settings, tables, (table) => shownName(context.options, table), request, signal);
  },
  reading: async ({ options }, table) => {
    const { url } = options;
    const sql = `SELECT * FROM ${shownName(options, table)} LIMIT 10 FORMAT PrettyCompact`;
    return { shell: `${curlOf(url)} --data-binary ${shellWord(sql)}` };
  },
  byUrl: {
    name: "columns",
    forms: ["clickhouse://host:8123/database (clickhouses:// with TLS)", "http://host:8123", "https://host:8443"],
    keys: keysOf,
    choices: (daemon) => [
      `schema: ${daemon}   # all tables in this database. Default: the source's schemas`,
      ...formChoices,
    ],
  },
  places: (context) => {
    const { url, schema } = settingsOf(context);
    const place = schema === undefined ? "the source's schemas" : `database ${JSON.stringify(schema)}`;
    return [`${place} in ClickHouse at ${placeOfHttp(url)}`];
  },
};

/** What people read: a mirror's view has the last version of each row. */
function shownName({ schema, mode: form }: Pick<Options, "schema" | "mode">, table: TableName): string {
  const target = targetOf(table, schema);
  return sqlNameOf(form === "mirror" ? viewOf(target) : target);
}

/** Ports of the HTTP interface; search engines have others. */
const HTTP_PORTS = new Set(["8123", "8443"]);
const NATIVE_PORTS = new Set(["9000", "9440"]);

/** The scheme `clickhouse` is that of drivers; its path names the database. */
function keysOf(given: string): UrlKeys | string | null {
  if (/^https?:/i.test(given)) return HTTP_PORTS.has(URL.parse(given)?.port ?? "") ? { url: given } : null;
  const [, tls, place = "", database = "", rest = ""] =
    /^clickhouse(s?):\/\/([^/?#]*)(?:\/([^/?#]*))?(.*)$/is.exec(given) ?? [];
  if (tls === undefined) return null;
  if (rest !== "") return "expected clickhouse://user:password@host:8123/database, and nothing behind the database";
  const port = /:(\d+)$/.exec(place)?.[1];
  if (port !== undefined && NATIVE_PORTS.has(port))
    return `port ${port} is that of ClickHouse's native protocol; name the port of its HTTP interface, mostly 8123, or 8443 for TLS`;
  const isEncrypted = tls !== "" || port === "8443";
  const url = `${isEncrypted ? "https" : "http"}://${place}${port === undefined ? (isEncrypted ? ":8443" : ":8123") : ""}`;
  if (database === "") return { url };
  const schema = decodedOrNull(database);
  return schema === null ? `the database ${STRAY}` : { url, schema };
}

function settingsOf(context: SinkContext<Options>): ClickhouseSinkSettings {
  const { folder, options } = context;
  const { url, cluster, quorum, fsync } = options;
  return {
    ...warehouseOptions(context),
    url,
    tls: tlsSettings(options, folder),
    freshPassword: freshPassword(options, folder),
    placement: { cluster, fsync },
    quorum,
  };
}
