import { type ErrorCode, type ErrorPage, type ErrorPages, pages as meanings } from "./meanings.ts";

export type { ErrorCode, ErrorPage, ErrorPages } from "./meanings.ts";

/**
 * What the runtime does about a failure:
 * - retryable: it waits with jitter, then repeats the work;
 * - blocked: somebody outside has to act (a password, a grant, a certificate, disk space). It retries without limit at
 *   growing intervals, and status says that a person is needed;
 * - reopen: what the sink was opened on is gone. It opens the sink again and compares. Only for sinks;
 * - fatal: it stops this stream or sink and reports the fix;
 * - poison: the target refuses one row. The row is stored as a dead letter, the others go on;
 * - aborted: somebody asked us to stop; nothing is reported.
 */
export type ErrorKind = "retryable" | "blocked" | "reopen" | "fatal" | "poison" | "aborted";

/** Why a database, or the connection to it, did not do what was asked. */
export type DatabaseReason =
  // No answer came:
  | "stopped" // by us
  | "url" // it can't be used
  | "tls" // while connecting
  | "unbound" // a login that channel_binding=require forbids
  | "garbled" // TLS failed in the middle of a session
  | "unreachable" // the operating system's errors
  | "lost" // the connection ended
  | "pooler" // the URL leads to a connection pooler
  | "shared" // … which gives one session to several clients
  | "unknown" // an error that is of neither server nor network
  // The server answered:
  | "login"
  | "no-database" // at the login
  | "privilege"
  | "row-security" // it hides rows from the role
  | "slots" // all replication slots are taken
  | "connections" // all connections are taken
  | "disk" // it is full
  | "resources"
  | "temp-files" // a statement needs more of them than the role may have
  | "conflict" // with another transaction, which won
  | "ending" // it is starting or stopping, or ended the session
  | "lock" // not granted in time
  | "cancelled" // by a statement's timeout, or by somebody
  | "idle" // a transaction took too long
  | "in-use"
  | "not-now" // not in its present state
  | "read-only" // it is a standby
  | "no-file"
  | "system" // its operating system failed
  | "internal" // a defect of the server, or data that is damaged there
  | "no-table" // or no schema
  | "no-column"
  | "no-object" // of another kind
  | "exists"
  | "no-value" // a text that does not fit the type
  | "encoding" // a stored text that can't be turned into UTF-8
  | "parameter" // of a function or command is wrong
  | "content" // of a row is refused
  | "refused"; // the statement, for another reason

/** Why the state did not do what was asked. */
type StateReason =
  | "passing" // it can't be written now; the call had no effect and can be repeated
  | "absent" // it does not exist
  | "held"; // another process has the lease

export type ErrorReason =
  | DatabaseReason
  | StateReason
  | "silent" // the connection stands, and nothing comes over it
  | "one-stream" // no second stream of the log can be had now, which says nothing about the first
  | "moved" // the source has another log than the stored one: a new start asks `cross` whether it can go on there
  | "behind" // a sink holds less than before, and the log does not reach back that far
  | "user-limit" // a limit, quota or setting of this user alone
  | "partial" // a part of a target is missing now
  | "tables" // the target can't write so many at once
  | "size" // the target can't take so much at once
  | "taken" // another daemon, or another sink, writes the table now
  | "untold"; // rows of the table are gone, and the sink has no way to tell its readers

/** Whose failure it is. */
export interface Connector {
  readonly side: "source" | "sink";
  readonly kind: string;
  /** A server beside the one that its `url` names. */
  readonly part?: "catalogue" | "bucket" | "registry" | undefined;
}

interface ErrorDetails {
  /** What to do. */
  readonly hint?: string | undefined;
  /**
   * With `reopen`: ids of tables that the target no longer holds as they were written, even if its checkpoint says so.
   */
  readonly lostTables?: readonly string[] | undefined;
  readonly cause?: unknown;
  /** See `MillraceError.reason`. */
  readonly reason?: ErrorReason | undefined;
  /** See `MillraceError.table`. */
  readonly table?: string | undefined;
  /** See `MillraceError.further`. */
  readonly further?: readonly MillraceError[] | undefined;
}

interface ErrorParts extends ErrorDetails {
  readonly code: ErrorCode;
  readonly kind: ErrorKind;
  /** What is wrong and where. Never contains a cell value, a statement's parameter or a connection string. */
  readonly message: string;
  readonly connector?: Connector | undefined;
}

/** The only error that may cross a module's border with a meaning: numbered, classified, with its fix. */
export class MillraceError extends Error {
  readonly code: ErrorCode;
  readonly kind: ErrorKind;
  readonly hint: string | undefined;
  readonly lostTables: readonly string[];
  /** Code decides by this; number and message are for people. */
  readonly reason: ErrorReason | undefined;
  /**
   * For a fatal failure of a sink: the id of the only table it concerns. That table is suspended in the sink, the
   * others go on.
   */
  readonly table: string | undefined;
  /** Of a call for many tables, what it met with others of them: each names its own. */
  readonly further: readonly MillraceError[];
  readonly connector: Connector | undefined;

