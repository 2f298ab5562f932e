/** One table under a steady load of many rows a second: `n` of a row only ever goes up, also where it was deleted in between. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "pg";
import type { Random } from "../run/random.ts";
import type { FreshDatabase } from "../run/services.ts";

export const BUSY_TABLE = "busy";
export const BUSY_ROWS = 20_000;
const ROWS_PER_STATEMENT = 100;

export class BusyRows implements AsyncDisposable {
  readonly #source: FreshDatabase;
  readonly #random: Random;
  #stopped = false;
  #writer: Promise<void> = Promise.resolve();
  #sinceMs = 0;
  #rowsWritten = 0;

  constructor(source: FreshDatabase, random: Random) {
    this.#source = source;
    this.#random = random;
  }

  async createTable(): Promise<void> {
    await this.#source.query(`create table ${BUSY_TABLE} (id int primary key, n bigint not null, label text);
      insert into ${BUSY_TABLE} select g, 1, 'l' || g from generate_series(1, ${BUSY_ROWS}) g`);
  }

  start(rowsPerSecond: number): void {
    this.#stopped = false;
    this.#sinceMs = performance.now();
    this.#rowsWritten = 0;
    this.#writer = this.#write(rowsPerSecond);
    // Told when it is waited for.
    this.#writer.catch(() => undefined);
  }

  /** Since it was started. */
  get rowsPerSecond(): number {
    return Math.round((this.#rowsWritten * 1000) / (performance.now() - this.#sinceMs));
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#writer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #write(rowsPerSecond: number): Promise<void> {
    await using client = await this.#source.connect();
    while (!this.#stopped) {
      this.#rowsWritten += await this.#some(client);
      const aheadMs = (this.#rowsWritten * 1000) / rowsPerSecond - (performance.now() - this.#sinceMs);
      if (aheadMs > 0) await sleep(aheadMs);
    }
  }

  /** The number of rows that were written. */
  async #some(client: Client): Promise<number> {
    const ids = Array.from({ length: ROWS_PER_STATEMENT }, () => 1 + this.#random.below(BUSY_ROWS));
    if (this.#random.chance(0.9)) {
      const { rowCount } = await client.query(
        `update ${BUSY_TABLE} set n = n + 1, label = $2 where id = any($1::int[])`,
        [ids, this.#random.text(8)],
      );
      return rowCount ?? 0;
    }
    // Deleted, and there again a little later.
    const { rows } = await client.query<{ id: number; n: string }>(
      `delete from ${BUSY_TABLE} where id = any($1::int[]) returning id, n`,
      [ids.slice(0, 20)],
    );
    await client.query(
      `insert into ${BUSY_TABLE} select id, n + 1, 'again' from unnest($1::int[], $2::bigint[]) as v (id, n)`,
      [rows.map(({ id }) => id), rows.map(({ n }) => n)],
    );
    return rows.length * 2;
  }
}

/** Has the Postgres target, which has the table, write down when a row goes back. */
export async function auditBusyRows(target: FreshDatabase): Promise<void> {
  await target.query(`
    create table audit.went_back (what text);
    create function audit.note_busy() returns trigger language plpgsql security definer as $$
      begin
        if new._millrace_version < old._millrace_version or new.n < old.n then
          insert into audit.went_back values (format('row %s went from n %s, version %s to n %s, version %s',
            old.id, old.n, old._millrace_version, new.n, new._millrace_version));
        end if;
        return null;
      end $$;
    create trigger note_busy after update on public.${BUSY_TABLE} for each row execute function audit.note_busy()`);
}

export async function busyRowsThatWentBack(target: FreshDatabase): Promise<readonly string[]> {
  const { rows } = await target.query<{ what: string }>("select what from audit.went_back limit 20");
  return rows.map(({ what }) => what);
}
