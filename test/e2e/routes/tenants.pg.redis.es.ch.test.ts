/** `into` and `add`: the tables of many tenants are one table of each sink, and what happens to one tenant stays with it. */
import { expect, test } from "vitest";
import type { ReconcileDocument } from "../../../src/core/contracts/reconciliation.ts";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import type { SinkKind } from "../../support/daemon/sink-set.ts";
import { eventually } from "../../support/run/waiting.ts";

const KINDS: readonly SinkKind[] = ["postgres", "sqlite", "duckdb", "redis"];
/** The first one is where rows are planted. */
const OTHERS: readonly SinkKind[] = ["clickhouse", "elasticsearch", "ducklake"];

function tenant(name: string): string {
  return `
    create schema ${name};
    create table ${name}.orders (id int primary key, note text, amount numeric);
    insert into ${name}.orders select i, '${name} ' || i, i * 1.5 from generate_series(1, 40) as i`;
}

/** What the sinks are to have, in a table that is not captured. */
const MERGED = `create schema shared; create table shared.orders (id int, note text, amount numeric, tenant text, primary key (tenant, id))`;

const TABLES = { "tenant_*.orders": { into: "shared.orders", add: { tenant: "$1" } } };

class Tenants implements AsyncDisposable {
  readonly pipeline: RunningPipeline;

  constructor(pipeline: RunningPipeline) {
    this.pipeline = pipeline;
  }

  static async start(names: readonly string[], kinds: readonly SinkKind[] = KINDS): Promise<Tenants> {
    const configure = (config: PipelineConfig): PipelineConfig => ({
      ...config,
      source: { ...config.source, tables: ["tenant_*.*"] },
      tables: TABLES,
    });
    const prepare = [MERGED, ...names.map((name) => tenant(`tenant_${name}`))].join(";");
    return new Tenants(await RunningPipeline.start(prepare, { kinds, configure }));
  }

  /** `names`: the tenants that there are. */
  async expectMerged(names: readonly string[], columns = "id, note, amount"): Promise<void> {
    const rows = names.map((name) => `select '${name}', ${columns} from tenant_${name}.orders`).join(" union all ");
    const { pipeline } = this;
    await pipeline.run(`truncate shared.orders; insert into shared.orders (tenant, ${columns}) ${rows}`);
    await pipeline.expectEqual([{ schema: "shared", table: "orders" }]);
  }

  async inWarehouse(sql: string): Promise<readonly unknown[]> {
    return (await this.pipeline.sinks.target!.query(sql)).rows;
  }

