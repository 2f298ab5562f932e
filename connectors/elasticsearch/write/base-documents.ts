/**
 * Documents that a PATCH takes its unchanged columns from: the one under the same id, or under the old one. No other
 * entry of the batch writes them (src/core/model/batch.ts), and nothing is deleted before they are read.
 */
import type { TableWrites } from "../../../src/core/model/batch.ts";
import { ByteWriter } from "../../../src/core/bytes.ts";
import { invariant } from "../../../src/core/invariant.ts";
import { JsonFields, skipValue } from "../../../src/core/targets/json-fields.ts";
import { classifyEngine, type EngineError, searchError } from "../errors.ts";
import { engineError, errorOf, parsed, type SearchClient } from "../http.ts";
import type { SearchTable } from "../indices/tables.ts";

export type BaseLookup =
  | { readonly kind: "found"; readonly source: Buffer }
  /** The document is not there, is of an older shape, or shows what came after the change: the key must be read from the source. */
  | { readonly kind: "missing" }
  /** The document shows a later commit already: nothing is to be written. */
  | { readonly kind: "newer" };

export interface BaseRequest {
  readonly target: SearchTable;
  readonly writes: TableWrites;
  readonly entry: number;
}

const ITEM = new JsonFields(["found", "_version", "_source", "error"]);
const DOCS = new JsonFields(["docs"]);
const FOUND = 0;
const VERSION = 1;
const SOURCE = 2;
const ERROR = 3;

/** Reads the bases of these entries (by id, so what was written a moment ago is seen); results are in their order. */
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
  // Without any filter: the engine then hands out the document's own bytes; a filtered one is written anew, numbers and all.
  const answer = await client.request({ method: "POST", path: "/_mget", body: out.view() }, signal);
  if (answer.status !== 200) throw classifyEngine(errorOf(answer), "reading documents");
  const items = docsOf(answer.body);
  invariant(items.length === requests.length, "every document asked for is answered");
  return items.map((item, i) => judge(requests[i]!, item));
}

function writeRequest(out: ByteWriter, { target, writes, entry }: BaseRequest): void {
  const block = writes.blocks[writes.block[entry]!]!;
  const row = writes.row[entry]!;
  out.ascii('{"_index":');
  out.utf8(JSON.stringify(target.alias));
  out.ascii(',"_id":');
  target.documents.id(out, block, writes.moved[entry] === 1 ? block.before[row]! : block.after[row]!);
  out.byte(0x7d);
}

/** The elements of `docs`, each as its own bytes. */
function docsOf(body: Buffer): Buffer[] {
  DOCS.read(body);
  if (!DOCS.has(0)) throw searchError("MR3300", "retryable", "reading documents got an answer without documents");
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

function judge({ target, writes, entry }: BaseRequest, item: Buffer): BaseLookup {
  ITEM.read(item);
  if (ITEM.has(ERROR)) throw classifyEngine(itemError(item), "reading documents", target.table.id);
  if (textOf(item, FOUND) !== "true") return { kind: "missing" };
  const held = BigInt(textOf(item, VERSION));
  const block = writes.blocks[writes.block[entry]!]!;
  const version = block.transactions.version[block.tx[writes.row[entry]!]!]!;
  if (writes.moved[entry] === 1) {
    // Under the old id another row may stand by now, when the log is read a second time; one of the same transaction
    // can't be told from it.
    if (held >= version) return { kind: "missing" };
  } else if (held > version) {
    return { kind: "newer" };
  }
  if (held < target.floors.of(block.bytes, block.after[writes.row[entry]!]!)) return { kind: "missing" };
  return { kind: "found", source: item.subarray(ITEM.start[SOURCE], ITEM.end[SOURCE]) };
}

function itemError(item: Buffer): EngineError {
  return engineError(404, parsed(item.subarray(ITEM.start[ERROR], ITEM.end[ERROR])));
}

function textOf(item: Buffer, ordinal: number): string {
  return item.toString("latin1", ITEM.start[ordinal], ITEM.end[ordinal]);
}
