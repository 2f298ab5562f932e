import {
  type ErrorArea,
  type ErrorCode,
  type ErrorKind,
  type ErrorPages,
  type ErrorReason,
  isAborted,
  MillraceError,
} from "../../src/core/errors.ts";
import { reachAgain, serverIn, systemErrorCode } from "../../src/core/system-errors.ts";
import { tlsFailure, type TlsFailure } from "../../src/tls/failure.ts";
import { UnusableTls } from "../../src/tls/options.ts";

export const area: ErrorArea = { from: 3400, title: "Redis and Valkey" };

/** What the sink calls. */
export const ACL_COMMANDS =
  "+eval +evalsha +script|load +hget +hmget +hgetall +hset +hlen +hdel +get +getrange +set +del +exists +scan +wait +select +ping";
export const ACL_OF_CLUSTERS = "+cluster|slots +cluster|shards +info";
export const ACL_FASTER = "+restore +config|get";

export const pages: ErrorPages = {
  MR3400: {
    title: "Redis gave an unknown error",
    cause:
      "The server answered with an error that has no entry here. Millrace repeats the batch a limited number of times.",
    remedy: "Look at the server's log and at the cause below the message; report it if the sink does not recover.",
  },
  MR3401: {
    title: "Redis can't be reached",
    cause:
      "No connection could be made, or it was lost or stopped answering. Millrace repeats the batch until the server answers.",
    remedy:
      "ECONNREFUSED: nothing listens at that host and port. ENOTFOUND: the name is unknown. ETIMEDOUT: no answer, check " +
      "firewall and network. `millrace check` tests it from the machine on which it runs.",
  },
  MR3402: {
    title: "Redis refuses the login",
    cause: "The user or password in `url` is wrong, or the server requires one and the config has none.",
    remedy: "Correct `url` (redis://user:password@host:port/db) and start again.",
  },
  MR3403: {
    title: "The Redis user may not run a command that the sink needs",
    cause: "The ACL of the user forbids a command or a key.",
    remedy:
      `Grant it (\`millrace grants\` prints it whole): ACL SETUSER <user> ~<prefix>* ${ACL_COMMANDS} (in a cluster also ` +
      `${ACL_OF_CLUSTERS}). With ${ACL_FASTER} the server has less work.`,
  },
  MR3404: {
    title: "Redis can't take writes now",
    cause:
      "It is loading its data, has become a replica, is over maxmemory, can't save to disk, lacks replicas, or its cluster " +
      "is being changed. Millrace repeats the batch until the server takes it.",
    remedy:
      "If it lasts: for maxmemory raise it or set an eviction policy; for READONLY point `url` at the primary; for " +
      "MISCONF free disk space.",
  },
  MR3405: {
    title: "Another Millrace process has taken the sink over",
    cause:
      "The progress key in Redis holds a newer lease than this process has. It stops, so that two never write at once.",
    remedy: "Make sure that one daemon runs under this name; the newer one continues by itself.",
  },
  MR3406: {
    title: "Another program emptied the cache",
    cause:
      "The progress key is gone (FLUSHALL, FLUSHDB, DEL, eviction, or a restart without persistence). The cache is filled " +
      "again by itself; with `onLost: fail` the sink stops with MR1301.",
    remedy:
      "Nothing. With maxmemory use a volatile-* policy so that the progress key, which never expires, is not evicted.",
  },
  MR3407: {
    title: "The cache does not hold the state that was written",
    cause:
      "The progress key has another position than the one that this process wrote: the server was restored from a file, or a " +
      "replica that lagged behind was promoted. The sink continues from there if the log reaches back that far; else it is filled " +
      "again, or stops with MR1301 (`onLost: fail`).",
    remedy: "Nothing.",
  },
  MR3408: {
    title: "A key holds a value of another kind",
    cause:
      "The row's key exists as a list, set or other kind of value that Millrace did not write. The row becomes a dead letter.",
    remedy:
      "Remove or rename the key, or give the sink a `prefix` of its own; then `millrace dlq replay --sink NAME --all` reads the refused rows again.",
  },
  MR3409: {
    title: "A row is too large for Redis",
    cause:
      "Rendered, the row has more bytes than half of what the server takes as one argument: `proto-max-bulk-len` (512 MB by default) or " +
      "`client-query-buffer-limit`, whichever is less. The row becomes a dead letter.",
    remedy:
      "Raise the smaller of the two and restart the sink (`millrace pause`, `millrace resume`), or leave the large column out (`tables: … columns: … drop: true`) and read the table again: `millrace snapshot start --tables TABLE --sink NAME`.",
  },
  MR3410: {
    title: "The Redis server lacks a feature that the sink needs",
    cause: "A database number that does not exist, scripting switched off, or `cluster` does not match the server.",
    remedy: "Correct `url` or `cluster`; Redis 6.2 or newer, or Valkey, with EVAL allowed is needed.",
  },
  MR3412: {
    title: "TLS to Redis failed",
    cause:
      "The server's certificate could not be verified (authority, name or dates), it refuses ours, or only one side speaks TLS " +
      "on this port.",
    remedy:
      "The message says which, and its fix. Use rediss:// only where the port speaks TLS; name an authority of your own in " +
      "`ca`, a certificate of this client in `cert` and `certKey`, another name than the url's host in `serverName`.",
  },
  MR3413: {
    title: "The Redis sink's TLS keys or files can't be used",
    cause:
      "A file that `ca`, `cert` or `certKey` names does not exist, may not be read or holds no PEM; certificate and key do " +
      "not belong together.",
    remedy: "The message says which; correct the path, the file or its permissions.",
  },
  MR3414: {
    title: "Another program has overwritten the sink's progress",
    cause:
      "The progress key (the message names it) holds a value of another kind, or fields that Millrace did not write. How far " +
      "the cache has come is unknown, so the sink stops and writes nothing.",
    remedy:
      "Remove the key (`redis-cli DEL KEY`) and start Millrace again: the cache is filled again; with `onLost: fail` the " +
      "sink stops with MR1301, which says how to fill it. Give other programs keys of their own, or the sink a `prefix`.",
  },
  MR3411: {
    title: "Replicas did not confirm in time",
    cause: "`waitReplicas` is set and fewer replicas than that acknowledged the batch. It is repeated.",
    remedy: "Look at the replicas (INFO replication), or lower `waitReplicas`.",
  },
};

