/** A failure of the server or of the connection to it. The client's users give it a number and a message. */
import type { DatabaseReason } from "../core/errors.ts";
import { isNobodyThere, reachAgain, systemErrorCode } from "../core/system-errors.ts";
import { endedFix } from "./data-folder.ts";
import { StatementFailure } from "./exchange.ts";
import { certificateFailures, isTlsCode, type TlsFailure } from "../tls/failure.ts";

interface FailureParts {
  readonly code?: string;
  readonly state?: string | undefined;
  readonly fix?: string | undefined;
  readonly connecting?: boolean;
  readonly server?: string | undefined;
  readonly cause?: unknown;
}

export class Failure extends Error {
  readonly reason: DatabaseReason;
  /** SQLSTATE: the server answered. */
  readonly state: string | undefined;
  /** The SQLSTATE, or Node's code (ECONNRESET …); empty if there is neither. */
  readonly code: string;
  /** For a URL or TLS: the same for every user. */
  readonly fix: string | undefined;
  /** The failure occurred before the session began. */
  readonly connecting: boolean;
  /** Host and port; undefined after the session began. */
  readonly server: string | undefined;

  /**
   * `text`: the message of the server or the driver, which may contain values; for a URL and for TLS our own message.
   */
  constructor(reason: DatabaseReason, text: string, parts: FailureParts = {}) {
    super(text, parts.cause === undefined ? undefined : { cause: parts.cause });
    this.name = "Failure";
    this.reason = reason;
    this.state = parts.state;
    this.code = parts.code ?? parts.state ?? "";
    this.fix = parts.fix;
    this.connecting = parts.connecting ?? false;
    this.server = parts.server;
  }

  /** The server's function that raised it; the same in every language of its messages. */
  get routine(): string {
    const routine: unknown = this.cause instanceof Error ? Reflect.get(this.cause, "routine") : undefined;
    return typeof routine === "string" ? routine : "";
  }

  /** The setting of a table of locks that is full; undefined: none is. The server names it in its hint, in every language. */
  get lockSetting(): string | undefined {
    // Also the SQLSTATE of a server without memory.
    if (this.state !== OUT_OF_MEMORY) return undefined;
    const hint: unknown = this.cause instanceof Error ? Reflect.get(this.cause, "hint") : undefined;
    return typeof hint === "string" ? /max_(?:pred_)?locks_per_transaction/.exec(hint)?.[0] : undefined;
  }
}

const OUT_OF_MEMORY = "53200";

/** What a driver threw; `server`: while connecting to it. */
export function failureOf(error: unknown, server?: string): Failure {
  const connecting = server !== undefined;
  const known = findFailure(error);
  if (known !== undefined) return known;
  if (error instanceof StatementFailure) return failureOf(error.cause, server);
  const text = error instanceof Error ? error.message : String(error);
  const code = codeOf(error);
  const state = sqlState(error);
  const reason = state === undefined ? withoutState(error, text) : reasonOfState(state, text, connecting);
  const tls = reason === "login" && connecting ? refusedWithoutTls(text) : undefined;
  const found = tls ?? (state === undefined ? handshakeFailure(code, text) : undefined);
  if (found === undefined && reason === "unknown" && connecting)
    return new Failure("unreachable", text, { code: OTHER_PROTOCOL, connecting, server, cause: error });
  const isFunction = connecting && reason === "login" && !/^(?:28|55)/.test(state ?? "");
  const said = isFunction ? "a login trigger, or a parameter of the url, failed" : text;
  if (found === undefined) return new Failure(reason, said, { code, state, connecting, server, cause: error });
  const { what, fix } = found;
  return new Failure(connecting ? "tls" : "garbled", what, { code, fix, connecting, server, cause: error });
}

/** Instead of a code: of an answer that the driver can't read. */
const OTHER_PROTOCOL = "what answers there is no Postgres";

/** At a login: the encoding of the session, which is UTF8. */
const NOT_SUPPORTED = "0A000";

/**
 * The way out while connecting, and of a standby later too, by what the server or the system said; `key`: where the configuration has the url. The
 * server gives several refusals one SQLSTATE; its function that raised them is the same in every language.
 */
