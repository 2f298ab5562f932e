/** Rows that move while something else is done to their tables. */
import { setTimeout as sleep } from "node:timers/promises";
import { type Client, DatabaseError } from "pg";
import type { Random } from "../run/random.ts";
import type { FreshDatabase } from "../run/services.ts";

/** The writers wait no longer for a table that is being changed, and take another. */
const LOCK_MS = 50;
const WRITE_EVERY_MS = 20;

/** Rows of tables with `id` and `n` that keep moving, whatever other columns there are; long values stay as they were. */
export function moving(source: FreshDatabase, tables: readonly string[], random: Random): AsyncDisposable {
  const over = new AbortController();
  let fresh = 10_000;
  const ended = (async () => {
    await using client = await source.connect();
    await client.query(`set lock_timeout = ${LOCK_MS}`);
    while (!over.signal.aborted) {
      await moveRows(client, random.pick(tables), random, fresh++);
      await sleep(WRITE_EVERY_MS);
    }
  })();
  // Told when it is waited for.
  ended.catch(() => undefined);
  return {
    async [Symbol.asyncDispose]() {
      over.abort();
      await ended;
    },
  };
}

async function moveRows(client: Client, table: string, random: Random, fresh: number): Promise<void> {
  const id = () => 1 + random.below(100);
  const from = id();
  try {
    await client.query(`begin; update ${table} set n = n + 1 where id between ${from} and ${from + 4};
      insert into ${table} (id, n) values (${fresh}, 1); update ${table} set id = ${fresh + 1_000_000} where id = ${id()};
      delete from ${table} where id < ${fresh - 500} and id > 10000 and id < 1000000; commit`);
  } catch (error) {
    // Under another name by now, or locked.
    if (!(error instanceof DatabaseError) || !/^(42P01|55P03|40P01)$/.test(error.code ?? "")) throw error;
    await client.query("rollback");
  }
}
