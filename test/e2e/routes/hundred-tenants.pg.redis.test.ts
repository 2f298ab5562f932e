/**
 * A hundred schemas are one table of each sink, while tenants are dropped, restored, truncated, renamed and read again, and the
 * daemon is killed.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import type { SinkKind } from "../../support/daemon/sink-set.ts";

const COUNT = 100;
const ROWS = 30;
const SHARED =
  "create schema shared; create table shared.orders (id int, note text, tenant text, primary key (tenant, id)); create schema kept; create table kept.orders (like shared.orders)";

function tenant(name: string, note = name): string {
  return `create schema tenant_${name}; create table tenant_${name}.orders (id int primary key, note text);
    insert into tenant_${name}.orders select i, '${note} ' || i from generate_series(1, ${ROWS}) as i`;
}

function tenants(from: number, count = COUNT): string {
  return Array.from({ length: count }, (_, i) => tenant(String(from + i))).join(";");
}

const routed = (config: PipelineConfig): PipelineConfig => ({
  ...config,
  source: { ...config.source, tables: ["tenant_*.*"] },
  tables: { "tenant_*.orders": { into: "shared.orders", add: { tenant: "$1" } } },
});

/** Fills a table that is not captured with what the sinks are to have: the tenants' rows, and those of tenants that are gone. */
async function expectMerged(pipeline: RunningPipeline): Promise<void> {
  await pipeline.run(`truncate shared.orders;
    do $$ declare s text; begin
      for s in select table_schema from information_schema.tables where table_schema like 'tenant\\_%' and table_name = 'orders' loop
        execute format('insert into shared.orders select id, note, %L from %I.orders', substr(s, 8), s);
      end loop;
    end $$;
    insert into shared.orders select * from kept.orders`);
  await pipeline.expectEqual([{ schema: "shared", table: "orders" }]);
}

const keep = (name: string): string => `insert into kept.orders select id, note, '${name}' from tenant_${name}.orders`;

test("a hundred tenants: dropped, restored, truncated, renamed, with kills", async () => {
  const kinds: readonly SinkKind[] = ["postgres", "sqlite", "duckdb", "redis"];
  await using pipeline = await RunningPipeline.start(`${SHARED}; ${tenants(1)}`, { kinds, configure: routed });
  await pipeline.run(`
    update tenant_1.orders set note = 'changed'; delete from tenant_2.orders where id > 10;
    truncate tenant_3.orders`);
  await pipeline.kill();
  await pipeline.run(`
    ${keep("4")}; drop schema tenant_4 cascade;
    drop schema tenant_5 cascade; ${tenant("5", "restored")}; delete from tenant_5.orders where id < 20;
    truncate tenant_6.orders; insert into tenant_6.orders values (1, 'again');
    ${keep("7")}; alter schema tenant_7 rename to gone_7; update gone_7.orders set note = 'unseen';
    ${tenant("late")}`);
  await pipeline.start();
  await expectMerged(pipeline);
  await pipeline.run("alter table tenant_8.orders rename to elsewhere; delete from tenant_8.elsewhere where id = 1");
  await pipeline.settled();
  await pipeline.run(`alter table tenant_8.elsewhere rename to orders; update tenant_8.orders set note = 'back' where id = 2;
    drop table tenant_9.orders; create table tenant_9.orders (id bigint primary key, note varchar(9));
    insert into tenant_9.orders values (5, 'new')`);
  await pipeline.readAgain("tenant_10.orders");
  await pipeline.kill();
  await pipeline.run(
    "truncate tenant_late.orders; delete from kept.orders where tenant = '7'; alter schema gone_7 rename to tenant_7",
  );
  await pipeline.start();
  await expectMerged(pipeline);
  const { exitCode, stdout, stderr } = await pipeline.installation.command("reconcile");
  expect({ exitCode }, `${stdout}${stderr}`).toEqual({ exitCode: 0 });
});
