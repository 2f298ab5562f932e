/** Simulates the shop's users: small transactions of all kinds, until it is stopped. */
import { setTimeout as sleep } from "node:timers/promises";
import { type Changes, randomChange } from "./changes.ts";
import type { Shop, ShopSize } from "./shop.ts";

export interface WriterCounts {
  readonly transactions: number;
  /** Rows inserted, updated and deleted by committed statements, without the ones that follow by cascade. */
  readonly rows: number;
}

export interface Writer extends AsyncDisposable {
  readonly counts: WriterCounts;
  /** Resolves when its last transaction has ended; rejects with that transaction's error. */
  stop(): Promise<void>;
}

export async function startWriter(shop: Shop, url: string, size: ShopSize, transactionsPerS: number): Promise<Writer> {
  const session = await shop.connect(url);
  const counts = { transactions: 0, rows: 0 };
  const stopping = new AbortController();
  const changes: Changes = { size, random: randomNumbers(), query: session.query };
  const work = async (): Promise<void> => {
    for (let next = performance.now(); !stopping.signal.aborted;) {
      counts.rows += await randomChange(shop.mix, changes, counts.transactions);
      counts.transactions++;
      // A writer that is late does not catch up, because that would cause a burst.
      next = Math.max(next + 1_000 / transactionsPerS, performance.now() - 100);
      await sleep(Math.max(0, next - performance.now()));
    }
  };
  const working = work();
  // `stop` reports the error; until then the handler marks it as handled.
  working.catch(() => undefined);
  const stop = async (): Promise<void> => {
    stopping.abort();
    await working;
    await session.end();
  };
  return {
    counts,
    stop,
    async [Symbol.asyncDispose]() {
      stopping.abort();
      await session.end();
    },
  };
}

/** The same numbers in every run (a linear congruential generator; its upper bits are good enough for a shop). */
function randomNumbers(): () => number {
  let state = 20_261_120n;
  return () => {
    state = (state * 6_364_136_223_846_793_005n + 1_442_695_040_888_963_407n) & 0xffff_ffff_ffff_ffffn;
    return Number(state >> 33n) / 2 ** 31;
  };
}