  constructor(parts: ErrorParts) {
    super(parts.message, parts.cause === undefined ? undefined : { cause: parts.cause });
    this.name = "MillraceError";
    this.code = parts.code;
    this.kind = parts.kind;
    this.hint = parts.hint;
    this.lostTables = parts.lostTables ?? [];
    this.reason = parts.reason;
    this.table = parts.table;
    this.further = parts.further ?? [];
    this.connector = parts.connector;
  }

  /** The same error with something else in it. */
  with(parts: Partial<ErrorParts>): MillraceError {
    const { code, kind, message, hint, lostTables, cause, reason, table, further, connector } = this;
    const own = { code, kind, message, hint, lostTables, cause, reason, table, further, connector };
    return new MillraceError({ ...own, ...parts });
  }
}

/** One error for the failures of one call, of which each names a table. */
export function joined([first, ...further]: readonly [MillraceError, ...MillraceError[]]): MillraceError {
  return further.length === 0 ? first : first.with({ further });
}

/** `kind`: fatal, unless it says otherwise. */
export interface RaiseDetails extends ErrorDetails {
  readonly kind?: ErrorKind;
}

/** How a folder raises the errors of its pages. What to do is what the page says, unless a hint says more. */
export function raising(
  pages: ErrorPages,
): (code: ErrorCode, message: string, details?: RaiseDetails) => MillraceError {
  return (code, message, { kind = "fatal", hint = pages[code]?.remedy, ...details } = {}) =>
    new MillraceError({ ...details, code, kind, message, hint });
}

/** A fatal error that another process has met, or an earlier one. */
export function fatalFrom(told: {
  readonly code: string;
  readonly message: string;
  readonly hint?: string | null;
}): MillraceError {
  const { code, message, hint } = told;
  return new MillraceError({ code: isCode(code) ? code : "MR1119", kind: "fatal", message, hint: hint ?? undefined });
}

function isCode(text: string): text is ErrorCode {
  return /^MR\d+$/.test(text);
}

/** How one connector raises its errors. */
export type Raise = (
  code: ErrorCode,
  kind: ErrorKind,
  message: string,
  details?: ErrorDetails & Pick<Connector, "part">,
) => MillraceError;

/** `hints`: what to do about a meaning in this connector; without one, what its page says. */
export function errorsOf(connector: Connector, hints: Readonly<Partial<Record<ErrorCode, string>>>): Raise {
  return (code, kind, message, { part, ...details } = {}) => {
    const hint = details.hint ?? hints[code] ?? meant[code]?.remedy;
    const whose = part === undefined ? connector : { ...connector, part };
    return new MillraceError({ ...details, code, kind, message, connector: whose, hint });
  };
}

const meant: Readonly<Record<string, ErrorPage>> = meanings;

/** A failure that concerns the whole server: its message names which. */
export function atServer(error: MillraceError, server: string): MillraceError {
  const { kind, message, table } = error;
  const isOfServer = (kind === "retryable" || kind === "blocked") && table === undefined;
  return !isOfServer || message.includes(server) ? error : error.with({ message: `${message} (${server})` });
}

/** With which the source, a sink or the state is reached. */
export interface Login {
  /** Empty: the configuration names none. */
  readonly user: string;
  /** Whether another one needs a restart. Null: the login is not in the file. */
  readonly note: string | null;
}

/** A login, grant or limit that refuses: whose, and whether another login needs a restart. */
export function withLogin(error: MillraceError, login: Login | null | undefined): MillraceError {
  if (login == null) return error;
  const isLogin = error.reason === "login" || error.reason === "no-database";
  const isOfUser = isLogin || error.code === "MR2008" || error.reason === "user-limit";
  const named = isOfUser ? withUser(error, login.user) : error;
  if (!isLogin || login.note === null) return named;
  const hint = (error.hint ?? "").replace(/[^.]$/, "$&.");
  return named.with({ hint: `${hint} ${login.note}`.trim() });
}

/** Some servers name the user in their own words. A bucket, or a registry, has another login. */
function withUser(error: MillraceError, user: string): MillraceError {
  const { message, connector } = error;
  const isOther = connector?.part === "bucket" || connector?.part === "registry";
  const isNamed = message.includes(`"${user}"`) || message.includes(`'${user}'`);
  return user === "" || isOther || isNamed ? error : error.with({ message: `${message}, user "${user}"` });
}

/** Runs work on one table. A fatal failure with one of these codes then concerns only that table. */
export async function aboutTable<T>(
  table: string,
  codes: ReadonlySet<string>,
  known: (error: unknown) => MillraceError | undefined,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const failure = known(error);
    if (failure?.kind !== "fatal" || !codes.has(failure.code)) throw error;
    throw failure.with({ table });
  }
}

/** The MillraceError in a chain of causes, if there is one. */
export function findMillraceError(error: unknown): MillraceError | undefined {
  for (let e = error; e instanceof Error; e = e.cause) if (e instanceof MillraceError) return e;
  return undefined;
}

export function reasonOf(error: unknown): ErrorReason | undefined {
  return findMillraceError(error)?.reason;
}

export function isAborted(error: unknown): boolean {
  const known = findMillraceError(error);
  if (known) return known.kind === "aborted";
  return error instanceof Error && error.name === "AbortError";
}

export function abortedError(signal: AbortSignal): Error {
  const reason: unknown = signal.reason;
  return reason instanceof Error ? reason : new DOMException(String(reason), "AbortError");
}
