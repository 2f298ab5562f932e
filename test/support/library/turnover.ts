/** What examples/library/exactly-once.ts follows, and what it has to find: the sums that the source's own triggers add up. */
import { setTimeout as sleep } from "node:timers/promises";
import type { FreshDatabase } from "../run/fresh-database.ts";
import { freshMysqlDatabase } from "../run/services.ts";

const WRITE_MS = 15;

export type Sums = readonly { readonly customer: number; readonly cents: string; readonly changes: number }[];

/** A database with `orders`; from `count` on it adds up itself what the program has to find. */
export interface Orders extends AsyncDisposable {
  readonly environment: Readonly<Record<string, string>>;
  /** Whether a start that stored no position has begun: nothing is missing from then on. */
  readonly isHeldByStart: boolean;
  count(): Promise<void>;
  run(statement: string): Promise<unknown>;
  expected(): Promise<Sums>;
}

/** On a database of the caller, which is released with it. */
export async function postgresOrders(database: FreshDatabase): Promise<Orders & { readonly database: FreshDatabase }> {
  await database.query(`create table orders (id int primary key, customer int not null, cents bigint not null, body text);
    alter table orders replica identity full;
    create table expected (customer int primary key, cents bigint not null, changes int not null);
    create function count_order() returns trigger language plpgsql as $$ begin
      if tg_op <> 'INSERT' then
        insert into expected values (old.customer, -old.cents, 1)
          on conflict (customer) do update set cents = expected.cents - old.cents, changes = expected.changes + 1;
      end if;
      if tg_op <> 'DELETE' then
        insert into expected values (new.customer, new.cents, 1)
          on conflict (customer) do update set cents = expected.cents + new.cents, changes = expected.changes + 1;
      end if;
      return null; end $$`);
  return {
    database,
    environment: { SOURCE: database.url, NAME: database.name },
    // By its slot.
    isHeldByStart: true,
    count: async () =>
      void (await database.query(
        "create trigger counted after insert or update or delete on orders for each row execute function count_order()",
      )),
    run: (statement) => database.query(statement),
    expected: () => sums(database, "expected"),
    [Symbol.asyncDispose]: () => database[Symbol.asyncDispose](),
  };
}

export async function mysqlOrders(url: string): Promise<Orders> {
  const database = await freshMysqlDatabase(url);
  const { name, connection } = database;
  await connection.query(
    "create table orders (id int primary key, customer int not null, cents bigint not null, body text)",
  );
  await connection.query(
    "create table expected (customer int primary key, cents bigint not null, changes int not null)",
  );
  const add = (
    row: "old" | "new",
    sign: "+" | "-",
  ) => `insert into expected values (${row}.customer, ${sign}${row}.cents, 1)
    on duplicate key update cents = cents ${sign} ${row}.cents, changes = changes + 1`;
  return {
    environment: { SOURCE: url, TABLE: `${name}.orders`, NAME: name },
    isHeldByStart: false,
    count: async () => {
      await connection.query(`create trigger i after insert on orders for each row ${add("new", "+")}`);
      await connection.query(`create trigger d after delete on orders for each row ${add("old", "-")}`);
      await connection.query(
        `create trigger u after update on orders for each row begin ${add("old", "-")}; ${add("new", "+")}; end`,
      );
    },
    run: (statement) => connection.query(statement),
    expected: async () =>
      (await database.texts("select customer, cents, changes from expected order by customer")).map(
        ([customer, cents, changes]) => ({
          customer: Number(customer),
          cents: String(cents),
          changes: Number(changes),
        }),
      ),
    [Symbol.asyncDispose]: () => database[Symbol.asyncDispose](),
  };
}

export async function sums(database: FreshDatabase, table: string): Promise<Sums> {
  return (await database.query<Sums[number]>(`select customer, cents, changes from ${table} order by customer`)).rows;
}

export async function changesOf(target: FreshDatabase): Promise<number> {
  const { rows } = await target.query<{ n: string | null }>("select sum(changes) as n from turnover");
  return Number(rows[0]?.n ?? 0);
}

export async function hasPosition(target: FreshDatabase): Promise<boolean> {
  const { rows } = await target.query<{ found: boolean }>(
    "select exists (select from followed where position is not null) as found",
  );
  return rows[0]?.found === true;
}

/**
 * Small transactions, and now and then one that is larger than a piece. `across`: servers may go away meanwhile; what they did not
 * take, or did not say that they took, is left as it is.
 */
export async function write(source: Orders, signal: AbortSignal, across = false): Promise<void> {
  let id = 1;
  for (let round = 1; !signal.aborted; round++) {
    try {
      id = await writeOnce(source, id, round);
    } catch (error) {
      if (!across) throw error;
      await source.run("rollback").catch(() => undefined);
      id += 100_000;
    }
    await sleep(WRITE_MS);
  }
}

/** Returns the next id. */
async function writeOnce(source: Orders, first: number, round: number): Promise<number> {
  const insert = (from: number, count: number, row: (id: number) => string) =>
    source.run(`insert into orders values ${Array.from({ length: count }, (_, i) => `(${row(from + i)})`).join(",")}`);
  let id = first;
  const customer = round % 7;
  await source.run("begin");
  await insert(id, 5, (i) => `${i}, ${customer}, ${i}, '${"x".repeat(i % 50)}'`);
  await source.run(
    `update orders set cents = cents + 1, customer = (customer + 1) % 7 where id > ${id - 5} and id <= ${id}`,
  );
  await source.run(`delete from orders where id = ${id - 9}`);
  id += 5;
  if (round % 100 === 0) {
    await insert(id, 15_000, (i) => `${i}, ${i % 7}, 1, 'large'`);
    await source.run("delete from orders where body = 'large'");
    id += 15_000;
  }
  await source.run("commit");
  return id;
}
