/**
 * Documents made of tables of MySQL and MariaDB: what rules hide later is gone from them, from the nest, from dead letters and from
 * documents that a target refuses or has marked as deleted.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { CANARY, placesWith, SHOWN } from "../../support/daemon/canary.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { mysqlFlavours } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const PREPARE = [
  "create table users (id int primary key, mail varchar(80), word varchar(80))",
  "create table orders (id int primary key, user_id int, note varchar(80), n int)",
  ...Array.from({ length: 9 }, (_, i) => `insert into users values (${i}, 'm${CANARY}', 'w${CANARY}')`),
  ...Array.from({ length: 9 }, (_, i) => `insert into orders values (${i}, ${i}, '${SHOWN}', ${i})`),
];
const RULES = {
  users: { columns: { mail: { mask: "redact" }, word: { drop: true } } },
  orders: { where: "n <> 7" },
};

const ofDocuments = (config: Readonly<Record<string, object>>): Readonly<Record<string, object>> =>
  Object.fromEntries(Object.entries(config).map(([name, sink]) => [name, { ...sink, documents: ["orders"] }]));

const documents = (database: string): object => {
  const user = { from: `${database}.users`, on: { id: "user_id" } };
  return { orders: { from: `${database}.orders`, with: { user } } };
};

test.each(mysqlFlavours)("%s", async (flavour) => {
  await using pipeline = await MysqlPipeline.start(flavour, PREPARE, {
    kinds: ["postgres", "postgres-soft"],
    sinks: ofDocuments,
    documents,
  });
  const { installation, sinks } = pipeline;
  const rows = async (space: string) =>
    (await sinks.target!.query<{ t: object }>(`select to_jsonb(t) as t from ${space}.orders t order by id`)).rows;
  const refused = async (count: number) =>
    await eventually(async () => {
      const status = await installation.status();
      expect(status.sinks.find(({ name }) => name === "postgres")?.deadLetters).toBe(count);
    });
  await pipeline.settled();
  await sinks.target!.query("alter table documents.orders add constraint small check (n < 1000)");
  await pipeline.run("update orders set n = 2000 where id in (3, 4)", "delete from orders where id = 6");
  await refused(2);
  await pipeline.run("update orders set n = 4 where id = 4");
  await refused(1);
  await pipeline.kill();
  const { name } = pipeline.source;
  installation.configure({
    name,
    source: { kind: "mysql", url: pipeline.url, heartbeat: "500ms" },
    sinks: ofDocuments(sinks.config),
    documents: documents(name),
    tables: Object.fromEntries(Object.entries(RULES).map(([table, rule]) => [`${name}.${table}`, rule])),
  });
  await pipeline.start();
  await pipeline.settled();
  await refused(1);
  const shown = JSON.stringify([await rows("documents"), await rows("soft")]);
  expect(shown).toContain(SHOWN);
  expect(shown).not.toContain(CANARY);
  expect((await rows("documents")).map(({ t }) => t)).toHaveLength(6);
  await pipeline.daemon.stop();
  expect(await placesWith(CANARY, pipeline)).toEqual([]);
});
