/** One daemon captures into a log in Kafka, another one applies from it: its sinks equal the source. */
import { afterAll, beforeAll, test } from "vitest";
import { ThroughKafka } from "../support/through-kafka.ts";

const MADE = `create table orders (id int primary key, n int not null, body text);
  create table notes (id int primary key, text text);
  alter table orders alter column body set storage external;
  insert into orders select g, 0, repeat(md5(g::text), 90) from generate_series(1, 400) g;
  insert into notes select g, 'note' from generate_series(1, 5) g`;
const TABLES = ["orders", "notes"];

let through: ThroughKafka;

beforeAll(async () => {
  through = await ThroughKafka.start(MADE, { kinds: ["postgres", "redis"] });
});

afterAll(async () => {
  await through?.[Symbol.asyncDispose]();
});

test("the rows from before, changes of every kind, and a new shape", async () => {
  const { applying } = through;
  await applying.expectEqual(TABLES);
  await applying.run("insert into orders select g, 1, repeat(md5(g::text), 90) from generate_series(401, 460) g");
  await applying.run("update orders set n = n + 1 where id <= 50");
  await applying.run(
    "delete from orders where id between 10 and 20; update orders set id = id + 5000 where id between 21 and 25",
  );
  await applying.run("truncate notes; insert into notes values (1, 'again'), (7, 'new')");
  await applying.expectEqual(TABLES);
  await applying.run("alter table orders add column extra int default 7; update orders set extra = 8 where id < 40");
  await applying.run("create table late (id int primary key, n int); insert into late values (1, 1), (2, 2)");
  await applying.expectEqual([...TABLES, "late"]);
});
