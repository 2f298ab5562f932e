import {
  atServer,
  type DatabaseReason,
  type ErrorCode,
  type ErrorKind,
  type ErrorPages,
  type ErrorReason,
  errorsOf,
  findMillraceError,
  MillraceError,
  reasonOf,
} from "../../../src/core/errors.ts";
import { roomFix } from "../../../src/postgres/data-folder.ts";
import { connectFix, Failure, failureOf, MORE_TEMP_FILES, moreLocks } from "../../../src/postgres/failure.ts";
import { serverAt } from "../../../src/core/system-errors.ts";
import { heldBy, type LockHolders } from "../../kit/lock-holders.ts";
import type { PostgresAddress } from "../../../src/postgres/url.ts";

/** The way out of every gap: the sinks' rows get a new epoch, so that no row of the earlier one blocks a change. */
export const BEGIN_ANEW =
  "`millrace recover` makes a new slot first, then compares the sinks with the source and reads what differs.";

/** After these errors, only a new slot helps. */
export const LOSSES: ReadonlySet<ErrorCode> = new Set(["MR2010", "MR2013", "MR2016", "MR2017"]);

/** What only Postgres as a source can meet. */
export const pages = {
  MR2017: {
    title: "A publication is missing or narrowed",
    remedy: `Correct the publication, or drop it: Millrace creates it again. ${BEGIN_ANEW}`,
    cause:
      "The publication was dropped, or no longer carries tables or kinds of change that it did: changes may have passed unseen. With `snapshot: none` also: it was altered, and may have carried less for a while.",
  },
  MR2018: {
    title: "A slot is of another kind",
    remedy: "Choose another `slot` in the source's configuration, or drop the slot.",
    cause:
      "A slot of that name exists but is physical, of another database or output plugin, or one that sends prepared transactions before they are committed (`two_phase`).",
  },
  MR2030: {
    title: "No second slot for a sink that is behind",
    remedy:
      "Leave one slot and one WAL sender free (max_replication_slots, max_wal_senders), and let the role call pg_copy_logical_replication_slot(name, name, boolean).",
    cause:
      "A sink that was away or too slow catches up through its own stream, for which the server has no slot or WAL sender left, or which it refuses. After several attempts the shared stream goes back to the sink's position, and the other sinks wait: `millrace status` shows this.",
  },
  MR2037: {
    title: "A text has no form in UTF-8",
    remedy:
      "Correct the rows, delete them, or leave the table out by `tables`; then `millrace snapshot start --tables TABLE` reads a suspended table again. In a session with client_encoding SQL_ASCII, of bytes in LATIN1: UPDATE … SET c = convert_from(convert(convert_to(c, 'SQL_ASCII'), 'LATIN1', 'UTF8'), 'SQL_ASCII') WHERE …. In a session with the database's encoding, of the byte 81 in WIN1252: UPDATE … SET c = replace(c, convert_from('\\x81', 'WIN1252'), '?') WHERE ….",
    cause:
      "A database with the encoding SQL_ASCII keeps whatever bytes a client sends, or a character of its encoding has no form in UTF-8. The table is suspended, or can't be read. If it is in the name of a table, or of its column, index or type, that table is left out until it is renamed.",
  },
} as const satisfies ErrorPages;

/** In short, for there may be many tables. */
export const CORRECT_TEXTS = "Correct or delete those rows (millrace explain MR2037 has the SQL)";

/** Raised inside a stream with binary cells when a type appears that has no binary form. */
export class TextModeNeeded extends Error {}

export const sourceError = errorsOf(
  { side: "source", kind: "postgres" },
  {
    MR2001: "Millrace tries again by itself. If it lasts, check whether the server runs and can be reached.",
    MR2002: "Try the same URL with psql from the same machine; correct `source.url` or pg_hba.conf.",
    MR2003: "Set `sslmode` and `sslrootcert` in `source.url` as for psql. `verify-full` is right over a network.",
    MR2004: "Correct the part of `source.url` that the message names.",
  },
);

interface Rule {
  readonly code: ErrorCode;
  readonly kind: ErrorKind;
  /** `at`: "while …", with the SQLSTATE. */
  readonly says: (at: string, failure: Failure, doing: string) => string;
  readonly hint?: string;
}

/** The server's sentence is repeated only if such sentences hold names and settings, never data. */
const telling =
  (what: string) =>
  (at: string, { message }: Failure) =>
    `${what} ${at}: ${message}`;
const silent = (what: string) => (at: string) => `${what} ${at}`;