/** `fix`: of this reply alone, where the page of the code names several. */
type Meaning = readonly [code: ErrorCode, kind: ErrorKind, what: string, fix?: string | undefined];

const PASSES = "Nothing: Millrace tries again until the server takes it.";
const PRIMARY = "If it lasts, point `url` at the primary, or promote this server.";
const OF_CLUSTER = "If it lasts, look at the nodes: redis-cli --cluster check HOST:PORT.";
const FULL = "Close clients that nobody needs, or raise `maxclients` (CONFIG SET maxclients …).";
const NO_DATABASE =
  "Correct the number behind the slash in `url`, or raise `databases` on the server; a cluster has only 0.";

/**
 * First words of Redis' error replies, and their meaning here.
 * https://redis.io/docs/latest/develop/reference/protocol-spec/
 */
const REPLIES: Readonly<Record<string, Meaning>> = {
  NOAUTH: [
    "MR3402",
    "blocked",
    "Redis wants a password and the config has none",
    "Give `url` the password (redis://user:password@host:port/db), or set `passwordFile` or `passwordCommand`.",
  ],
  WRONGPASS: ["MR3402", "blocked", "Redis refuses user or password"],
  NOPERM: ["MR3403", "blocked", "the Redis user lacks a permission"],
  OOM: [
    "MR3404",
    "blocked",
    "Redis is over its maxmemory and refuses writes",
    "Raise `maxmemory` (CONFIG SET maxmemory …), or set a volatile-* policy that lets it evict other keys.",
  ],
  READONLY: ["MR3404", "retryable", "Redis is a replica and refuses writes", PRIMARY],
  LOADING: ["MR3404", "retryable", "Redis is loading its data", PASSES],
  MISCONF: [
    "MR3404",
    "blocked",
    "Redis can't save to disk and refuses writes",
    "Free space on the disk of the folder that CONFIG GET dir names, or let its user write there; the server's log says which.",
  ],
  NOREPLICAS: [
    "MR3404",
    "retryable",
    "Redis lacks the replicas that it demands for writes",
    "Bring replicas back (INFO replication), or lower `min-replicas-to-write`.",
  ],
  BUSY: ["MR3404", "retryable", "Redis is running a long script", "Wait for it, or end it: SCRIPT KILL."],
  MASTERDOWN: ["MR3404", "retryable", "the Redis replica has lost its primary", PRIMARY],
  CLUSTERDOWN: ["MR3404", "retryable", "the Redis cluster is down", OF_CLUSTER],
  TRYAGAIN: ["MR3404", "retryable", "the Redis cluster is moving slots", OF_CLUSTER],
  MOVED: ["MR3404", "retryable", "the Redis cluster is moving slots", OF_CLUSTER],
  ASK: ["MR3404", "retryable", "the Redis cluster is moving slots", OF_CLUSTER],
  UNBLOCKED: ["MR3404", "retryable", "Redis has become a replica", PRIMARY],
  NOSCRIPT: ["MR3404", "retryable", "Redis has lost its scripts", PASSES],
  CROSSSLOT: ["MR3410", "fatal", "Redis is a cluster and the config does not say so", "Set `cluster: true`."],
};

