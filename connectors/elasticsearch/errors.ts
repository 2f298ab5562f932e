import {
  atServer,
  type ErrorKind,
  type ErrorPages,
  errorsOf,
  isAborted,
  MillraceError,
} from "../../src/core/errors.ts";
import { reachAgain, systemErrorCode } from "../../src/core/system-errors.ts";
import { codeOf, tlsFailure, type TlsFailure } from "../../src/tls/failure.ts";
import { UnusableTls } from "../../src/tls/options.ts";

/** What only a search engine can meet. */
export const pages: ErrorPages = {
  MR3310: {
    title: "An index is closed, or blocked for writes",
    remedy:
      'Closed: POST <index>/_open. Blocked: free disk space (the engine lifts its own block then), or remove the block: PUT <index>/_settings {"index.blocks.write": null, "index.blocks.read_only_allow_delete": null}.',
    cause:
      "Somebody closed it or set a block, or the disk passed the flood-stage watermark. If it is one index, its table is suspended (MR1324) and tried again; for the watermark the batch is repeated until the block is lifted.",
  },
  MR3316: {
    title: "An index can't have the settings or mappings that the configuration asks for",
    remedy:
      "Correct `index` of the sink in the configuration, and start Millrace again; `millrace check` asks the engine before. Until then the table is suspended, and the index that there is stays as it is.",
    cause:
      "A field has no column, or its type can't take the column's values, or the engine refuses a setting, an analyzer or a type.",
  },
};

const SHARDS_FIX =
  "remove indices that nobody needs, add nodes, lower `replicas` or `shards` of the sink before its indices are made, or leave tables out. `millrace check` tells how many shards the tables need.";
const LOGIN_FIX = "Correct user and password in `url`, or `apiKey`; or set them at the engine as they were.";

export const searchError = errorsOf(
  { side: "sink", kind: "elasticsearch" },
  {
    MR1308:
      "Nothing: the sink continues from there if the log reaches back that far; else it is filled again, or stops with MR1301 (`onLost: fail`).",
    MR2002: LOGIN_FIX,
    MR2003:
      "Use https:// only where the port speaks TLS; name an authority of your own in `ca`, a certificate of this client in `cert` and `certKey`, another name than the url's host in `serverName`.",
    MR2005: "Use a newer search engine.",
    MR2006: "If it lasts: more heap or nodes, or a smaller `batch`.",
    MR2008:
      "Give the role what `millrace grants` prints: on `<prefix>*` the index privileges read, index, delete, create_index, manage, view_index_metadata, and the cluster privilege monitor.",
    MR2027: "Look at the engine's log; report the error's type if the sink does not recover.",
    MR3106: "Give the sink a `prefix` of its own, or remove the index if nobody needs it.",
    MR3107:
      "Set it back to the engine's default (PUT <index>/_settings), or remove what sets it (an index template, a plugin) and the index; then `millrace snapshot start --tables TABLE --sink NAME`, or for the index of checkpoints `millrace resume --sink NAME`.",
    MR3310: pages.MR3310?.remedy ?? "",
    MR3316: pages.MR3316?.remedy ?? "",
  },
);

/** Failures of one table while its index is prepared: they do not concern the sink's other tables. */
export const OF_ONE_TABLE: ReadonlySet<string> = new Set(["MR3106", "MR3107", "MR3316"]);

/** The sink could not know whether what it has given up still runs. */
export function unmarkedError(): MillraceError {
  const message =
    "the search engine's tasks do not show the header X-Opaque-Id of the sink's requests, so those that it gives up could not be told from others";
  const hint =
    "Let the proxy before the engine pass `X-Opaque-Id` on, or let `url` lead to the engine. Millrace tries again.";
  return searchError("MR2005", "blocked", message, { hint });
}

/** `what`: which key of the configuration, or what the engine says of it. */
export function refusedDefinition(table: string, what: string): MillraceError {
  return searchError("MR3316", "fatal", `the index of ${table} can't be made as the configuration asks: ${what}`);
}

export function droppedError(alias: string): MillraceError {
  return searchError("MR3110", "reopen", `the index behind ${alias} was dropped or replaced by another program`);
}

/** The engine's error for a request or item. Its sentence may quote documents, so little more than the types is kept. */
export interface EngineError {
  readonly status: number;
  /** Such as `mapper_parsing_exception`; "" where the answer has none. */
  readonly type: string;
  /** The type of the innermost cause. */
  readonly rootType: string;
  /** Which index is blocked, and by what. */
  readonly blocked: string | undefined;
}

