/** `reconcile --deep`: documents that are put together without the nest are those of the nest, while rows change. */
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { HOSTILE_TABLES, hostileDocuments, HostileShop, postgresShop } from "../../support/documents/hostile-shop.ts";
import { eventually } from "../../support/run/waiting.ts";
import { Random } from "../../support/run/random.ts";

test("equal under a hostile workload and under rules; what differs is named with its place", async () => {
  let shop: HostileShop | undefined;
  await using pipeline = await RunningPipeline.start(
    async (source) => {
      shop = new HostileShop(postgresShop(source), new Random(4));
      await source.query(HOSTILE_TABLES.join("; "));
      await shop.fill();
    },
    {
      kinds: ["sqlite"],
      configure: (config) => ({
        ...config,
        tables: {
          "public.customers": { columns: { email: { mask: "partial" } } },
          "public.products": { columns: { title: { rename: "label" } }, where: "id <> 3" },
        },
        documents: renamed(hostileDocuments("public")),
        sinks: { sqlite: { ...config.sinks["sqlite"], documents: ["orders", "people"] } },
      }),
    },
  );
  await using workload = shop!;
  const { installation, source } = pipeline;
  const deep = async () => await reconcile(installation, "--deep", "--tables", "documents.*");
  workload.start(20, false);
  for (let i = 0; i < 3; i++) {
    const { exitCode, found } = await deep();
    // Documents of the few people change all the time: on a busy machine one may have changed at each look.
    const not = found.notComparable.filter(({ reason }) => !reason.endsWith("changed at each look"));
    const rows = found.tables
      .filter(({ sink }) => sink === "documents")
      .map(({ table, compared }) => [table, compared > 0]);
    expect({ exitCode, rows, drift: driftOf(found), not }).toEqual({
      exitCode: found.notComparable.length === 0 ? 0 : 1,
      rows: [
        ["documents.orders", true],
        ["documents.people", true],
      ],
      drift: {},
      not: [],
    });
  }
  await workload.stop();
  await pipeline.settled();
  expect((await deep()).exitCode).toBe(0);
  await source.query(`insert into customers values (500, 'planted', null, null); insert into orders values (500, 500, 'planted', 5);
    insert into order_items (order_id, line_no, product_id, quantity) values (500, 1, 1, 1), (500, 2, 2, 2)`);
  await pipeline.settled();
  {
    using nest = new DatabaseSync(join(installation.folder, `.millrace/${source.name}-documents.db`));
    nest.exec(`update "public.order_items" set quantity = 77 where order_id = 500 and line_no = 2;
      update "public.orders" set status = 'other' where id = 500`);
  }
  const { exitCode, found } = await deep();
  expect(exitCode).toBe(3);
  expect(driftOf(found)["documents"]).toEqual([
    "documents.orders 500 different status items[1].quantity",
    "documents.people 500 different orders[0].items[1].quantity",
  ]);
  await reconcile(installation, "--repair");
  await pipeline.settled();
  expect((await deep()).exitCode).toBe(0);
});

test("rows that join by hashed values, and a document that the nest can't make now", async () => {
  const logins = { from: "public.logins", many: true, columns: ["at"], on: { mail: "email" } };
  await using pipeline = await RunningPipeline.start(
    async (source) => {
      await source.query(`create table accounts (id int primary key, email text, note text);
        create table logins (id int primary key, mail varchar(60), at timestamptz);
        insert into accounts values (1, 'a@x', 'n'), (2, 'b@x', 'n'), (3, null, 'n'), (4, 'a@x', 'n');
        insert into logins select g, case g % 3 when 0 then 'a@x' when 1 then 'b@x' end, now() from generate_series(1, 9) g`);
    },
    {
      kinds: ["sqlite"],
      configure: (config) => ({
        ...config,
        maskKey: "a-key-of-the-tests-0123456789",
        tables: {
          "public.accounts": { columns: { email: { mask: "hash" } } },
          "public.logins": { columns: { mail: { mask: "hash" } } },
        },
        documents: {
          accounts: { from: "public.accounts", columns: ["id", "note"], with: { logins } },
          mails: { from: "public.accounts", columns: ["id", "email"], with: { logins } },
        },
        sinks: { sqlite: { ...config.sinks["sqlite"], documents: ["accounts", "mails"] } },
      }),
    },
  );
  const { installation, source } = pipeline;
  const deep = async () => await reconcile(installation, "--deep", "--tables", "documents.*");
  const before = await deep();
  expect({ exitCode: before.exitCode, drift: driftOf(before.found), not: before.found.notComparable }).toEqual({
    exitCode: 0,
    drift: {},
    not: [],
  });
  const path = join(installation.folder, `.millrace/${source.name}-documents.db`);
  {
    using nest = new DatabaseSync(path);
    nest.exec(`delete from "public.logins" where id = 3`);
  }
  const { found } = await deep();
  expect(driftOf(found)["documents"]).toEqual([
    "documents.accounts 1 different logins[2]",
    "documents.accounts 4 different logins[2]",
    "documents.mails 1 different logins[2]",
    "documents.mails 4 different logins[2]",
  ]);
  await reconcile(installation, "--repair");
  await source.query("alter table accounts drop column note");
  await eventually(async () => {
    const without = await deep();
    expect(without.found.notComparable).toContainEqual({
      sink: "documents",
      table: "documents.accounts",
      reason: `the nest can't make it now: table public.accounts has no column "note"`,
    });
    const others = without.found.tables.filter(({ sink }) => sink === "documents");
    expect(others).toEqual([expect.objectContaining({ table: "documents.mails", compared: 4, different: 0 })]);
  });
});

/** The rules give the products' title another name. */
function renamed(documents: object): object {
  return Object(JSON.parse(JSON.stringify(documents).replaceAll('"title"', '"label"')));
}
