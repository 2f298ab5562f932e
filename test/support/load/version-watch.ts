/** Sees every version of a row that a sink shows, to find one that is older than one before. */
import { setTimeout as delay } from "node:timers/promises";
import { Redis } from "ioredis";
import { redisUrl, type FreshDatabase } from "../run/services.ts";

const LOOK_MS = 50;

/** In Postgres by triggers: each version of each row, in the order of the writes. */
export async function watchTarget(target: FreshDatabase, tables: readonly string[]): Promise<void> {
  await target.query(`create table public.seen (at bigserial primary key, source text, key text, version numeric);
    create function public.see() returns trigger language plpgsql as $$
      begin
        insert into public.seen (source, key, version)
          select tg_table_name, row_to_json(new)::jsonb ->> 'id', new._millrace_version;
        return null;
      end $$`);
  for (const table of tables)
    await target.query(
      `create trigger see after insert or update on public."${table}" for each row execute function public.see()`,
    );
}

/** Rows that were set back, of tables whose key is `id` alone. */
export async function setBack(target: FreshDatabase): Promise<readonly object[]> {
  const { rows } = await target.query(`select source, key, version, before from (
      select *, max(version) over (partition by source, key order by at rows between unbounded preceding and 1 preceding) as before
      from public.seen) versions where version < before limit 5`);
  return rows;
}

/** In Redis by looking again and again. */
export class CacheWatch implements AsyncDisposable {
  readonly #client = new Redis(redisUrl());
  readonly #keys: readonly string[];
  readonly #newest = new Map<string, bigint>();
  readonly #looking: Promise<void>;
  readonly setBack: string[] = [];
  lookCount = 0;
  #isOver = false;

  constructor(keys: readonly string[]) {
    this.#keys = keys;
    this.#looking = this.#look();
  }

  async #look(): Promise<void> {
    while (!this.#isOver) {
      const pipeline = this.#client.pipeline();
      for (const key of this.#keys) pipeline.hget(key, "_millrace_version");
      const found = (await pipeline.exec()) ?? [];
      for (const [i, [, value]] of found.entries()) {
        const key = this.#keys[i]!;
        const version = typeof value === "string" ? BigInt(value) : null;
        if (version === null) continue;
        const before = this.#newest.get(key) ?? 0n;
        if (version < before) this.setBack.push(`${key}: ${version} after ${before}`);
        else this.#newest.set(key, version);
      }
      this.lookCount++;
      await delay(LOOK_MS);
    }
  }

  /** How many rows it has seen. */
  get seenCount(): number {
    return this.#newest.size;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOver = true;
    await this.#looking;
    this.#client.disconnect();
  }
}
