/** A program that stores its position in its own database is killed 15 times: each transaction has its effect exactly once. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { Example } from "../../support/library/example.ts";
import { freshDatabase, freshMysqlDatabase, mysqlFlavours, mysqlUrl } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

/** Null: at some moment under load. */
const KILLS: readonly (string | null)[] = [
  "source.announced=kill",
  "source.created=kill",
  "sink.applied=kill@3",
  null,
  "ack.computed=kill@2",
  "ack.stored=kill",
  null,
  "sink.applied=kill@20",
  null,
  "ack.stored=kill@2",
  null,
  "sink.prepared=kill",
  "sink.applied=kill",
  null,
  null,
];

type Sums = readonly { readonly customer: number; readonly cents: string; readonly changes: number }[];

/** A database with `orders`; from `count` on it adds up itself what the program has to find. */
interface Source extends AsyncDisposable {
  readonly environment: Readonly<Record<string, string>>;
  /** Whether a start that stored no position has begun: nothing is missing from then on. */
  readonly isHeldByStart: boolean;
  count(): Promise<void>;
  run(statement: string): Promise<unknown>;
  expected(): Promise<Sums>;
}

for (const kind of ["postgres", ...mysqlFlavours] as const)
  test(`each transaction's effect exactly once under 15 kills: ${kind}`, { tags: ["heavy"] }, async () => {
    await using source = kind === "postgres" ? await postgresSource() : await mysqlSource(mysqlUrl(kind));
    await using target = await freshDatabase();
    const environment = { ...source.environment, TARGET: target.url };
    for (const entry of KILLS.slice(0, 2)) {
      await using first = new Example("exactly-once.ts", { ...environment, MILLRACE_FAILPOINTS: entry ?? "" });
      await first.ended;
      expect(first.exit, first.output).toBe("SIGKILL");
    }
    if (!source.isHeldByStart) {
      await using first = new Example("exactly-once.ts", environment);
      await eventually(async () => expect(await hasPosition(target), first.output).toBe(true), { withinMs: 60_000 });
    }
    await source.count();
    const stopping = new AbortController();
    const writing = write(source, stopping.signal);
    writing.catch(() => undefined);
    for (const entry of KILLS.slice(2)) {
      await using program = new Example("exactly-once.ts", {
        ...environment,
        ...(entry === null ? {} : { MILLRACE_FAILPOINTS: entry }),
      });
      if (entry === null) {
        const before = await changesOf(target);
        await eventually(async () => (await changesOf(target)) > before + 20 || program.exit !== null);
        await sleep(Math.random() * 300);
        await program.end("SIGKILL");
      } else await Promise.race([program.ended, sleep(30_000)]);
      expect({ entry, exit: program.exit }, program.output).toEqual({ entry, exit: "SIGKILL" });
    }
    stopping.abort();
    await writing;
    await using last = new Example("exactly-once.ts", environment);
    const expected = await source.expected();
    await eventually(async () => expect(await sums(target, "turnover"), last.output).toEqual(expected), {
      withinMs: 60_000,
    });
    expect(expected.length).toBeGreaterThan(3);
    // Nothing comes twice behind that.
    await source.run("insert into orders values (-1, 0, 1, 'last')");
    const later = await source.expected();
    await eventually(async () => expect(await sums(target, "turnover")).toEqual(later));
    expect(await last.end(), last.output).toBe(0);
  });

async function postgresSource(): Promise<Source> {
  const database = await freshDatabase();
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
  const client = await database.connect();
  return {
    environment: { SOURCE: database.url, NAME: database.name },
    // By its slot.
    isHeldByStart: true,
    count: async () =>
      void (await database.query(
        "create trigger counted after insert or update or delete on orders for each row execute function count_order()",
      )),
    run: (statement) => client.query(statement),
    expected: () => sums(database, "expected"),
    [Symbol.asyncDispose]: async () => {
      await client[Symbol.asyncDispose]();
      await database[Symbol.asyncDispose]();
    },
  };
}

async function mysqlSource(url: string): Promise<Source> {
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

type Database = Awaited<ReturnType<typeof freshDatabase>>;

async function sums(database: Database, table: string): Promise<Sums> {
  return (await database.query<Sums[number]>(`select customer, cents, changes from ${table} order by customer`)).rows;
}

async function changesOf(target: Database): Promise<number> {
  const { rows } = await target.query<{ n: string | null }>("select sum(changes) as n from turnover");
  return Number(rows[0]?.n ?? 0);
}

async function hasPosition(target: Database): Promise<boolean> {
  const { rows } = await target.query<{ found: boolean }>(
    "select exists (select from followed where position is not null) as found",
  );
  return rows[0]?.found === true;
}

/** Small transactions, and now and then one that is larger than a piece. */
async function write(source: Source, signal: AbortSignal): Promise<void> {
  const insert = (first: number, count: number, row: (id: number) => string) =>
    source.run(`insert into orders values ${Array.from({ length: count }, (_, i) => `(${row(first + i)})`).join(",")}`);
  let id = 1;
  for (let round = 1; !signal.aborted; round++) {
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
    await sleep(15);
  }
}
