/** `offsets import` of positions from which no daemon could start. */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { type CommandResult, Installation } from "../../support/daemon/daemon-process.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";

async function exported(): Promise<RunningPipeline> {
  const pipeline = await RunningPipeline.start("create table item (id int primary key, n int not null)", {
    kinds: ["postgres"],
  });
  await pipeline.settled();
  await pipeline.daemon.stop();
  await offsets(pipeline, "export", "offsets.json");
  return pipeline;
}

async function offsets({ installation }: RunningPipeline, ...args: readonly string[]): Promise<CommandResult> {
  const result = await installation.command("offsets", ...args);
  expect(result, result.stderr).toMatchObject({ exitCode: 0 });
  return result;
}

/** Past the positions of the export, so that the source forgets them. */
async function goOn(pipeline: RunningPipeline): Promise<void> {
  await pipeline.start();
  await pipeline.run("insert into item select g, 1 from generate_series(1, 100) g");
  await pipeline.settled();
  await pipeline.daemon.stop();
}

test("an export of an earlier epoch than the sink's is refused, and changes nothing", async () => {
  await using pipeline = await exported();
  rmSync(join(pipeline.installation.folder, ".millrace"), { recursive: true });
  await goOn(pipeline);
  const before = (await offsets(pipeline, "show", "--json")).stdout;
  const refused = await pipeline.installation.command("offsets", "import", "offsets.json", "--yes");
  expect(refused).toMatchObject({
    exitCode: 4,
    stderr: expect.stringMatching(/MR1118.*epoch 2: epoch 1 of the export can't be reached/s),
  });
  expect((await offsets(pipeline, "show", "--json")).stdout).toBe(before);
});

test("an export without the sinks of the configuration is refused where its own position can't be reached", async () => {
  await using pipeline = await exported();
  await goOn(pipeline);
  const [target] = Object.values(pipeline.sinks.config);
  await using elsewhere = new Installation({
    name: pipeline.source.name,
    source: { kind: "postgres", url: pipeline.source.url },
    sinks: { other: target },
  });
  const file = join(pipeline.installation.folder, "offsets.json");
  const refused = await elsewhere.command("offsets", "import", file, "--yes");
  expect(refused).toMatchObject({ exitCode: 4, stderr: expect.stringContaining("MR1118") });
});
