/**
 * DuckDB ends the process that it runs in: of a sink that writes with it the daemon once, then only its own; where it makes
 * Parquet, never the daemon. And its log can't be read.
 * @module-tag heavy
 */
import { readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { SinkStatus, StatusDocument } from "../../../src/core/contracts/status.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

const ITEMS = `create table item (id int primary key, v text, tags int[]);
  insert into item select i, 'v' || i, array[i] from generate_series(1, 200) i`;
const CHANGE = "update item set tags = tags || 7 where id % 3 = 0; delete from item where id % 10 = 1";

async function sinkOf({ installation }: RunningPipeline, name: string): Promise<SinkStatus> {
  const status = await installation.ask<StatusDocument>("GET", "/api/v1/status");
  return status!.sinks.find((sink) => sink.name === name)!;
}

function childCount({ daemon }: RunningPipeline): number {
  const children = readFileSync(`/proc/${daemon.pid}/task/${daemon.pid}/children`, "utf8");
  return children.split(" ").filter((pid) => pid !== "").length;
}

test("an engine that ends its process stops its own sink alone, and a file whose log is damaged too", async () => {
  await using pipeline = await RunningPipeline.start(ITEMS, { kinds: ["duckdb", "redis"] });
  const { installation } = pipeline;
  await pipeline.expectEqual(["item"]);
  expect(childCount(pipeline)).toBe(0);
  // As DuckDB ends the process where it runs in the daemon's.
  pipeline.daemon.signal("SIGABRT");
  expect((await pipeline.daemon.ended).signal).toBe("SIGABRT");

  pipeline.daemon = installation.run({ MILLRACE_FAILPOINTS: "duckdb.engine-committing=abort" });
  await pipeline.run(CHANGE);
  await eventually(async () => expect(await sinkOf(pipeline, "duckdb")).toMatchObject({ state: "failed" }));
  expect((await sinkOf(pipeline, "duckdb")).error).toMatchObject({ code: "MR3235" });
  await eventually(async () => expect(await sinkOf(pipeline, "redis")).toMatchObject({ state: "streaming" }));
  using cache = pipeline.cache();
  const tags = () => cache.hget(`${pipeline.sinks.keyPrefix}public:item:3`, "tags");
  await eventually(async () => expect(await tags()).toMatch(/7/));
  expect(pipeline.daemon.exited).toBe(false);

  // The sink's last error still says what the engine may do.
  await pipeline.restart();
  expect(childCount(pipeline)).toBe(1);
  await pipeline.run(CHANGE);
  await pipeline.expectEqual(["item"]);
  const compared = await installation.command("reconcile", "--json");
  expect(compared.exitCode).toBe(0);

  await pipeline.restart();
  expect(childCount(pipeline)).toBe(0);
  await pipeline.run("insert into item select i, 'w', array[i] from generate_series(1000, 1200) i");
  await pipeline.settled();
  await pipeline.kill();
  const log = join(installation.folder, "warehouse.duckdb.wal");
  const bytes = readFileSync(log);
  bytes[Math.floor(statSync(log).size / 2)]! ^= 0xff;
  writeFileSync(log, bytes);
  await pipeline.start(false);
  await pipeline.run(CHANGE);
  await eventually(async () => expect(await sinkOf(pipeline, "duckdb")).toMatchObject({ state: "failed" }));
  expect((await sinkOf(pipeline, "duckdb")).error).toMatchObject({ code: "MR3202" });
  await eventually(async () => expect(await sinkOf(pipeline, "redis")).toMatchObject({ state: "streaming" }));
  renameSync(log, `${log}.damaged`);
  await installation.command("resume", "--sink", "duckdb");
  await eventually(async () => {
    const { state, error } = await sinkOf(pipeline, "duckdb");
    if (error?.code === "MR1301") await installation.command("snapshot", "start", "--sink", "duckdb");
    expect(state).toBe("streaming");
  });
  await pipeline.expectEqual(["item"]);
});

test("an engine that ends its process while it makes Parquet stops its own sink alone, which goes on by itself", async () => {
  await using pipeline = await RunningPipeline.start(ITEMS, {
    kinds: ["files", "redis"],
    environment: { MILLRACE_FAILPOINTS: "duckdb.engine-copying=abort" },
    untilStreaming: false,
  });
  const refused = {
    state: "retrying",
    error: { code: "MR3235", message: expect.stringMatching(/public\.item.*SIGABRT/) },
  };
  await eventually(async () => expect(await sinkOf(pipeline, "files")).toMatchObject(refused));
  await pipeline.run(CHANGE);
  using cache = pipeline.cache();
  const tags = () => cache.hget(`${pipeline.sinks.keyPrefix}public:item:3`, "tags");
  await eventually(async () => expect(await tags()).toMatch(/7/));
  expect(await sinkOf(pipeline, "redis")).toMatchObject({ state: "streaming" });
  expect(pipeline.daemon.exited).toBe(false);

  await pipeline.restart();
  await pipeline.expectEqual(["item"]);
  // As soon as no more files are made for a while.
  await eventually(async () => expect(childCount(pipeline)).toBe(0));
});
