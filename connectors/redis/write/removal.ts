/** Removes all rows of tables up to a version, for TRUNCATE and sweep. */
import { ByteWriter } from "../../../src/core/bytes.ts";
import type { CallStream } from "./call-stream.ts";
import type { Commands, Connection } from "../connection.ts";
import { redisError } from "../errors.ts";
import { keyPages } from "./key-pages.ts";
import { beginText, endText } from "./message-pack.ts";
import { slotOf } from "../slots.ts";

const COLON = 0x3a;
const DIGEST_START = "sha256:";

/** Identifies a table's keys. */
export interface RowKeys {
  /** The start of the keys. */
  readonly keyStart: string;
  /** The numbers of columns that the keys have had. */
  readonly keyWidths: readonly number[];
}

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
    throw redisError("MR3404", "retryable", "slots of the Redis cluster moved while its keys were listed");
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

/** All keys in the range of the table's rows, page by page. */
export async function* rowKeyPages(
  primary: Commands,
  { keyStart, keyWidths }: RowKeys,
  signal: AbortSignal,
): AsyncGenerator<Buffer[]> {
  const start = Buffer.byteLength(keyStart);
  for await (const keys of keyPages(primary, keyStart, signal)) {
    yield keys.filter((bytes) => isRowKey(bytes, start, keyWidths));
  }
}

/** Another pipeline's table may follow ours if its prefix begins with our key; such a key has more parts. */
function isRowKey(key: Buffer, start: number, keyWidths: readonly number[]): boolean {
  let colons = 0;
  for (let i = start; i < key.length; i++) if (key[i] === COLON) colons++;
  return keyWidths.includes(colons + 1) || (colons === 1 && key.toString("latin1", start).startsWith(DIGEST_START));
}

async function topology(connection: Connection): Promise<string> {
  return JSON.stringify(await connection.command("cluster", "slots"));
}
