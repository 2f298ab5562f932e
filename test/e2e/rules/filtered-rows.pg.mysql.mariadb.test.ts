/**
 * Rows that a filter leaves out: nothing is told of them, whatever becomes of them. Their values and keys are in no history,
 * in no file, and not in `tail`; changes of the other rows are.
 */
import { join } from "node:path";
import { expect, test } from "vitest";
import { filesBelow } from "../../support/daemon/canary.ts";
import type { Installation } from "../../support/daemon/daemon-process.ts";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { mysqlFlavours } from "../../support/run/services.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";
import { copyDuckdbFile, rowsInFile } from "../../support/warehouses/duckdb-file.ts";

/** In every key and value of a row that never matches, and in no other. */
const CANARY = "Kanarienvogel";
const RULE = { where: "country = 'AT'", columns: { note: { mask: "redact" } } };

const ROWS = `('a1', 'AT', 'n', 0), ('a2', 'AT', 'n', 0), ('a3', 'AT', 'n', 0), ('a4', 'AT', 'n', 0),
  ('d1-${CANARY}', 'DE', '${CANARY}', 1), ('d2-${CANARY}', 'DE', '${CANARY}', 2), ('d3-${CANARY}', null, '${CANARY}', 3), ('e1', 'DE', '${CANARY}', 4)`;

/** Of `person`: of rows that never match, of some that come to match or no longer do, and of those that always did. */
const CHANGES = [
  `update person set note = 'x${CANARY}', n = 10 where code like 'd%'`,
  `update person set code = concat('d9-', '${CANARY}') where code = 'd1-${CANARY}'`,
  `insert into person values ('d4-${CANARY}', 'DE', '${CANARY}', 5)`,
  "delete from person where code like 'd%'",
  "update person set country = 'AT' where code = 'e1'",
  "update person set country = 'DE', n = 20 where code = 'a1'",
  `update person set n = 21, note = '${CANARY}' where code = 'a1'`,
  "delete from person where code in ('a1', 'a2')",
  "update person set n = 30 where code = 'a3'",
  "update person set code = 'a5' where code = 'a4'",
];

const withNdjson = (sinks: Readonly<Record<string, object>>) => ({
  ...sinks,
  files: { ...sinks["files"], format: "ndjson" },
});

/** Where hidden values turn up: in all that the daemon writes, without its own state. */
function leaks({ folder }: Installation, said: string): string[] {
  const places: [string, string][] = [...filesBelow(folder, ["millrace.yaml"]), ["log", said]];
  return places.filter(([name, text]) => !/^[a-z0-9_]+\.db/.test(name) && text.includes(CANARY)).map(([name]) => name);
}

/** Of each key its operations, in their order. */
async function historyOf({ folder }: Installation): Promise<Readonly<Record<string, string>>> {
  using copies = temporaryFolder();
  copyDuckdbFile(join(folder, "history.duckdb"), copies.file("copy.duckdb"));
  const [, rows] = (await rowsInFile(copies.file("copy.duckdb"))).find(([name]) => name.endsWith('."person"'))!;
  const found = rows.split("\n").map((row) => ({
    key: /'code': ([^,}]*)/.exec(row)![1]!,
    op: /'_millrace_op': (\w)/.exec(row)![1]!,
    at: [/'_millrace_version': (\d+)/, /'_millrace_offset': (\d+)/].map((part) => BigInt(part.exec(row)![1]!)),
  }));
  found.sort((a, b) => Number(a.at[0]! - b.at[0]! || a.at[1]! - b.at[1]!));
  const byKey = Map.groupBy(found, ({ key }) => key);
  return Object.fromEntries([...byKey].map(([key, changes]) => [key, changes.map(({ op }) => op).join("")]));
}

/** The same of the files. */
function filesOf({ folder }: Installation): Readonly<Record<string, string>> {
  const texts = filesBelow(folder).filter(([name]) => name.endsWith(".ndjson"));
  const lines = texts.flatMap(([, text]) => text.split("\n").filter((line) => line.includes('"_millrace_op"')));
  const rows = lines
    .map((line): { code?: string; _millrace_op: string; _millrace_sequence: number } => JSON.parse(line))
    .filter(({ code }) => code !== undefined)
    .toSorted((a, b) => a._millrace_sequence - b._millrace_sequence);
  const byKey = Map.groupBy(rows, ({ code }) => code);
  return Object.fromEntries([...byKey].map(([key, all]) => [key, all.map((row) => row._millrace_op).join("")]));
}

const WHOLE = { a1: "rd", a2: "rd", a3: "ru", a4: "rd", a5: "u", e1: "u" };

async function startPostgres(identity: string): Promise<RunningPipeline> {
  return await RunningPipeline.start(
    `create table person (code text primary key, country text, note text, n int);
     alter table person replica identity ${identity}; insert into person values ${ROWS}`,
    {
      kinds: ["duckdb", "duckdb-history", "files"],
      configure: (config: PipelineConfig) => ({
        ...config,
        sinks: withNdjson(config.sinks),
        tables: { "public.person": RULE },
      }),
    },
  );
}

