/** Two daemons, of two sources, that write tenants into the same tables, and a tenant that moves from the one to the other. */
import { expect, test } from "vitest";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import type { SinkKind } from "../../support/daemon/sink-set.ts";
import { freshDatabase } from "../../support/run/services.ts";

const KINDS: readonly SinkKind[] = ["postgres", "sqlite", "duckdb", "ducklake", "clickhouse", "redis"];
const COLUMNS = "id, note";

function tenant(name: string, note: string, count: number): string {
  return `create schema tenant_${name}; create table tenant_${name}.orders (id int primary key, note text);
    insert into tenant_${name}.orders select i, '${note}' from generate_series(1, ${count}) as i`;
}

const configure = (config: PipelineConfig): PipelineConfig => ({
  ...config,
  source: { ...config.source, tables: ["tenant_*.*"] },
  tables: { "tenant_*.orders": { into: "shared.orders", add: { tenant: "$1" } } },
});

test("a tenant that moves to another daemon has none of the first one's rows", { tags: "heavy" }, async () => {
  const prepare = `${tenant("acme", "first", 30)}; ${tenant("zed", "zed", 5)}`;
  await using first = await RunningPipeline.start(prepare, { kinds: KINDS, configure });
  const { folder } = first.installation;
  await first.settled();
  await first.daemon.stop();
  await using source = await freshDatabase();
  await source.query(`${tenant("own", "own", 5)}; create schema shared;
    create table shared.orders (id int, note text, tenant text, primary key (tenant, id))`);
  await using second = new Installation(
    configure({
      name: source.name,
      source: { kind: "postgres", url: source.url },
      sinks: first.sharedSinks,
    }),
  );
  expect(await second.command("run", "--once")).toMatchObject({ exitCode: 0 });
  // Rows of a later epoch than the other daemon's.
  expect(await first.installation.command("recover", "--anyway", "--yes")).toMatchObject({ exitCode: 0 });
  await first.start();
  await first.run("update tenant_acme.orders set note = 'later' where id < 20");
  await first.settled();
  await first.run("drop schema tenant_acme cascade");
  await first.settled();
  const lastRead = await first.lastRead();
  await first.daemon.stop();

  await source.query(tenant("acme", "second", 10));
  expect(await second.command("run", "--once")).toMatchObject({ exitCode: 0 });
  await source.query(
    "update tenant_acme.orders set note = 'changed' where id = 3; delete from tenant_acme.orders where id = 4",
  );
  expect(await second.command("run", "--once")).toMatchObject({ exitCode: 0 });
  // Rows that another daemon removed are no loss.
  await first.start();
  await first.run("insert into tenant_zed.orders values (6, 'zed')");
  await first.settled();
  expect(await first.readers(lastRead)).toEqual({});
  const rows = ["acme", "own"].map((name) => `select '${name}', ${COLUMNS} from tenant_${name}.orders`);
  await source.query(`insert into shared.orders (tenant, ${COLUMNS})
    ${rows.join(" union all ")} union all select 'zed', i, 'zed' from generate_series(1, 6) as i`);
  expect(await first.sinks.differences(source.url, folder, [{ schema: "shared", table: "orders" }])).toEqual([]);
});
