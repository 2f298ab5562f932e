/** Lists keys by SCAN: each key that exists from the scan's start to its end, once or several times. */
import { invariant } from "../../../src/core/invariant.ts";
import { type Commands, listOf, textOf } from "../connection.ts";
import { scanPattern } from "../keys.ts";

const SCAN_COUNT = "1000";
const COLON = 0x3a;
const DIGEST_START = "sha256:";

/** Identifies a table's keys. */
export interface RowKeys {
  readonly keyStart: string;
  /** The numbers of columns that the keys have had. */
  readonly keyWidths: readonly number[];
}

/** All keys that begin with `start`, page by page. */
export async function* keyPages(primary: Commands, start: string, signal: AbortSignal): AsyncGenerator<Buffer[]> {
  let cursor = "0";
  do {
    signal.throwIfAborted();
    const [next, keys] = await scanned(primary, start, cursor);
    yield keys;
    cursor = next;
  } while (cursor !== "0");
}

async function scanned(primary: Commands, start: string, cursor: string): Promise<[next: string, keys: Buffer[]]> {
  const reply = await primary.command("scan", cursor, "MATCH", scanPattern(start), "COUNT", SCAN_COUNT);
  const [following, keys] = listOf(reply) ?? [];
  const next = textOf(following);
  const list = listOf(keys);
  invariant(next !== null && list !== null, "SCAN answers with a cursor and keys");
  return [next, list.filter((key) => Buffer.isBuffer(key))];
}

/** All keys in the range of the table's rows, page by page. */
export async function* rowKeyPages(primary: Commands, rows: RowKeys, signal: AbortSignal): AsyncGenerator<Buffer[]> {
  for await (const keys of keyPages(primary, rows.keyStart, signal)) yield rowKeysAmong(keys, rows);
}

/** One page of them, and where the next one begins; "0": there is none. */
export async function rowKeyPage(
  primary: Commands,
  rows: RowKeys,
  cursor: string,
): Promise<readonly [next: string, keys: readonly Buffer[]]> {
  const [next, keys] = await scanned(primary, rows.keyStart, cursor);
  return [next, rowKeysAmong(keys, rows)];
}

function rowKeysAmong(keys: readonly Buffer[], { keyStart, keyWidths }: RowKeys): Buffer[] {
  const start = Buffer.byteLength(keyStart);
  return keys.filter((bytes) => isRowKey(bytes, start, keyWidths));
}

/** Finds the table of a key, among many tables. */
export class KeyStarts {
  readonly #tables = new Map<string, RowKeys>();

  constructor(tables: readonly RowKeys[]) {
    for (const rows of tables) this.#tables.set(Buffer.from(rows.keyStart).toString("latin1"), rows);
  }

  /** Whether it is the key of a row of one of them. */
  has(key: Buffer): boolean {
    return this.#startOf(key, (end, { keyWidths }) => isRowKey(key, end, keyWidths));
  }

  /** Whether it begins as those of one of them, whatever columns the table's key has had. */
  begins(key: Buffer): boolean {
    return this.#startOf(key, () => true);
  }

  #startOf(key: Buffer, is: (end: number, rows: RowKeys) => boolean): boolean {
    const text = key.toString("latin1");
    // Each start ends with a colon.
    for (let end = text.indexOf(":") + 1; end > 0; end = text.indexOf(":", end) + 1) {
      const rows = this.#tables.get(text.slice(0, end));
      if (rows !== undefined && is(end, rows)) return true;
    }
    return false;
  }
}

/** Another pipeline's table may follow ours if its prefix begins with our key; such a key has more parts. */
export function isRowKey(key: Buffer, start: number, keyWidths: readonly number[]): boolean {
  let colons = 0;
  for (let i = start; i < key.length; i++) if (key[i] === COLON) colons++;
  return keyWidths.includes(colons + 1) || (colons === 1 && key.toString("latin1", start).startsWith(DIGEST_START));
}
