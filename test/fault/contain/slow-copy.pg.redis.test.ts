/**
 * A sink that is much slower than the others reads the initial snapshot by itself, and they stream meanwhile.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import type { StatusDocument } from "../../../src/core/contracts/status.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually, patient } from "../../support/run/waiting.ts";

/** 60 MB: more than waits in memory for a sink, so that reading has to wait for the slow one. */
const ROWS = 60_000;
/** The cache would need more than a minute. */
const SLOW_BYTES_PER_SECOND = 600_000;

test("the others have their rows and stream while a slow sink has a part; then it is filled too", async () => {
  await using pipeline = await RunningPipeline.start(
    `create table small (id int primary key, body text); insert into small select g, 'n' || g from generate_series(1, 100) g;
     create table bulk (id int primary key, body text);
     insert into bulk select g, repeat(md5(g::text), 30) from generate_series(1, ${ROWS}) g`,
    { kinds: ["duckdb", "redis"], isProxied: true, untilStreaming: false },
  );
  const proxy = pipeline.sinks.proxies.get("redis")!;
  proxy.limit(SLOW_BYTES_PER_SECOND);
  const status = async () => await pipeline.installation.ask<StatusDocument>("GET", "/api/v1/status");
  await eventually(async () => expect((await status())?.phase).toBe("streaming"), { withinMs: 90_000 });
  await pipeline.run("insert into small values (1000, 'new'); update bulk set body = 'new' where id = 7");
  await eventually(async () => {
    const { stdout } = await pipeline.installation.command(
      "query",
      "--sink",
      "duckdb",
      "--json",
      "select (select count(*) from public.bulk) as b, (select count(*) from public.small where id = 1000) as s, (select body from public.bulk where id = 7) as n",
    );
    expect(JSON.parse(stdout)).toMatchObject({ rows: [{ b: ROWS, s: 1, n: "new" }] });
  });
  expect(pipeline.daemon.said).toContain("it reads the tables by itself");
  expect((await status())!.sinks.find(({ name }) => name === "redis")).toMatchObject({
    state: "snapshot",
    catchingUp: true,
  });
  await proxy.resume();
  await pipeline.settled(patient(120_000));
  await pipeline.expectEqual(["small", "bulk"]);
  // What it lacked came from the same snapshot.
  expect(await pipeline.readers(0)).toEqual({});
});

test("killed while the slow sink reads by itself and the others stream, nothing is lost", async () => {
  await using pipeline = await RunningPipeline.start(
    `create table bulk (id int primary key, body text);
     insert into bulk select g, repeat(md5(g::text), 30) from generate_series(1, ${ROWS}) g`,
    { kinds: ["duckdb", "redis"], isProxied: true, untilStreaming: false },
  );
  const proxy = pipeline.sinks.proxies.get("redis")!;
  proxy.limit(SLOW_BYTES_PER_SECOND);
  const status = async () => await pipeline.installation.ask<StatusDocument>("GET", "/api/v1/status");
  await eventually(async () => expect((await status())?.phase).toBe("streaming"), { withinMs: 90_000 });
  await pipeline.run(
    "update bulk set body = 'new' where id % 100 = 7; delete from bulk where id % 100 = 8; insert into bulk select -g, 'n' from generate_series(1, 100) g",
  );
  await pipeline.kill();
  await proxy.resume();
  await pipeline.start();
  await pipeline.settled(patient(120_000));
  await pipeline.expectEqual(["bulk"]);
});
