import type { Client } from "pg";
import type { Work } from "./backlog.ts";

/** The benchmark table: 12 columns of common types, about 150 bytes a row in the log. */
export const ORDERS = `create table orders (
  id bigint primary key, customer_id bigint not null, status text not null, total numeric(12,2) not null,
  currency char(3) not null, items int not null, weight double precision, paid boolean not null,
  note text, email text not null, created_at timestamptz not null, updated_at timestamptz not null)`;

/** Inserts rows with ids from `first` on, `rowsPerTransaction` per commit. */
export async function insertOrders(
  client: Client,
  first: number,
  count: number,
  rowsPerTransaction: number,
): Promise<void> {
  await client.query(`create or replace procedure bench_insert(first bigint, changes bigint, per bigint) language plpgsql as $$
    declare at bigint := first;
    begin
      while at < first + changes loop
        insert into orders select g, (g * 7919) % 100000, (array['new','paid','shipped','done'])[1 + g % 4],
          ((g * 31) % 100000)::numeric / 100, 'EUR', g % 9 + 1, (g % 1000) / 7.0, g % 2 = 0,
          case when g % 3 = 0 then null else 'a note that belongs to order ' || g end,
          'customer' || ((g * 7919) % 100000) || '@example.com', now() - (g || ' seconds')::interval, now()
        from generate_series(at, least(at + per, first + changes) - 1) g;
        commit;
        at := at + per;
      end loop;
    end $$`);
  // Only the following work is measured.
  await client.query("set synchronous_commit = off");
  await client.query("call bench_insert($1, $2, $3)", [first, count, rowsPerTransaction]);
  await client.query("reset synchronous_commit");
}

/** Updates rows 1..`keys`, in a scattered order; a small `keys` makes hot rows. */
export async function updateOrders(
  client: Client,
  keys: number,
  count: number,
  rowsPerTransaction: number,
): Promise<void> {
  await client.query(`create or replace procedure bench_update(keys bigint, changes bigint, per bigint) language plpgsql as $$
    declare at bigint := 0;
    begin
      while at < changes loop
        for i in at..least(at + per, changes) - 1 loop
          update orders set status = 'changed', total = total + 1, updated_at = now() where id = 1 + (i::bigint * 48271) % keys;
        end loop;
        commit;
        at := at + per;
      end loop;
    end $$`);
  await client.query("call bench_update($1, $2, $3)", [keys, count, rowsPerTransaction]);
}

/** 60 inserts, 30 updates and 10 deletes per hundred changes, 100 changes per transaction. */
export async function mixOrders(client: Client, first: number, keys: number, count: number): Promise<void> {
  await client.query(`create or replace procedure bench_mix(first bigint, keys bigint, changes bigint) language plpgsql as $$
    declare at bigint := 0;
    begin
      while at < changes loop
        insert into orders select g, g % 100000, 'new', 1.5, 'EUR', 1, 0.5, true, 'mixed', 'm@example.com', now(), now()
          from generate_series(first + at, first + at + 59) g;
        for i in at..at + 29 loop
          update orders set status = 'mixed', updated_at = now() where id = 1 + (i::bigint * 48271) % keys;
        end loop;
        delete from orders where id between first + at and first + at + 9;
        commit;
        at := at + 100;
      end loop;
    end $$`);
  await client.query("call bench_mix($1, $2, $3)", [first, keys, count]);
}

const PAGE_ROWS = 50_000;

/** The rows that a piece of work left, as texts, with the two columns that Millrace adds. */
export async function* rowsOf(
  client: Client,
  { firstId, rowCount }: Work,
): AsyncGenerator<Readonly<Record<string, string | null>>> {
  const time = (column: string): string =>
    `to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as ${column}`;
  for (let at = firstId; at < firstId + rowCount; at += PAGE_ROWS) {
    const { rows } = await client.query<Record<string, string | null>>(
      `select id::text, customer_id::text, status, total::text, currency::text, items::text, weight::text, paid::text, note,
         email, ${time("created_at")}, ${time("updated_at")}, '36028797046404048' as _millrace_version,
         to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as _millrace_commit_time
       from orders where id >= $1 and id < $2 order by id`,
      [at, Math.min(at + PAGE_ROWS, firstId + rowCount)],
    );
    yield* rows;
  }
}
