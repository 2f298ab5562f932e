/** Columns change hands, or come and go while no daemon runs: documents have the values of the column that has the name. */
import { DatabaseSync } from "node:sqlite";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { freePort } from "../../../scripts/services/processes/port.ts";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

function shown({ installation }: RunningPipeline): Record<"chosen" | "teams", Record<string, unknown>[]> {
  using file = new DatabaseSync(join(installation.folder, "replica.sqlite"), { readOnly: true });
  const all = (sql: string): Record<string, unknown>[] => file.prepare(sql).all();
  return {
    chosen: all('select id, name from "documents.chosen" order by id'),
    teams: all('select id, people from "documents.teams" order by id'),
  };
}

async function expectEqual(pipeline: RunningPipeline): Promise<void> {
  await pipeline.settled();
  const { rows } = await pipeline.source.query<Record<string, string>>(
    `select (select jsonb_agg(jsonb_build_object('id', id, 'name', name) order by id) from goods)::text as chosen,
       (select jsonb_agg(jsonb_build_object('id', id, 'people',
         (select jsonb_agg(to_jsonb(p) order by id) from people p where p.team_id = t.id)) order by id) from teams t)::text as teams`,
  );
  const { chosen, teams } = shown(pipeline);
  const plain = (rows: unknown): unknown => JSON.parse(JSON.stringify(rows));
  expect(plain(chosen)).toEqual(JSON.parse(rows[0]!["chosen"]!));
  const parsed = teams.map(({ id, people }) => ({ id, people: JSON.parse(String(people)) as unknown }));
  expect(plain(parsed)).toEqual(JSON.parse(rows[0]!["teams"]!));
}

async function started(change: object = {}): Promise<RunningPipeline> {
  return await RunningPipeline.start(
    `create table teams (id int primary key);
     create table people (id int primary key, team_id int references teams (id), name text, nick text);
     create table goods (id int primary key, name text, title text);
     insert into teams values (1), (2);
     insert into people select g, 1 + g % 2, 'name' || g, 'nick' || g from generate_series(1, 6) g;
     insert into goods select g, 'old' || g, 'new' || g from generate_series(1, 6) g`,
    {
      kinds: ["sqlite"],
      configure: (config) => ({
        ...config,
        ...change,
        documents: {
          chosen: { from: "public.goods", columns: ["name"] },
          teams: { from: "public.teams", with: { people: { from: "public.people", many: true } } },
        },
        sinks: { sqlite: { ...config.sinks["sqlite"], documents: ["chosen", "teams"] } },
      }),
    },
  );
}

test("a column gets the name of another one", { tags: "heavy" }, async () => {
  await using pipeline = await started();
  await expectEqual(pipeline);
  // Rows stay as they are, and the log has none of them but the last.
  await pipeline.run("alter table goods drop column name");
  await pipeline.run("insert into goods values (7, 'new7')");
  await eventually(() => expect(pipeline.daemon.said).toContain("the table need not be read"));
  await pipeline.run("alter table goods rename column title to name");
  await pipeline.run("insert into goods values (8, 'new8')");
  await eventually(() => expectEqual(pipeline));
});

test("an ordinary ALTER of a child table is no error and breaks no stream", async () => {
  await using pipeline = await started();
  await expectEqual(pipeline);
  for (const change of ["add column extra int default 3", "rename column extra to other", "drop column other"]) {
    await pipeline.run(`alter table people ${change}`);
    await pipeline.run("update people set name = name || '!' where id = 2");
    await eventually(() => expectEqual(pipeline));
  }
  const lines = pipeline.daemon.said.split("\n");
  const alarming = lines.filter((line) => /"level":"error"|suspended|stream from the source broke|MR1040/.test(line));
  expect(alarming).toEqual([]);
});

test("a request in flight while the daemon begins again is to be asked again, and `wait` does", async () => {
  const port = await freePort();
  await using pipeline = await started({ admin: { listen: `127.0.0.1:${port}` } });
  await pipeline.settled();
  const { installation } = pipeline;
  await installation.command("pause", "--sink", "sqlite");
  await pipeline.run("update people set name = 'later' where id = 2");
  const inFlight = ["fresh?timeout=90s", "fresh?sink=sqlite&timeout=90s"].map(async (path) => {
    const answer = await fetch(`http://127.0.0.1:${port}/api/v1/${path}`);
    return { status: answer.status, after: answer.headers.get("retry-after"), body: await answer.json() };
  });
  const waiting = installation.command("wait", "--timeout", "90s");
  // Answered after them.
  expect((await fetch(`http://127.0.0.1:${port}/api/v1/status`)).status).toBe(200);
  await pipeline.run("alter table people add column extra int default 3");
  await pipeline.run("update people set name = 'last' where id = 3");
  const toAskAgain = { error: { code: "MR1116", message: expect.any(String), hint: null } };
  for (const answer of await Promise.all(inFlight))
    expect(answer).toEqual({ status: 503, after: "1", body: toAskAgain });
  await eventually(async () => expect((await installation.command("resume", "--sink", "sqlite")).exitCode).toBe(0));
  expect(await waiting).toMatchObject({ exitCode: 0 });
  await expectEqual(pipeline);
});

