/** `into` and `add` with MySQL and MariaDB: the tables of tenants are one table of each sink, also after a kill. */
import { expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { mysqlFlavours } from "../../support/run/services.ts";

const create = (name: string) =>
  `create table orders_${name} (id int primary key, note varchar(40), paid datetime(3), data json)`;
const fill = (name: string) =>
  `insert into orders_${name} values (1, '${name}', '2026-02-03 04:05:06.789', '{"a": 1}'), (2, null, null, null)`;

test.for(mysqlFlavours)("%s", async (flavour) => {
  const kinds = ["postgres", "sqlite", "redis"] as const;
  const rules = { "orders_*": { into: "shared.orders", add: { tenant: "$1" } } };
  const prepare = ["a", "b"].flatMap((name) => [create(name), fill(name)]);
  await using pipeline = await MysqlPipeline.start(flavour, prepare, {
    kinds: [...kinds],
    rules,
    source: { tables: ["*.orders_*"] },
  });
  const { target } = pipeline.sinks;
  const stored = async (): Promise<readonly string[]> => {
    await pipeline.settled();
    const { rows } = await target!.query<{ row: string }>(
      "select tenant || ' ' || id || ' ' || coalesce(note, '-') as row from shared.orders order by tenant, id",
    );
    return rows.map(({ row }) => row);
  };
  expect(await stored()).toEqual(["a 1 a", "a 2 -", "b 1 b", "b 2 -"]);
  await pipeline.run(
    "truncate table orders_a",
    "insert into orders_a (id, note) values (3, 'after')",
    "update orders_b set note = 'changed' where id = 2",
    create("c"),
    fill("c"),
  );
  expect(await stored()).toEqual(["a 3 after", "b 1 b", "b 2 changed", "c 1 c", "c 2 -"]);
  await pipeline.kill();
  await pipeline.run("delete from orders_b where id = 1", "alter table orders_c add column more int default 5");
  await pipeline.start();
  expect(await stored()).toEqual(["a 3 after", "b 2 changed", "c 1 c", "c 2 -"]);
  const { exitCode, stdout } = await pipeline.installation.command("reconcile");
  expect({ exitCode }, stdout).toEqual({ exitCode: 0 });
});
