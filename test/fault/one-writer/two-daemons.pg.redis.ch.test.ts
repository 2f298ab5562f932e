/** Two daemons, of two sources, that write the same tables of one target: the newest has a table, the first has a tenant, and the other says so. */
import { expect, test } from "vitest";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import type { SinkKind } from "../../support/daemon/sink-set.ts";
import { freshDatabase } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const COMMON = ["item", "more", "most"];
const TABLES = COMMON.map((name) => `create table ${name} (id int primary key, name text);`).join(" ");
const PREPARE = `${TABLES} create table own (id int primary key, name text); insert into own values (1, 'own');`;
const filled = (rows: string): string => COMMON.map((name) => `insert into ${name} ${rows};`).join(" ");
const FIRST = "select g, 'first' from generate_series(1, 50) g";
const NOTICED = { withinMs: 60_000, everyMs: 250 };

/** Both daemons write one catalogue in a file at every heartbeat, beside two maintenances. */
const TARGETS: readonly { readonly kinds: readonly SinkKind[] }[] = [
  { kinds: ["clickhouse", "postgres", "redis", "sqlite"] },
  { kinds: ["ducklake"] },
];

test.each(TARGETS)(
  "tables that a second daemon takes over are suspended in the first by number, and are taken back by reading them again: $kinds",
  { tags: "heavy" },
  async ({ kinds }) => {
    await using first = await RunningPipeline.start(`${PREPARE} ${filled(FIRST)}`, { kinds });
    await first.expectEqual([...COMMON, "own"]);
    const lastRead = await first.lastRead();
    const { folder } = first.installation;
    await using source = await freshDatabase();
    await source.query(`${TABLES} ${filled("values (1, 'second'), (99, 'second')")}`);
    await using installation = new Installation({
      name: source.name,
      source: { kind: "postgres", url: source.url, heartbeat: "500ms" },
      sinks: first.sharedSinks,
    });
    const second = installation.run();
    await second.streaming();
    await eventually(async () => {
      const { suspended } = (await first.installation.status()).tables;
      const owner = (message: string) => /belongs to (\S+) now/.exec(message)?.[1];
      expect(
        suspended.map(({ table, sink, error }) => `${table} ${sink} ${error.code} ${owner(error.message)}`).toSorted(),
      ).toEqual(COMMON.flatMap((name) => kinds.map((sink) => `public.${name} ${sink} MR3121 ${source.name}/${sink}`)));
    }, NOTICED);
    await first.run("update item set name = 'later'; update own set name = 'later'");
    await eventually(async () => {
      expect(await first.sinks.differences(first.source.url, folder, ["own"])).toEqual([]);
      expect(await first.sinks.differences(source.url, folder, COMMON)).toEqual([]);
    }, NOTICED);

    // Another shape at its source is no reason to take it back.
    await first.run("alter table item add column more int default 5");
    await eventually(async () => {
      const { stdout } = await first.installation.command("schema", "show", "public.item", "2");
      expect(stdout).toContain("more");
    }, NOTICED);
    expect(await first.installation.command("wait", "--timeout", "4s")).toMatchObject({
      exitCode: 5,
      stdout: expect.stringContaining("MR3121"),
    });
    expect((await installation.status()).tables.suspended).toEqual([]);
    await eventually(async () => expect(await first.sinks.differences(source.url, folder, COMMON)).toEqual([]));
    expect(await first.readers(lastRead)).toEqual({});

    await second.stop();
    const tables = COMMON.map((name) => `public.${name}`);
    expect(await first.installation.command("snapshot", "start", "--tables", ...tables)).toMatchObject({ exitCode: 0 });
    await first.expectEqual([...COMMON, "own"]);
    expect((await first.installation.status()).tables.suspended).toEqual([]);
  },
);

