import { isUtf8 } from "node:buffer";
import { DELETE, PATCH, type TableWrites } from "../../../src/core/model/batch.ts";
import type { MillraceError } from "../../../src/core/errors.ts";
import type { Outcome } from "../../../src/core/contracts/sink.ts";
import { ByteWriter } from "../../../src/core/bytes.ts";
import * as base from "../../../src/core/targets/base-rows.ts";
import { withBases, baseOffset } from "../../../src/core/targets/base-rows.ts";
import { SkippedRows } from "../../kit/skipped-rows.ts";
import { BulkBody } from "./bulk-body.ts";
import { NO_UTF8, type Refusal, sendBulk } from "./bulk.ts";
import { classifyEngine, type EngineError, searchError, unknownAnswer } from "../errors.ts";
import { type SearchClient, engineError, errorOf, parsed } from "../http.ts";
import type { SearchTable } from "../indices/tables.ts";
import { JsonFields, skipValue } from "../../../src/core/targets/json-fields.ts";

/** How many bodies are in flight while the next one is written. */
const BODIES_IN_FLIGHT = 2;
/** A body of more bytes has one large document. It goes alone: the engines admit a tenth of their heap at once. */
const BYTES_IN_FLIGHT_MAX = 8 * 1024 * 1024;
/** Bodies are reused from batch to batch; one pool per sink. */
export class BodyPool {
  readonly #free: BulkBody[] = [];

  take(): BulkBody {
    return this.#free.pop() ?? new BulkBody();
  }

  /** Only for an answered body. */
  give(body: BulkBody): void {
    body.reset();
    if (this.#free.length <= BODIES_IN_FLIGHT) this.#free.push(body);
  }
}

/** Writes the entries of a batch. Invariant: a document is removed only after all puts are durable. */
export class RowsBatch {
  readonly #client: SearchClient;
  readonly #pool: BodyPool;
  readonly #tables: readonly TableWrites[];
  readonly #targets: readonly SearchTable[];
  readonly #signal: AbortSignal;
  readonly #inFlight: Promise<void>[] = [];
  #bytesInFlight = 0;
  readonly #skipped = new SkippedRows();
  #body: BulkBody;

  constructor(
    client: SearchClient,
    pool: BodyPool,
    tables: readonly TableWrites[],
    targets: readonly SearchTable[],
    signal: AbortSignal,
  ) {
    this.#client = client;
    this.#pool = pool;
    this.#tables = tables;
    this.#targets = targets;
    this.#signal = signal;
    this.#body = pool.take();
    for (const { documents } of targets) documents.begin();
  }

  async write(outcome: Outcome): Promise<void> {
    try {
      await this.#putRows();
      await this.#putPatches();
      await this.#flush();
      await this.#settle();
      await this.#removeRows();
      await this.#flush();
      await this.#settle();
    } finally {
      // After a failure nothing may arrive after the next attempt has begun.
      await Promise.allSettled(this.#inFlight);
    }
    await this.#skipped.report(outcome);
  }

  async #putRows(): Promise<void> {
    for (let t = 0; t < this.#tables.length; t++) {
      const writes = this.#tables[t]!;
      if (writes.deleteCount + writes.patchCount === writes.count) continue;
      for (let i = 0; i < writes.count; i++) {
        if (writes.action[i] === DELETE || writes.action[i] === PATCH) continue;
        if (this.#body.isFull) await this.#flush();
        this.#put(t, i, null);
      }
    }
  }

  async #putPatches(): Promise<void> {
    const read = (some: readonly BaseRequest[]) => readBases(this.#client, some, this.#signal);
    await withBases(
      this.#patches(),
      read,
      ({ source }) => source.length,
      async ({ writes, entry }, found) => {
        if (found === "missing") return this.#skipped.incomplete(writes, entry);
        if (this.#body.isFull) await this.#flush();
        return this.#put(this.#tables.indexOf(writes), entry, found.source);
      },
    );
  }

  #patches(): BaseRequest[] {
    const requests: BaseRequest[] = [];
    for (let t = 0; t < this.#tables.length; t++) {
      const writes = this.#tables[t]!;
      if (writes.patchCount === 0) continue;
      const target = this.#targets[t]!;
      for (let i = 0; i < writes.count; i++) {
        if (writes.action[i] !== PATCH) continue;
        if (hasId(target, writes, i)) requests.push({ target, writes, entry: i });
        else this.#skipped.refused(writes, i, poisonError(writes, { tooLarge: false, reason: NO_UTF8 }));
      }
    }
    return requests;
  }

  #put(t: number, i: number, base: Buffer | null): void {
    const writes = this.#tables[t]!;
    if (this.#targets[t]!.documents.put(this.#body.out, writes, i, base)) {
      this.#body.add(writes, i);
    } else {
      this.#body.abandon();
      this.#skipped.incomplete(writes, i);
    }
  }