const TLS: Rule = { code: "MR2003", kind: "blocked", says: telling("TLS with the source failed") };
const CHANGED: Rule = {
  code: "MR2025",
  kind: "retryable",
  says: telling("a table was changed meanwhile"),
  hint: "It is looked up again.",
};
const WAITED: Rule = {
  code: "MR2026",
  kind: "retryable",
  says: telling("the server gave up waiting"),
  hint: "A lock was in the way; see pg_stat_activity and pg_locks.",
};
const SHORT: Rule = { code: "MR2006", kind: "retryable", says: telling("the server is short of resources") };
const REFUSED: Rule = {
  code: "MR2027",
  kind: "fatal",
  says: silent("the server refused a command"),
  hint: "See the server's log for the statement.",
};

const LOGIN: Rule = { code: "MR2002", kind: "blocked", says: telling("the source refuses the login") };

const POOLER: Rule = {
  code: "MR2004",
  kind: "fatal",
  says: () => "source.url leads to a connection pooler, which can't carry replication",
  hint: "Point source.url at the Postgres server itself (its own host and port, not the pooler's).",
};

const RULES: Readonly<Record<DatabaseReason, Rule>> = {
  stopped: { code: "MR2029", kind: "aborted", says: (_, __, doing) => `${doing} was stopped` },
  url: { code: "MR2004", kind: "fatal", says: (_, { message }) => `source.url can't be used: ${message}` },
  tls: TLS,
  garbled: TLS,
  unbound: { code: "MR2003", kind: "blocked", says: (at, { message }) => `${message} (${at})` },
  unreachable: {
    code: "MR2001",
    kind: "retryable",
    says: (at, { code }) => `the source can't be reached ${at}: ${code}`,
  },
  lost: {
    code: "MR2001",
    kind: "retryable",
    says: silent("the connection to the source was lost"),
  },
  pooler: POOLER,
  shared: POOLER,
  unknown: {
    code: "MR2027",
    kind: "fatal",
    says: (at, { cause }) => `an unexpected failure ${at}: ${cause instanceof Error ? cause.name : "unknown"}`,
  },
  login: LOGIN,
  "no-database": LOGIN,
  privilege: {
    code: "MR2008",
    kind: "blocked",
    says: telling("the role lacks a privilege"),
    hint: "`millrace check` prints the GRANT that is missing.",
  },
  "row-security": {
    code: "MR2008",
    kind: "blocked",
    says: telling("row-level security hides rows from the role"),
    hint: "Give the role BYPASSRLS (ALTER ROLE … BYPASSRLS), or exclude the table in `tables`.",
  },
  slots: {
    code: "MR2006",
    kind: "blocked",
    says: telling("the server has no free replication slot"),
    hint: "Drop a slot that nobody uses (SELECT slot_name FROM pg_replication_slots WHERE NOT active) or raise max_replication_slots and restart the server.",
  },
  connections: {
    code: "MR2006",
    // Connections come and go; a session that was just closed still counts for a moment.
    kind: "retryable",
    says: telling("the server has no free connection"),
    hint: "Raise max_connections or max_wal_senders, or the role's CONNECTION LIMIT.",
  },
  disk: { code: "MR3213", kind: "blocked", says: telling("the server's disk is full") },
  resources: SHORT,
  "temp-files": {
    code: "MR2006",
    kind: "retryable",
    says: telling("a statement needs more temporary files than the role may have"),
    hint: MORE_TEMP_FILES,
  },
  conflict: SHORT,
  ending: {
    code: "MR2006",
    kind: "retryable",
    says: telling("the server ended the session"),
    hint: "Millrace connects again by itself.",
  },
  lock: WAITED,
  cancelled: WAITED,
  idle: WAITED,
  "in-use": { code: "MR2012", kind: "retryable", says: telling("an object is in use") },
  "not-now": { code: "MR2027", kind: "fatal", says: telling("the server can't do this in its present state") },
  // Our sessions may write unless the whole server may not.
  "read-only": {
    code: "MR2031",
    kind: "retryable",
    says: silent("the source is a standby, which takes no writes"),
  },
  "no-file": {
    code: "MR2010",
    kind: "fatal",
    says: telling("the server no longer has the log that is needed"),
    hint: `Drop the slot. ${BEGIN_ANEW}`,
  },
  system: { code: "MR2027", kind: "retryable", says: telling("the server failed"), hint: "See its log." },
  internal: {
    code: "MR2027",
    kind: "retryable",
    // The sentence may quote rows. The name of the failed function tells an expert enough.
    says: (at, { routine }) => `the server failed ${at}${routine === "" ? "" : `, in its ${routine}`}`,
    hint: "See its log.",
  },
  "no-table": CHANGED,
  "no-column": CHANGED,
  "no-object": CHANGED,
  exists: REFUSED,
  "no-value": REFUSED,
  encoding: {
    code: "MR2037",
    kind: "retryable",
    says: silent("the server can't turn a stored text into UTF-8"),
    hint: CORRECT_TEXTS,
  },
  parameter: REFUSED,
  content: REFUSED,
  refused: REFUSED,
};