test("a first copy leaves no row of another daemon, and one that was down meanwhile reads the table again", async () => {
  await using first = await RunningPipeline.start(`${PREPARE} ${filled(FIRST)}`, { kinds: ["postgres", "redis"] });
  await first.settled();
  await first.run("update item set name = 'newer'");
  await first.expectEqual([...COMMON, "own"]);
  await first.daemon.stop();
  await using source = await freshDatabase();
  await source.query(`${TABLES} ${filled("values (1, 'second')")}`);
  await using installation = new Installation({
    name: source.name,
    source: { kind: "postgres", url: source.url },
    sinks: first.sharedSinks,
  });
  expect(await installation.command("run", "--once")).toMatchObject({ exitCode: 0 });
  expect(await first.sinks.differences(source.url, first.installation.folder, COMMON)).toEqual([]);
  await first.start();
  await first.expectEqual([...COMMON, "own"]);
});

const tenant = (name: string, note: string): string =>
  `create schema tenant_${name}; create table tenant_${name}.orders (id int primary key, note text);
   insert into tenant_${name}.orders values (1, '${note}'), (2, '${note}')`;
/** Those that say whose each tenant's rows are. */
const TENANT_KINDS: readonly SinkKind[] = ["clickhouse", "postgres", "sqlite"];

test("a tenant that two daemons have is the first one's, until an operator gives it to the second", async () => {
  const routed = (config: PipelineConfig): PipelineConfig => ({
    ...config,
    source: { ...config.source, tables: ["tenant_*.*"] },
    tables: { "tenant_*.orders": { into: "shared.orders", add: { tenant: "$1" } } },
  });
  await using first = await RunningPipeline.start(`${tenant("acme", "first")}; ${tenant("zed", "first")}`, {
    kinds: TENANT_KINDS,
    configure: routed,
  });
  await first.settled();
  const { folder } = first.installation;
  await using source = await freshDatabase();
  await source.query(`${tenant("acme", "second")}; ${tenant("own", "second")}; create schema shared;
    create table shared.orders (id int, note text, tenant text, primary key (tenant, id))`);
  await using installation = new Installation(
    routed({
      name: source.name,
      source: { kind: "postgres", url: source.url, heartbeat: "500ms" },
      sinks: first.sharedSinks,
    }),
  );
  const second = installation.run();
  await second.streaming();
  const suspended = async (of: Installation): Promise<readonly string[]> =>
    (await of.status()).tables.suspended
      .map(({ table, sink, error }) => `${table} ${sink} ${error.code} ${/belong to (\S+) /.exec(error.message)?.[1]}`)
      .toSorted();
  const takenBy = (owner: string) => TENANT_KINDS.map((sink) => `tenant_acme.orders ${sink} MR3121 ${owner}/${sink}`);
  const expectRows = async (acme: string): Promise<void> => {
    const rows = [
      ["acme", acme],
      ["own", "second"],
      ["zed", "first"],
    ].flatMap(([name, note]) => [1, 2].map((id) => `(${id}, '${note}', '${name}')`));
    await source.query(`truncate shared.orders; insert into shared.orders values ${rows.join(", ")}`);
    await eventually(async () => {
      const shared = [{ schema: "shared", table: "orders" }];
      expect(await first.sinks.differences(source.url, folder, shared)).toEqual([]);
    }, NOTICED);
  };
  await eventually(async () => expect(await suspended(installation)).toEqual(takenBy(first.source.name)), NOTICED);
  await source.query("update tenant_acme.orders set note = 'no'");
  await first.run("update tenant_acme.orders set note = 'later'");
  await expectRows("later");
  expect(await suspended(first.installation)).toEqual([]);

  const asked = await installation.command("snapshot", "start", "--tables", "tenant_acme.orders");
  expect(asked).toMatchObject({ exitCode: 0 });
  await eventually(async () => {
    await first.run("update tenant_acme.orders set note = 'late'");
    expect([await suspended(first.installation), await suspended(installation)]).toEqual([takenBy(source.name), []]);
  }, NOTICED);
  await expectRows("no");
  await first.daemon.stop();
  const torn = await first.installation.command("teardown", "--tables", "tenant_acme.*", "--yes");
  expect(torn.stdout).toContain(`they are those of ${source.name}/`);
  await first.start();
  await first.run("update tenant_zed.orders set note = 'first'");
  expect(await suspended(first.installation)).toEqual(takenBy(source.name));
  await expectRows("no");
  await second.stop();
});
