/**
 * Cache invalidation: a key leaves Redis within milliseconds of the commit that changes its row, whoever changed it. A key that
 * is removed twice does no harm, so `done()` after the removal is enough.
 *
 *   SOURCE=postgres://… REDIS=redis://… node cache-invalidation.ts
 */
import { follow, type Row } from "millrace";
import { Redis } from "ioredis";

const {
  SOURCE = "",
  REDIS = "",
  STATE = "sqlite:./cache-invalidation.db",
  NAME = "invalidation",
  PREFIX = "product:",
} = process.env;
const cache = new Redis(REDIS);
const stopping = new AbortController();
process.once("SIGTERM", () => stopping.abort());

const transactions = follow({
  source: SOURCE,
  tables: ["public.products"],
  snapshot: "none",
  state: STATE,
  name: NAME,
  signal: stopping.signal,
});
for await (const transaction of transactions) {
  const keys = new Set<string>();
  for (const change of transaction.changes) {
    if (change.op === "t") for (const key of await cache.keys(`${PREFIX}*`)) keys.add(key);
    if (change.op === "c" || change.op === "u" || change.op === "d") {
      keys.add(`${PREFIX}${idOf(change.key)}`);
      // The key itself may have changed.
      if (change.before !== null) keys.add(`${PREFIX}${idOf(change.before)}`);
    }
  }
  if (keys.size > 0) await cache.del(...keys);
  await transaction.done();
}
await cache.quit();

function idOf({ id }: Row): string {
  return typeof id === "bigint" ? String(id) : JSON.stringify(id);
}