  async expectReconciled(): Promise<void> {
    const { exitCode, stdout, stderr } = await this.pipeline.installation.command("reconcile");
    expect({ exitCode }, `${stdout}${stderr}`).toEqual({ exitCode: 0 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.pipeline[Symbol.asyncDispose]();
  }
}

async function eachAlone(kinds: readonly SinkKind[]): Promise<void> {
  await using tenants = await Tenants.start(["acme", "zed"], kinds);
  const { pipeline } = tenants;
  await tenants.expectMerged(["acme", "zed"]);
  await pipeline.run(`
    update tenant_acme.orders set note = 'changed' where id < 5;
    delete from tenant_zed.orders where id > 30;
    update tenant_zed.orders set id = 1000 where id = 1`);
  await tenants.expectMerged(["acme", "zed"]);
  await pipeline.run("truncate tenant_acme.orders");
  await tenants.expectMerged(["acme", "zed"]);
  await pipeline.run(`insert into tenant_acme.orders values (7, 'again', null); ${tenant("tenant_late")}`);
  await tenants.expectMerged(["acme", "zed", "late"]);
  await tenants.expectReconciled();
  await pipeline.readAgain("tenant_acme.orders");
  await tenants.expectMerged(["acme", "zed", "late"]);
  await pipeline.restart();
  await tenants.expectMerged(["acme", "zed", "late"]);
  await tenants.expectReconciled();
  expect(pipeline.complaints()).toEqual([]);
}

test("tenants share a target: what happens to one leaves the others' rows alone", () => eachAlone(KINDS));

test("the same in other kinds of sinks", { tags: "heavy" }, () => eachAlone(OTHERS));

test("a table that gets another route is read under its new name", { tags: "heavy" }, async () => {
  let whole: PipelineConfig | undefined;
  await using pipeline = await RunningPipeline.start(
    `create table orders (id int primary key, note text); insert into orders select i, 'n' || i from generate_series(1, 40) as i;
     create schema moved; create table moved.orders (like orders including all)`,
    {
      kinds: ["postgres", "sqlite", "redis", "clickhouse", "elasticsearch"],
      configure: (config) => (whole = { ...config, source: { ...config.source, tables: ["public.orders"] } }),
    },
  );
  await pipeline.expectEqual(["orders"]);
  await pipeline.daemon.stop();
  pipeline.installation.configure({ ...whole!, tables: { "public.orders": { into: "moved.orders" } } });
  await pipeline.run(`
    update orders set note = 'changed' where id < 5; delete from orders where id > 30;
    insert into moved.orders select * from orders`);
  await pipeline.start();
  await pipeline.expectEqual([{ schema: "moved", table: "orders" }]);
  await pipeline.run("delete from orders where id = 7; delete from moved.orders where id = 7");
  await pipeline.expectEqual([{ schema: "moved", table: "orders" }]);
});

async function withoutOne(kinds: readonly SinkKind[]): Promise<void> {
  await using tenants = await Tenants.start(["acme", "zed"], kinds);
  const { pipeline } = tenants;
  await pipeline.run("drop schema tenant_zed cascade; update tenant_acme.orders set note = 'changed' where id = 1");
  await pipeline.settled();
  await pipeline.daemon.stop();
  const teardown = ["teardown", "--tables", "tenant_zed.*"];
  const planned = await pipeline.installation.command(...teardown);
  expect(planned).toMatchObject({ exitCode: 4 });
  for (const kind of kinds) expect(planned.stdout).toContain(`the rows of tenant_zed.orders in sink ${kind}`);
  expect(await pipeline.installation.command(...teardown, "--yes")).toMatchObject({ exitCode: 0 });
  await pipeline.start();
  await tenants.expectMerged(["acme"]);
  // It comes back as any new one does.
  await pipeline.run(tenant("tenant_zed"));
  await tenants.expectMerged(["acme", "zed"]);
  await tenants.expectReconciled();
}

test("teardown --tables removes the rows of one that is gone", () => withoutOne(KINDS));

test("the same in other kinds of sinks, of rows", { tags: "heavy" }, () => withoutOne(OTHERS));

async function widened(kinds: readonly SinkKind[]): Promise<void> {
  const narrow =
    "id smallint, name varchar(10), mood tenant_a.mood, price numeric(6,2), at timestamp(3), taken time(0), primary key (id, name)";
  const wide = "id bigint, name text, mood text, price numeric(20,2), at timestamp, taken time, primary key (id, name)";
  const configure = (config: PipelineConfig): PipelineConfig => ({
    ...config,
    source: { ...config.source, tables: ["tenant_*.*"] },
    tables: { "tenant_*.things": { into: "shared.things", add: { tenant: "$1" } } },
  });
  const prepare = `
    create schema tenant_a; create schema tenant_b; create schema shared;
    create type tenant_a.mood as enum ('glad', 'sad');
    create table tenant_a.things (${narrow});
    create table tenant_b.things (${wide});
    insert into tenant_a.things values (-7, 'n', 'glad', 1.50, '2026-01-02 03:04:05.678', '03:04:05'), (2, '', null, null, null, null);
    insert into tenant_b.things values (9007199254740993, repeat('x', 20), 'other', 123456789012345678.10, '2026-01-02 03:04:05.678901', '03:04:05.123456')`;
  await using pipeline = await RunningPipeline.start(prepare, { kinds, configure });
  await pipeline.run(`
    insert into tenant_a.things values (32767, 'm', 'sad', 2.00, null, null); update tenant_a.things set price = 9.10 where id = -7;
    insert into tenant_b.things values (-1, 'm', null, null, null, null)`);
  await pipeline.restart();
  await pipeline.run("insert into tenant_a.things values (5, 'late', null, 0.05, null, null)");
  await pipeline.settled();
  const { exitCode, stdout, stderr } = await pipeline.installation.command("reconcile");
  expect({ exitCode }, `${stdout}${stderr}`).toEqual({ exitCode: 0 });
  expect(pipeline.complaints()).toEqual([]);
}

test("columns of other sizes are one column, as wide as both need", () => widened(KINDS));

test("the same in other kinds of sinks, of columns", { tags: "heavy" }, () => widened(OTHERS));

test("a column of one tenant is null in the rows of the others; one whose type does not fit suspends its table alone", async () => {
  await using tenants = await Tenants.start(["acme", "zed"]);
  const { pipeline } = tenants;
  await tenants.expectMerged(["acme", "zed"]);
  await pipeline.run(`
    alter table shared.orders add column colour text;
    alter table tenant_zed.orders add column colour text default 'red'`);
  await pipeline.run(
    "insert into tenant_zed.orders values (500, 'new', 1, 'blue'); insert into tenant_acme.orders values (500, 'new', 1)",
  );
  await pipeline.run(`truncate shared.orders;
    insert into shared.orders (tenant, id, note, amount) select 'acme', id, note, amount from tenant_acme.orders;
    insert into shared.orders (tenant, id, note, amount, colour) select 'zed', id, note, amount, colour from tenant_zed.orders`);
  await pipeline.expectEqual([{ schema: "shared", table: "orders" }]);
  await tenants.expectReconciled();
  await pipeline.run("alter table tenant_zed.orders alter column amount type double precision");
  await eventually(async () => {
    const { tables } = await pipeline.installation.status();
    const suspended = tables.suspended.map(({ table, sink, error }) => `${sink} ${table} ${error.code}`);
    expect(suspended.toSorted()).toEqual([
      "duckdb tenant_zed.orders MR3107",
      "postgres tenant_zed.orders MR3107",
      "sqlite tenant_zed.orders MR3107",
    ]);
  });
  await pipeline.run("insert into tenant_acme.orders values (501, 'goes on', 2)");
  await eventually(async () => {
    const rows = await tenants.inWarehouse("select note from shared.orders where id = 501");
    expect(rows).toEqual([{ note: "goes on" }]);
  });
});

test("a comparison finds what is planted with one tenant, and nothing with the others; a repair leaves those alone", async () => {
  await using tenants = await Tenants.start(["acme", "zed"]);
  const { installation } = tenants.pipeline;
  await tenants.expectMerged(["acme", "zed"]);
  await tenants.inWarehouse(`
    update shared.orders set note = 'planted' where tenant = 'acme' and id = 3;
    delete from shared.orders where tenant = 'zed' and id = 4;
    insert into shared.orders (id, note, amount, tenant, _millrace_version, _millrace_commit_time)
      select 1000, note, amount, tenant, _millrace_version, _millrace_commit_time
      from shared.orders where tenant = 'zed' and id = 5`);
  const { exitCode, stdout } = await installation.command("reconcile", "--sink", "postgres", "--json");
  const report: ReconcileDocument = JSON.parse(stdout);
  const found = report.tables.map(({ table, different, missing, extra }) => [table, different, missing, extra]);
  expect({ exitCode, found }).toEqual({
    exitCode: 3,
    found: [
      ["tenant_acme.orders", 1, 0, 0],
      ["tenant_zed.orders", 0, 1, 1],
    ],
  });
  await installation.command("reconcile", "--sink", "postgres", "--repair");
  await tenants.expectMerged(["acme", "zed"]);
});

test("a table that has the name itself waits, and says why; so does one with the same value", async () => {
  const configure = (config: PipelineConfig): PipelineConfig => ({
    ...config,
    source: { ...config.source, tables: ["a.t", "b.t", "c.t", "one.t"] },
    tables: {
      "a.t": { into: "one.t", add: { of: "a" } },
      "b.t": { into: "one.t", add: { of: "a" } },
      "c.t": { into: "two.t" },
    },
  });
  const tables = ["a", "b", "c", "one"].map(
    (name) => `create schema ${name}; create table ${name}.t (id int primary key); insert into ${name}.t values (1)`,
  );
  await using pipeline = await RunningPipeline.start(tables.join(";"), { kinds: ["postgres"], configure });
  await eventually(async () => {
    const { suspended } = (await pipeline.installation.status()).tables;
    const told = suspended.map(({ table, error }) => `${table} ${error.code}`);
    expect(told.toSorted()).toEqual(["b.t MR1305", "one.t MR1305"]);
  });
  const { rows } = await pipeline.sinks.target!.query("select * from two.t");
  expect(rows).toMatchObject([{ id: 1 }]);
  const { stdout } = await pipeline.installation.command("check");
  expect(stdout).toContain("tables a.t and b.t would both be written to");
});
