import * as z from "zod";
import type { SinkContext, SinkFactory } from "../../src/core/contracts/connector.ts";
import { freshPassword, passwordKeys } from "../../src/passwords/password.ts";
import { tlsKeys, tlsSettings } from "../../src/tls/keys.ts";
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
      .regex(/^([a-z0-9][a-z0-9_-]*)?$/, { error: "expected lower-case letters, digits, - and _" })
      .default("")
      .describe("What every index name begins with."),
    replicas: z.int().min(0).max(100).optional().describe("Replicas of new indices. Default: the engine's own."),
    shards: z.int().min(1).max(1024).optional().describe("Shards of new indices. Default: the engine's own."),
    refreshInterval: z
      .string()
      .regex(/^(-1|\d+(ms|s|m))$/, { error: "expected a duration such as 500ms, 1s, 5m, or -1 for never" })
      .default("1s")
      .describe("How often new indices make what was written searchable."),
  })
  .superRefine(({ url, apiKey, passwordCommand, passwordFile }, issues) => {
    const key = passwordCommand === undefined ? "passwordFile" : "passwordCommand";
    if ((passwordCommand ?? passwordFile) === undefined) return;
    const refuse = (message: string): void => issues.addIssue({ code: "custom", path: [key], message });
    if (apiKey !== undefined) refuse("has no use with `apiKey`; leave one of them out");
    else if (new URL(typeof url === "string" ? url : url[0]!).username === "") refuse("needs a user in `url`");
  });

export type ElasticsearchOptions = z.output<typeof definition>;

export const factory: SinkFactory<ElasticsearchOptions> = {
  create: async (context, log) => {
    const { ElasticsearchSink } = await import("./sink.ts");
    return new ElasticsearchSink(settingsOf(context), log);
  },
  check: async (context, signal) => {
    const { check } = await import("./check.ts");
    return await check(settingsOf(context), signal);
  },
  grants: async (context) => {
    const { grants } = await import("./grants.ts");
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