export function connectFix(
  { reason, state, code, server, message, routine }: Failure,
  key: string,
): string | undefined {
  if (reason === "read-only")
    return `The server is a standby: point \`${key}\` at the primary, or promote this one (SELECT pg_promote()).`;
  if (server === undefined) return undefined;
  if (code === OTHER_PROTOCOL)
    return `Another program has the port of ${server}: correct \`${key}\`, or start Postgres there. Millrace tries again by itself.`;
  if (reason === "unreachable")
    return (isNobodyThere(code) ? endedFix(server) : undefined) ?? reachAgain(code, server, key);
  if (reason === "lost") return reachAgain(/timeout/.test(message) ? "ETIMEDOUT" : "ECONNRESET", server, key);
  if (state === NOT_SUPPORTED)
    return "Postgres can't turn the encoding of this database (MULE_INTERNAL) into UTF8: move the data into a database with the encoding UTF8.";
  if (reason === "no-database") return `Create the database, or correct its name in \`${key}\`.`;
  if (reason === "connections") return fullFix(routine);
  if (reason !== "login") return undefined;
  if (state === "28P01")
    return `The password in \`${key}\` is not the role's: correct it, or set it at the server (ALTER ROLE … PASSWORD).`;
  if (state === "55000")
    return `Let the database take connections again (ALTER DATABASE … ALLOW_CONNECTIONS true), or correct its name in \`${key}\`.`;
  if (state?.startsWith("28") !== true)
    return `Correct the login trigger of the database (ALTER EVENT TRIGGER … DISABLE), or the parameters in \`${key}\`: the server's log has the error.`;
  if (routine === "ClientAuthentication")
    return "Add a line for this role, database and address to pg_hba.conf on the server, then SELECT pg_reload_conf().";
  return `Create the role and let it log in (ALTER ROLE … LOGIN), or correct the user in \`${key}\`.`;
}

/** A new session has the new value. */
export const MORE_TEMP_FILES =
  "Raise the limit of Millrace's role (as a superuser: ALTER ROLE … SET temp_file_limit = …), or the memory that it takes before it needs files (ALTER ROLE … SET work_mem = …). Millrace tries again by itself.";

/** `setting`: see `lockSetting`. */
export function moreLocks(setting: string): string {
  return `Millrace tries again by itself. If it lasts, double ${setting} at that server (ALTER SYSTEM SET ${setting} = …; SHOW ${setting} tells what it is) and restart it.`;
}

/** Several limits have one SQLSTATE. */
function fullFix(routine: string): string {
  const passes = "or close sessions that nobody needs. Millrace tries again by itself.";
  if (routine === "CheckMyDatabase")
    return `The database's own limit is reached (SELECT datname, datconnlimit FROM pg_database): ALTER DATABASE … CONNECTION LIMIT …, ${passes}`;
  if (routine === "InitializeSessionUserId")
    return `The role's own limit is reached (SELECT rolname, rolconnlimit FROM pg_roles): ALTER ROLE … CONNECTION LIMIT …, ${passes}`;
  return `Raise max_connections, or max_wal_senders if the message names that one (SHOW tells what they are), and restart the server; ${passes}`;
}

function withoutState(error: unknown, text: string): DatabaseReason {
  if (error instanceof Error && error.name === "AbortError") return "stopped";
  // A pooler may refuse the startup parameter without a SQLSTATE.
  if (/unsupported startup parameter/i.test(text)) return "pooler";
  if (systemErrorCode(error) !== undefined) return "unreachable";
  // pg's own messages for a closed socket; they carry no code.
  if (/timeout expired|Connection terminated|not queryable|Client was closed/.test(text)) return "lost";
  return "unknown";
}

function findFailure(error: unknown): Failure | undefined {
  for (let e = error; e instanceof Error; e = e.cause) if (e instanceof Failure) return e;
  return undefined;
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
}

/** A SQLSTATE has five characters. Node's own codes (ECONNRESET …) are words. */
function sqlState(error: unknown): string | undefined {
  const code = codeOf(error);
  return /^[0-9A-Z]{5}$/.test(code) && !code.startsWith("E") ? code : undefined;
}

/** By SQLSTATE, else by its class, the first two characters (the manual's appendix A). */
const REASONS: Readonly<Record<string, DatabaseReason>> = {
  "08": "lost",
  "22": "content",
  // A text that does not fit the column's type, or that the database's encoding can't represent.
  "22003": "no-value",
  "22007": "no-value",
  "22008": "no-value",
  "22021": "encoding",
  "22P02": "no-value",
  "22P05": "encoding",
  "22023": "parameter",
  "23": "content",
  "25006": "read-only",
  "25P03": "idle",
  "25P04": "idle",
  "28": "login",
  "3D": "no-database",
  "3F000": "no-table",
  "40": "conflict",
  "42501": "privilege",
  "42703": "no-column",
  "42704": "no-object",
  "42710": "exists",
  "42P01": "no-table",
  // A view's check option, and a user's trigger that raises an error.
  "44": "content",
  P0001: "content",
  "53": "resources",
  "53100": "disk",
  "53300": "connections",
  "53400": "slots",
  // An index entry of more than a third of a page, or a row with too many columns.
  "54": "content",
  "55000": "not-now",
  "55006": "in-use",
  "55P03": "lock",
  "57": "ending",
  "57014": "cancelled",
  "58": "system",
  "58P01": "no-file",
  XX: "internal",
};

