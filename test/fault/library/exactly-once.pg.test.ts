/** A program that stores its position in its own database is killed 15 times: each transaction has its effect exactly once. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { Example } from "../../support/library/example.ts";
import { freshDatabase } from "../../support/run/services.ts";
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

test("each transaction's effect exactly once under 15 kills", { tags: ["heavy"] }, async () => {
  await using source = await freshDatabase();
  await using target = await freshDatabase();
  await source.query(`create table orders (id int primary key, customer int not null, cents bigint not null, body text);
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
  const environment = { SOURCE: source.url, TARGET: target.url, NAME: source.name };
  // The first start makes the slot: from then on nothing may be missing.
  for (const entry of KILLS.slice(0, 2)) {
    await using first = new Example("exactly-once.ts", { ...environment, MILLRACE_FAILPOINTS: entry ?? "" });
    await first.ended;
    expect(first.exit, first.output).toBe("SIGKILL");
  }
  await source.query(
    "create trigger counted after insert or update or delete on orders for each row execute function count_order()",
  );
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
  const expected = await sums(source, "expected");
  await eventually(async () => expect(await sums(target, "turnover"), last.output).toEqual(expected), {
    withinMs: 60_000,
  });
  expect(expected.length).toBeGreaterThan(3);
  // Nothing comes twice behind that.
  await source.query("insert into orders values (-1, 0, 1, 'last')");
  const later = await sums(source, "expected");
  await eventually(async () => expect(await sums(target, "turnover")).toEqual(later));
  expect(await last.end(), last.output).toBe(0);
});

type Database = Awaited<ReturnType<typeof freshDatabase>>;

async function sums(database: Database, table: string): Promise<readonly object[]> {
  return (await database.query(`select customer, cents, changes from ${table} order by customer`)).rows;
}

async function changesOf(target: Database): Promise<number> {
  const { rows } = await target.query<{ n: string | null }>("select sum(changes) as n from turnover");
  return Number(rows[0]?.n ?? 0);
}

/** Small transactions, and now and then one that is larger than a piece. */
async function write(source: Database, signal: AbortSignal): Promise<void> {
  await using client = await source.connect();
  let id = 1;
  for (let round = 1; !signal.aborted; round++) {
    const customer = round % 7;
    await client.query("begin");
    await client.query(
      `insert into orders select i, ${customer}, i, repeat('x', i % 50) from generate_series(${id}, ${id + 4}) i`,
    );
    await client.query(
      `update orders set cents = cents + 1, customer = (customer + 1) % 7 where id > ${id - 5} and id <= ${id}`,
    );
    await client.query(`delete from orders where id = ${id - 9}`);
    id += 5;
    if (round % 100 === 0) {
      await client.query(
        `insert into orders select i, i % 7, 1, 'large' from generate_series(${id}, ${id + 14_999}) i`,
      );
      await client.query(`delete from orders where body = 'large'`);
      id += 15_000;
    }
    await client.query("commit");
    await sleep(15);
  }
}
