/** Removes all rows of tables up to a version, for TRUNCATE and sweep. */
import { ByteWriter } from "../../../src/core/bytes.ts";
import type { CallStream } from "./call-stream.ts";
import type { Commands, Connection } from "../connection.ts";
import { redisError } from "../errors.ts";
import { isRowKey, keyPages, type RowKeys } from "./key-pages.ts";
import { beginText, endText } from "./script.ts";
import { slotOf } from "../keys.ts";

export interface Removal extends RowKeys {
  readonly action: number;
  /** The version of the newest row to remove. */
  readonly version: bigint;
}

/**
 * SCAN returns every key that exists from its start to its end. The script checks each key's version, so that newer
 * rows, and keys that are not ours, stay. One pass covers the rows of several tables.
 */
export async function removeUpTo(
  connection: Connection,
  stream: CallStream,
  removals: readonly Removal[],
  signal: AbortSignal,
): Promise<void> {
  const before = connection.isCluster ? await topology(connection) : "";
  for (const primary of connection.primaries()) await scan(primary, connection, stream, removals, signal);
  if (connection.isCluster && (await topology(connection)) !== before) {
    throw redisError("MR2006", "retryable", "slots of the Redis cluster moved while its keys were listed");
  }
}

async function scan(
  primary: Commands,
  connection: Connection,
  stream: CallStream,
  removals: readonly Removal[],
  signal: AbortSignal,
): Promise<void> {
  const tables = removals.map((removal) => ({ removal, start: Buffer.from(removal.keyStart) }));
  const key = new ByteWriter(512);
  for await (const page of keyPages(primary, sharedStart(removals.map(({ keyStart }) => keyStart)), signal)) {
    if (connection.isCluster) {
      page.sort((a, b) => slotOf(a) - slotOf(b));
      await stream.enter(page.map((bytes) => slotOf(bytes)));
    }
    for (const bytes of page) {
      const found = tables.find(
        ({ removal, start }) => beginsWith(bytes, start) && isRowKey(bytes, start.length, removal.keyWidths),
      );
      if (found === undefined) continue;
      const { action, version } = found.removal;
      const { call } = stream;
      const otherSlot = connection.isCluster && call.count > 0 && call.slot !== slotOf(bytes);
      if (call.isFull || otherSlot) await stream.flush();
      key.reset();
      key.copy(bytes, 0, bytes.length);
      const out = stream.call.beginRow();
      const at = beginText(out);
      out.ascii(String(version));
      endText(out, at);
      stream.call.add(action, key, undefined, 0);
    }
  }
}

function beginsWith(key: Buffer, start: Buffer): boolean {
  return key.length >= start.length && key.compare(start, 0, start.length, 0, start.length) === 0;
}

function sharedStart(texts: readonly string[]): string {
  const [first = "", ...others] = texts;
  let length = first.length;
  for (const text of others) while (!text.startsWith(first.slice(0, length))) length--;
  while (!first.slice(0, length).isWellFormed()) length--;
  return first.slice(0, length);
}

async function topology(connection: Connection): Promise<string> {
  return JSON.stringify(await connection.command("cluster", "slots"));
}
