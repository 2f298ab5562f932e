import { DELETE, isDoubted, PATCH, type TableWrites } from "../../../src/core/model/batch.ts";
import { invariant } from "../../../src/core/invariant.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { withBases } from "../../../src/core/targets/base-rows.ts";
import { type CallStream, RESULT_NO_UTF8, RESULT_TOO_LARGE } from "./call-stream.ts";
import { type Connection, listOf, type Reply } from "../connection.ts";
import type { Packing } from "./packed-row.ts";
import { beginText, endText, ACTION, RESULT_INCOMPLETE, JSON_HEAD, VERSION_FIELD } from "./script.ts";
import { slotOf } from "../keys.ts";
import type { Format, TableTarget } from "./table-target.ts";
import * as base from "../../../src/core/targets/base-rows.ts";
import { CELL_UNCHANGED, CellMap } from "../../../src/core/model/tuple.ts";
import { replyCode } from "../errors.ts";
import type { BaseRow } from "./row-writer.ts";

/** Entries of one kind, in the order of sending. */
interface Phase {
  readonly table: Uint16Array;
  readonly entry: Uint32Array;
  readonly count: number;
}

interface RowsBatchParts {
  readonly connection: Connection;
  readonly stream: CallStream;
  readonly format: Format;
  readonly tables: readonly TableWrites[];
  readonly target: (table: TableVersion) => TableTarget;
  readonly packing: Packing | null;
}

/** Writes the entries of a batch: first rows, then deletions. */
export class RowsBatch {
  readonly #connection: Connection;
  readonly #stream: CallStream;
  readonly #format: Format;
  readonly #tables: readonly TableWrites[];
  readonly #targets: readonly TableTarget[];

  constructor({ connection, stream, format, tables, target, packing }: RowsBatchParts) {
    this.#connection = connection;
    this.#stream = stream;
    this.#format = format;
    this.#tables = tables;
    this.#targets = tables.map((writes) => target(writes.table));
    for (const { rows } of this.#targets) rows.begin(packing);
  }

  async send(signal: AbortSignal): Promise<void> {
    await this.#writeRows(
      await this.#phase((writes, i) => writes.action[i] !== DELETE && !this.#needsBase(writes, i)),
      signal,
    );
    await this.#writeCompleted(await this.#phase((writes, i) => this.#needsBase(writes, i)), signal);
    await this.#remove(await this.#phase((writes, i) => writes.action[i] === DELETE), signal);
  }

  /** The script completes a hash itself, but it can't reach another key of a cluster, or look into JSON. */
  #needsBase(writes: TableWrites, i: number): boolean {
    return writes.action[i] === PATCH && (this.#format === "json" || writes.moved[i] === 1);
  }

