/**
 * Rows that tell whether an effect happened twice, or an older one after a newer one. A row of `counted` is inserted
 * once, never deleted, and changed at most once in a transaction, always to a higher `n`: so no row of a sink may be
 * written twice with one version, and neither version nor `n` may ever go down, whatever was killed and repeated.
 */
import { copyFileSync, existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { DuckDBInstance } from "@duckdb/node-api";
import { Redis } from "ioredis";
import type { Client } from "pg";
import { Random } from "../run/random.ts";
import { elasticsearchUrl, type FreshDatabase, redisUrl } from "../run/services.ts";
import { temporaryFolder } from "../run/temporary-folder.ts";
import { acrossServers } from "../load/workload.ts";

export const COUNTED_TABLE = "counted";
const ROW_COUNT = 40;
const ROWS_PER_TRANSACTION_MAX = 3;
const WATCH_EVERY_MS = 150;
/** Each look makes it refresh what was written since. */
const SEARCH_WATCH_EVERY_MS = 500;

/** One session that keeps counting. */
export class Counting implements AsyncDisposable {
  readonly #source: FreshDatabase;
  readonly #random: Random;
  readonly #reconnects: boolean;
  #stopped = false;
  #writer: Promise<void> = Promise.resolve();

  constructor(source: FreshDatabase, seed: number, reconnects = false) {
    this.#source = source;
    this.#reconnects = reconnects;
    this.#random = new Random(seed);
  }

  async createTable(): Promise<void> {
    await this.#source.query(`create table ${COUNTED_TABLE} (id int primary key, n int)`);
  }

  start(pauseMs: number): void {
    this.#stopped = false;
    this.#writer = this.#write(pauseMs);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#writer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #write(pauseMs: number): Promise<void> {
    const session = () => this.#writeAsLongAs(pauseMs);
    await (this.#reconnects ? acrossServers(session, () => this.#stopped) : session());
  }

  async #writeAsLongAs(pauseMs: number): Promise<void> {
    await using client = await this.#source.connect();
    while (!this.#stopped) {
      await count(client, this.#random);
      await sleep(pauseMs);
    }
  }
}

async function count(client: Client, random: Random): Promise<void> {
  const ids = new Set<number>();
  const rowCount = 1 + random.below(ROWS_PER_TRANSACTION_MAX);
  for (let i = 0; i < rowCount; i++) ids.add(random.below(ROW_COUNT));
  await client.query(
    `insert into ${COUNTED_TABLE} select id, 1 from unnest($1::int[]) as id on conflict (id) do update set n = ${COUNTED_TABLE}.n + 1`,
    [[...ids]],
  );
}

/** Has the Postgres target write down every effect on `counted`, by a trigger; before the daemon's first start. */
export async function auditEffects(target: FreshDatabase): Promise<void> {
  await target.query(`
    create table public.${COUNTED_TABLE} (id int primary key, n int, _millrace_version bigint not null, _millrace_commit_time timestamptz);
    create schema audit;
    create table audit.effects (id int, version bigint, times int not null, primary key (id, version));
    create table audit.faults (what text);
    create function audit.note() returns trigger language plpgsql security definer as $$
      begin
        if tg_op = 'DELETE' then
          insert into audit.faults values (format('row %s was deleted', old.id));
          return null;
        end if;
        insert into audit.effects as e values (new.id, new._millrace_version, 1)
          on conflict (id, version) do update set times = e.times + 1;
        if tg_op = 'UPDATE' then
          if new._millrace_version < old._millrace_version or new.n < old.n then
            insert into audit.faults values (format('row %s went from n %s, version %s to n %s, version %s',
              old.id, old.n, old._millrace_version, new.n, new._millrace_version));
          end if;
        end if;
        return null;
      end $$;
    create trigger note after insert or update or delete on public.${COUNTED_TABLE} for each row execute function audit.note()`);
}

export interface Effects {
  readonly count: number;
  /** One line per effect that came twice or set a row back. */
  readonly faults: readonly string[];
}

export async function readEffects(target: FreshDatabase): Promise<Effects> {
  const { rows } = await target.query<{ count: number }>("select count(*)::int as count from audit.effects");
  const { rows: faults } = await target.query<{ what: string }>(
    `select format('row %s was written %s times with version %s', id, times, version) as what from audit.effects where times > 1
     union all select what from audit.faults limit 20`,
  );
  return { count: rows[0]?.count ?? 0, faults: faults.map(({ what }) => `postgres: ${what}`) };
}

interface Seen {
  readonly n: number;
  readonly version: bigint;
}

type CountedRows = ReadonlyMap<number, Seen>;

/** What a reader of one sink sees, again and again: it must never see a row go back or vanish. */
export class CountedWatch implements AsyncDisposable {
  readonly #sink: string;
  readonly #read: () => Promise<CountedRows>;
  readonly #last = new Map<number, Seen>();
  readonly faults: string[] = [];
  #stopped = false;
  #watching: Promise<void> = Promise.resolve();
  lookCount = 0;

  private constructor(sink: string, read: () => Promise<CountedRows>) {
    this.#sink = sink;
    this.#read = read;
  }

  static redis(prefix: string): CountedWatch {
    const client = new Redis(redisUrl());
    const watch = new CountedWatch("redis", () => readRedis(client, prefix));
    watch.#watching = watch.#watch(WATCH_EVERY_MS).finally(() => client.disconnect());
    return watch;
  }

  static elasticsearch(prefix: string): CountedWatch {
    const watch = new CountedWatch("elasticsearch", () => readElasticsearch(prefix));
    watch.#watching = watch.#watch(SEARCH_WATCH_EVERY_MS);
    return watch;
  }

  /** Looks only when told to: the daemon holds the file while it runs. */
  static duckdb(path: string): CountedWatch {
    return new CountedWatch("duckdb", () => readDuckdb(path));
  }

  async look(): Promise<void> {
    const rows = await this.#read();
    this.lookCount++;
    for (const [id, { n, version }] of this.#last) {
      const now = rows.get(id);
      if (now === undefined) this.faults.push(`${this.#sink}: row ${id} vanished`);
      else if (now.version < version || now.n < n) {
        const path = `n ${n}, version ${version} to n ${now.n}, version ${now.version}`;
        this.faults.push(`${this.#sink}: row ${id} went from ${path}`);
      }
    }
    this.#last.clear();
    for (const [id, seen] of rows) this.#last.set(id, seen);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#watching;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #watch(everyMs: number): Promise<void> {
    while (!this.#stopped) {
      await this.look();
      await sleep(everyMs);
    }
  }
}

const IDS = Array.from({ length: ROW_COUNT }, (_, id) => id);

async function readRedis(client: Redis, prefix: string): Promise<CountedRows> {
  const pipeline = client.pipeline();
  for (const id of IDS) pipeline.hmget(`${prefix}public:${COUNTED_TABLE}:${id}`, "n", "_millrace_version");
  const answers = (await pipeline.exec()) ?? [];
  return seenRows(answers.map(([, cells], i) => [i, ...(Array.isArray(cells) ? cells : [])]));
}

async function readElasticsearch(prefix: string): Promise<CountedRows> {
  const answer = await fetch(`${elasticsearchUrl()}/${prefix}public.${COUNTED_TABLE}/_mget`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ids: IDS.map(String) }),
  });
  const text = await answer.text();
  // The version has more digits than a JavaScript number keeps; a document that is not there has no _source.
  const found = text.matchAll(/"_id":"(\d+)","_version":(\d+)[^{]*"_source":\{[^{}]*?"n":(\d+)/g);
  return seenRows([...found].map(([, id, version, n]) => [id, n, version]));
}

async function readDuckdb(path: string): Promise<CountedRows> {
  if (!existsSync(path)) return new Map();
  using folder = temporaryFolder();
  for (const suffix of ["", ".wal"]) {
    if (existsSync(path + suffix)) copyFileSync(path + suffix, folder.file(`copy.duckdb${suffix}`));
  }
  const instance = await DuckDBInstance.create(folder.file("copy.duckdb"), { memory_limit: "256MB", threads: "1" });
  const connection = await instance.connect();
  try {
    const there = await connection.runAndReadAll(
      "select 1 from duckdb_tables() where schema_name = 'public' and table_name = $1",
      [COUNTED_TABLE],
    );
    if (there.getRows().length === 0) return new Map();
    const sql = `select id, n, cast(_millrace_version as varchar) from public.${COUNTED_TABLE}`;
    return seenRows((await connection.runAndReadAll(sql)).getRows());
  } finally {
    connection.disconnectSync();
    instance.closeSync();
  }
}

/** Rows of id, n, version; those without them are not there. */
function seenRows(rows: readonly (readonly unknown[])[]): CountedRows {
  const seen = new Map<number, Seen>();
  for (const [id, n, version] of rows) {
    if (n != null && typeof version === "string") seen.set(Number(id), { n: Number(n), version: BigInt(version) });
  }
  return seen;
}
