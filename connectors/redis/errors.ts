import { type ErrorCode, type ErrorKind, errorsOf, isAborted, MillraceError } from "../../src/core/errors.ts";
import { roomOfServer } from "../../src/core/disk-room.ts";
import { reachAgain, serverIn, systemErrorCode } from "../../src/core/system-errors.ts";
import { tlsFailure, type TlsFailure } from "../../src/tls/failure.ts";
import { UnusableTls } from "../../src/tls/options.ts";

/** What the sink calls. */
export const ACL_COMMANDS =
  "+eval +evalsha +script|load +hget +hmget +hgetall +hset +hlen +hdel +get +getrange +set +del +exists +scan +wait +select +ping";
export const ACL_OF_CLUSTERS = "+cluster|slots +cluster|shards +info";
export const ACL_FASTER = "+restore +config|get";

export const raise = errorsOf(
  { side: "sink", kind: "redis" },
  {
    MR1308:
      "Nothing: the sink continues from there if the log reaches back that far; else it is filled again, or stops with MR1301 (`onLost: fail`).",
    MR2002:
      "Correct user and password in `url` (redis://user:password@host:port/db), or set them at the server as they were (ACL SETUSER …).",
    MR2003:
      "Use rediss:// only where the port speaks TLS; name an authority of your own in `ca`, a certificate of this client in `cert` and `certKey`, another name than the url's host in `serverName`.",
    MR2004: "Correct `url` (redis://user:password@host:port/db), or `cluster`.",
    MR2005: "Use Redis 6.0 or newer, or Valkey, with EVAL allowed; or correct `cluster`.",
    MR2006: "If it lasts, look at the server (INFO), and at its replicas if `waitReplicas` is set (INFO replication).",
    MR2008: `Grant it (\`millrace grants\` prints it whole): ACL SETUSER <user> ~<prefix>* ${ACL_COMMANDS} (in a cluster also ${ACL_OF_CLUSTERS}). With ${ACL_FASTER} the server has less work.`,
    MR3110:
      "Nothing: the cache is filled again; with `onLost: fail` the sink stops with MR1301. With maxmemory use a volatile-* policy, so that the progress key is not evicted.",
  },
);

/** `fix`: of this reply alone, where the page of the code names several. */
type Meaning = readonly [code: ErrorCode, kind: ErrorKind, what: string, fix?: string | undefined];

const UNSAVED = "Redis can't save to disk and refuses writes";
const PASSES = "Nothing: Millrace tries again until the server takes it.";
const PRIMARY = "Point `url` at the primary, or promote this server: REPLICAOF NO ONE.";
const OF_CLUSTER = "If it lasts, look at the nodes: redis-cli --cluster check HOST:PORT.";
const ELSEWHERE = "the key lies on another node of the Redis cluster";
const NAME_CLUSTER = `Set \`cluster: true\` where the config lacks it; else the cluster is moving slots. ${OF_CLUSTER}`;
const NONE_LEFT = "Redis has no connection left";
const FULL = "Close clients that nobody needs, or raise `maxclients` (CONFIG SET maxclients …).";
const PROTECTED =
  "Give the server's user a password (ACL SETUSER, or requirepass) and name it in `url`; or, where the network is trusted, CONFIG SET protected-mode no.";
const FULL_REPLY = /max number of clients reached/;
const NO_DATABASE =
  "Correct the number behind the slash in `url`, or raise `databases` on the server; a cluster has only 0.";

const NOPERM: Meaning = ["MR2008", "blocked", "the Redis user lacks a permission"];

/**
 * First words of Redis' error replies, and their meaning here.
 * https://redis.io/docs/latest/develop/reference/protocol-spec/
 */
