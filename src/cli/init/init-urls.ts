import { cliError } from "../errors.ts";
import type { PlannedSink } from "./init-file.ts";

/** Only the scheme: the rest of a URL may hold a password. */
function schemeOf(url: string): string {
  return /^([a-z][a-z0-9+.-]*):\/\//i.exec(url)?.[1]?.toLowerCase() ?? "";
}

export function sourceKindOf(url: string): string {
  const scheme = schemeOf(url);
  if (scheme === "postgres" || scheme === "postgresql") return "postgres";
  if (scheme === "mysql" || scheme === "mariadb") return "mysql";
  throw unknownKind("--source", scheme);
}

export function sinkFromUrl(given: string): PlannedSink {
  const replica = /^sqlite:(?:\/\/)?(.+)$/is.exec(given)?.[1] ?? (/\.(?:sqlite|db3)$/i.test(given) ? given : null);
  if (replica !== null && schemeOf(replica) === "")
    return { name: "embedded", kind: "sqlite", place: { key: "path", value: replica } };
  const url = given.replace(/^duckdb:(\/\/)?/i, "");
  const scheme = schemeOf(url);
  switch (scheme) {
    case "postgres":
    case "postgresql":
      return { name: "replica", kind: "postgres", place: { key: "url", value: url } };
    case "redis":
    case "rediss":
      return { name: "cache", kind: "redis", place: { key: "url", value: url } };
    case "http":
    case "https":
      if (isClickhousePort(url)) return { name: "columns", kind: "clickhouse", place: { key: "url", value: url } };
      return { name: "search", kind: "elasticsearch", place: { key: "url", value: url } };
    case "":
      if (url.endsWith(".duckdb")) return { name: "warehouse", kind: "duckdb", place: { key: "path", value: url } };
  }
  throw unknownKind("--sink", scheme);
}

/** Those of its HTTP interface; search engines have others. */
function isClickhousePort(url: string): boolean {
  return URL.canParse(url) && ["8123", "8443"].includes(new URL(url).port);
}

function unknownKind(option: string, scheme: string) {
  const what = scheme === "" ? "a value without a known scheme or ending" : `${scheme}://`;
  return cliError("MR1110", `${option}: no kind is known for ${what}`);
}
