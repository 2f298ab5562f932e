import { readFileSync } from "node:fs";
import { homedir, userInfo } from "node:os";
import { join, resolve } from "node:path";
import type { FreshPassword } from "../core/contracts/connector.ts";
import { placeOfServer } from "../core/targets/places.ts";
import { decodePercent } from "../tls/url-parts.ts";
import { readCertificates, readPem, readPrivateKey } from "../tls/pem.ts";
import { Failure } from "./failure.ts";

/**
 * libpq's modes, with libpq's meaning; pg's own interpretation of the URL differs between its versions and is not used.
 */
export type SslMode = "disable" | "prefer" | "require" | "verify-ca" | "verify-full";
const SSL_MODES: readonly SslMode[] = ["disable", "prefer", "require", "verify-ca", "verify-full"];

export interface PostgresAddress {
  /** A host name, an address, or the folder of a Unix socket (begins with `/`). */
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string | undefined;
  /** In place of `password`, for each connection. */
  readonly freshPassword?: FreshPassword | undefined;
  readonly database: string;
  readonly sslMode: SslMode;
  /** PEM texts. */
  readonly rootCertificate: string | undefined;
  /** True for sslrootcert=system: the authorities that Node trusts. */
  readonly systemRoots: boolean;
  readonly certificate: string | undefined;
  readonly key: string | undefined;
  readonly directTls: boolean;
  readonly channelBinding: boolean;
  readonly applicationName: string;
  readonly options: string | undefined;
  readonly connectTimeoutMs: number;
}

const CONNECT_TIMEOUT_MS = 15_000;

/** Parameters of libpq without a meaning here; accepted, so that a URL for psql also works here. */
const WITHOUT_EFFECT = new Set([
  "gssencmode",
  "krbsrvname",
  "target_session_attrs",
  "fallback_application_name",
  "keepalives",
  "keepalives_idle",
  "keepalives_interval",
  "keepalives_count",
  "tcp_user_timeout",
  "sslcompression",
  "sslsni",
  "client_encoding",
  "load_balance_hosts",
  "replication",
]);
const KNOWN = new Set([
  "host",
  "port",
  "user",
  "password",
  "dbname",
  "sslmode",
  "ssl",
  "sslrootcert",
  "sslcert",
  "sslkey",
  "sslnegotiation",
  "channel_binding",
  "application_name",
  "options",
  "connect_timeout",
]);

/**
 * Parses a postgres:// URL as libpq does, except for file paths, which are relative to `folder`. Error messages never
 * repeat the URL: it may hold a password.
 */
