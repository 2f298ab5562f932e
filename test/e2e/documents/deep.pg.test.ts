/** `reconcile --deep`: documents that are put together without the nest are those of the nest, while rows change. */
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { HOSTILE_TABLES, hostileDocuments, HostileShop, postgresShop } from "../../support/documents/hostile-shop.ts";
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
  const { installation, source } = pipeline;
  const deep = async () => await reconcile(installation, "--deep", "--tables", "documents.*");
  shop!.start(20, false);
  for (let i = 0; i < 3; i++) {
    const { exitCode, found } = await deep();
    const rows = found.tables
      .filter(({ sink }) => sink === "documents")
      .map(({ table, compared }) => [table, compared > 0]);
    expect({ exitCode, rows, drift: driftOf(found), not: found.notComparable }).toEqual({
      exitCode: 0,
      rows: [
        ["documents.orders", true],
        ["documents.people", true],
      ],
      drift: {},
      not: [],
    });
  }
  await shop!.stop();
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

/** The rules give the products' title another name. */
function renamed(documents: object): object {
  return Object(JSON.parse(JSON.stringify(documents).replaceAll('"title"', '"label"')));
}
