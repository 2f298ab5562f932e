/**
 * Reads the documents from which a PATCH takes its unchanged columns: under the same id, or under the old one. No other
 * entry of the batch writes them (src/core/model/batch.ts), and nothing is deleted before they are read.
 */
import { ByteWriter } from "../../../src/core/bytes.ts";
import { invariant } from "../../../src/core/invariant.ts";
import * as base from "../../../src/core/targets/base-lookup.ts";
import { JsonFields, skipValue } from "../../../src/core/targets/json-fields.ts";
import { classifyEngine, type EngineError, searchError } from "../errors.ts";
import { engineError, errorOf, parsed, type SearchClient } from "../http.ts";
import type { SearchTable } from "../indices/tables.ts";

export type BaseLookup = base.BaseLookup<{ readonly source: Buffer }>;
export type BaseRequest = base.BaseRequest<SearchTable>;

const ITEM = new JsonFields(["found", "_version", "_source", "error"]);
const DOCS = new JsonFields(["docs"]);
const FOUND = 0;
const VERSION = 1;
const SOURCE = 2;
const ERROR = 3;

/** Reads the bases of these entries by id, which sees fresh writes; results are in the order of the entries. */
export async function readBases(
  client: SearchClient,
  requests: readonly BaseRequest[],
  signal: AbortSignal,
): Promise<BaseLookup[]> {
  const out = new ByteWriter(requests.length * 128);
  requests.forEach((request, i) => {
    out.ascii(i === 0 ? '{"docs":[' : ",");
    writeRequest(out, request);
  });
  out.ascii("]}");
  // Without a filter the engine returns the document's own bytes; with one it would write the document again, including
  // its numbers.
  const answer = await client.request({ method: "POST", path: "/_mget", body: out.view() }, signal);
  if (answer.status !== 200) throw classifyEngine(errorOf(answer), "reading documents");
  const items = docsOf(answer.body);
  invariant(items.length === requests.length, "every document asked for is answered");
  return items.map((item, i) => judge(requests[i]!, item));
}

function writeRequest(out: ByteWriter, request: BaseRequest): void {
  const { target, writes, entry } = request;
  out.ascii('{"_index":');
  out.utf8(JSON.stringify(target.alias));
  out.ascii(',"_id":');
  target.documents.id(out, writes.blocks[writes.block[entry]!]!, base.baseOffset(request));
  out.byte(0x7d);
}

/** The elements of `docs`, each as its own bytes. */
function docsOf(body: Buffer): Buffer[] {
  DOCS.read(body);
  if (!DOCS.has(0)) throw searchError("MR2027", "retryable", "reading documents got an answer without documents");
  const items: Buffer[] = [];
  const end = DOCS.end[0]! - 1;
  for (let at = DOCS.start[0]! + 1; at < end;) {
    if (body[at] !== 0x7b) {
      at++;
      continue;
    }
    const behind = skipValue(body, at);
    items.push(body.subarray(at, behind));
    at = behind;
  }
  return items;
}

function judge(request: BaseRequest, item: Buffer): BaseLookup {
  ITEM.read(item);
  if (ITEM.has(ERROR)) throw classifyEngine(itemError(item), "reading documents", request.target.table.id);
  if (textOf(item, FOUND) !== "true") return { kind: "missing" };
  const kind = base.judgeBase(request, BigInt(textOf(item, VERSION)));
  return kind === "found" ? { kind, source: item.subarray(ITEM.start[SOURCE], ITEM.end[SOURCE]) } : { kind };
}

function itemError(item: Buffer): EngineError {
  return engineError(404, parsed(item.subarray(ITEM.start[ERROR], ITEM.end[ERROR])));
}

function textOf(item: Buffer, ordinal: number): string {
  return item.toString("latin1", ITEM.start[ordinal], ITEM.end[ordinal]);
}