export function parsePostgresUrl(url: string, folder = ""): PostgresAddress {
  // Not the URL class: `user@/database?host=/folder` is valid for libpq but not for it.
  const match = /^postgres(?:ql)?:\/\/(?:([^@/?#]*)@)?([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/.exec(url);
  if (!match)
    throw wrong(
      "it is not of the form postgres://user:password@host:port/database?parameter=value (special characters in a password must be percent-encoded)",
    );
  const [, login = "", place = "", path = "", query = ""] = match;
  const parameters = parseParameters(query);
  // A password with an `@` as it is: what follows would be shown as a host or a database.
  if (place.includes("@") || path.includes("@"))
    throw wrong("it has an `@` that ends no login: in a user, a password or a database's name it is written %40");
  const colon = login.indexOf(":");
  const user = decode(colon < 0 ? login : login.slice(0, colon), "user");
  const password = colon < 0 ? undefined : decode(login.slice(colon + 1), "password");
  const { host, port } = parsePlace(place);

  const finalHost = parameters.get("host") ?? (host || process.env["PGHOST"] || "localhost");
  if (finalHost.includes(",")) throw wrong("it names several hosts; capture reads from one server, name that one");
  const finalUser = parameters.get("user") ?? (user || process.env["PGUSER"] || userInfo().username);
  const sslRootPath = parameters.get("sslrootcert");
  const systemRoots = sslRootPath === "system";
  const sslMode = parseSslMode(parameters, systemRoots);
  const rootCertificate = systemRoots ? undefined : readRoot(sslRootPath, sslMode, folder);
  const certificate = fileOf("sslcert", parameters.get("sslcert"), folder, readCertificates);
  const channelBinding = oneOf(parameters, "channel_binding", ["disable", "prefer", "require"], "prefer") === "require";
  if (channelBinding && sslMode === "disable")
    throw wrong("channel_binding=require needs TLS, and sslmode=disable forbids it");
  const key = fileOf("sslkey", parameters.get("sslkey"), folder, readPrivateKey);
  if (certificate !== undefined && key === undefined) throw wrong("its sslcert is given without sslkey");
  return {
    host: finalHost,
    port: parsePort(parameters.get("port") ?? (port || process.env["PGPORT"] || "5432")),
    user: finalUser,
    password: parameters.get("password") ?? password ?? process.env["PGPASSWORD"],
    database: parameters.get("dbname") ?? (decode(path, "database") || process.env["PGDATABASE"] || finalUser),
    // In libpq, `require` with a known authority checks it, like verify-ca.
    sslMode: sslMode === "require" && rootCertificate !== undefined ? "verify-ca" : sslMode,
    rootCertificate,
    systemRoots,
    certificate,
    key,
    directTls: oneOf(parameters, "sslnegotiation", ["postgres", "direct"], "postgres") === "direct",
    channelBinding,
    applicationName: parameters.get("application_name") ?? "millrace",
    options: parameters.get("options"),
    connectTimeoutMs: parseTimeout(parameters.get("connect_timeout")),
  };
}

/**
 * Server and database of a URL, without the login; null if the URL can't be used: then the first connection says why.
 */
export function placeOfUrl(url: string, folder: string): string | null {
  try {
    const { host, port, database } = parsePostgresUrl(url, folder);
    return `database ${JSON.stringify(database)} at ${placeOfServer(host, port, "")}`;
  } catch {
    // Reported where the URL is used, with that user's error number.
    return null;
  }
}

function parseParameters(query: string): Map<string, string> {
  const result = new Map<string, string>();
  for (const pair of query.split("&").filter((p) => p !== "")) {
    const at = pair.indexOf("=");
    if (at < 0) throw wrong("a parameter after `?` has no `=`");
    const name = decode(pair.slice(0, at), "a parameter's name");
    if (!KNOWN.has(name) && !WITHOUT_EFFECT.has(name)) {
      throw wrong(`its parameter ${JSON.stringify(name)} is not known; known are ${[...KNOWN].join(", ")}`);
    }
    result.set(name, decode(pair.slice(at + 1), name));
  }
  return result;
}

function parsePlace(place: string): { host: string; port: string } {
  const bracketed = /^\[([^\]]*)\](?::(\d+))?$/.exec(place);
  if (bracketed) return { host: bracketed[1] ?? "", port: bracketed[2] ?? "" };
  const at = place.lastIndexOf(":");
  if (at < 0 || place.includes(",")) return { host: decode(place, "host"), port: "" };
  return { host: decode(place.slice(0, at), "host"), port: place.slice(at + 1) };
}

function parsePort(text: string): number {
  const port = Number(text);
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw wrong("its port is not a number from 1 to 65535");
  return port;
}

function parseTimeout(text: string | undefined): number {
  if (text === undefined) return CONNECT_TIMEOUT_MS;
  const seconds = Number(text);
  if (!Number.isInteger(seconds) || seconds < 0) throw wrong("its connect_timeout is not a number of seconds");
  return seconds === 0 ? CONNECT_TIMEOUT_MS : seconds * 1000;
}

function parseSslMode(parameters: Map<string, string>, systemRoots: boolean): SslMode {
  const ssl = parameters.get("ssl");
  if (ssl !== undefined && ssl !== "true") throw wrong("its parameter ssl may only be true; use sslmode");
  const text = parameters.get("sslmode") ?? (ssl === "true" ? "require" : process.env["PGSSLMODE"]);
  if (text === undefined) return systemRoots ? "verify-full" : "prefer";
  // libpq's `allow` tries plain first; if the server requires TLS the outcome is that of prefer.
  const mode = SSL_MODES.find((known) => known === (text === "allow" ? "prefer" : text));
  if (mode === undefined) throw wrong(`its sslmode is none of ${SSL_MODES.join(", ")}`);
  if (systemRoots && mode !== "verify-full") throw wrong("sslrootcert=system needs sslmode=verify-full");
  return mode;
}

function readRoot(path: string | undefined, mode: SslMode, folder: string): string | undefined {
  const needed = mode === "verify-ca" || mode === "verify-full";
  if (path !== undefined) return mode === "disable" ? undefined : fileOf("sslrootcert", path, folder, readCertificates);
  if (!needed) return undefined;
  try {
    return readFileSync(join(homedir(), ".postgresql", "root.crt"), "utf8");
  } catch {
    throw wrong(
      `sslmode=${mode} needs sslrootcert=FILE (or ~/.postgresql/root.crt), or sslrootcert=system with verify-full`,
    );
  }
}

function fileOf(
  parameter: string,
  path: string | undefined,
  folder: string,
  read: (path: string) => string,
): string | undefined {
  if (path === undefined || path === "") return undefined;
  return readPem(resolve(folder, path), read, ({ what, fix }) => wrong(`its ${parameter} ${what}`, fix));
}

function oneOf<T extends string>(
  parameters: Map<string, string>,
  name: string,
  allowed: readonly T[],
  otherwise: T,
): T {
  const text = parameters.get(name);
  if (text === undefined) return otherwise;
  const found = allowed.find((value) => value === text);
  if (found === undefined) throw wrong(`its ${name} is none of ${allowed.join(", ")}`);
  return found;
}

function decode(text: string, what: string): string {
  return decodePercent(text, (why) => wrong(`its ${what} ${why}`));
}

function wrong(
  what: string,
  fix = "It looks like postgres://user:password@host:5432/database; parameters are those of psql.",
): Failure {
  return new Failure("url", what, { fix });
}
