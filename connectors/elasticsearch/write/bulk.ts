import { isUtf8 } from "node:buffer";
import { classifyEngine, type EngineError, isRefusal, searchError } from "../errors.ts";
import { type BulkBody } from "./bulk-body.ts";
import { SHARD_TIMEOUT } from "../indices/ddl.ts";
import { withoutDuplicateFields } from "./duplicate-fields.ts";
import { type Answer, engineError, errorOf, fieldOf, parsed, type SearchClient } from "../http.ts";

/** An item that the engine refuses because of its content. */
export interface Refusal {
  readonly item: number;
  readonly tooLarge: boolean;
  /** The engine's error type, and the field if the error names one. */
  readonly reason: string;
}

const QUERY = { require_alias: "true", timeout: SHARD_TIMEOUT, filter_path: "errors,items.*.error,items.*.status" };
/** Why an item was not sent. */
export const NO_UTF8 = "a text is no UTF-8";
const ALL_WELL = Buffer.from('{"errors":false');

/**
 * Sends a body and returns the refused items. An item whose version is older than the document's (409) is done: the
 * document shows a later commit. Any failure that is not a document's own throws, and the batch is repeated.
 */
export async function sendBulk(client: SearchClient, body: BulkBody, signal: AbortSignal): Promise<Refusal[]> {
  return sendItems(client, body, 0, body.count, signal);
}

async function sendItems(
  client: SearchClient,
  body: BulkBody,
  from: number,
  to: number,
  signal: AbortSignal,
): Promise<Refusal[]> {
  if (from === to) return [];
  const bytes = body.slice(from, to);
  // The engines take such a text, and keep another one.
  const isText = isUtf8(bytes);
  if (!isText && to - from === 1) return [{ item: from, tooLarge: false, reason: NO_UTF8 }];
  const answer = isText ? await post(client, bytes, signal) : null;
  const limit = answer === null ? null : limitOf(answer);
  if (limit !== null && to - from === 1) return [{ item: from, tooLarge: true, reason: limit }];
  if (answer === null || limit !== null) {
    const middle = (from + to) >> 1;
    const first = await sendItems(client, body, from, middle, signal);
    return [...first, ...(await sendItems(client, body, middle, to, signal))];
  }
  const refusals: Refusal[] = [];
  for (const { item, error, reason } of failures(answer)) {
    if (!isRefusal(error)) throw classifyEngine(error, "a bulk write", body.tableOf(from + item));
    const cured = await sendWithoutDuplicates(client, body, from + item, signal);
    if (!cured) refusals.push({ item: from + item, tooLarge: false, reason });
  }
  return refusals;
}

/** The engine's limit that a body is over whatever else the engine does; null if it is not. */
function limitOf({ status, body }: Answer): string | null {
  if (status === 413) return "http.max_content_length";
  if (status !== 429) return null;
  const [, size, sizeMax] = OVER_MEMORY.exec(String(fieldOf(fieldOf(parsed(body), "error"), "reason"))) ?? [];
  return Number(size) > Number(sizeMax) ? "indexing_pressure.memory.limit" : null;
}

/** The same type as for an overload; only the figures distinguish it. */
const OVER_MEMORY = /\bcoordinating_operation_bytes=(\d+), max_coordinating\w*_bytes=(\d+)/;

function post(client: SearchClient, bytes: Buffer, signal: AbortSignal): Promise<Answer> {
  return client.request({ method: "POST", path: "/_bulk", query: QUERY, body: bytes, isBulk: true }, signal);
}

interface Failure {
  readonly item: number;
  readonly error: EngineError;
  readonly reason: string;
}

/** The items that failed for another reason than an older version. */
function failures(answer: Answer): Failure[] {
  if (answer.status !== 200) throw classifyEngine(errorOf(answer), "a bulk write");
  if (answer.body.subarray(0, ALL_WELL.length).equals(ALL_WELL)) return [];
  const items = fieldOf(parsed(answer.body), "items");
  if (!Array.isArray(items)) throw searchError("MR2027", "retryable", "a bulk write got an answer without items");
  return items.flatMap((item: unknown, i) => {
    const result = fieldOf(item, "index") ?? fieldOf(item, "delete");
    const error = fieldOf(result, "error");
    const status = Number(fieldOf(result, "status"));
    if (error === undefined || status === 409) return [];
    return [{ item: i, error: engineError(status, error), reason: reasonOf(error) }];
  });
}

/** Type and field. The engine's sentence quotes values, so it is left out. */
function reasonOf(error: unknown): string {
  const type = String(fieldOf(error, "type"));
  const field = /failed to parse field \[(.*?)\] of type/.exec(String(fieldOf(error, "reason")))?.[1];
  return field === undefined ? type : `${type}, field ${field}`;
}

/**
 * The engines refuse an object with a duplicate field, which a column of type json may contain (jsonb may not). Sends
 * such a document again in jsonb's form: the last one wins.
 */
async function sendWithoutDuplicates(
  client: SearchClient,
  body: BulkBody,
  item: number,
  signal: AbortSignal,
): Promise<boolean> {
  const bytes = body.slice(item, item + 1);
  const line = bytes.indexOf(0x0a) + 1;
  const document = line < bytes.length ? withoutDuplicateFields(bytes.subarray(line)) : null;
  if (document === null) return false;
  const answer = await post(client, Buffer.concat([bytes.subarray(0, line), document, Buffer.from("\n")]), signal);
  const left = failures(answer);
  for (const { error } of left) if (!isRefusal(error)) throw classifyEngine(error, "a bulk write", body.tableOf(item));
  return left.length === 0;
}