/** The meaning of an ioredis or server error for the runtime. `server`: host and port, of a cluster any of its nodes. */
export function classify(error: unknown, signal: AbortSignal | undefined, server: string): MillraceError {
  if (signal?.aborted === true || isAborted(error)) {
    return new MillraceError({
      code: "MR3401",
      kind: "aborted",
      message: "the work on Redis was stopped",
      cause: error,
    });
  }
  if (error instanceof MillraceError) return error;
  if (error instanceof UnusableTls) return failed("MR3413", "blocked", error.what, error.fix, error.cause);
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
    return failed(
      "MR3401",
      "retryable",
      `the connection to Redis at ${at} failed: ${why}`,
      reachAgain(code, at, "url"),
      error,
    );
  }
  return classifyGeneric(text, server, error);
}

/**
 * Redis uses the code ERR for many failures; their text distinguishes them (server.c, db.c, cluster.c of Redis 7 and
 * Valkey 9; test/integration/redis-errors).
 */
function classifyGeneric(text: string, server: string, cause: unknown): MillraceError {
  if (/max number of clients reached/.test(text)) {
    return replied(["MR3404", "retryable", "Redis has no connection left", FULL], server, cause);
  }
  if (/invalid (username-)?password|Client sent AUTH/i.test(text)) {
    return replied(["MR3402", "blocked", "Redis refuses user or password"], server, cause);
  }
  if (/DB index is out of range|SELECT is not allowed in cluster mode/.test(text)) {
    return replied(
      ["MR3410", "blocked", "the database number in the URL does not exist on this server", NO_DATABASE],
      server,
      cause,
    );
  }
  if (/Protocol error: invalid bulk length/.test(text)) {
    const fix =
      "Let the user call CONFIG GET, so that Millrace knows the limit, or raise `proto-max-bulk-len` to its default, 512mb.";
    return replied(["MR3404", "blocked", "Redis takes no argument of that size", fix], server, cause);
  }
  if (/unknown command|cluster support disabled/i.test(text)) {
    const fix = /cluster support/i.test(text) ? "Leave `cluster` out: the server is none." : undefined;
    return replied(["MR3410", "blocked", "the Redis server lacks a command that the sink needs", fix], server, cause);
  }
  return replied(["MR3400", "retryable", `Redis answered with an unknown error (${replyCode(text)})`], server, cause);
}

function replied([code, kind, what, fix]: Meaning, server: string, cause: unknown): MillraceError {
  const reason = code === "MR3402" ? "login" : undefined;
  return failed(code, kind, `${what} (${server})`, fix ?? pages[code]?.remedy, cause, reason);
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

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
}

export function tlsError({ what, fix }: TlsFailure, server: string, cause?: unknown): MillraceError {
  return failed("MR3412", "blocked", `TLS to Redis at ${server} failed: ${what}`, fix, cause);
}

/** Whether the server ended the connection before it sent anything, as a TLS port does with a plain client. */
export function isHangUp(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return (
    /^(ECONNRESET|EPIPE)$/.test(codeOf(error)) ||
    /Connection is closed|isn't writeable|refresh slots/.test(error.message)
  );
}

export function redisError(code: ErrorCode, kind: ErrorKind, message: string, cause?: unknown): MillraceError {
  return failed(code, kind, message, pages[code]?.remedy, cause);
}

function failed(
  code: ErrorCode,
  kind: ErrorKind,
  message: string,
  hint?: string,
  cause?: unknown,
  reason?: ErrorReason,
): MillraceError {
  const known = cause === undefined ? undefined : withoutArguments(cause);
  return new MillraceError({ code, kind, message, hint, cause: known, reason });
}

/** ioredis attaches the failed command with its arguments, passwords included, to the error: it must not be logged. */
function withoutArguments(cause: unknown): Error {
  if (cause instanceof MillraceError) return cause;
  const text = cause instanceof Error ? cause.message : String(cause);
  return new Error(text.replace(/,? with args beginning with.*$/s, "").slice(0, 300));
}
