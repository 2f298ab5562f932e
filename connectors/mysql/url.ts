/** Addresses of MySQL and MariaDB servers: mysql://user:password@host:port/database?ssl-mode=VERIFY_IDENTITY&ssl-ca=ca.pem */
import { resolve } from "node:path";
import type { FreshPassword } from "../../src/core/contracts/connector.ts";
import { decodePercent } from "../../src/tls/url-parts.ts";
import type { MillraceError } from "../../src/core/errors.ts";
import { readCertificates, readPem, readPrivateKey } from "../../src/tls/pem.ts";
import { sourceError } from "./source/errors.ts";

/** The modes of the `mysql` client, with the same meaning. */
const SSL_MODES = ["DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY"] as const;
export type SslMode = (typeof SSL_MODES)[number];

export interface MysqlAddress {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  /** In place of `password`, for each connection. */
  readonly freshPassword?: FreshPassword | undefined;
  /** Empty: none. */
  readonly database: string;
  readonly sslMode: SslMode;
  /** PEM texts. */
  readonly authority: string | undefined;
  readonly certificate: string | undefined;
  readonly key: string | undefined;
  readonly connectTimeoutMs: number;
}

const DEFAULT_PORT = 3306;
const CONNECT_TIMEOUT_MS = 15_000;
const KNOWN = new Set(["ssl-mode", "ssl-ca", "ssl-cert", "ssl-key", "connect_timeout"]);

/** Paths of files are relative to `folder`. Error messages never repeat the URL: it may hold a password. */
export function parseMysqlUrl(text: string, folder: string): MysqlAddress {
  let url: URL;
  try {
    url = new URL(text.replace(/^mariadb:/, "mysql:"));
  } catch {
    throw wrong("it is not of the form mysql://user:password@host:port/database (special characters percent-encoded)");
  }
  if (url.pathname.includes("@"))
    throw wrong("it has an `@` behind its host: in a user, a password or a database's name it is written %40");
  for (const name of url.searchParams.keys()) {
    if (!KNOWN.has(name))
      throw wrong(`its parameter ${JSON.stringify(name)} is not known; known are ${[...KNOWN].join(", ")}`);
  }
  const parameter = (name: string): string | undefined => url.searchParams.get(name) ?? undefined;
  const fileOf = (name: string, read: (path: string) => string): string | undefined => {
    const path = parameter(name);
    if (path === undefined || path === "") return undefined;
    return readPem(resolve(folder, path), read, ({ what, fix }) => wrong(`its ${name} ${what}`, fix));
  };
  const authority = fileOf("ssl-ca", readCertificates);
  const certificate = fileOf("ssl-cert", readCertificates);
  const key = fileOf("ssl-key", readPrivateKey);
  if (certificate !== undefined && key === undefined) throw wrong("its ssl-cert is given without ssl-key");
  return {
    host: url.hostname === "" ? "localhost" : decode(url.hostname, "host").replaceAll(/^\[|\]$/g, ""),
    port: url.port === "" ? DEFAULT_PORT : Number(url.port),
    user: decode(url.username, "user"),
    password: decode(url.password, "password"),
    database: decode(url.pathname.replace(/^\//, ""), "database"),
    sslMode: modeOf(parameter("ssl-mode"), authority !== undefined),
    authority,
    certificate,
    key,
    connectTimeoutMs: timeoutOf(parameter("connect_timeout")),
  };
}

function modeOf(text: string | undefined, hasAuthority: boolean): SslMode {
  if (text === undefined) return hasAuthority ? "VERIFY_CA" : "PREFERRED";
  const mode = SSL_MODES.find((known) => known === text.toUpperCase().replaceAll("-", "_"));
  if (mode === undefined) throw wrong(`its ssl-mode is none of ${SSL_MODES.join(", ")}`);
  return mode;
}

function timeoutOf(text: string | undefined): number {
  if (text === undefined) return CONNECT_TIMEOUT_MS;
  const seconds = Number(text);
  if (!Number.isInteger(seconds) || seconds < 1) throw wrong("its connect_timeout is not a number of seconds");
  return seconds * 1000;
}

function decode(text: string, what: string): string {
  return decodePercent(text, (why) => wrong(`its ${what} ${why}`));
}

function wrong(what: string, fix?: string): MillraceError {
  return sourceError("MR2004", "fatal", `source.url can't be used: ${what}`, { hint: fix });
}
