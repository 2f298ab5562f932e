import * as z from "zod";
import type { SinkContext, SinkFactory } from "../../src/core/contracts/connector.ts";
import { freshPassword, idlePassword, passwordKeys } from "../../src/passwords/password.ts";
import { idleTlsKeys, tlsKeys, tlsSettings } from "../../src/tls/keys.ts";
import { urlKey } from "../../src/tls/url-parts.ts";
import { TABLE_GLOB } from "../../src/core/table-selection.ts";
import { placeOfHttp } from "../../src/core/targets/places.ts";
import { refusing } from "../../src/core/idle-keys.ts";
import { flatSettings, type IndexPart, type IndexParts, keptFromSetting } from "./indices/definition.ts";
import type { ElasticsearchSinkSettings } from "./sink.ts";
import { curlOf } from "../kit/curl.ts";

const nodeUrl = urlKey(/^https?:\/\//, "expected http://user:password@host:port, or https:// for TLS");

const settings = z
  .record(z.string(), z.unknown())
  .default({})
  .describe("Settings of the index as the engine names them, nested or with dots: `number_of_shards`, `analysis` …")
  .superRefine((given, issues) => {
    for (const [name, value] of flatSettings(given)) {
      const why = keptFromSetting(name, value);
      if (why !== null) issues.addIssue({ code: "custom", message: `${name} can't be set: ${why}; leave it out` });
    }
  });

const mappings = z
  .strictObject({
    properties: z
      .record(
        z.string(),
        z.record(z.string(), z.unknown()).refine((field) => field["enabled"] !== false || field["type"] === "object", {
          error: "`enabled` belongs to `type: object`",
        }),
      )
      .default({})
      .describe(
        "By column, what its field gets over Millrace's own mapping: `type`, `fields` (further forms), `analyzer`, `format` … Beside columns: `alias` fields, and those that `copy_to` names.",
      ),
  })
  .prefault({})
  .describe("Mappings of fields. Only `properties`: Millrace keeps the whole document, and maps no field by itself.");

const indexKeys = {
  settings,
  mappings,
  analyzers: z
    .record(z.string(), z.record(z.string(), z.unknown()))
    .default({})
    .describe("Analyzers by name: short for `settings.analysis.analyzer`."),
};
const INDEX_KEYS = new Set(Object.keys(indexKeys));
const indexEntry = z.strictObject(indexKeys);

const index = z
  .record(z.string(), z.unknown())
  .default({})
  .superRefine((given, context) => {
    partsOf(given, (path, message) => context.addIssue({ code: "custom", path: [...path], message }));
  });

/** Of a document, which to the sink is a table of that schema. */
const DOCUMENT = /^[a-z][a-z0-9_]*$/;

/** Keys with a dot are tables, other names documents; the rest are those of an entry for all tables. */
function partsOf(given: object, onIssue: (path: readonly PropertyKey[], message: string) => void): IndexParts {
  const entries = Object.entries(given);
  const own = entries.filter(([key]) => INDEX_KEYS.has(key));
  const parse = (value: unknown, ...path: readonly string[]): IndexPart | null => {
    const found = indexEntry.safeParse(value);
    if (found.success) {
      const { mappings: of, ...rest } = found.data;
      return { ...rest, properties: of.properties };
    }
    for (const issue of found.error.issues) {
      onIssue([...path, ...issue.path], issue.message);
    }
    return null;
  };
  return {
    all: own.length === 0 ? null : parse(Object.fromEntries(own)),
    byTable: entries.flatMap(([key, value]) => {
      if (INDEX_KEYS.has(key)) return [];
      const pattern = DOCUMENT.test(key) ? `documents.${key}` : key;
      if (!TABLE_GLOB.test(pattern) || pattern.startsWith("!")) {
        const message = `expected ${[...INDEX_KEYS].join(", ")}, or a table (schema.table, or a glob), or a document`;
        onIssue([key], message);
        return [];
      }
      const part = parse(value, key);
      return part === null ? [] : [{ pattern, part }];
    }),
  };
}

export const definition = z
  .object({
    url: z
      .union([nodeUrl, z.array(nodeUrl).min(1)])
      .describe(
        "http://user:password@host:9200 of Elasticsearch or OpenSearch, or a list of a cluster's nodes. Without a port it is 80, or 443 with https://, as of any such address.",
      ),
    apiKey: z.string().optional().describe("Elasticsearch API key (encoded), in place of user and password."),
    ...passwordKeys,
    ...tlsKeys("an https://"),
    prefix: z
      .string()
      .regex(/^([a-z0-9][a-z0-9_-]{0,99})?$/, { error: "expected at most 100 lower-case letters, digits, - and _" })
      .default("")
      .describe("What every index name begins with: lower-case letters, digits, `-`, `_`."),
    replicas: z.int().min(0).max(100).optional().describe("Replicas of the indices. Default: the engine's own."),
    shards: z.int().min(1).max(1024).optional().describe("Shards of the indices. Default: the engine's own."),
    refreshInterval: z
      .string()
      .regex(/^(-1|\d+(ms|s|m))$/, { error: "expected a duration such as 500ms, 1s, 5m, or -1 for never" })
      .default("1s")
      .describe("How often indices make what was written searchable."),
    index: index.describe(
      "Settings, mappings and analyzers of indices: for all tables of the sink, or under the name of a table or document, or a glob, of which the most exact one decides. Merged with Millrace's own. A change fills the next index beside the stream; settings that can change in a living index change at once.",
    ),
  })
  .superRefine(
    refusing(function* (options) {
      const { url, apiKey, passwordCommand, passwordFile } = options;
      // Checks of the addresses' own may have failed already.
      const [first, ...others] = (typeof url === "string" ? [url] : url).flatMap((text) => URL.parse(text) ?? []);
      if (first === undefined) return;
      yield* idleTlsKeys(options, url);
      yield idlePassword(options, first.password);
      const key = passwordCommand === undefined ? "passwordFile" : "passwordCommand";
      const isFresh = (passwordCommand ?? passwordFile) !== undefined;
      if (isFresh && apiKey !== undefined) yield [key, "has no use with `apiKey`; leave one of them out"];
      else if (isFresh && first.username === "") yield [key, "needs a user in `url`"];
      if (apiKey !== undefined && first.username !== "")
        yield ["apiKey", "stands beside a user in `url`, who would not be used; leave one of them out"];
      const login = ({ username, password }: URL): string => `${username}:${password}`;
      if (others.some((other) => ![":", login(first)].includes(login(other))))
        yield ["url", "has another login than its first address; only that of the first is used"];
    }),
  );

type ElasticsearchOptions = z.output<typeof definition>;

export const factory: SinkFactory<ElasticsearchOptions> = {
  create: async (context, log) => {
    const { ElasticsearchSink } = await import("./sink.ts");
    return new ElasticsearchSink(settingsOf(context), log);
  },
  check: async (context, signal, tables) => {
    const { check } = await import("./check.ts");
    return await check(settingsOf(context), signal, { tables });
  },
  grants: async (context) => {
    const { grants } = await import("./check.ts");
    const { urls, prefix, name } = settingsOf(context);
    return grants(urls[0] ?? "", prefix, `millrace_${context.daemon}_${name}`);
  },
  readable: async (context, signal) => {
    const { SearchClient } = await import("./http.ts");
    const { ReadableIndices } = await import("./readable.ts");
    return new ReadableIndices(await SearchClient.open(settingsOf(context), signal));
  },
  divides: () => "id",
  firstRows: async (context, tables, request, signal) => {
    const { indexOf } = await import("../../src/core/targets/names.ts");
    const { firstRows } = await import("./first-rows.ts");
    const settings = settingsOf(context);
    return await firstRows(settings, tables, (table) => indexOf(settings, table), request, signal);
  },
  reading: async (context, table) => {
    const { indexOf } = await import("../../src/core/targets/names.ts");
    const { urls, ...settings } = settingsOf(context);
    const path = `/${encodeURIComponent(indexOf(settings, table))}/_search?pretty&size=10`;
    return { shell: curlOf(urls[0] ?? "", path) };
  },
  byUrl: {
    name: "search",
    forms: ["http://host:9200 or https://host:9200 (Elasticsearch, OpenSearch)"],
    keys: (given) => (/^https?:\/\//i.test(given) ? { url: given } : null),
    choices: (daemon) => [
      `prefix: ${daemon}-   # what every index name begins with. Default: nothing`,
      "replicas: 1         # of new indices. Default: the engine's own",
    ],
  },
  places: (context) => {
    const { urls, prefix } = settingsOf(context);
    return urls.map((text) => `indices ${JSON.stringify(prefix)}… at ${placeOfHttp(text)}`);
  },
};

function settingsOf(context: SinkContext<ElasticsearchOptions>): ElasticsearchSinkSettings {
  const { name, daemon, owner = daemon, folder, options, isOfDocuments } = context;
  const { url, apiKey, prefix, replicas, shards, refreshInterval, index: indices } = options;
  return {
    name,
    daemon,
    owner,
    urls: typeof url === "string" ? [url] : url,
    apiKey,
    tls: tlsSettings(options, folder),
    freshPassword: freshPassword(options, folder),
    prefix,
    isOfDocuments,
    replicas,
    shards,
    refreshInterval,
    // What is wrong with it was told when it was read.
    parts: partsOf(indices, () => undefined),
  };
}
