/**
 * Rows that a PATCH takes its unchanged columns from, where the script can't take them itself: all of them in the format
 * json, and those of a key change in the format hash. They are read before the entry is written and before anything is
 * deleted; no other entry of the batch writes them (src/core/model/batch.ts).
 */
import type { TableWrites } from "../../../src/core/model/batch.ts";
import { CELL_UNCHANGED, CellMap } from "../../../src/core/model/tuple.ts";
import { type Connection, listOf, type Reply } from "../connection.ts";
import { replyCode } from "../errors.ts";
import type { BaseRow } from "./row-writer.ts";
import { JSON_HEAD, VERSION_FIELD } from "./script.ts";
import type { Format, TableTarget } from "./table-target.ts";

export type BaseLookup =
  | { readonly kind: "found"; readonly row: BaseRow }
  /** The row is not there, is of an older shape, or shows what came after the change: the key must be read from the source. */
  | { readonly kind: "missing" }
  /** The row shows a later commit already: nothing is to be written. */
  | { readonly kind: "newer" };

export interface BaseRequest {
  readonly target: TableTarget;
  readonly writes: TableWrites;
  readonly entry: number;
}

/** Reads the bases of these entries; the results are in their order. */
export async function readBases(
  connection: Connection,
  format: Format,
  requests: readonly BaseRequest[],
): Promise<BaseLookup[]> {
  const replies = requests.map((request) => askFor(connection, format, request));
  // All are awaited before the first failure is thrown: none may go unhandled.
  const settled = await Promise.allSettled(replies);
  return settled.map((result, i) => {
    if (result.status === "fulfilled") return judge(format, requests[i]!, result.value);
    if (result.reason instanceof Error && replyCode(result.reason.message) === "WRONGTYPE") return { kind: "missing" };
    throw result.reason;
  });
}

function askFor(connection: Connection, format: Format, { target, writes, entry }: BaseRequest): Promise<Reply> {
  const block = writes.blocks[writes.block[entry]!]!;
  const row = writes.row[entry]!;
  const offset = writes.moved[entry] === 1 ? block.before[row]! : block.after[row]!;
  const key = Buffer.from(target.key(block, offset).view());
  if (format === "json") return connection.command("get", key);
  const cells = new CellMap();
  cells.read(block.bytes, block.after[row]!);
  const names = writes.table.columns.filter((_, c) => cells.kind[c] === CELL_UNCHANGED).map((column) => column.name);
  return connection.command("hmget", key, VERSION_FIELD, ...names);
}

function judge(format: Format, { target, writes, entry }: BaseRequest, reply: Reply): BaseLookup {
  const held = format === "json" ? versionInText(reply) : versionInFields(reply);
  if (held === null) return { kind: "missing" };
  const block = writes.blocks[writes.block[entry]!]!;
  const version = block.transactions.version[block.tx[writes.row[entry]!]!]!;
  if (writes.moved[entry] === 1) {
    // Under the old key another row may stand by now, when the log is read a second time; one of the same transaction
    // can't be told from it.
    if (held >= version) return { kind: "missing" };
  } else if (held > version) {
    return { kind: "newer" };
  }
  if (held < target.floors.of(block.bytes, block.after[writes.row[entry]!]!)) return { kind: "missing" };
  return { kind: "found", row: { values: format === "json" ? [bytesOf(reply)] : fieldsOf(reply) } };
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