const REPLIES: Readonly<Record<string, Meaning>> = {
  NOAUTH: [
    "MR2002",
    "blocked",
    "Redis wants a password and the config has none",
    "Give `url` the password (redis://user:password@host:port/db), or set `passwordFile` or `passwordCommand`.",
  ],
  WRONGPASS: ["MR2002", "blocked", "Redis refuses user or password"],
  DENIED: [
    "MR2002",
    "blocked",
    "Redis is in protected mode: it has no password, and takes no client from another machine",
    PROTECTED,
  ],
  NOPERM,
  OOM: [
    "MR2006",
    "blocked",
    "Redis is over its maxmemory and refuses writes",
    "Raise `maxmemory` (CONFIG SET maxmemory …), or set a volatile-* policy that lets it evict other keys.",
  ],
  READONLY: ["MR2006", "blocked", "Redis is a replica and refuses writes", PRIMARY],
  LOADING: ["MR2006", "retryable", "Redis is loading its data", PASSES],
  MISCONF: [
    "MR2006",
    "blocked",
    UNSAVED,
    "Free space on the disk of the folder that CONFIG GET dir names, or let its user write there; the server's log says which.",
  ],
  NOREPLICAS: [
    "MR2006",
    "retryable",
    "Redis lacks the replicas that it demands for writes",
    "Bring replicas back (INFO replication), or lower `min-replicas-to-write`.",
  ],
  BUSY: ["MR2006", "retryable", "Redis is running a long script", "Wait for it, or end it: SCRIPT KILL."],
  MASTERDOWN: ["MR2006", "retryable", "the Redis replica has lost its primary", `If it lasts: ${PRIMARY}`],
  CLUSTERDOWN: ["MR2006", "retryable", "the Redis cluster is down", OF_CLUSTER],
  TRYAGAIN: ["MR2006", "retryable", "the Redis cluster is moving slots", OF_CLUSTER],
  MOVED: ["MR2006", "retryable", ELSEWHERE, NAME_CLUSTER],
  ASK: ["MR2006", "retryable", ELSEWHERE, NAME_CLUSTER],
  UNBLOCKED: ["MR2006", "retryable", "Redis has become a replica", `If it lasts: ${PRIMARY}`],
  NOSCRIPT: ["MR2006", "retryable", "Redis has lost its scripts", PASSES],
  CROSSSLOT: ["MR2004", "fatal", "Redis is a cluster and the config does not say so", "Set `cluster: true`."],
};

/** At which a server ends a connection without a word. */
export interface ClientLimit {
  readonly name: string;
  readonly value: string;
  /** The default, which is enough. */
  readonly usual: string;
}

/** With the value of the limit that is reached. */
export function crowdedAt(clientsMax: string | null, error: MillraceError): MillraceError {
  if (clientsMax === null || !error.message.startsWith(NONE_LEFT)) return error;
  return error.with({ message: `${error.message}: maxclients was ${clientsMax} when Millrace asked last` });
}

export function isWithoutPermission(error: unknown): boolean {
  return error instanceof Error && replyCode(error.message) === "NOPERM";
}

/** With the folder in which the server saves, and how much room it has if the server runs here. */
export function unsavedIn(folder: string | null, host: string, error: MillraceError): MillraceError {
  if (folder === null || !error.message.startsWith(UNSAVED)) return error;
  const where = roomOfServer(host, folder);
  return error.with({
    hint: `Free space on the disk of ${where}, or let the server's user write there; its log says which. Redis takes writes again once it can write there: with snapshots after the next one (BGSAVE), with an AOF by itself.`,
  });
}

/** What a server answers to a connection before it closes it. */
export function isRefusal(text: string): boolean {
  return replyCode(text) === "DENIED" || FULL_REPLY.test(text);
}

/**
 * The meaning of an ioredis or server error for the runtime. `server`: host and port, of a cluster any of its nodes.
 * `limits`: of the connection that failed.
 */
export function classify(
  error: unknown,
  signal: AbortSignal | undefined,
  server: string,
  limits: readonly ClientLimit[] = [],
): MillraceError {
  if (signal?.aborted === true || isAborted(error)) {
    return raise("MR2029", "aborted", "the work on Redis was stopped", { cause: error });
  }
  if (error instanceof MillraceError) return error;
  if (error instanceof UnusableTls) return redisError("MR2003", "blocked", error.what, error.cause, error.fix);
  const text = error instanceof Error ? error.message : String(error);
  const known = REPLIES[replyCode(text)];
  if (known !== undefined) return replied(known, server, error);
  const tls = tlsFailure(codeOf(error));
  if (tls !== undefined) return tlsError(tls, server, error);
  if (isConnectionLoss(error, text)) {
    const code = codeOf(error);
    const at = serverIn(error) ?? server;
    const why =
      code === "" ? (/Command timed out|Socket timeout/.test(text) ? "no answer in time" : "it was closed") : code;
    const message = `the connection to Redis at ${at} failed: ${why}`;
    const fix = reachAgain(code === "" && isHangUp(error) ? "ECONNRESET" : code, at, "url");
    return redisError("MR2001", "retryable", message, error, isHangUp(error) ? `${fix}${widened(limits)}` : fix);
  }
  return classifyGeneric(text, server, error);
}

/**
 * Redis uses the code ERR for many failures; their text distinguishes them (server.c, db.c, cluster.c of Redis 7 and
 * Valkey 9; test/integration/redis-errors).
 */
