import { isUtf8 } from "node:buffer";
import { classifyEngine, type EngineError, isRefusal, unknownAnswer } from "../errors.ts";
import type { BulkBody } from "./bulk-body.ts";
import { SHARD_TIMEOUT } from "../indices/ddl.ts";
import { type Answer, engineError, errorOf, fieldOf, parsed, type SearchClient } from "../http.ts";
import { ByteWriter } from "../../../src/core/bytes.ts";
import { skipString, skipValue } from "../../../src/core/targets/json-fields.ts";

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
  for (const { item, error, reason } of failures(answer, to - from)) {
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
function failures(answer: Answer, count: number): Failure[] {
  if (answer.status !== 200) throw classifyEngine(errorOf(answer), "a bulk write");
  if (answer.body.subarray(0, ALL_WELL.length).equals(ALL_WELL)) return [];
  const items = fieldOf(parsed(answer.body), "items");
  if (!Array.isArray(items) || items.length !== count) throw unknownAnswer("a bulk write");
  return items.flatMap((item: unknown, i) => {
    const result = fieldOf(item, "index") ?? fieldOf(item, "delete");
    const error = fieldOf(result, "error");
    const status = Number(fieldOf(result, "status"));
    if (Number.isNaN(status)) throw unknownAnswer("a bulk write");
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
  const left = failures(answer, 1);
  for (const { error } of left) if (!isRefusal(error)) throw classifyEngine(error, "a bulk write", body.tableOf(item));
  return left.length === 0;
}

const QUOTE = 0x22;
const COMMA = 0x2c;
const OPEN = 0x7b;
const CLOSE = 0x7d;
/** The engines refuse deeper JSON anyway. */
const DEPTH_MAX = 1_000;

/**
 * The document with only the last of each object's duplicate fields, at its place; null if there are no duplicates.
 * Everything else is copied unchanged. For refused rows, not for the hot path.
 */
export function withoutDuplicateFields(document: Uint8Array): Buffer | null {
  const out = new ByteWriter(document.length);
  const state = { found: false };
  copyValue(out, document, 0, 0, state);
  return state.found ? out.view() : null;
}

/** Copies the value at `at` and returns the offset after it. */
function copyValue(out: ByteWriter, bytes: Uint8Array, at: number, depth: number, state: { found: boolean }): number {
  const first = bytes[at];
  if (depth < DEPTH_MAX && first === OPEN) return copyObject(out, bytes, at, depth, state);
  if (depth < DEPTH_MAX && first === 0x5b) return copyArray(out, bytes, at, depth, state);
  const end = skipValue(bytes, at);
  out.copy(bytes, at, end - at);
  return end;
}

function copyArray(out: ByteWriter, bytes: Uint8Array, at: number, depth: number, state: { found: boolean }): number {
  let i = at + 1;
  out.byte(0x5b);
  while (bytes[i] !== 0x5d) {
    if (bytes[i] === COMMA || isSpace(bytes[i]!)) out.byte(bytes[i++]!);
    else i = copyValue(out, bytes, i, depth + 1, state);
  }
  out.byte(0x5d);
  return i + 1;
}

function copyObject(out: ByteWriter, bytes: Uint8Array, at: number, depth: number, state: { found: boolean }): number {
  const last = new Map<string, number>();
  const fields: { readonly nameAt: number; readonly nameEnd: number; readonly valueAt: number }[] = [];
  let i = skipGaps(bytes, at + 1);
  while (bytes[i] !== CLOSE) {
    const nameEnd = skipString(bytes, i);
    const valueAt = skipGaps(bytes, nameEnd);
    const name: unknown = JSON.parse(Buffer.from(bytes.subarray(i, nameEnd)).toString("utf8"));
    if (last.has(String(name))) state.found = true;
    last.set(String(name), fields.length);
    fields.push({ nameAt: i, nameEnd, valueAt });
    i = skipGaps(bytes, skipValue(bytes, valueAt));
  }
  const kept = new Set(last.values());
  out.byte(OPEN);
  let isFirst = true;
  for (const [n, { nameAt, nameEnd, valueAt }] of fields.entries()) {
    if (!kept.has(n)) continue;
    if (!isFirst) out.byte(COMMA);
    isFirst = false;
    out.copy(bytes, nameAt, nameEnd - nameAt);
    out.byte(0x3a);
    copyValue(out, bytes, valueAt, depth + 1, state);
  }
  out.byte(CLOSE);
  return i + 1;
}

/** Skips white space, colons and commas. */
function skipGaps(bytes: Uint8Array, at: number): number {
  let i = at;
  while (bytes[i] !== QUOTE && (isSpace(bytes[i]!) || bytes[i] === COMMA || bytes[i] === 0x3a)) i++;
  return i;
}

function isSpace(byte: number): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}
