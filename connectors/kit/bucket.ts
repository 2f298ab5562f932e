/** The options of a bucket in S3, for every sink that writes there. */
import { resolve } from "node:path";
import * as z from "zod";
import { quoteLiteral } from "./duckdb.ts";
import type { IdleKey, UrlKeys } from "../../src/core/contracts/connector.ts";

export const S3_PATH = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(\/.*)?$/;

export const s3 = z.strictObject({
  region: z.string().min(1).optional().describe("Default: AWS_REGION, else that of AWS' profile."),
  endpoint: z.url().optional().describe("The server's URL, where it is not AWS."),
  accessKeyId: z
    .string()
    .min(1)
    .optional()
    .describe("Default: as AWS' own programs find it: variables, profile, role."),
  secretAccessKey: z.string().min(1).optional().describe("Belongs to `accessKeyId`."),
  pathStyle: z
    .boolean()
    .default(false)
    .describe("Whether the bucket is a part of the path, and not of the host's name."),
  ca: z
    .string()
    .optional()
    .describe(
      "PEM file with the certificate authority of an https:// `endpoint`, in place of those that are trusted anyway.",
    ),
});

/** Keys have up to 1,024; what comes behind the prefix has the rest. */
const PREFIX_BYTES_MAX = 700;

export type S3Options = z.output<typeof s3>;

/** Of a bucket, as S3's clients name them; what is not given comes from the environment, as with the AWS command line. */
export interface BucketSettings {
  readonly bucket: string;
  /** Empty, or it ends with a slash. */
  readonly prefix: string;
  readonly region: string | undefined;
  readonly endpoint: string | undefined;
  readonly accessKeyId: string | undefined;
  readonly secretAccessKey: string | undefined;
  readonly pathStyle: boolean;
  /** An absolute path. */
  readonly ca: string | undefined;
}

/** What is wrong with the options, given the path in `key`; undefined: nothing. */
export function s3Refusal(key: string, path: string, given: S3Options | undefined): IdleKey | undefined {
  if (/^[a-z0-9]+:\/\//i.test(path) && !S3_PATH.test(path)) return [key, "expected a folder, or s3://bucket/prefix"];
  if (Buffer.byteLength(S3_PATH.exec(path)?.[2] ?? "") > PREFIX_BYTES_MAX)
    return [key, `expected a prefix of at most ${PREFIX_BYTES_MAX} bytes: a key in a bucket has at most 1,024`];
  if (given === undefined) return undefined;
  if (!S3_PATH.test(path)) return ["s3", `has no use with a folder: \`${key}\` does not begin with s3://`];
  if ((given.accessKeyId === undefined) !== (given.secretAccessKey === undefined))
    return ["s3", "has one of `accessKeyId` and `secretAccessKey`: set both, or none"];
  if (given.ca !== undefined && given.endpoint !== undefined && !/^https:/i.test(given.endpoint))
    return ["s3.ca", "has no use with an `endpoint` that is not https://"];
  return undefined;
}

const IN_URL = ["endpoint", "region", "pathStyle"];
const LOGIN_NOTE = "a login comes from the environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, …), or goes into the file";

/** Keys by s3://bucket/prefix?endpoint=…&region=…; a text: why the URL can't be used. Few servers beside AWS have a host for each bucket. */
export function bucketKeys(url: string): UrlKeys | string {
  const [, path = "", parameters = ""] = /^([^?]*)(?:\?(.*))?$/s.exec(url) ?? [];
  if (!S3_PATH.test(path)) return "expected s3://bucket/prefix, with a bucket's name in lower case";
  const given = new URLSearchParams(parameters);
  if ([...given.keys()].some((name) => !IN_URL.includes(name)))
    return `known behind the ? are ${IN_URL.join(", ")}; ${LOGIN_NOTE}`;
  const [endpoint, region, style] = IN_URL.map((name) => given.get(name));
  const server = endpoint == null ? null : URL.parse(endpoint);
  if (endpoint != null && !/^https?:$/.test(server?.protocol ?? "")) return "expected endpoint=https://host";
  if (server != null && (server.username !== "" || server.password !== ""))
    return `the endpoint has a login: ${LOGIN_NOTE}`;
  if (style != null && !["true", "false"].includes(style)) return "expected pathStyle=true or pathStyle=false";
  const s3Keys = {
    ...(endpoint == null ? {} : { endpoint }),
    ...(region == null || region === "" ? {} : { region }),
    ...(endpoint == null && style == null ? {} : { pathStyle: style !== "false" }),
  };
  return Object.keys(s3Keys).length === 0 ? { path } : { path, s3: s3Keys };
}

/** How DuckDB's own program finds the same server; the login is that of the environment. Empty: AWS, as it is. */
export function duckdbSecretSql(given: S3Options | undefined): string {
  if (given?.endpoint === undefined && given?.region === undefined) return "";
  const { endpoint, region, pathStyle } = given;
  const server = endpoint === undefined ? null : new URL(endpoint);
  const parts = [
    "type s3",
    "provider credential_chain",
    ...(region === undefined ? [] : [`region ${quoteLiteral(region)}`]),
    ...(server === null ? [] : [`endpoint ${quoteLiteral(server.host)}`, `use_ssl ${server.protocol === "https:"}`]),
    ...(pathStyle ? ["url_style 'path'"] : []),
  ];
  return `create secret (${parts.join(", ")}); `;
}

/** Undefined: the path is a folder. `ca` is relative to the configuration's folder. */
export function bucketOf(path: string, given: S3Options | undefined, folder: string): BucketSettings | undefined {
  const found = S3_PATH.exec(path);
  if (found === null) return undefined;
  const [, bucket = "", rest = ""] = found;
  const prefix = rest.replace(/^\/+|\/+$/g, "");
  return {
    bucket,
    prefix: prefix === "" ? "" : `${prefix}/`,
    region: given?.region,
    endpoint: given?.endpoint,
    accessKeyId: given?.accessKeyId,
    secretAccessKey: given?.secretAccessKey,
    pathStyle: given?.pathStyle ?? false,
    ca: given?.ca === undefined ? undefined : resolve(folder, given.ca),
  };
}
