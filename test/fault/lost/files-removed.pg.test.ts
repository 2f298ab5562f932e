/**
 * Somebody removes files of changes, or manifests: what readers miss is read again, and manifests list what is there.
 * @module-tag heavy
 */
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { manifestIn, manifestPaths } from "../../support/warehouses/files-sample.ts";
import { FilesReader } from "../../support/warehouses/files-reader.ts";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { sinkOf } from "../../support/faults/sink-loss.ts";
import { eventually } from "../../support/run/waiting.ts";

const PREPARE = `create table kept (id int primary key, body text);
  insert into kept select g, repeat('k', g) from generate_series(1, 100) g;
  create table moving (id int primary key)`;
const NOTICED = { withinMs: 60_000, everyMs: 250 };
const SINK = "files";

type What = "file" | "manifest" | "file and its manifest";

function folderOf({ installation }: RunningPipeline): string {
  return join(installation.folder, "changes");
}

/**
 * Removes the first file of the table's rows, or the manifest that lists it. Both together: those of a change. Returns the
 * files that no manifest lists then.
 */
function remove(pipeline: RunningPipeline, what: What): readonly string[] {
  const folder = folderOf(pipeline);
  const manifests = new FilesReader(folder).manifests();
  const isOfTable = ({ files }: (typeof manifests)[number]) => files.some(({ table }) => table === "public.kept");
  const at = what === "file and its manifest" ? manifests.findLastIndex(isOfTable) : manifests.findIndex(isOfTable);
  const { files } = manifests[at]!;
  const file = files.find(({ table }) => table === "public.kept")!;
  if (what !== "manifest") rmSync(join(folder, file.path));
  if (what !== "file") rmSync(manifestPaths(folder)[at]!);
  return what === "file" ? [] : files.map(({ path }) => path);
}

/** `orphans`: readers by manifest never find them; what they find is compared. */
async function isReadAgain(pipeline: RunningPipeline, orphans: readonly string[], isCompared = true): Promise<void> {
  const folder = folderOf(pipeline);
  await eventually(async () => expect(pipeline.daemon.said).toContain("MR3110"), NOTICED);
  for (const path of orphans) rmSync(join(folder, path), { force: true });
  await eventually(async () => {
    if (isCompared)
      expect(await pipeline.sinks.differences(pipeline.source.url, pipeline.installation.folder, ["kept"])).toEqual([]);
    const manifests = new FilesReader(folder).manifests();
    const files = manifests.flatMap((manifest) => manifest.files);
    expect(files.filter(({ path }) => !existsSync(join(folder, path)))).toEqual([]);
    const rows = files.filter(({ table }) => table === "public.kept").reduce((sum, file) => sum + file.rows, 0);
    expect(rows).toBeGreaterThanOrEqual(100);
    const ordinals = manifestPaths(folder).map((path) => manifestIn(path).ordinal);
    expect(ordinals).toEqual(ordinals.map((_, i) => i + 1));
  }, NOTICED);
  await pipeline.settled();
  expect(await sinkOf(pipeline, SINK)).toMatchObject({ state: "streaming", error: null, needsPerson: false });
}

/** Rows of the table are in a file, and manifests follow. */
async function started(tables = {}): Promise<RunningPipeline> {
  const configure = (config: PipelineConfig): PipelineConfig => ({ ...config, tables });
  const pipeline = await RunningPipeline.start(PREPARE, { kinds: [SINK], configure });
  await pipeline.settled();
  for (const id of [1, 2]) {
    const before = new FilesReader(folderOf(pipeline)).manifests().length;
    await pipeline.run(`insert into moving values (${id}); update kept set body = 'c' where id < 10 * ${2 - id}`);
    await eventually(async () =>
      expect(new FilesReader(folderOf(pipeline)).manifests().length).toBeGreaterThan(before),
    );
  }
  return pipeline;
}

test.for<[What]>([["file"], ["manifest"], ["file and its manifest"]])(
  "a %s that goes while the daemon is down is noticed, and the table is read again",
  async ([what]) => {
    await using pipeline = await started();
    await pipeline.daemon.stop();
    const orphans = remove(pipeline, what);
    const checked = await pipeline.installation.command("check");
    expect(checked.stdout).toMatch(what === "file" ? /of manifest \d+ is gone/ : /the manifest \S+ is gone/);
    await pipeline.start();
    await isReadAgain(pipeline, orphans);
    const reads = await pipeline.lastRead();
    await pipeline.restart();
    await pipeline.settled();
    expect(await pipeline.lastRead()).toBe(reads);
    expect((await pipeline.installation.command("check")).stdout).not.toContain("is gone");
  },
);

test.for<[What]>([["file"], ["manifest"]])(
  "a %s that goes while the daemon runs is noticed, and the table is read again",
  async ([what]) => {
    await using pipeline = await started();
    await isReadAgain(pipeline, remove(pipeline, what));
  },
);

test("a file in a folder that tables share is one table's: that one is read again", async () => {
  const route = { into: "shared.rows", add: { of: "$1" } };
  await using pipeline = await started({ "public.*": route });
  const moving = new FilesReader(folderOf(pipeline)).manifests().flatMap(({ files }) => files);
  await isReadAgain(pipeline, remove(pipeline, "file"), false);
  const now = new FilesReader(folderOf(pipeline)).manifests().flatMap(({ files }) => files);
  const ofMoving = (all: typeof now): readonly string[] =>
    all.flatMap(({ path, table }) => (table === "public.moving" ? [path] : []));
  expect(ofMoving(now)).toEqual(ofMoving(moving));
});
