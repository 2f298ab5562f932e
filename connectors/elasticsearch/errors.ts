import {
  atServer,
  type ErrorArea,
  type ErrorCode,
  type ErrorKind,
  type ErrorPages,
  isAborted,
  MillraceError,
} from "../../src/core/errors.ts";
import { reachAgain, systemErrorCodeIn } from "../../src/core/system-errors.ts";
import { tlsCodeOf, tlsFailure, type TlsFailure } from "../../src/tls/failure.ts";
import { UnusableTls } from "../../src/tls/options.ts";

export const area: ErrorArea = { from: 3300, title: "Elasticsearch and OpenSearch" };

export const pages: ErrorPages = {
  MR3300: {
    title: "The search engine gave an unknown answer",
    cause:
      "The engine answered with an error that has no entry here. Millrace repeats the batch a limited number of times.",
    remedy: "Look at the engine's log; report the error's type if the sink does not recover.",
  },
  MR3301: {
    title: "The search engine can't be reached",
    cause:
      "No connection could be made, it was lost, or no answer came in time. Millrace repeats the batch until an answer comes. A table whose " +
      "own index has lost a shard is suspended (MR1324), and Millrace tries it again by itself.",
    remedy:
      "ECONNREFUSED: nothing listens at that host and port. ENOTFOUND: the name is unknown. ETIMEDOUT: no answer, check " +
      "firewall and network. `millrace check` tests it from the machine on which it runs.",
  },
  MR3302: {
    title: "The search engine refuses the credentials or a permission",
    cause: "User, password or API key are wrong, or the role lacks a privilege on the sink's indices.",
    remedy:
      "Correct `url` or `apiKey`; grant the role on `<prefix>*` the index privileges read, index, delete, create_index, " +
      "manage, view_index_metadata and the cluster privilege monitor.",
  },
  MR3303: {
    title: "Another program dropped or replaced an index",
    cause:
      "An alias no longer leads to the index that this sink made, or the progress document is gone. Millrace creates the index " +
      "and fills it again while the others go on. Without the progress document it fills all indices again; with `onLost: fail` the sink then stops with MR1301.",
    remedy: "Nothing, unless it repeats: then find who drops it.",
  },
  MR3304: {
    title: "The name of an index is taken",
    cause: "An index or alias with the name that a table needs exists, and this pipeline did not create it.",
    remedy: "Give the sink a `prefix` of its own, or remove the index if nobody needs it.",
  },
  MR3305: {
    title: "Another Millrace process has taken the sink over",
    cause: "The progress document holds a newer lease. This process stops, so that two never write at once.",
    remedy: "Make sure that one daemon runs under this name; the newer one continues by itself.",
  },
  MR3306: {
    title: "A field has another mapping than the sink requested",
    cause:
      "A field of a new index has another type than in the sink's definition: a template or a plugin of " +
      "the engine changed it. A change of a column's type at the source does not cause this error: the sink then fills a new index.",
    remedy: "Remove the index template, or the plugin's rule, that maps the field, then `millrace resume --sink NAME`.",
  },
  MR3307: {
    title: "The search engine refuses a document for its content",
    cause:
      "JSON nested over 1,000 levels, a number of more than 1,000 digits inside JSON, a single text over the engine's limit.",
    remedy: "Correct the row at the source, and it follows by itself. Or leave the column out (`drop: true`).",
  },
  MR3308: {
    title: "A document is too large for the search engine",
    cause:
      "One document alone is over the engine's `http.max_content_length` (100 MB by default), or over what the engine admits " +
      "at once: `indexing_pressure.memory.limit`, a tenth of its heap by default.",
    remedy:
      "Raise the limit (or the heap), then `millrace dlq replay --sink NAME --all` reads the refused rows again. Or leave the large column out (`drop: true`).",
  },
  MR3309: {
    title: "The search engine is overloaded",
    cause: "It rejected writes (429, full queue, circuit breaker). Millrace repeats the batch after a pause.",
    remedy: "If it lasts: more heap or nodes, or a smaller `batch`.",
  },
  MR3310: {
    title: "An index is closed, or blocked for writes",
    cause:
      "Somebody closed it or set a block, or the disk passed the flood-stage watermark. If somebody did it to one index, its " +
      "table is suspended (MR1324) and tried again; for the watermark Millrace repeats the batch until the block is lifted.",
    remedy:
      "Closed: POST <index>/_open. Blocked: free disk space (the engine lifts its own block then), or remove the block: " +
      'PUT <index>/_settings {"index.blocks.write": null, "index.blocks.read_only_allow_delete": null}.',
  },
  MR3311: {
    title: "TLS to the search engine failed",
    cause:
      "Its certificate could not be verified (authority, name or dates), it refuses ours, or only one side speaks TLS on this " +
      "port.",
    remedy:
      "The message says which, and its fix. Use https:// only where the port speaks TLS; name an authority of your own in " +
      "`ca`, a certificate of this client in `cert` and `certKey`, another name than the url's host in `serverName`.",
  },
  MR3312: {
    title: "The progress in the search engine is not what was written",
    cause:
      "The cluster was restored from a snapshot, or lost acknowledged writes. The sink continues from there if the log " +
      "reaches back that far; else it is filled again, or stops with MR1301 (`onLost: fail`).",
    remedy: "Nothing.",
  },
  MR3314: {
    title: "An index has a setting that rows do not survive",
    cause:
      "The message names it: an ingest pipeline changes documents, `_source` is not kept whole, the translog is not synced with each " +
      "request, a routing is required, an alias shows a part, or a search may not read a page. Somebody set it, or a template of the " +
      "engine did. The table is suspended in this sink; if it is the index of checkpoints, the sink stops.",
    remedy:
      "Set it back to the engine's default (PUT <index>/_settings), or, if that is not possible, remove what sets it (the index template) and " +
      "the index; then `millrace snapshot start --tables TABLE --sink NAME`, or for the index of checkpoints `millrace resume --sink NAME`.",
  },
  MR3315: {
    title: "Another program has overwritten the sink's progress",
    cause:
      "The document with the sink's progress is not as Millrace writes it. How far the sink has come is unknown, so it stops and writes nothing.",
    remedy:
      "Remove the document (the message names it) and start Millrace again: all indices are filled again; with `onLost: fail` the sink stops " +
      "with MR1301. Give other programs indices of their own, or the sink a `prefix`.",
  },
  MR3316: {
    title: "The cluster takes no more shards",
    cause:
      "Each table has an index, and its shards and replicas together with all others are more than `cluster.max_shards_per_node` allows " +
      "(1,000 for each data node, if nobody has set it). The table is suspended (MR1324) and tried again; tables that have an index go on.",
    remedy:
      "Raise the setting to what the message says, remove indices that nobody needs, add nodes, lower `replicas` or `shards` of the sink " +
      "before its indices are made, or leave tables out. `millrace check` tells how many shards the tables need.",
  },
  MR3313: {
    title: "The search sink's TLS keys or files can't be used",
    cause:
      "A file that `ca`, `cert` or `certKey` names does not exist, may not be read or holds no PEM; certificate and key do " +
      "not belong together.",
    remedy: "The message says which; correct the path, the file or its permissions.",
  },
};

