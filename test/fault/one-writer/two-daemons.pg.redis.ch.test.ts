/** Two daemons, of two sources, that write the same tables of one target: the newest has them, and the other says so. */
import { expect, test } from "vitest";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
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
