/**
 * A copy of a state folder that is started beside the daemon that goes on with the state itself.
 * @module-tag heavy
 */
import { cpSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import type { StatusDocument } from "../../../src/core/contracts/status.ts";
import { eventually } from "../../support/run/waiting.ts";

const PREPARED = `create table item (id int primary key, name text);
  insert into item select g, 'n' || g from generate_series(1, 50) g`;

test("waits for the source before it touches a sink, says so, and the daemon goes on", async () => {
  let config: PipelineConfig | undefined;
  await using pipeline = await RunningPipeline.start(PREPARED, {
    kinds: ["postgres", "redis"],
    configure: (whole) => {
      // Nobody but the state knows how far the log had nothing for the sinks.
      config = { ...whole, source: { ...whole.source, heartbeat: "10m" } };
      return config;
    },
  });
  await pipeline.settled();
  await pipeline.daemon.stop();
  await using other = new Installation(config!);
  cpSync(join(pipeline.installation.folder, ".millrace"), join(other.folder, ".millrace"), { recursive: true });
  await pipeline.start();
  const copy = other.run();
  const withheld = await eventually(async () => {
    const status = await other.ask<StatusDocument>("GET", "/api/v1/status");
    expect(status?.source.error?.code).toBe("MR2012");
    return status!;
  });
  expect(withheld).toMatchObject({ phase: "starting", sinks: [{ state: "starting" }, { state: "starting" }] });
  await pipeline.run("update item set name = 'since' where id < 20; insert into item values (100, 'new')");
  await pipeline.expectEqual(["item"]);
  expect(pipeline.daemon.exited).toBe(false);
  expect(pipeline.complaints()).toEqual([]);
  const checked = await other.command("check", "--json");
  expect(checked.stdout).not.toContain('"level": "error"');
  // Its place is free, and the log is there from where the sinks are.
  await pipeline.run("insert into item values (101, 'for the copy')");
  await pipeline.settled();
  await pipeline.run("select pg_logical_emit_message(true, 'elsewhere', repeat('x', 10000))");
  await pipeline.settled();
  await pipeline.daemon.stop();
  await copy.streaming();
  await pipeline.run("update item set name = 'by the copy' where id > 40");
  await eventually(async () => {
    expect(await pipeline.sinks.differences(pipeline.source.url, other.folder, ["item"])).toEqual([]);
  });
});