const BLOCKED = /^(cluster_block_exception|index_read_only_exception)$/;
const CLOSED = "index_closed_exception";
const DENIED = "security_exception";
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
  const { status, type, rootType, blocked = "an index is blocked" } = error;
  const detail = `${what} failed with ${status}${type === "" ? "" : ` ${type}`}`;
  const isBlocked = status !== 503 && (BLOCKED.test(type) || BLOCKED.test(rootType));
  if (isBlocked)
    return searchError("MR3310", "blocked", `${detail}: ${blocked}`, {
      table: status === 429 ? undefined : table,
    });
  if (type === CLOSED || rootType === CLOSED)
    return searchError("MR3310", "blocked", `${detail}: an index is closed`, { table });
  if (status === 429 || OVERLOADED.test(type) || OVERLOADED.test(rootType)) {
    return searchError("MR2006", "retryable", `${detail}: the search engine is overloaded`);
  }
  if (status === 401) {
    return searchError("MR2002", "blocked", `${detail}: the search engine refuses the credentials`, {
      reason: "login",
    });
  }
  // Of what is asked for in one request each item has its own answer, some without a status.
  if (status === 403 || type === DENIED || rootType === DENIED) {
    return searchError("MR2008", "blocked", `${detail}: the role lacks a privilege`, { table, reason: "privilege" });
  }
  // An alias for writing is no name for an index: of a deletion the engine says so where the alias is gone.
  if (type === "index_not_found_exception" || type === "invalid_index_name_exception")
    return searchError("MR3110", "reopen", `${detail}: an index is gone`);
  if (UNASSIGNED.test(type) || UNASSIGNED.test(rootType)) return partError("retryable", detail, table);
  if (status >= 500) return searchError("MR2001", "retryable", `${detail}: the search engine can't answer now`);
  return unknownAnswer(detail, status >= 400 ? table : undefined);
}

export function unknownAnswer(what: string, table?: string): MillraceError {
  return searchError("MR2027", "retryable", `${what}: an answer that Millrace does not know`, { table });
}

/** `server`: host and port of what answered. */
export function foreignError(server: string, status: number): MillraceError {
  const hint =
    "A proxy or load balancer before the search engine may answer in its place, or the address be that of another service: look at its log.";
  const message = `what answers at ${server} is not the search engine: HTTP ${status}`;
  return searchError("MR2001", "retryable", message, { hint });
}

const OVER_SHARDS = /would add \[(\d+)\][^[]*shards?, but this cluster currently has \[(\d+)\]\/\[(\d+)\]/;

/** An index that the cluster has no room for. */
export interface OverShards {
  readonly added: number;
  readonly open: number;
  readonly max: number;
}

/** `reason`: of a refused index. Null: it is refused for something else. */
export function overShards(reason: string): OverShards | null {
  const [, added, open, max] = OVER_SHARDS.exec(reason)?.map(Number) ?? [];
  return added === undefined || open === undefined || max === undefined ? null : { added, open, max };
}

/** `waiting`: how many shards all indices need that wait for room. */
export function tooManyShards({ added, open, max }: OverShards, table: string, waiting: number): MillraceError {
  const message = `the index of ${table} needs ${added} more shards, and the cluster has ${open} of the ${max} that cluster.max_shards_per_node allows`;
  const hint = `PUT _cluster/settings {"persistent": {"cluster.max_shards_per_node": N}}, with an N that times the data nodes is ${open + waiting} or more; or ${SHARDS_FIX}`;
  return searchError("MR2006", "blocked", message, { hint, table });
}

/** A shard of the index is lost, or has not started yet. */
export function partError(kind: ErrorKind, what: string, table: string | undefined): MillraceError {
  const hint =
    "Bring back the nodes that have its shards: GET _cluster/allocation/explain says why they have no copy. The table is tried again.";
  return searchError("MR2001", kind, `${what}: a part of an index is not there`, { hint, table, reason: "partial" });
}

/** Whether the engine refused an item because of its content. */
export function isRefusal({ status, type }: EngineError): boolean {
  return (
    status === 400 &&
    /_parsing_exception$|^illegal_argument_exception$|^max_bytes_length_exceeded|_parse_exception$/.test(type)
  );
}

export function tlsError({ what, fix }: TlsFailure, server: string, cause: unknown): MillraceError {
  return searchError("MR2003", "blocked", `TLS to the search engine at ${server} failed: ${what}`, {
    hint: fix,
    cause,
  });
}

/** Whether the connection ended, or the answer was not HTTP, as when a plain request meets a TLS port. */
export function isHangUp(error: unknown): boolean {
  return /^(UND_ERR_SOCKET|ECONNRESET|EPIPE|HPE_\w+)$/.test(codeOf(error));
}

/** Whether `classifyConnection` knows it. */
export function isOfConnection(error: unknown): boolean {
  if (error instanceof MillraceError || error instanceof UnusableTls || isAborted(error)) return true;
  return error instanceof Error && "code" in error;
}

/** Classifies a failed connection; `server`: host and port of the node, or of all nodes. */
export function classifyConnection(error: unknown, signal: AbortSignal, server: string): MillraceError {
  if (error instanceof MillraceError) return atServer(error, server);
  if (error instanceof UnusableTls)
    return searchError("MR2003", "blocked", error.what, { hint: error.fix, cause: error.cause });
  if (signal.aborted || isAborted(error)) {
    return searchError("MR2029", "aborted", "the work on the search engine was stopped", { cause: error });
  }
  const code = codeOf(error);
  const failure = tlsFailure(code);
  if (failure !== undefined) return tlsError(failure, server, error);
  const reason = systemErrorCode(error) ?? (/^UND_ERR_\w+_TIMEOUT$/.test(code) ? "ETIMEDOUT" : undefined);
  const message = `the search engine at ${server} can't be reached${reason === undefined ? "" : `: ${reason}`}`;
  const hint = reachAgain(reason, server, "url");
  return searchError("MR2001", "retryable", message, { hint, cause: error });
}
