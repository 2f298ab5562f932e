/**
 * Reads the rows from which a PATCH takes its unchanged columns, if the script can't do that: all of them in the format
 * json, and those of a key change in the format hash. Reads them before it writes the entry and before any delete; no
 * other entry of the batch writes them (src/core/model/batch.ts).
 */
import * as base from "../../../src/core/targets/base-lookup.ts";
import { CELL_UNCHANGED, CellMap } from "../../../src/core/model/tuple.ts";
import { type Connection, listOf, type Reply } from "../connection.ts";
import { replyCode } from "../errors.ts";
import type { BaseRow } from "./row-writer.ts";
import { JSON_HEAD, VERSION_FIELD } from "./script.ts";
import type { Format, TableTarget } from "./table-target.ts";

export type BaseLookup = base.BaseLookup<{ readonly row: BaseRow }>;
export type BaseRequest = base.BaseRequest<TableTarget>;

/** Reads the bases of these entries, in their order. */
export async function readBases(
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
