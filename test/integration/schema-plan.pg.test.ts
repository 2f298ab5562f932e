/** What a migration does to each sink, said before it runs; nothing of it stays. No sink is asked. */
import { writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { stringify } from "yaml";
import { runCli } from "../support/daemon/cli.ts";
import { freshDatabase } from "../support/run/services.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const TABLES = ["added", "filled", "typed", "renamed", "dropped", "slim", "keyless", "waits", "gone", "still", "fixed"];

const MIGRATION = `
  BEGIN;
  alter table added add column note text;
  alter table filled add column note text default 'x';
  alter table typed alter column v type bigint;
  alter table renamed rename column v to w;
  alter table dropped drop column v;
  alter table slim drop column v;
  alter table keyless drop constraint keyless_pkey;
  alter table waits add column v2 int;
  alter table fixed drop column v;
  drop table gone;
  create table fresh (id int primary key);
  create index concurrently on still (v);
  COMMIT;`;

const outcomesOf = (stdout: string) => {
  const {
    breaks,
    outlooks,
  }: { breaks: boolean; outlooks: readonly { table: string; sink: string; outcome: string }[] } = JSON.parse(stdout);
  const by = Map.groupBy(outlooks, ({ table }) => table.replace("public.", ""));
  const found: Record<string, Record<string, string>> = {};
  for (const [table, all] of by) found[table] = Object.fromEntries(all.map(({ sink, outcome }) => [sink, outcome]));
  return { breaks, found };
};

const all = (outcome: string, others: object = {}) => ({
  warehouse: outcome,
  kept: outcome,
  search: outcome,
  cache: outcome,
  ...others,
});

test("plan tries a migration and takes it back; check compares with shapes from before", async () => {
  await using database = await freshDatabase();
  using folder = temporaryFolder();
  const config = {
    name: database.name,
    source: { kind: "postgres", url: database.url },
    sinks: {
      warehouse: { kind: "duckdb", path: "./w.duckdb" },
      kept: { kind: "duckdb", path: "./h.duckdb", mode: "history" },
      search: { kind: "elasticsearch", url: "http://127.0.0.1:1" },
      cache: { kind: "redis", url: "redis://127.0.0.1:1" },
      stream: { kind: "kafka", brokers: ["127.0.0.1:1"], tables: ["public.added", "public.typed"] },
    },
    tables: {
      "public.slim": { droppedColumns: "drop" },
      "public.waits": { schemaChange: "pause" },
      "public.fixed": { schemaChange: "ignore" },
    },
  };
  writeFileSync(folder.file("millrace.yaml"), stringify(config), { mode: 0o600 });
  for (const table of TABLES)
    await database.query(`create table ${table} (id int primary key, v int); insert into ${table} values (1, 1)`);
  await database.query("analyze typed");
  await database.query(`create publication millrace_${database.name} for table ${TABLES.join(", ")}`);
  const run = (...args: readonly string[]) => runCli(["schema", ...args, "--json"], { folder: folder.path });
  writeFileSync(folder.file("m.sql"), MIGRATION);

  const exported = await run("export", "before.json");
  expect(exported.exitCode, exported.stdout).toBe(0);
  const planned = await run("plan", "m.sql");
  expect(planned.exitCode, planned.stdout).toBe(3);
  const expected = {
    added: all("follow", { stream: "follow" }),
    filled: all("resync"),
    typed: all("resync", { stream: "follow" }),
    renamed: all("follow", { search: "resync", cache: "resync" }),
    dropped: all("resync", { kept: "follow" }),
    slim: all("follow", { search: "resync", cache: "resync" }),
    keyless: all("suspend"),
    waits: all("suspend"),
    gone: all("leave"),
    fresh: all("copy"),
  };
  expect(outcomesOf(planned.stdout)).toEqual({ breaks: true, found: expected });
  expect(planned.stdout).toMatch(/"table": "public\.typed",\s+"sink": "warehouse"[^}]*"rows": 1,/);
  const { rows } = await database.query(
    "select to_regclass('fresh') as fresh, (select count(*)::int from pg_attribute where attname in ('note', 'v2', 'w')) as columns",
  );
  expect(rows).toEqual([{ fresh: null, columns: 0 }]);

  writeFileSync(folder.file("m.sql"), "alter table added add column n int; COMMIT AND CHAIN; select 'canary'::int");
  const refused = await run("plan", "m.sql");
  expect(refused).toMatchObject({ exitCode: 1, stdout: expect.stringMatching(/MR1141/) });
  expect(refused.stdout).not.toContain("canary");
  const { rowCount } = await database.query("select from pg_attribute where attname = 'n'");
  expect(rowCount).toBe(0);

  await database.query(
    "alter table added add column note text; alter table typed alter column v type bigint; drop table gone",
  );
  const checked = await run("check", "--against", "before.json");
  expect(checked.exitCode, checked.stdout).toBe(0);
  expect(outcomesOf(checked.stdout).found).toEqual({
    added: all("follow", { stream: "follow" }),
    typed: all("resync", { stream: "follow" }),
    gone: all("leave"),
  });
  const same = await run("check", "--against", database.url);
  expect(outcomesOf(same.stdout)).toEqual({ breaks: false, found: {} });
});