test("documents follow while columns come all the time", { tags: "heavy" }, async () => {
  await using pipeline = await started();
  await expectEqual(pipeline);
  const over = new AbortController();
  const changing = (async () => {
    for (let i = 0; !over.signal.aborted; i++) {
      await pipeline.run(`alter table people add column extra${i} int default ${i}`);
      await pipeline.run(`update people set nick = '${i}' where id = 1`);
      await sleep(200);
    }
  })();
  try {
    for (const name of ["first", "second", "third"]) {
      await pipeline.run(`update people set name = '${name}' where id = 2`);
      await eventually(() => expect(JSON.stringify(shown(pipeline).teams)).toContain(name), { withinMs: 120_000 });
    }
  } finally {
    over.abort();
    await changing;
  }
  await eventually(() => expectEqual(pipeline));
});

test("columns come, go and change while no daemon runs", { tags: "heavy" }, async () => {
  await using pipeline = await started();
  await expectEqual(pipeline);
  for (const change of [
    "rename column nick to handle",
    "add column extra int default 3",
    "rename column extra to other",
    "alter column other type bigint",
    "drop column other",
  ]) {
    await pipeline.kill();
    // A row in the former shape goes before each change.
    await pipeline.run("update people set name = name || '.' where id = 1");
    await pipeline.run(`alter table people ${change}`);
    await pipeline.run("update people set name = name || '!' where id = 2");
    await pipeline.start();
    await eventually(() => expectEqual(pipeline));
  }
});

test(
  "a rule that masks a column by which tables join, and a collation that joins other rows, is refused at the start, also where documents were joined before",
  { tags: "heavy" },
  async () => {
    let config: PipelineConfig | null = null;
    await using pipeline = await RunningPipeline.start(
      `create table users (n int primary key, id text);
     create table orders (id int primary key, buyer text);
     insert into users values (1, 'ada'), (2, 'bob'); insert into orders values (1, 'ada'), (2, 'bob')`,
      {
        kinds: ["sqlite"],
        configure: (made) => {
          const joined = { user: { from: "public.users", on: { id: "buyer" } } };
          const sqlite = { ...made.sinks["sqlite"], documents: ["orders"] };
          config = { ...made, documents: { orders: { from: "public.orders", with: joined } }, sinks: { sqlite } };
          return config;
        },
      },
    );
    const { installation } = pipeline;
    await pipeline.settled();
    await pipeline.daemon.stop();
    const redacted = { columns: { buyer: { mask: "redact" } } };
    for (const tables of [
      { "public.orders": redacted },
      { "public.orders": redacted, "public.users": { columns: { id: { mask: "redact" } } } },
    ]) {
      installation.configure({ ...config!, tables });
      const { exitCode, stderr } = await installation.command("run", "--once");
      expect(stderr).toMatch(/MR1040[^]*can't be joined: a rule masks one of them/);
      expect(exitCode).toBe(2);
    }
    installation.configure(config!);
    expect(await installation.command("run", "--once")).toMatchObject({ exitCode: 0 });
    await pipeline.run("create collation loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false)");
    await pipeline.run("alter table orders alter column buyer type text collate loose");
    const { exitCode, stderr } = await installation.command("run", "--once");
    expect(stderr).toMatch(/MR1040[^]*the source takes texts for equal that are written otherwise/);
    expect(exitCode).toBe(2);
  },
);

test("what goes while a document has another definition goes from a sink that was away all the time", async () => {
  let config: PipelineConfig | null = null;
  await using pipeline = await RunningPipeline.start(
    "create table goods (id int primary key, name text); insert into goods select g, 'n' || g from generate_series(1, 6) g",
    {
      kinds: ["sqlite"],
      configure: (made) => {
        const sqlite = { ...made.sinks["sqlite"], documents: ["goods"] };
        const sinks = { sqlite, other: { ...sqlite, path: "other.sqlite" } };
        config = { ...made, documents: { goods: { from: "public.goods" } }, sinks };
        return config;
      },
    },
  );
  const { installation } = pipeline;
  const shownIn = (name: string): unknown => {
    using file = new DatabaseSync(join(installation.folder, name), { readOnly: true });
    return file.prepare('select id from "documents.goods" order by id').all();
  };
  await pipeline.settled();
  await installation.command("pause", "--sink", "sqlite");
  await pipeline.run("delete from goods where id = 1");
  await eventually(() => expect(shownIn("other.sqlite")).toHaveLength(5));
  for (const [columns, gone] of [
    [["id"], 2],
    [undefined, 3],
  ] as const) {
    await pipeline.daemon.stop();
    installation.configure({ ...config!, documents: { goods: { from: "public.goods", columns } } });
    await pipeline.start(false);
    await pipeline.run(`delete from goods where id = ${gone}`);
    await eventually(() => expect(shownIn("other.sqlite")).toHaveLength(6 - gone));
  }
  await installation.command("resume", "--sink", "sqlite");
  await pipeline.settled();
  expect(shownIn("replica.sqlite")).toEqual(shownIn("other.sqlite"));
});