function classifyGeneric(text: string, server: string, cause: unknown): MillraceError {
  if (DENIED_TO_SCRIPT.test(text)) return replied(NOPERM, server, cause);
  if (FULL_REPLY.test(text)) return replied(["MR2006", "retryable", NONE_LEFT, FULL], server, cause);
  if (/invalid (username-)?password|Client sent AUTH/i.test(text)) {
    return replied(["MR2002", "blocked", "Redis refuses user or password"], server, cause);
  }
  if (/DB index is out of range|SELECT is not allowed in cluster mode/.test(text)) {
    return replied(
      ["MR2004", "blocked", "the database number in the URL does not exist on this server", NO_DATABASE],
      server,
      cause,
    );
  }
  if (/Protocol error: invalid bulk length/.test(text)) {
    const fix =
      "Let the user call CONFIG GET, so that Millrace knows the limit, or raise `proto-max-bulk-len` to its default, 512mb.";
    return replied(["MR2006", "blocked", "Redis takes no argument of that size", fix], server, cause);
  }
  if (/unknown command|cluster support disabled/i.test(text)) {
    const fix = /cluster support/i.test(text) ? "Leave `cluster` out: the server is none." : undefined;
    return replied(["MR2005", "blocked", "the Redis server lacks a command that the sink needs", fix], server, cause);
  }
  return replied(["MR2027", "retryable", `Redis answered with an unknown error (${replyCode(text)})`], server, cause);
}

function replied([code, kind, what, fix]: Meaning, server: string, cause: unknown): MillraceError {
  const details = { hint: fix, cause: withoutArguments(cause), reason: reasonOf(code, cause) };
  return raise(code, kind, `${what} (${server})`, details);
}

/** A command that is forbidden is so for all tables; of keys, patterns of one table may be lacking. */
const DENIED_KEYS = /access (?:a key|one of the keys|at least one of the keys|the '[^']*' key)/;
/** Of Redis 6 and 7; of Redis 8 and Valkey. */
const DENIED_TO_SCRIPT = /The user executing the script can't|ACL failure in script/;

function reasonOf(code: ErrorCode, cause: unknown): "login" | "privilege" | undefined {
  if (code === "MR2002") return "login";
  return code === "MR2008" && cause instanceof Error && DENIED_KEYS.test(cause.message) ? "privilege" : undefined;
}

/**
 * The code in an error reply. Redis 6 wraps an error of a script: `ERR Error running script (call to f_…):
 * @user_script:12: -OOM command not allowed …`; in Redis 7 the code comes first.
 */
export function replyCode(text: string): string {
  const wrapped = /^ERR Error running script.*?@user_script:\s*\d+:\s*-?([A-Z]+)\b/.exec(text);
  return wrapped?.[1] ?? /^([A-Z]+)\b/.exec(text)?.[1] ?? "";
}

function isConnectionLoss(error: unknown, text: string): boolean {
  if (systemErrorCode(error) !== undefined) return true;
  // ioredis gives these errors no code.
  return /Connection is closed|Command timed out|isn't writeable|isn't ready|Failed to refresh slots cache|None of startup nodes|Socket timeout/.test(
    text,
  );
}

function widened(limits: readonly ClientLimit[]): string {
  if (limits.length === 0) return "";
  const are = limits.map(({ name, value }) => `${name} is ${value}`).join(", ");
  const wanted = limits.map(({ name, usual }) => `CONFIG SET ${name} "${usual}"`).join("; ");
  return ` The server ends connections at limits of its own: ${are}. If it repeats: ${wanted}`;
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
}

export function tlsError({ what, fix }: TlsFailure, server: string, cause?: unknown): MillraceError {
  return redisError("MR2003", "blocked", `TLS to Redis at ${server} failed: ${what}`, cause, fix);
}

/** Whether the server ended the connection before it sent anything, as a TLS port does with a plain client. */
export function isHangUp(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return (
    /^(ECONNRESET|EPIPE)$/.test(codeOf(error)) ||
    /Connection is closed|isn't writeable|refresh slots/.test(error.message)
  );
}

export function redisError(
  code: ErrorCode,
  kind: ErrorKind,
  message: string,
  cause?: unknown,
  hint?: string,
): MillraceError {
  return raise(code, kind, message, { hint, cause: cause === undefined ? undefined : withoutArguments(cause) });
}

/** ioredis attaches the failed command with its arguments, passwords included, to the error: it must not be logged. */
function withoutArguments(cause: unknown): Error {
  if (cause instanceof MillraceError) return cause;
  const text = cause instanceof Error ? cause.message : String(cause);
  return new Error(text.replace(/,? with args beginning with.*$/s, "").slice(0, 300));
}
