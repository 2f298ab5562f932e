/** `millrace snapshot`: tables, or parts of them, read again beside the stream, as operators ask for it. */
import { expect, test } from "vitest";
import type { SnapshotStatus } from "../../../src/core/contracts/status.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import type { SinkKind } from "../../support/daemon/sink-set.ts";
import { eventually } from "../../support/run/waiting.ts";

const KINDS: readonly SinkKind[] = ["postgres", "duckdb"];
const TABLES = ["many", "few"];
const PREPARE = `create table many (id int primary key, body text);
  create table few (id int primary key, body text);
  insert into many select g, 'm' || g from generate_series(1, 1000) g;
  insert into few select g, 'f' || g from generate_series(1, 50) g`;
/** So that 1,000 rows take some five seconds, and a dozen chunks. */
const SLOWLY = "pg_sleep(0.005) is not null";

async function filled(): Promise<RunningPipeline> {
  const pipeline = await RunningPipeline.start(PREPARE, { kinds: KINDS });
  await pipeline.settled();
  return pipeline;
}

async function command({ installation }: RunningPipeline, ...args: readonly string[]) {
  return await installation.command("snapshot", ...args);
}

async function start(pipeline: RunningPipeline, ...args: readonly string[]): Promise<void> {
  expect(await command(pipeline, "start", ...args)).toMatchObject({ exitCode: 0 });
}

async function list(pipeline: RunningPipeline): Promise<readonly SnapshotStatus[]> {
  const { stdout } = await command(pipeline, "list", "--json");
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the program's own output
  return (JSON.parse(stdout) as { snapshots: readonly SnapshotStatus[] }).snapshots;
}

/** Those that the operator asked for. */
async function asked(pipeline: RunningPipeline): Promise<readonly SnapshotStatus[]> {
  return (await list(pipeline)).filter(({ reason }) => reason === "asked for by an operator");
}

/** The chunk with the first keys is in the sinks; others are to come. */
async function under(pipeline: RunningPipeline): Promise<SnapshotStatus> {
  return await eventually(
    async () => {
      const { snapshots } = await pipeline.installation.status();
      const running = snapshots.find(({ rowsDone }) => rowsDone > 0);
      if (running === undefined) throw new Error("nothing is being read");
      return running;
    },
    { everyMs: 20 },
  );
}

/** The bodies of these rows in the Postgres sink; null: no such row. */
async function held({ sinks }: RunningPipeline, ...ids: readonly number[]): Promise<readonly (string | null)[]> {
  const { rows } = await sinks.target!.query<{ body: string | null }>(
    "select body from unnest($1::int[]) with ordinality as w(id, n) left join public.many using (id) order by n",
    [ids],
  );
  return rows.map(({ body }) => body);
}

/** Changes behind everybody's back: rows that are wrong, missing and too many, with even and odd keys. */
async function damage({ sinks }: RunningPipeline): Promise<void> {
  await sinks.target!.query(`update public.many set body = 'wrong' where id in (10, 11);
    delete from public.many where id in (20, 21);
    insert into public.many (id, body, _millrace_version, _millrace_commit_time)
      select x, 'stray', _millrace_version, _millrace_commit_time from public.many, unnest(array[-2, -1]) x where id = 1`);
}

test("a part is read again, nothing else is touched, and nothing is swept", async () => {
  await using pipeline = await filled();
  await damage(pipeline);
  await start(pipeline, "--tables", "public.many", "--where", "id % 2 = 0");
  await pipeline.settled();
  expect(await held(pipeline, 10, 11, 20, 21, -2, -1)).toEqual(["m10", "wrong", "m20", null, "stray", "stray"]);
  expect(await asked(pipeline)).toMatchObject([
    { tableId: "public.many", scope: { kind: "where", where: "id % 2 = 0" }, state: "done", rowsDone: 500 },
    { tableId: "public.many", scope: { kind: "where" }, state: "done", rowsDone: 500 },
  ]);
  await start(pipeline, "--tables", "public.many");
  await pipeline.expectEqual(TABLES);
});

test("tables and a sink that are named are read, and no others; unknown ones are refused", async () => {
  await using pipeline = await filled();
  await start(pipeline, "--tables", "public.f*", "--sink", "duckdb");
  await start(pipeline, "--tables", "public.*", "!public.few", "--sink", "postgres");
  await pipeline.settled();
  const done = (await asked(pipeline)).map(({ sink, tableId, state }) => ({ sink, tableId, state }));
  expect(done).toEqual([
    { sink: "duckdb", tableId: "public.few", state: "done" },
    { sink: "postgres", tableId: "public.many", state: "done" },
  ]);
  expect(await command(pipeline, "start", "--sink", "nobody")).toMatchObject({ exitCode: 2 });
  expect(await command(pipeline, "start", "--tables", "public.nothing")).toMatchObject({ exitCode: 2 });
});

