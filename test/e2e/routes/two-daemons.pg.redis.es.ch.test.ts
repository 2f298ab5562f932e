/** Two daemons, each with its source, write tenants of their own into one target. */
import { expect, test } from "vitest";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import type { SinkKind } from "../../support/daemon/sink-set.ts";

function tenant(name: number): string {
  return `create schema tenant_${name}; create table tenant_${name}.orders (id int primary key, note text);
    insert into tenant_${name}.orders select i, '${name} ' || i from generate_series(1, 30) as i`;
}

/** What the sinks are to have, in a table that is not captured. */
const SHARED =
  "create schema shared; create table shared.orders (id int, note text, tenant text, primary key (tenant, id))";

const rowsOf = (name: number): string =>
  `select to_jsonb(o) || '{"tenant": "${name}"}' as row from tenant_${name}.orders as o`;

/** Two that write into one lake with a catalogue in a file wait for each other: these commit as seldom as they can. */
const TARGETS: readonly { readonly kinds: readonly SinkKind[]; readonly heartbeat: string }[] = [
  { kinds: ["postgres", "sqlite", "clickhouse", "redis", "elasticsearch"], heartbeat: "500ms" },
  { kinds: ["ducklake"], heartbeat: "5s" },
];

test.each(TARGETS)(
  "what happens to the tenants of one leaves those of the other alone: $kinds",
  { tags: "heavy" },
  async ({ kinds, heartbeat }) => {
    const configure = (config: PipelineConfig): PipelineConfig => ({
      ...config,
      source: { ...config.source, heartbeat, tables: ["tenant_*.*"] },
      tables: { "tenant_*.orders": { into: "shared.orders", add: { tenant: "$1" } } },
    });
    const prepare = [SHARED, ...[1, 2, 3].map(tenant)].join(";");
    await using one = await RunningPipeline.start(prepare, { kinds, configure });
    await using two = await RunningPipeline.start([11, 12, 13].map(tenant).join(";"), {
      kinds: [],
      configure: (config) => configure({ ...config, sinks: one.sharedSinks }),
    });
    const expectMerged = async (
      ...tenants: readonly (readonly [RunningPipeline, readonly number[]])[]
    ): Promise<void> => {
      const merged: object[] = [];
      for (const [pipeline, names] of tenants) {
        const { rows } = await pipeline.source.query<{ row: object }>(names.map(rowsOf).join(" union all "));
        merged.push(...rows.map(({ row }) => row));
        await pipeline.settled();
      }
      await one.run(`truncate shared.orders; insert into shared.orders
        select * from json_populate_recordset(null::shared.orders, '${JSON.stringify(merged)}')`);
      await one.expectEqual([{ schema: "shared", table: "orders" }]);
    };
    await expectMerged([one, [1, 2, 3]], [two, [11, 12, 13]]);
    for (let i = 0; i < 5; i++) {
      await one.run(`update tenant_1.orders set note = '1 changed ${i}' where id <= 20`);
      await two.run(`update tenant_11.orders set note = '11 changed ${i}' where id <= 20`);
    }
    await one.run(`truncate tenant_1.orders; delete from tenant_2.orders where id > 20;
      alter table shared.orders add column more int`);
    await two.run("truncate tenant_12.orders; alter table tenant_13.orders add column more int default 5");
    await two.kill();
    await two.start();
    await one.readAgain("tenant_3.orders");
    await one.run(tenant(4));
    await expectMerged([one, [1, 2, 3, 4]], [two, [11, 12, 13]]);
    for (const { installation } of [one, two]) {
      const { exitCode, stdout, stderr } = await installation.command("reconcile");
      expect({ exitCode }, `${stdout}${stderr}`).toEqual({ exitCode: 0 });
    }
    // A lake's writers wait for each other.
    expect(one.complaints().filter((line) => !line.includes("MR2026"))).toEqual([]);
  },
);
