/**
 * Other rules after a kill in the middle of a first copy, of a table that is read again, or of a repair: the targets show what
 * the present rules let through, rows marked as deleted too.
 * @module-tag heavy
 */
import { cpSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { CANARY, SHOWN } from "../../support/daemon/canary.ts";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

const KINDS = ["postgres", "postgres-soft", "duckdb", "duckdb-soft", "redis"] as const;

const PREPARE = `
  create table users (id int primary key, mail text, word text, note text, country text);
  insert into users select g, '${CANARY}' || g, '${CANARY}', '${SHOWN}', case when g % 3 = 0 then 'DE' else 'AT' end
    from generate_series(1, 2500) g;
  create table other (id int primary key, mail text);
  insert into other select g, '${CANARY}' || g from generate_series(1, 900) g;
  create view users_ruled as select id, '[redacted]'::text as mail, note, country from users where country = 'AT';
  create view other_ruled as select id, null::text as mail from other`;
const LESS = { "public.users": { columns: { mail: { mask: "partial" } } } };
const RULES = {
  "public.users": { columns: { mail: { mask: "redact" }, word: { drop: true } }, where: "country = 'AT'" },
  "public.other": { columns: { mail: { mask: "null" } } },
};
const TABLES = ["users", "other"].map((table) => ({ schema: "public", table, key: ["id"], shownBy: `${table}_ruled` }));

const readAll = (pipeline: RunningPipeline) => pipeline.readAgain("public.users", "public.other");

async function repair({ sinks, installation }: RunningPipeline): Promise<void> {
  await sinks.target!.query("update public.users set note = 'another' where id % 50 = 0; delete from public.other");
  await installation.command("reconcile", "--repair");
}

interface Way {
  readonly before: object;
  readonly failpoint: string;
  /** Null: the start does. */
  readonly provoke: ((pipeline: RunningPipeline) => Promise<unknown>) | null;
}

const WAYS: readonly (readonly [string, Way])[] = [
  ["a first copy", { before: {}, failpoint: "copy.table-complete=kill", provoke: null }],
  ["a table that is read again", { before: {}, failpoint: "snapshot.chunk-durable=kill@2", provoke: readAll }],
  ["its end", { before: LESS, failpoint: "snapshot.swept=kill", provoke: readAll }],
  ["a repair", { before: LESS, failpoint: "snapshot.keys-durable=kill", provoke: repair }],
];

async function leaks({ sinks, installation }: RunningPipeline): Promise<readonly string[]> {
  const texts: [string, string][] = [];
  for (const table of ["users", "other"]) {
    const { rows } = await sinks.target!.query(`select t::text from soft.${table} t`);
    texts.push([`postgres ${table}`, JSON.stringify(rows)]);
    const asked = ["query", `select * from public.${table}`, "--sink", "duckdb-soft", "--json"];
    texts.push([`duckdb ${table}`, (await installation.command(...asked)).stdout]);
  }
  expect(texts.filter(([, text]) => text.includes(SHOWN)).map(([name]) => name)).toEqual([
    "postgres users",
    "duckdb users",
  ]);
  return texts.flatMap(([name, text]) => (text.includes(CANARY) ? [name] : []));
}

async function started(tables: object, environment: Readonly<Record<string, string>>, untilStreaming: boolean) {
  let config: PipelineConfig | null = null;
  const pipeline = await RunningPipeline.start(PREPARE, {
    kinds: KINDS,
    untilStreaming,
    environment,
    configure: (made) => (config = { ...made, tables }),
  });
  const under = async (others: object): Promise<void> => {
    pipeline.installation.configure({ ...config!, tables: others });
  };
  return { pipeline, under };
}

test.each(WAYS)("%s", async (_what, { before, failpoint, provoke }) => {
  const { pipeline, under } = await started(before, { MILLRACE_FAILPOINTS: failpoint }, provoke !== null);
  await using _ = pipeline;
  if (provoke !== null) {
    await pipeline.settled();
    await pipeline.run("delete from users where id in (7, 8, 9); delete from other where id = 7");
    // The daemon may end before it answers.
    await Promise.allSettled([provoke(pipeline)]);
  }
  await pipeline.killed(failpoint);
  await pipeline.run(`insert into users values (5000, '${CANARY}', '${CANARY}', 'n', 'AT'); update users set note = 'm' where id = 50;
    delete from users where id in (10, 11); delete from other where id = 11`);
  await under(RULES);
  await pipeline.start();
  await pipeline.expectEqual(TABLES);
  expect(await leaks(pipeline)).toEqual([]);
});

test("rules that were taken back for a moment", async () => {
  const { pipeline, under } = await started(RULES, {}, true);
  await using _ = pipeline;
  await pipeline.settled();
  await pipeline.daemon.kill();
  await under({});
  pipeline.daemon = pipeline.installation.run({ MILLRACE_FAILPOINTS: "snapshot.swept=kill" });
  await eventually(() => expect(pipeline.daemon.said).toContain("millrace is running"));
  for (let id = 100; id < 160 && !pipeline.daemon.exited; id++)
    await pipeline.run(`update users set note = 'm' where id = ${id}; delete from users where id = ${id}`);
  await pipeline.killed("snapshot.swept=kill");
  await under(RULES);
  await pipeline.start();
  await pipeline.expectEqual(TABLES);
  expect(await leaks(pipeline)).toEqual([]);
});

test("a state from before rules were taken back for a while", async () => {
  const { pipeline, under } = await started(RULES, {}, true);
  await using _ = pipeline;
  await pipeline.settled();
  await pipeline.daemon.stop();
  const { folder } = pipeline.installation;
  cpSync(join(folder, ".millrace"), join(folder, "kept"), { recursive: true });
  await under({});
  await pipeline.start();
  await pipeline.run("update users set note = 'm' where id < 20; update other set mail = mail || '!' where id < 20");
  await pipeline.settled();
  await pipeline.run("delete from users where id < 10; delete from other where id < 10");
  await pipeline.settled();
  await pipeline.daemon.stop();
  rmSync(join(folder, ".millrace"), { recursive: true });
  renameSync(join(folder, "kept"), join(folder, ".millrace"));
  await under(RULES);
  await pipeline.start();
  await pipeline.expectEqual(TABLES);
  expect(await leaks(pipeline)).toEqual([]);
});

test("a target from before the rules", async () => {
  const { pipeline, under } = await started({}, {}, true);
  await using _ = pipeline;
  const { folder } = pipeline.installation;
  const files = ["warehouse.duckdb", "soft.duckdb"].map((name) => join(folder, name));
  await pipeline.settled();
  await pipeline.run("delete from users where id < 10; delete from other where id < 10");
  await pipeline.settled();
  await pipeline.daemon.stop();
  for (const file of files) cpSync(file, `${file}.kept`);
  await under(RULES);
  await pipeline.start();
  await pipeline.run("update users set note = 'm' where id < 20; delete from other where id = 20");
  await pipeline.expectEqual(TABLES);
  await pipeline.daemon.stop();
  for (const file of files) {
    rmSync(`${file}.wal`, { force: true });
    renameSync(`${file}.kept`, file);
  }
  await pipeline.start(false);
  for (const sink of ["duckdb", "duckdb-soft"]) {
    await eventually(async () => {
      const { sinks } = await pipeline.installation.status();
      expect(sinks.find(({ name }) => name === sink)?.state).toBe("failed");
    });
    await pipeline.installation.command("snapshot", "start", "--sink", sink);
  }
  await pipeline.daemon.streaming();
  await pipeline.expectEqual(TABLES);
  expect(await leaks(pipeline)).toEqual([]);
});
