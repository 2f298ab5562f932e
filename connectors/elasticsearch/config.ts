import * as z from "zod";
import type { SinkContext, SinkFactory } from "../../src/core/contracts/connector.ts";
import { freshPassword, idlePassword, passwordKeys } from "../../src/passwords/password.ts";
import { idleTlsKeys, tlsKeys, tlsSettings } from "../../src/tls/keys.ts";
import { refusing } from "../kit/idle-keys.ts";
import type { ElasticsearchSinkSettings } from "./sink.ts";

const nodeUrl = z
  .string()
  .regex(/^https?:\/\//, { error: "expected http://user:password@host:port, or https:// for TLS" })
  .refine((text) => URL.canParse(text), { error: "expected http://user:password@host:port, or https:// for TLS" });

export const definition = z
  .object({
    url: z
      .union([nodeUrl, z.array(nodeUrl).min(1)])
      .describe("http://user:password@host:port of Elasticsearch or OpenSearch, or a list of a cluster's nodes."),
    apiKey: z.string().optional().describe("Elasticsearch API key (encoded), in place of user and password."),
    ...passwordKeys,
    ...tlsKeys("an https://"),
    prefix: z
      .string()
      .regex(/^([a-z0-9][a-z0-9_-]{0,99})?$/, { error: "expected at most 100 lower-case letters, digits, - and _" })
      .default("")
      .describe("What every index name begins with: lower-case letters, digits, `-`, `_`."),
    replicas: z.int().min(0).max(100).optional().describe("Replicas of new indices. Default: the engine's own."),
    shards: z.int().min(1).max(1024).optional().describe("Shards of new indices. Default: the engine's own."),
    refreshInterval: z
      .string()
      .regex(/^(-1|\d+(ms|s|m))$/, { error: "expected a duration such as 500ms, 1s, 5m, or -1 for never" })
      .default("1s")
      .describe("How often new indices make what was written searchable."),
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

export type ElasticsearchOptions = z.output<typeof definition>;

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
  divides: () => "id",
  places: (context) => {
    const { urls, prefix } = settingsOf(context);
    return urls.map((text) => {
      const { hostname, port, protocol } = new URL(text);
      const host = /^(localhost|127\.0\.0\.1|\[::1\])$/.test(hostname) ? "localhost" : hostname;
      return `indices ${JSON.stringify(prefix)}… at ${host}:${port || (protocol === "https:" ? "443" : "80")}`;
    });
  },
};

function settingsOf(context: SinkContext<ElasticsearchOptions>): ElasticsearchSinkSettings {
  const { name, daemon, owner = daemon, folder, options } = context;
  const { url, apiKey, prefix, replicas, shards, refreshInterval } = options;
  return {
    name,
    daemon,
    owner,
    urls: typeof url === "string" ? [url] : url,
    apiKey,
    tls: tlsSettings(options, folder),
    freshPassword: freshPassword(options, folder),
    prefix,
    replicas,
    shards,
    refreshInterval,
  };
}