test("a condition that the source does not take is refused, with the daemon and without, and nobody waits for it", async () => {
  await using pipeline = await filled();
  const expectRefused = async (where: string) => {
    const refused = await command(pipeline, "start", "--tables", "public.many", "--where", where);
    expect(refused).toMatchObject({ exitCode: 1, stderr: expect.stringMatching(/MR1323: --where .* public\.many: /) });
  };
  for (const where of ["nosuch = 1", "id > (select 1; drop table many)", "$1 = 2", ""]) await expectRefused(where);
  expect(await asked(pipeline)).toEqual([]);
  await pipeline.settled(3_000);
  await pipeline.daemon.stop();
  await expectRefused("nosuch = 1");
  expect(await asked(pipeline)).toEqual([]);
});

test("a condition that fails on a row ends its read with the reason, and nobody waits for it", async () => {
  await using pipeline = await filled();
  await start(pipeline, "--tables", "public.many", "--sink", "postgres", "--where", "1 / (id - 700) >= 0");
  await pipeline.settled();
  const ended = (await list(pipeline)).filter(({ state }) => state === "cancelled");
  expect(ended).toMatchObject([{ reason: expect.stringMatching(/^MR1323 .* public\.many: .*22012/) }]);
  expect(pipeline.daemon.said).toContain("MR1323");
  await pipeline.expectEqual(TABLES);
});

test(
  "a condition is one condition: what would end the transaction and go on in another is refused, and changes nothing",
  { tags: "heavy" },
  async () => {
    await using pipeline = await filled();
    const escape = "true)); COMMIT; BEGIN READ WRITE; DROP TABLE public.few; COMMIT; SELECT ((1 = 1";
    const refused = await command(pipeline, "start", "--tables", "public.many", "--where", escape);
    expect(refused).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("MR1323") });
    const { rows } = await pipeline.source.query("select count(*)::int as count from public.few");
    expect(rows).toEqual([{ count: 50 }]);
    expect(await asked(pipeline)).toEqual([]);
  },
);

test(
  "cancelled in the middle it ends, what was read stays, and nobody waits for the rest",
  { tags: "heavy" },
  async () => {
    await using pipeline = await filled();
    await start(pipeline, "--tables", "public.many", "--sink", "postgres", "--where", SLOWLY);
    const { id } = await under(pipeline);
    expect(await command(pipeline, "cancel", String(id))).toMatchObject({ exitCode: 0 });
    await pipeline.settled(3_000);
    const [cancelled] = await asked(pipeline);
    expect(cancelled).toMatchObject({ id, state: "cancelled" });
    expect(cancelled?.rowsDone).toBeLessThan(1_000);
    expect(await command(pipeline, "cancel", String(id))).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining("MR1114"),
    });
    await pipeline.run("update many set body = 'later' where id % 3 = 0");
    await pipeline.expectEqual(TABLES);
  },
);

test("for a paused sink it waits, and is read when the sink is resumed", { tags: "heavy" }, async () => {
  await using pipeline = await filled();
  expect(await pipeline.installation.command("pause", "--sink", "postgres")).toMatchObject({ exitCode: 0 });
  await damage(pipeline);
  await start(pipeline, "--tables", "public.many");
  await eventually(async () => {
    const states = new Map((await asked(pipeline)).map(({ sink, state }) => [sink, state]));
    expect(states).toEqual(
      new Map([
        ["duckdb", "done"],
        ["postgres", "waiting"],
      ]),
    );
  });
  await pipeline.daemon.stop();
  await pipeline.start(false);
  expect(await pipeline.installation.command("resume", "--sink", "postgres")).toMatchObject({ exitCode: 0 });
  await pipeline.daemon.streaming();
  await pipeline.expectEqual(TABLES);
});

test(
  "a part that was interrupted by a kill goes on as that part; asked for without a daemon it is read by the next",
  { tags: "long" },
  async () => {
    await using pipeline = await filled();
    await damage(pipeline);
    await start(pipeline, "--tables", "public.many", "--sink", "postgres", "--where", `${SLOWLY} and id % 2 = 0`);
    await eventually(async () => {
      // Stored, so that the next daemon knows.
      await pipeline.installation.status();
      expect((await under(pipeline)).chunksDone).toBeGreaterThan(3);
    });
    await pipeline.kill();
    const stopped = await asked(pipeline);
    expect(stopped).toMatchObject([{ state: "running" }]);
    expect(stopped[0]?.rowsDone).toBeGreaterThan(0);
    await start(pipeline, "--tables", "public.few", "--sink", "duckdb");
    await pipeline.start();
    await pipeline.settled();
    expect(await held(pipeline, 10, 11, 20, 21, -2, -1)).toEqual(["m10", "wrong", "m20", null, "stray", "stray"]);
    expect(await asked(pipeline)).toMatchObject([
      { tableId: "public.many", state: "done", rowsDone: 500, resumedCount: 1, restartedCount: 0 },
      { tableId: "public.few", sink: "duckdb", state: "done", rowsDone: 50 },
    ]);
  },
);
