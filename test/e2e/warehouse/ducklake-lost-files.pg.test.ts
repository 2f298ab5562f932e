/**
 * Data files of a lake that somebody removed or spoiled: only their table is concerned, and is filled again.
 * @module-tag heavy
 */
import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { sinkOf, start } from "../../support/faults/sink-loss.ts";
import { eventually } from "../../support/run/waiting.ts";

const TABLES = ["kept", "spoiled"].map(
  (name) =>
    `create table ${name} (id bigint primary key, v text); insert into ${name} select i, 'v' || i from generate_series(1, 2000) i`,
);

const SPOILING = {
  missing: (file: string) => rmSync(file),
  "cut short": (file: string) => writeFileSync(file, readFileSync(file).subarray(0, 300)),
} as const;

test.for(["missing", "cut short"] as const)(
  "a data file that is %s: its table is filled again, the others go on",
  async (how) => {
    await using pipeline = await RunningPipeline.start(TABLES.join("; "), { kinds: ["ducklake"] });
    await pipeline.expectEqual(["kept", "spoiled"]);
    for (const file of filesOf(pipeline, "spoiled")) SPOILING[how](file);
    await pipeline.run("insert into spoiled values (5000, 'new'); insert into kept values (5000, 'new')");
    await pipeline.run("update spoiled set v = 'changed' where id < 300; update kept set v = 'changed' where id < 300");
    await pipeline.expectEqual(["kept", "spoiled"]);
    const letters = await pipeline.installation.command("dlq", "list", "--json");
    expect(letters.stdout).not.toContain("spoiled");
  },
);

test("data files that go while the daemon is stopped: their table is filled again at its start, though no row moves", async () => {
  await using pipeline = await RunningPipeline.start(TABLES.join("; "), { kinds: ["ducklake"] });
  await pipeline.expectEqual(["kept", "spoiled"]);
  await pipeline.daemon.stop();
  for (const file of filesOf(pipeline, "spoiled")) rmSync(file);
  await start(pipeline);
  await pipeline.expectEqual(["kept", "spoiled"]);
  expect(await sinkOf(pipeline, "ducklake")).toMatchObject({ state: "streaming", error: null });
});

test("with soft deletes the table alone is suspended, and goes on when its file is back", async () => {
  await using pipeline = await RunningPipeline.start(TABLES.join("; "), {
    kinds: ["ducklake"],
    configure: (config) => ({ ...config, sinks: { ducklake: { ...config.sinks["ducklake"], deletes: "soft" } } }),
  });
  await pipeline.settled();
  const { installation } = pipeline;
  const [file = ""] = filesOf(pipeline, "spoiled");
  renameSync(file, `${file}.away`);
  await pipeline.run("update spoiled set v = 'changed' where id < 300; update kept set v = 'changed' where id < 300");
  await eventually(async () => {
    expect((await installation.status()).tables.suspended).toMatchObject([
      {
        table: "public.spoiled",
        sink: "ducklake",
        error: { message: expect.stringContaining(basename(file)), hint: expect.stringContaining("put the file back") },
      },
    ]);
  });
  await eventually(async () => {
    const asked = await installation.command(
      "query",
      "select count(*)::int as n from public.kept where v = 'changed'",
      "--json",
    );
    expect(JSON.parse(asked.stdout)).toMatchObject({ rows: [{ n: 299 }] });
  });
  renameSync(`${file}.away`, file);
  await pipeline.settled();
  const asked = await installation.command(
    "query",
    "select count(*)::int as n from public.spoiled where v = 'changed'",
    "--json",
  );
  expect(JSON.parse(asked.stdout)).toMatchObject({ rows: [{ n: 299 }] });
});

function filesOf({ installation }: RunningPipeline, table: string): readonly string[] {
  const folder = join(installation.folder, "ducklake", "public", table);
  return readdirSync(folder).map((name) => join(folder, name));
}