/** What else a server answers while it lets nobody in; it concerns no statement, no row and no log. */
const OF_CONNECTING: ReadonlySet<DatabaseReason> = new Set([
  "no-database",
  "privilege",
  "connections",
  "slots",
  "disk",
  "resources",
  "conflict",
  "ending",
  "lock",
  "cancelled",
  "read-only",
  "lost",
  "system",
  "internal",
]);

/** A login may be refused with any SQLSTATE: the database takes no connections, its files are away, a login trigger fails. */
function reasonOfRefusal(known: DatabaseReason, state: string): DatabaseReason {
  if (known === "no-file") return "system";
  return OF_CONNECTING.has(known) || state === NOT_SUPPORTED ? known : "login";
}

/** `text`, the server's message, distinguishes cases that share one SQLSTATE. */
function reasonOfState(state: string, text: string, connecting: boolean): DatabaseReason {
  const known = REASONS[state] ?? REASONS[state.slice(0, 2)] ?? "refused";
  const reason = connecting ? reasonOfRefusal(known, state) : known;
  // The same for a text of ours: NUL, which no text may hold, or characters of UTF-8 that the database's encoding lacks.
  if (reason === "encoding" && /"UTF8": 0x00$|"UTF8"[^"]*"[^"]+"$/.test(text)) return "no-value";
  // A file of the log is named by its number; others are those of a table or of an extension's library.
  if (reason === "no-file" && !/\b[0-9A-F]{24}\b/.test(text)) return "system";
  // With row_security=off the server refuses a read that a policy would restrict.
  if (reason === "privilege" && /row-level security/.test(text)) return "row-security";
  // The same SQLSTATE as that of a server without a free slot.
  if (reason === "slots" && /temp_file_limit/.test(text)) return "temp-files";
  if (reason === "lost" && /startup parameter|pgbouncer|pooler/i.test(text)) return "pooler";
  return reason;
}

const OWN_PAIR: TlsFailure = {
  what: "the client's certificate and key can't be used",
  fix: "Set sslcert and sslkey in the url to the PEM files of one certificate and its own private key.",
};

const OWN_REFUSED: TlsFailure = {
  what: "the server does not accept the client's certificate",
  fix: "Set sslcert and sslkey in the url to a certificate that is signed by an authority in the server's ssl_ca_file.",
};

/** By the code of Node or OpenSSL. The fixes name libpq's parameters. */
const TLS_FAILURES: Readonly<Record<string, TlsFailure>> = {
  ...certificateFailures({
    untrusted:
      "Set sslrootcert in the url to the PEM file of the authority that signed it (a self-signed certificate is its own).",
    expired: "Renew the certificate on the server (ssl_cert_file), then SELECT pg_reload_conf().",
    otherName:
      "Name the server in the url as its certificate does, or have one issued for this name; sslmode=verify-ca checks the authority alone.",
  }),
  ERR_OSSL_X509_KEY_VALUES_MISMATCH: OWN_PAIR,
  ERR_OSSL_PEM_NO_START_LINE: OWN_PAIR,
  ERR_OSSL_UNSUPPORTED: OWN_PAIR,
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: OWN_REFUSED,
  ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED: OWN_REFUSED,
  ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE: OWN_REFUSED,
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED: OWN_REFUSED,
  "ERR_SSL_SSL/TLS_ALERT_BAD_CERTIFICATE": OWN_REFUSED,
};

/** The driver's message. */
export const NO_TLS = /does not support SSL/;

/** A failure during the handshake, or before it. `text` is used if the driver gives no code. */
function handshakeFailure(code: string, text: string): TlsFailure | undefined {
  const known = TLS_FAILURES[code];
  if (known !== undefined) return known;
  if (NO_TLS.test(text)) {
    return {
      what: "the server does not speak TLS",
      fix: "Set ssl = on with a certificate on the server; or, where the network is trusted, sslmode=prefer or sslmode=disable in the url.",
    };
  }
  if (!isTlsCode(code)) return undefined;
  return { what: code, fix: "Check sslmode, sslrootcert, sslcert and sslkey in the url." };
}

/**
 * pg_hba.conf has a line only for encrypted connections, or only for certificates. The server has one SQLSTATE for
 * every refusal by pg_hba.conf; with messages in another language the failure counts as a refused login.
 */
function refusedWithoutTls(text: string): TlsFailure | undefined {
  if (text.endsWith("no encryption")) {
    return {
      what: "the server takes no connection without TLS from this role and address",
      fix: "Set sslmode=require, or stronger, in the url.",
    };
  }
  if (!/requires a valid client certificate/.test(text)) return undefined;
  return { what: "the server wants a client certificate", fix: OWN_REFUSED.fix };
}
