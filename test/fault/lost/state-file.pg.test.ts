/** The folder of the state is removed while the daemon runs: nothing that was stored is lost, and commands find the daemon again. */
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

const PREPARE = "create table t (id int primary key, body text); insert into t values (1, 'a')";

test("a state that is removed under a daemon is put back by it, and known to the next one", async () => {
  await using pipeline = await RunningPipeline.start(PREPARE, { kinds: ["postgres"] });
  await pipeline.settled();
  const { installation } = pipeline;
  const orders = async (): Promise<string> => (await installation.command("audit", "list")).stdout;
  for (const verb of ["pause", "resume"])
    expect(await installation.command(verb, "--sink", "postgres")).toMatchObject({ exitCode: 0 });
  const before = await orders();
  expect(before).toContain("resume");
  const folder = join(installation.folder, ".millrace");
  rmSync(folder, { recursive: true });
  await pipeline.run("insert into t values (2, 'b')");
  await eventually(() => expect(existsSync(join(folder, `${installation.name}.db`))).toBe(true), { withinMs: 20_000 });
  await pipeline.expectEqual(["t"]);
  expect(pipeline.daemon.said).toContain("MR1217");
  expect(pipeline.daemon.said).not.toContain("the last daemon was not stopped");
  expect(pipeline.daemon.exited).toBe(false);
  expect(await orders()).toBe(before);
  await pipeline.daemon.kill();
  await pipeline.run("insert into t values (3, 'c')");
  await pipeline.start();
  await pipeline.expectEqual(["t"]);
  expect(await orders()).toBe(before);
});
