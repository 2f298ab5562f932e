/** A failure of the server or of the connection to it. The client's users give it a number and a message. */
import type { DatabaseReason } from "../core/errors.ts";
import { reachAgain, systemErrorCode } from "../core/system-errors.ts";
import { StatementFailure } from "./exchange.ts";
import { reasonOfState } from "./sql-states.ts";
import { handshakeFailure, refusedWithoutTls } from "./tls-failures.ts";

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
}

/** What a driver threw; `server`: while connecting to it. */
export function failureOf(error: unknown, server?: string): Failure {
  const connecting = server !== undefined;
  const known = findFailure(error);
  if (known !== undefined) return known;
  if (error instanceof StatementFailure) return failureOf(error.cause, server);
  const text = error instanceof Error ? error.message : String(error);
  const code = codeOf(error);
  const state = sqlState(error);
  const reason = state === undefined ? withoutState(error, text) : reasonOfState(state, text);
  const tls = reason === "login" && connecting ? refusedWithoutTls(text) : undefined;
  const found = tls ?? (state === undefined ? handshakeFailure(code, text) : undefined);
  if (found === undefined) return new Failure(reason, text, { code, state, connecting, server, cause: error });
  const { what, fix } = found;
  return new Failure(connecting ? "tls" : "garbled", what, { code, fix, connecting, server, cause: error });
}

/** At a login: the encoding of the session, which is UTF8. */
const NOT_SUPPORTED = "0A000";

/**
 * The way out while connecting, by what the server or the system said; `key`: where the configuration has the url. The
 * server gives several refusals one SQLSTATE; its function that raised them is the same in every language.
 */
export function connectFix(
  { reason, state, code, server, message, routine }: Failure,
  key: string,
): string | undefined {
  if (server === undefined) return undefined;
  if (reason === "unreachable") return reachAgain(code, server, key);
  if (reason === "lost") return reachAgain(/timeout/.test(message) ? "ETIMEDOUT" : "ECONNRESET", server, key);
  if (state === NOT_SUPPORTED)
    return "Postgres can't turn the encoding of this database (MULE_INTERNAL) into UTF8: move the data into a database with the encoding UTF8.";
  if (reason !== "login") return undefined;
  if (state === "28P01")
    return `The password in \`${key}\` is not the role's: correct it, or set it at the server (ALTER ROLE … PASSWORD).`;
  if (state?.startsWith("3D") === true) return `Create the database, or correct its name in \`${key}\`.`;
  if (routine === "ClientAuthentication")
    return "Add a line for this role, database and address to pg_hba.conf on the server, then SELECT pg_reload_conf().";
  return `Create the role and let it log in (ALTER ROLE … LOGIN), or correct the user in \`${key}\`.`;
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
