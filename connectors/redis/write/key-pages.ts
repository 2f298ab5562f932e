/** Lists keys by SCAN: each key that exists from the scan's start to its end, once or several times. */
import { invariant } from "../../../src/core/invariant.ts";
import { type Commands, listOf, type Reply, textOf } from "../connection.ts";
import { scanPattern } from "../keys.ts";

const SCAN_COUNT = "1000";

/** All keys that begin with `start`, page by page. */
export async function* keyPages(primary: Commands, start: string, signal: AbortSignal): AsyncGenerator<Buffer[]> {
  const pattern = scanPattern(start);
  let cursor = "0";
  do {
    signal.throwIfAborted();
    const [next, keys] = pageOf(await primary.command("scan", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT));
    yield keys;
    cursor = next;
  } while (cursor !== "0");
}

function pageOf(reply: Reply): [cursor: string, keys: Buffer[]] {
  const [cursor, keys] = listOf(reply) ?? [];
  const next = textOf(cursor);
  const list = listOf(keys);
  invariant(next !== null && list !== null, "SCAN answers with a cursor and keys");
  return [next, list.filter((key) => Buffer.isBuffer(key))];
}
