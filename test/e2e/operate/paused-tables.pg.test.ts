/**
 * A table that an operator pauses is skipped while all others flow, over restarts, and is whole again when it goes on.
 */
import { expect, test } from "vitest";
import type { StatusDocument } from "../../../src/core/contracts/status.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

const PREPARE = `create table busy (id int primary key, n int not null);
  create table calm (id int primary key, n int not null);
  insert into busy select g, 0 from generate_series(1, 300) g;
  insert into calm select g, 0 from generate_series(1, 300) g`;
const TABLES = ["busy", "calm"];

async function changed(pipeline: RunningPipeline, n: number): Promise<void> {
  await pipeline.run(`update busy set n = ${n}; update calm set n = ${n}; delete from busy where id = ${n};
    insert into busy values (${1_000 + n}, ${n})`);
}

async function statusOf(pipeline: RunningPipeline): Promise<StatusDocument> {
  const { stdout } = await pipeline.installation.command("status", "--json");
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what the command prints
  return JSON.parse(stdout) as StatusDocument;
}

async function flows(pipeline: RunningPipeline, table: string, n: number): Promise<void> {
  await eventually(async () => {
    const { rows } = await pipeline.sinks.target!.query<{ n: number }>(`select min(n) as n from public.${table}`);
    expect(rows[0]?.n).toBe(n);
  });
}

test("one sink and all, with a running daemon and without: the others flow, and nothing is lost", async () => {
  await using pipeline = await RunningPipeline.start(PREPARE, { kinds: ["postgres", "duckdb"] });
  const { installation } = pipeline;
  await pipeline.settled();
  expect(await installation.command("pause", "--tables", "public.busy", "--sink", "postgres")).toMatchObject({
    exitCode: 0,
    stdout: "paused: public.busy\n",
  });
  await changed(pipeline, 1);
  await flows(pipeline, "calm", 1);
  await flows(pipeline, "busy", 0);
  // Nobody has to be woken for what somebody wanted.
  expect(await installation.command("status", "--exit-code")).toMatchObject({ exitCode: 0 });
  const { conditions, tables } = await statusOf(pipeline);
  expect(conditions).toMatchObject([{ kind: "table.paused", level: "watch", sink: "postgres", code: "MR1326" }]);
  expect(tables.suspended).toMatchObject([{ table: "public.busy", sink: "postgres", error: { code: "MR1326" } }]);

  await pipeline.kill();
  await changed(pipeline, 2);
  await pipeline.start();
  await flows(pipeline, "calm", 2);
  await flows(pipeline, "busy", 0);
  expect(await installation.command("resume", "--tables", "public.b*")).toMatchObject({ exitCode: 0 });
  await pipeline.settled();
  await flows(pipeline, "busy", 2);

  await pipeline.daemon.stop();
  expect(await installation.command("pause", "--tables", "public.busy")).toMatchObject({ exitCode: 0 });
  await changed(pipeline, 3);
  await pipeline.start();
  await flows(pipeline, "calm", 3);
  await flows(pipeline, "busy", 2);
  await pipeline.daemon.stop();
  expect(await installation.command("resume", "--tables", "public.busy")).toMatchObject({ exitCode: 0 });
  await pipeline.start();
  await pipeline.settled();
  await pipeline.expectEqual(TABLES);
});

test("a history is not asked to, and an unknown table is refused", async () => {
  await using pipeline = await RunningPipeline.start(PREPARE, { kinds: ["postgres", "postgres-history"] });
  const { installation } = pipeline;
  const refused = { exitCode: 4, stderr: expect.stringMatching(/MR1127: .*keeps histories/) };
  expect(await installation.command("pause", "--tables", "public.busy")).toMatchObject(refused);
  expect(await installation.command("pause", "--tables", "public.none")).toMatchObject({
    exitCode: 2,
    stderr: expect.stringContaining("MR1110"),
  });
  await pipeline.daemon.stop();
  expect(await installation.command("pause", "--tables", "public.busy")).toMatchObject(refused);
});

test("without a daemon, tables of a schema `documents` too", async () => {
  await using pipeline = await RunningPipeline.start(
    "create schema documents; create table documents.busy (id int primary key)",
    { kinds: ["postgres"] },
  );
  const { installation } = pipeline;
  await pipeline.settled();
  await pipeline.daemon.stop();
  expect(await installation.command("pause", "--tables", "documents.busy")).toMatchObject({ exitCode: 0 });
  const { tables } = await statusOf(pipeline);
  expect(tables.suspended).toMatchObject([{ table: "documents.busy", sink: "postgres", error: { code: "MR1326" } }]);
});