/** Makes the changes; returns what `tail` shows of them, so many lines. */
async function tailed(pipeline: RunningPipeline, lineCount: number): Promise<string> {
  const { installation, source } = pipeline;
  const { rows } = await source.query<{ lsn: string }>("select pg_current_wal_lsn()::text as lsn");
  // What one sink lacks can be read again.
  await installation.ask("POST", "/api/v1/pause", { sink: "duckdb" });
  for (const sql of CHANGES) await pipeline.run(sql);
  await pipeline.run("insert into person values ('z9', 'AT', 'last', 0)");
  const { stdout, stderr } = await installation.command("tail", "--from", rows[0]!.lsn, "--limit", String(lineCount));
  expect({ stdout, stderr }).toMatchObject({ stdout: expect.stringContaining("z9") });
  await installation.ask("POST", "/api/v1/resume", { sink: "duckdb" });
  await pipeline.settled();
  return stdout;
}

test("Postgres, with whole old rows", async () => {
  await using pipeline = await startPostgres("full");
  const stdout = await tailed(pipeline, 6);
  const { installation, daemon } = pipeline;
  expect(stdout).toContain('"op":"d"');
  expect(stdout).not.toContain(CANARY);
  // Then the files are whole.
  await daemon.stop();
  expect(await historyOf(installation)).toEqual({ ...WHOLE, z9: "c" });
  expect(filesOf(installation)).toEqual({ ...WHOLE, z9: "c" });
  expect(leaks(installation, daemon.said)).toEqual([]);
});

test("Postgres, where old rows are keys alone", async () => {
  await using pipeline = await startPostgres("default");
  const stdout = await tailed(pipeline, 4);
  const { installation, daemon } = pipeline;
  expect(stdout).not.toContain(CANARY);
  const checked = await installation.command("check", "--json");
  expect(checked.stdout).toContain("may not be told to files: the log has only the key of an old row");
  expect(checked.stdout).toContain("REPLICA IDENTITY FULL");
  await daemon.stop();
  expect(await historyOf(installation)).toEqual({ ...WHOLE, z9: "c" });
  expect(filesOf(installation)).toEqual({ ...WHOLE, z9: "c" });
  // After a restart nobody knows which rows were let through: a history is asked for the keys that it has, and files can't be.
  pipeline.daemon = installation.run();
  await pipeline.daemon.streaming();
  await pipeline.run(`insert into person values ('d5-${CANARY}', 'DE', '${CANARY}', 5)`);
  await pipeline.run("delete from person where code in ('a3', 'a5') or code like 'd%'");
  await pipeline.run("update person set country = 'DE' where code = 'e1'");
  await pipeline.settled();
  await pipeline.daemon.stop();
  expect(await historyOf(installation)).toEqual({ ...WHOLE, a3: "rud", a5: "ud", e1: "ud", z9: "c" });
  expect(filesOf(installation)).toEqual({ ...WHOLE, z9: "c" });
  expect(leaks(installation, daemon.said + pipeline.daemon.said)).toEqual([]);
});

test(
  "Postgres, while one partition after another gets whole old rows, behind its table",
  { tags: "heavy" },
  async () => {
    await using pipeline = await RunningPipeline.start(
      `create table person (id int primary key, country text) partition by range (id);
     create table person_a partition of person for values from (0) to (10);
     create table person_b partition of person for values from (10) to (20);
     insert into person values (1, 'AT'), (2, 'AT'), (11, 'AT'), (12, 'AT'), (13, 'AT'), (14, 'AT'), (15, 'DE')`,
      {
        kinds: ["postgres"],
        configure: (config: PipelineConfig) => ({
          ...config,
          tables: { "public.person": { where: "country = 'AT'" } },
        }),
      },
    );
    await pipeline.settled();
    await pipeline.daemon.stop();
    await pipeline.run("alter table person replica identity full; alter table person_a replica identity full");
    await pipeline.run("delete from person where id in (1, 11, 15); update person set country = 'DE' where id = 12");
    await pipeline.run("update person set id = 16 where id = 13");
    await pipeline.run("alter table person_b replica identity full");
    await pipeline.run("update person set country = 'DE' where id = 14");
    await pipeline.start();
    await pipeline.settled();
    const { rows } = await pipeline.sinks.target!.query<{ id: number }>("select id from public.person order by id");
    expect(rows.map(({ id }) => id)).toEqual([2, 16]);
  },
);

test.each(mysqlFlavours)("%s", async (flavour) => {
  await using pipeline = await MysqlPipeline.start(
    flavour,
    [
      "create table person (code varchar(60) primary key, country varchar(2), note varchar(60), n int)",
      `insert into person values ${ROWS}`,
    ],
    { kinds: ["duckdb-history", "files"], sinks: withNdjson, rules: { person: RULE } },
  );
  const { installation, daemon } = pipeline;
  await pipeline.settled();
  const { position } = (await installation.status()).source;
  await pipeline.run(...CHANGES, "insert into person values ('z9', 'AT', 'last', 0)");
  const tail = await installation.command("tail", "--from", position!, "--limit", "6");
  expect(tail).toMatchObject({ stdout: expect.stringContaining("z9") });
  expect(tail.stdout).toContain('"op":"d"');
  expect(tail.stdout + tail.stderr).not.toContain(CANARY);
  await pipeline.settled();
  await daemon.stop();
  expect(await historyOf(installation)).toEqual({ ...WHOLE, z9: "c" });
  expect(filesOf(installation)).toEqual({ ...WHOLE, z9: "c" });
  expect(leaks(installation, daemon.said)).toEqual([]);
});