const LOGIN_FIX = "Correct user and password in `url`, or `apiKey`; or set them at the engine as they were.";
const GRANT_FIX =
  "Give the role what `millrace grants` prints: on `<prefix>*` the index privileges read, index, delete, create_index, " +
  "manage, view_index_metadata, and the cluster privilege monitor.";

/** Failures of one table while its index is prepared: they do not concern the sink's other tables. */
export const OF_ONE_TABLE: ReadonlySet<string> = new Set(["MR3304", "MR3306", "MR3314"]);

export function searchError(code: ErrorCode, kind: ErrorKind, message: string, cause?: unknown): MillraceError {
  return failed(code, kind, message, pages[code]?.remedy, cause);
}

export function droppedError(alias: string): MillraceError {
  return searchError("MR3303", "reopen", `the index behind ${alias} was dropped or replaced by another program`);
}

/** The engine's error for a request or item. Its sentence may quote documents, so only the types are kept. */
export interface EngineError {
  readonly status: number;
  /** Such as `mapper_parsing_exception`; "" where the answer has none. */
  readonly type: string;
  /** The type of the innermost cause. */
  readonly rootType: string;
}

const BLOCKED = /^(cluster_block_exception|index_read_only_exception)$/;
const CLOSED = "index_closed_exception";
const OVERLOADED =
  /^(circuit_breaking_exception|es_rejected_execution_exception|opensearch_rejected_execution_exception|rejected_execution_exception|process_cluster_event_timeout_exception)$/;

/** A shard of the index has no copy. The error type of a search says only that. */
const UNASSIGNED =
  /^(unavailable_shards_exception|no_shard_available_action_exception|search_phase_execution_exception)$/;

/**
 * Classifies a failed request, or an item's failure that is not the document's fault. `what` names the work, `table`
 * the one whose index alone was asked. An index that was closed or blocked by hand, whose mapping accepts nothing, or
 * that has lost a shard concerns only that table. A disk watermark (429), an overload and an unreachable cluster
 * concern the whole sink.
 */