  async #writeRows(phase: Phase, signal: AbortSignal): Promise<void> {
    for (let n = 0; n < phase.count; n++) {
      if (this.#mustFlush(phase, n)) await this.#flush(signal);
      this.#write(phase, n, null);
    }
    if (this.#connection.isCluster) await this.#stream.flush();
  }

  async #writeCompleted(phase: Phase, signal: AbortSignal): Promise<void> {
    const requests = Array.from({ length: phase.count }, (_, n) => ({ ...this.#request(phase, n), n }));
    await withBases(
      requests,
      (some) => readBases(this.#connection, this.#format, some),
      ({ row }) => row.values.reduce((sum, value) => sum + (value?.length ?? 0), 0),
      async ({ writes, entry, n }, found) => {
        if (found === "missing") return this.#stream.leave(writes, entry, RESULT_INCOMPLETE);
        if (this.#mustFlush(phase, n)) await this.#flush(signal);
        return this.#write(phase, n, found.row);
      },
    );
    if (this.#connection.isCluster) await this.#stream.flush();
  }

  #write(phase: Phase, n: number, base: BaseRow | null): void {
    const writes = this.#tables[phase.table[n]!]!;
    const target = this.#targets[phase.table[n]!]!;
    const i = phase.entry[n]!;
    const { call } = this.#stream;
    const block = writes.blocks[writes.block[i]!]!;
    const action = target.rows.write(call.beginRow(), writes, i, base);
    if (typeof action !== "number") {
      call.abandonRow();
      this.#stream.leave(writes, i, action === "incomplete" ? RESULT_INCOMPLETE : RESULT_NO_UTF8);
      return;
    }
    const key = target.key(block, block.after[writes.row[i]!]!);
    if (!call.add(action, key, writes, i)) this.#stream.leave(writes, i, RESULT_TOO_LARGE);
  }

  async #remove(phase: Phase, signal: AbortSignal): Promise<void> {
    for (let n = 0; n < phase.count; n++) {
      if (this.#mustFlush(phase, n)) await this.#flush(signal);
      const writes = this.#tables[phase.table[n]!]!;
      const i = phase.entry[n]!;
      const block = writes.blocks[writes.block[i]!]!;
      const row = writes.row[i]!;
      const { call } = this.#stream;
      const out = call.beginRow();
      const text = beginText(out);
      out.ascii(String(block.transactions.version[block.tx[row]!]!));
      endText(out, text);
      const action = isDoubted(writes.table, block, row) ? ACTION.removeHeld : ACTION.remove;
      const added = call.add(action, this.#targets[phase.table[n]!]!.key(block, block.before[row]!), writes, i);
      invariant(added, "a version is a short row");
      call.hasRemoval = true;
    }
  }

  #request(phase: Phase, n: number): BaseRequest {
    const t = phase.table[n]!;
    return { target: this.#targets[t]!, writes: this.#tables[t]!, entry: phase.entry[n]! };
  }

  /** Whether the present call can't take the entry: in a cluster a call holds keys of only one slot. */
  #mustFlush(phase: Phase, n: number): boolean {
    const { call } = this.#stream;
    if (call.isFull) return true;
    return this.#connection.isCluster && call.count > 0 && this.#slot(phase.table[n]!, phase.entry[n]!) !== call.slot;
  }

  async #flush(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    await this.#stream.flush();
  }

  /** The entries for which `chosen` is true; in a cluster ordered by slot, so that entries of one slot share a call. */
  async #phase(chosen: (writes: TableWrites, i: number) => boolean): Promise<Phase> {
    const total = this.#tables.reduce((sum, writes) => sum + writes.count, 0);
    const table = new Uint16Array(total);
    const entry = new Uint32Array(total);
    let count = 0;
    for (let t = 0; t < this.#tables.length; t++) {
      const writes = this.#tables[t]!;
      for (let i = 0; i < writes.count; i++) {
        if (!chosen(writes, i)) continue;
        table[count] = t;
        entry[count++] = i;
      }
    }
    return this.#connection.isCluster ? await this.#bySlot({ table, entry, count }) : { table, entry, count };
  }

  async #bySlot({ table, entry, count }: Phase): Promise<Phase> {
    const slots = Uint16Array.from({ length: count }, (_, n) => this.#slot(table[n]!, entry[n]!));
    await this.#stream.enter(slots);
    const order = Uint32Array.from({ length: count }, (_, n) => n).toSorted((a, b) => slots[a]! - slots[b]!);
    return { table: Uint16Array.from(order, (n) => table[n]!), entry: order.map((n) => entry[n]!), count };
  }

  #slot(t: number, i: number): number {
    const writes = this.#tables[t]!;
    const block = writes.blocks[writes.block[i]!]!;
    const row = writes.row[i]!;
    const offset = writes.action[i] === DELETE ? block.before[row]! : block.after[row]!;
    const key = this.#targets[t]!.key(block, offset);
    return slotOf(key.bytes, 0, key.length);
  }
}

/**
 * Reads the rows from which a PATCH takes its unchanged columns, if the script can't do that: all of them in the format
 * json, and those of a key change in the format hash. Reads them before it writes the entry and before any delete; no
 * other entry of the batch writes them (src/core/model/batch.ts).
 */
type BaseLookup = base.BaseLookup<{ readonly row: BaseRow }>;
type BaseRequest = base.BaseRequest<TableTarget>;

/** Reads the bases of these entries, in their order. */
async function readBases(
  connection: Connection,
  format: Format,
  requests: readonly BaseRequest[],
): Promise<BaseLookup[]> {
  const replies = requests.map((request) => askFor(connection, format, request));
  // Awaits all before it throws the first failure, so that none stays unhandled.
  const settled = await Promise.allSettled(replies);
  return settled.map((result, i) => {
    if (result.status === "fulfilled") return judge(format, requests[i]!, result.value);
    if (result.reason instanceof Error && replyCode(result.reason.message) === "WRONGTYPE") return { kind: "missing" };
    throw result.reason;
  });
}

function askFor(connection: Connection, format: Format, request: BaseRequest): Promise<Reply> {
  const { target, writes, entry } = request;
  const block = writes.blocks[writes.block[entry]!]!;
  const row = writes.row[entry]!;
  const key = Buffer.from(target.key(block, base.baseOffset(request)).view());
  if (format === "json") return connection.command("get", key);
  const cells = new CellMap();
  cells.read(block.bytes, block.after[row]!);
  const names = writes.table.columns.filter((_, c) => cells.kind[c] === CELL_UNCHANGED).map((column) => column.name);
  return connection.command("hmget", key, VERSION_FIELD, ...names);
}

function judge(format: Format, request: BaseRequest, reply: Reply): BaseLookup {
  const held = format === "json" ? versionInText(reply) : versionInFields(reply);
  if (held === null) return { kind: "missing" };
  const kind = base.judgeBase(request, held);
  return kind === "found"
    ? { kind, row: { values: format === "json" ? [bytesOf(reply)] : fieldsOf(reply) } }
    : { kind };
}

function versionInText(reply: Reply): bigint | null {
  if (!Buffer.isBuffer(reply)) return null;
  const head = reply.toString("latin1", 0, 64);
  const digits = head.startsWith(JSON_HEAD) ? /^\d+/.exec(head.slice(JSON_HEAD.length))?.[0] : undefined;
  return digits === undefined ? null : BigInt(digits);
}

function versionInFields(reply: Reply): bigint | null {
  const version = bytesOf(listOf(reply)?.[0]);
  return version !== null && /^\d+$/.test(version.toString("latin1")) ? BigInt(version.toString("latin1")) : null;
}

function fieldsOf(reply: Reply): (Buffer | null)[] {
  return (listOf(reply) ?? []).slice(1).map(bytesOf);
}

function bytesOf(reply: Reply): Buffer | null {
  return Buffer.isBuffer(reply) ? reply : null;
}