/** Turns what was thrown while `doing` (for example "reading public.orders") into a numbered error. */
export function classify(error: unknown, doing: string, address?: PostgresAddress): MillraceError {
  return findMillraceError(error) ?? numbered(failureOf(error), doing, address);
}

export type UrlKey = "source.url" | "source.primaryUrl";

/** The error says where the configuration has the server's address. */
export function named(error: MillraceError, key: UrlKey): MillraceError {
  if (key === "source.url") return error;
  const own = (text: string): string => text.replaceAll("source.url", key);
  return error.with({ message: own(error.message), hint: error.hint === undefined ? error.hint : own(error.hint) });
}

/** The same at a server that had answered. */
export function failedAt(error: unknown, doing: string, address: PostgresAddress): MillraceError {
  return atServer(classify(error, doing, address), serverAt(address.host, address.port));
}

function numbered(failure: Failure, during: string, address?: PostgresAddress): MillraceError {
  const { reason, state, fix, cause } = failure;
  const { code, kind, says, hint } = RULES[reason];
  const doing = failure.server !== undefined ? `connecting to ${failure.server}` : during;
  const at = state === undefined ? `while ${doing}` : `while ${doing} (SQLSTATE ${state})`;
  const message = says(at, failure, doing);
  const room = reason === "disk" ? roomFix(address, failure.message) : undefined;
  const locks = failure.lockSetting === undefined ? undefined : moreLocks(failure.lockSetting);
  const way = room ?? locks ?? (reason === "shared" ? hint : fix) ?? connectFix(failure, "source.url") ?? hint;
  return sourceError(code, kind, message, { hint: way, cause, reason });
}

/** No answer came, because the statement waits for a lock. */
export function waitedForLock({ message, reason, cause }: MillraceError, { what, fix }: LockHolders): MillraceError {
  return sourceError("MR2026", "retryable", `${message}: it waits for a lock; ${what}`, { hint: fix, cause, reason });
}

/** The error of a lock that was not granted, with who holds it. */
export async function withHolders(
  error: unknown,
  { address }: { readonly address: PostgresAddress },
  first: string,
  signal: AbortSignal,
): Promise<unknown> {
  const known = findMillraceError(error);
  if (known?.reason !== "lock" || signal.aborted) return error;
  // With its driver, which a command that only reads the configuration does not need.
  const { lockHolders } = await import("../blocking-transactions.ts");
  const holders = await lockHolders(address, first, signal);
  if (holders === null) return error;
  return heldBy(known, holders);
}

export function aborted(what: string): MillraceError {
  return numbered(new Failure("stopped", ""), what);
}

export function poolerError(): MillraceError {
  return numbered(new Failure("pooler", ""), "");
}

/** These mean the same for the first stream as for a second one: the server is going away, or did not answer. */
const OF_THE_FIRST_TOO: ReadonlySet<ErrorReason> = new Set([
  "stopped",
  "url",
  "tls",
  "unbound",
  "garbled",
  "unreachable",
  "lost",
  "pooler",
  "shared",
  "unknown",
  "ending",
  "cancelled",
]);

/** The meaning of `error`, which occurred while requesting a second slot, for the caller. */
export function refusedSecondStream(error: unknown): unknown {
  const known = findMillraceError(error);
  if (known?.reason === undefined || OF_THE_FIRST_TOO.has(known.reason)) return error;
  return new MillraceError({
    code: "MR2030",
    kind: "retryable",
    reason: "one-stream",
    message: `no second replication slot can be had: ${known.message}`,
    hint: "A sink that lies behind catches up by a slot and a WAL sender of its own: leave one of each free (max_replication_slots, max_wal_senders), and let the role call pg_copy_logical_replication_slot.",
    cause: error,
  });
}

/** No row has such a key. */
export function isNoKey(error: unknown): boolean {
  return reasonOf(error) === "no-value";
}