export function classifyEngine(error: EngineError, what: string, table?: string): MillraceError {
  const { status, type, rootType } = error;
  const detail = `${what} failed with ${status}${type === "" ? "" : ` ${type}`}`;
  const isBlocked = status !== 503 && (BLOCKED.test(type) || BLOCKED.test(rootType));
  if (isBlocked) return engineFailure("MR3310", "blocked", `${detail}: an index is blocked`, status !== 429, table);
  if (type === CLOSED || rootType === CLOSED)
    return engineFailure("MR3310", "blocked", `${detail}: an index is closed`, true, table);
  if (status === 429 || OVERLOADED.test(type) || OVERLOADED.test(rootType)) {
    return searchError("MR3309", "retryable", `${detail}: the search engine is overloaded`);
  }
  if (status === 401) {
    const message = `${detail}: the search engine refuses the credentials`;
    return new MillraceError({ code: "MR3302", kind: "blocked", message, hint: LOGIN_FIX, reason: "login" });
  }
  if (status === 403) {
    const message = `${detail}: the role lacks a privilege`;
    return new MillraceError({ code: "MR3302", kind: "blocked", message, hint: GRANT_FIX, table });
  }
  // An alias for writing is no name for an index: of a deletion the engine says so where the alias is gone.
  if (type === "index_not_found_exception" || type === "invalid_index_name_exception")
    return searchError("MR3303", "reopen", `${detail}: an index is gone`);
  if (UNASSIGNED.test(type) || UNASSIGNED.test(rootType)) return partError("retryable", detail, table);
  if (status >= 500) return searchError("MR3301", "retryable", `${detail}: the search engine can't answer now`);
  const isOfIndex = status >= 400;
  return engineFailure("MR3300", "retryable", `${detail}: an answer that Millrace does not know`, isOfIndex, table);
}

const OVER_SHARDS = /would add \[(\d+)\][^[]*shards?, but this cluster currently has \[(\d+)\]\/\[(\d+)\]/;

/** `reason`: of a refused index. Null: it is refused for something else. */
export function tooManyShards(reason: string, table: string): MillraceError | null {
  const [, added, open, max] = OVER_SHARDS.exec(reason)?.map(Number) ?? [];
  if (added === undefined || open === undefined || max === undefined) return null;
  const message = `the index of ${table} needs ${added} more shards, and the cluster has ${open} of the ${max} that cluster.max_shards_per_node allows`;
  const hint = `PUT _cluster/settings {"persistent": {"cluster.max_shards_per_node": N}}, with an N that times the data nodes is ${open + added} or more; or: ${pages.MR3316?.remedy}`;
  return new MillraceError({ code: "MR3316", kind: "blocked", message, hint, table });
}

/** A shard of the index is lost, or has not started yet. */
export function partError(kind: ErrorKind, what: string, table: string | undefined): MillraceError {
  const message = `${what}: a part of an index is not there`;
  return new MillraceError({ code: "MR3301", kind, message, hint: pages.MR3301?.remedy, table, reason: "partial" });
}

function engineFailure(
  code: ErrorCode,
  kind: ErrorKind,
  message: string,
  isOfIndex: boolean,
  table: string | undefined,
): MillraceError {
  return new MillraceError({ code, kind, message, hint: pages[code]?.remedy, table: isOfIndex ? table : undefined });
}

/** Whether the engine refused an item because of its content. */
export function isRefusal({ status, type }: EngineError): boolean {
  return (
    status === 400 &&
    /_parsing_exception$|^illegal_argument_exception$|^max_bytes_length_exceeded|_parse_exception$/.test(type)
  );
}

export function tlsError({ what, fix }: TlsFailure, server: string, cause?: unknown): MillraceError {
  return failed("MR3311", "blocked", `TLS to the search engine at ${server} failed: ${what}`, fix, cause);
}

/** Whether the connection ended, or the answer was not HTTP, as when a plain request meets a TLS port. */
export function isHangUp(error: unknown): boolean {
  return error instanceof Error && /other side closed|socket hang up|ECONNRESET|EPIPE|HTTP\/1\.1/.test(error.message);
}

/**
 * Classifies a failed connection; `server`: host and port of the node, or of all nodes. The transport keeps no code of Node's errors, so TLS failures are recognised by
 * OpenSSL's and Node's texts (test/e2e/access/tls-sinks).
 */
export function classifyConnection(error: unknown, signal: AbortSignal, server: string): MillraceError {
  if (error instanceof MillraceError) return atServer(error, server);
  if (error instanceof UnusableTls) return failed("MR3313", "blocked", error.what, error.fix, error.cause);
  // The transport's error holds the whole request with its body and its credentials.
  const text = error instanceof Error ? error.message : "";
  if (signal.aborted || isAborted(error)) {
    return searchError("MR3301", "aborted", "the work on the search engine was stopped", new Error(text));
  }
  const failure = tlsFailure(tlsCodeOf(text) ?? "");
  if (failure !== undefined) return tlsError(failure, server, new Error(text));
  const reason = systemErrorCodeIn(text) ?? (/timed out/i.test(text) ? "ETIMEDOUT" : undefined);
  const message = `the search engine at ${server} can't be reached${reason === undefined ? "" : `: ${reason}`}`;
  return failed("MR3301", "retryable", message, reachAgain(reason, server, "url"), new Error(text));
}

function failed(code: ErrorCode, kind: ErrorKind, message: string, hint?: string, cause?: unknown): MillraceError {
  return new MillraceError({ code, kind, message, hint, cause });
}
