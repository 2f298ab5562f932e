/**
 * Outbox: what an application inserts into the table `outbox` within its transactions is posted to an address, in commit order.
 * The change's id stays the same each time it is sent, so the receiver recognises what it has already got.
 *
 *   SOURCE=postgres://… TARGET=https://… node outbox.ts
 */
import { setTimeout as sleep } from "node:timers/promises";
import { follow, type RowChange } from "millrace";

const { SOURCE = "", TARGET = "", STATE = "sqlite:./outbox.db", NAME = "outbox" } = process.env;
const stopping = new AbortController();
process.once("SIGTERM", () => stopping.abort());
const { signal } = stopping;

for await (const transaction of follow({
  source: SOURCE,
  tables: ["public.outbox"],
  state: STATE,
  name: NAME,
  signal,
})) {
  // Rows that were there before the first start have `op: "r"`. The application deletes rows when it likes.
  for (const change of transaction.changes) if (change.op === "c" || change.op === "r") await deliver(change);
  if (signal.aborted) break;
  await transaction.done();
}

/** Until it is taken, or the program ends: then the transaction comes again. */
async function deliver({ id, after }: RowChange): Promise<void> {
  const body = String(after?.["payload"] === undefined ? null : JSON.stringify(after["payload"]));
  const headers = { "content-type": "application/json", "idempotency-key": id };
  for (let waitMs = 100; !signal.aborted; waitMs = Math.min(waitMs * 2, 10_000)) {
    try {
      const answer = await fetch(TARGET, { method: "POST", headers, body, signal: AbortSignal.timeout(10_000) });
      if (answer.ok) return;
      console.error(`the receiver answers ${answer.status}`);
    } catch (error) {
      console.error(error instanceof Error ? error.message : error);
    }
    await sleep(waitMs, undefined, { signal }).catch(() => undefined);
  }
}
