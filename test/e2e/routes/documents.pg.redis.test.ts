/** Tables of several tenants are one table in one sink, and a document for each tenant in another. */
import { DatabaseSync } from "node:sqlite";
import { join } from "node:path";
import { expect, test } from "vitest";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

const TENANTS = ["a", "b"] as const;

const tablesOf = (tenant: string): string => `create schema tenant_${tenant}; set search_path = tenant_${tenant};
  create table customers (id int primary key, name text not null);
  create table orders (id int primary key, customer_id int references customers, status text not null);
  create table items (order_id int references orders on update cascade, line_no int, sku text, primary key (order_id, line_no));
  insert into customers select g, '${tenant} ' || g from generate_series(1, 3) g;
  insert into orders select g, 1 + g % 3, 'new' from generate_series(1, 9) g;
  insert into items select g, l, '${tenant}' || l from generate_series(1, 9) g, generate_series(1, 2) l;`;

const documentOf = (tenant: string): object => ({
  from: `tenant_${tenant}.orders`,
  columns: ["status"],
  with: {
    customer: { from: `tenant_${tenant}.customers`, columns: ["name"] },
    items: { from: `tenant_${tenant}.items`, many: true, columns: ["line_no", "sku"], orderBy: ["line_no"] },
  },
});

const expectedOf = (tenant: string): string => `select o.id, o.status,
  (select jsonb_build_object('name', c.name) from tenant_${tenant}.customers c where c.id = o.customer_id) as customer,
  coalesce((select jsonb_agg(jsonb_build_object('line_no', i.line_no, 'sku', i.sku) order by i.line_no)
    from tenant_${tenant}.items i where i.order_id = o.id), '[]') as items from tenant_${tenant}.orders o order by o.id`;

test("documents are made of tables by their own names, whatever names these have in sinks of tables", async () => {
  let configured: PipelineConfig | null = null;
  await using pipeline = await RunningPipeline.start(TENANTS.map(tablesOf).join("\n"), {
    kinds: ["sqlite", "redis"],
    configure: (config) =>
      (configured = {
        ...config,
        tables: { "tenant_*.*": { into: "shared.$2", add: { tenant: "$1" } } },
        documents: Object.fromEntries(TENANTS.map((tenant) => [`orders_${tenant}`, documentOf(tenant)])),
        sinks: {
          ...config.sinks,
          sqlite: { ...config.sinks["sqlite"], documents: TENANTS.map((tenant) => `orders_${tenant}`) },
        },
      }),
  });
  const { installation, source, sinks } = pipeline;
  const made = (tenant: string): unknown[] => {
    using file = new DatabaseSync(join(installation.folder, "replica.sqlite"), { readOnly: true });
    const rows = file.prepare(`select id, status, customer, items from "documents.orders_${tenant}" order by id`).all();
    return rows.map((row) =>
      Object.fromEntries(Object.entries(row).map(([name, value]) => [name, parsed(name, value)])),
    );
  };
  const expectEqual = async (): Promise<void> => {
    await pipeline.settled();
    for (const tenant of TENANTS) expect(made(tenant)).toEqual((await source.query(expectedOf(tenant))).rows);
  };
  await expectEqual();
  await pipeline.run(`update tenant_a.customers set name = 'changed' where id = 1; delete from tenant_b.items where line_no = 1;
    update tenant_b.orders set id = 100 where id = 4; update tenant_a.orders set customer_id = 3; truncate tenant_a.items`);
  await expectEqual();
  using cache = pipeline.cache();
  await eventually(async () =>
    expect(await cache.hgetall(`${sinks.keyPrefix}shared:customers:a:1`)).toMatchObject({
      tenant: "a",
      name: "changed",
    }),
  );
  expect(await installation.command("reconcile")).toMatchObject({ exitCode: 0 });

  installation.configure({
    ...configured!,
    documents: { orders_a: { from: "shared.orders" }, orders_b: documentOf("b") },
  });
  const { exitCode, stdout } = await installation.command("check");
  expect(exitCode).not.toBe(0);
  expect(stdout).toMatch(/shared\.orders is no captured table[^]*MR1040/);
});

function parsed(name: string, value: unknown): unknown {
  return name === "customer" || name === "items" ? (JSON.parse(String(value)) as unknown) : value;
}
