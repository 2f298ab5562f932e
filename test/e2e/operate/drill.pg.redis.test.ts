/** `millrace drill` breaks its own daemon and connections, waits for each recovery, and finds what differs at the end. */
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";

const TABLE =
  "create table orders (id int primary key, n int); insert into orders select g, g from generate_series(1, 1000) g";

interface Break {
  readonly what: string;
  readonly on: string;
  readonly connections: number | null;
  readonly recoveryMs: number | null;
}

interface Report {
  readonly applied: boolean;
  readonly addresses: readonly string[];
  readonly starts: number;
  readonly breaks: readonly Break[];
}

async function drilled({ installation }: RunningPipeline, minutes: string) {
  const { exitCode, stdout, stderr } = await installation.command("drill", "--minutes", minutes, "--yes", "--json");
  expect(stdout, stderr).not.toBe("");
  const report: Report = JSON.parse(stdout);
  return { exitCode, report, stdout };
}

test("it says its plan, is refused beside a daemon, and what differs after it is told", async () => {
  await using pipeline = await RunningPipeline.start(TABLE, { kinds: ["postgres", "redis"] });
  const { installation, source } = pipeline;
  await pipeline.settled();
  expect(await installation.command("drill", "--yes")).toMatchObject({
    exitCode: 4,
    stderr: expect.stringContaining("MR1213"),
  });
  await pipeline.daemon.stop();
  const plan = await installation.command("drill");
  expect(plan).toMatchObject({ exitCode: 4, stdout: expect.stringContaining("nothing was done") });
  await pipeline.sinks.target!.query("delete from public.orders where id = 7");
  await source.query("update orders set n = 0 where id = 1");
  const { exitCode, report, stdout } = await drilled(pipeline, "0.1");
  expect(exitCode, stdout).toBe(3);
  const { port } = new URL(source.url);
  expect(report.addresses.some((address) => address.endsWith(`:${port}`))).toBe(true);
  expect(report.breaks.map(({ what }) => what).slice(0, 2)).toEqual(["kill", "cut"]);
  expect(report.starts).toBeGreaterThanOrEqual(2);
  expect(report.breaks.every(({ recoveryMs }) => recoveryMs !== null)).toBe(true);
  expect(report.breaks.find(({ what }) => what === "cut")?.connections).toBeGreaterThan(0);
  expect(JSON.parse(stdout)).toMatchObject({
    reconcile: { tables: expect.arrayContaining([expect.objectContaining({ table: "public.orders", missing: 1 })]) },
  });
  await pipeline.start();
});