  async #removeRows(): Promise<void> {
    for (let t = 0; t < this.#tables.length; t++) {
      const writes = this.#tables[t]!;
      if (writes.deleteCount === 0) continue;
      for (let i = 0; i < writes.count; i++) {
        if (writes.action[i] !== DELETE) continue;
        if (this.#body.isFull) await this.#flush();
        this.#targets[t]!.documents.remove(this.#body.out, writes, i);
        this.#body.add(writes, i);
      }
    }
  }

  async #flush(): Promise<void> {
    const body = this.#body;
    if (body.count === 0) return;
    this.#signal.throwIfAborted();
    const byteCount = body.out.length;
    const isTooMuch = (): boolean => this.#bytesInFlight + byteCount > BYTES_IN_FLIGHT_MAX;
    while (this.#inFlight.length > 0 && (this.#inFlight.length >= BODIES_IN_FLIGHT || isTooMuch()))
      await this.#inFlight.shift();
    this.#bytesInFlight += byteCount;
    const sent = this.#send(body).finally(() => (this.#bytesInFlight -= byteCount));
    // Awaited later; until then the handler marks a failure as handled.
    sent.catch(() => {});
    this.#inFlight.push(sent);
    this.#body = this.#pool.take();
  }

  async #settle(): Promise<void> {
    while (this.#inFlight.length > 0) await this.#inFlight.shift();
  }

  async #send(body: BulkBody): Promise<void> {
    for (const refusal of await sendBulk(this.#client, body, this.#signal)) {
      const writes = body.writes[refusal.item];
      if (writes === undefined) continue;
      this.#skipped.refused(writes, body.entry[refusal.item]!, poisonError(writes, refusal));
    }
    this.#pool.give(body);
  }
}

/** A row whose id is no UTF-8 was never there. */
function hasId(target: SearchTable, writes: TableWrites, entry: number): boolean {
  const id = new ByteWriter(128);
  target.documents.id(id, writes.blocks[writes.block[entry]!]!, baseOffset({ target, writes, entry }));
  return isUtf8(id.view());
}

function poisonError(writes: TableWrites, { tooLarge, reason }: Pick<Refusal, "tooLarge" | "reason">): MillraceError {
  const { id } = writes.table;
  return tooLarge
    ? searchError("MR3111", "poison", `a row of ${id} is too large for the search engine (${reason})`)
    : searchError("MR3111", "poison", `the search engine refuses a row of ${id} for its content (${reason})`);
}

/**
 * Reads the documents from which a PATCH takes its unchanged columns: under the same id, or under the old one. No other
 * entry of the batch writes them (src/core/model/batch.ts), and nothing is deleted before they are read.
 */
type BaseLookup = base.BaseLookup<{ readonly source: Buffer }>;
type BaseRequest = base.BaseRequest<SearchTable>;

const ITEM = new JsonFields(["found", "_version", "_source", "error"]);
const DOCS = new JsonFields(["docs"]);
const FOUND = 0;
const VERSION = 1;
const SOURCE = 2;
const ERROR = 3;

/** Reads the bases of these entries by id, which sees fresh writes; results are in the order of the entries. */
async function readBases(
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
  if (items.length !== requests.length) throw unknownAnswer("reading documents");
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
  if (!DOCS.has(0)) throw unknownAnswer("reading documents");
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
