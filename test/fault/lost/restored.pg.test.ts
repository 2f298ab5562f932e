/**
 * State and sink are restored, replaced or lost apart from each other: afterwards the sink equals the source, or `status` names
 * what it owes, or a number refuses. docs/restore.md has the same table.
 */
import { copyFileSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, expect, test } from "vitest";
import { openState } from "../../../src/state/open.ts";
import { compareSink } from "../../support/compare/compare.ts";
import { runInFile } from "../../support/warehouses/duckdb-file.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";

const PREPARE = `create table kept (id int primary key, body text);
  create table moving (id int primary key, body text);
  insert into kept select g, 'k' from generate_series(1, 20) g;
  insert into moving select g, 'm' from generate_series(1, 20) g`;
const SINK = "duckdb";

/** A daemon with a warehouse in a file, and a paused sink for which the source keeps the log. */
async function scene(): Promise<RunningPipeline> {
  const pipeline = await RunningPipeline.start(PREPARE, { kinds: [SINK, "postgres"] });
  await pipeline.settled();
  await pipeline.installation.command("pause", "--sink", "postgres");
  await move(pipeline, "at first");
  return pipeline;
}

async function move(pipeline: RunningPipeline, text: string): Promise<void> {
  await pipeline.run(`update moving set body = '${text}' where id % 3 = 0`);
  await eventually(async () => {
    const rows = await differences(pipeline, "moving");
    if (rows > 0) throw new Error(`${rows} rows of moving differ`);
  });
}

/** Rows that the warehouse lacks, has too many, or has otherwise. */
async function differences({ source, installation }: RunningPipeline, table: string): Promise<number> {
  const address = { kind: SINK, path: join(installation.folder, "warehouse.duckdb") } as const;
  const tables = [{ schema: "public", table }];
  const [result] = await compareSink({ source: source.url, sink: address, tables });
  return result!.missing + result!.extra + result!.different;
}

function stateFolder({ installation }: RunningPipeline): string {
  return join(installation.folder, ".millrace");
}

/** Copies the files whose names begin with `prefix`, in place of those that are there. */
function copyFiles(from: string, to: string, prefix: string): void {
  mkdirSync(to, { recursive: true });
  removeFiles(to, prefix);
  for (const name of readdirSync(from)) if (name.startsWith(prefix)) copyFileSync(join(from, name), join(to, name));
}

function removeFiles(folder: string, prefix: string): void {
  for (const name of readdirSync(folder)) if (name.startsWith(prefix)) rmSync(join(folder, name), { recursive: true });
}

/** A row of the table that the warehouse refused, as it would have been: it lacks the row, and a letter says so. */
async function refuseRow({ installation }: RunningPipeline, table = "kept"): Promise<void> {
  await runInFile(join(installation.folder, "warehouse.duckdb"), `delete from public.${table} where id = 5`);
  const path = join(installation.folder, ".millrace", `${installation.name}.db`);
  const state = await openState(`sqlite:${path}`, { name: installation.name });
  const position = { epoch: 1, commit: 1n, index: 0 };
  const letter = { sink: SINK, tableId: `public.${table}`, key: ["5"], op: "u", position };
  await state.deadLetters.add({ ...letter, code: "MR3111", reason: "refused", envelope: "{}" });
  await state.close();
}

/** Copies of both are taken; then a table is created, rows of it and of another are refused, and the sink's checkpoint passes them. */
async function twoMoments(): Promise<RunningPipeline> {
  const pipeline = await scene();
  const { folder } = pipeline.installation;
  await pipeline.daemon.stop();
  copyFiles(stateFolder(pipeline), join(folder, "older"), pipeline.installation.name);
  copyFiles(folder, join(folder, "older"), "warehouse.duckdb");
  await pipeline.start(false);
  await pipeline.run("create table late (id int primary key); insert into late select generate_series(1, 20)");
  await eventually(async () => expect(await differences(pipeline, "late")).toBe(0));
  await pipeline.daemon.stop();
  for (const table of ["kept", "late"]) await refuseRow(pipeline, table);
  await pipeline.start(false);
  await move(pipeline, "since then");
  await pipeline.daemon.stop();
  return pipeline;
}

const states = {
  same: () => undefined,
  older: (pipeline: RunningPipeline) =>
    copyFiles(join(pipeline.installation.folder, "older"), stateFolder(pipeline), pipeline.installation.name),
  gone: (pipeline: RunningPipeline) => removeFiles(stateFolder(pipeline), pipeline.installation.name),
  other: (pipeline: RunningPipeline) => {
    const database = new DatabaseSync(join(stateFolder(pipeline), `${pipeline.installation.name}.db`));
    database.exec("update identity set state = 'ff'");
    database.close();
  },
} as const;

const sinks = {
  same: () => undefined,
  older: ({ installation }: RunningPipeline) =>
    copyFiles(join(installation.folder, "older"), installation.folder, "warehouse.duckdb"),
  emptied: ({ installation }: RunningPipeline) => removeFiles(installation.folder, "warehouse.duckdb"),
  other: async ({ installation }: RunningPipeline) =>
    await runInFile(join(installation.folder, "warehouse.duckdb"), "update _millrace.progress set bond = 'ee' || bond"),
} as const;

/** `letter`: the row is missing, and named. */
type Expected = "equal" | "letter" | "MR1301" | "MR1317";

const CELLS: readonly (readonly [state: keyof typeof states, sink: keyof typeof sinks, Expected])[] = [
  ["same", "same", "letter"],
  ["same", "older", "equal"],
  ["same", "emptied", "MR1301"],
  ["same", "other", "MR1317"],
  ["older", "same", "equal"],
  ["older", "older", "equal"],
  ["older", "emptied", "MR1301"],
  ["older", "other", "MR1317"],
  ["gone", "same", "equal"],
  ["gone", "older", "equal"],
  ["gone", "emptied", "equal"],
  ["gone", "other", "equal"],
  ["other", "same", "MR1317"],
  ["other", "older", "MR1317"],
  ["other", "emptied", "MR1301"],
];

/** Enough to see each outcome. The rule itself is held by runtime-position and the simulation. */
const SHORT = new Set(["older same", "older other"]);

describe.concurrent("the state and the sink are not of one moment", () => {
  test.for(CELLS)("the state %s, the sink %s: %s", async ([state, sink, expected], { skip }) => {
    skip(!isLongForm() && !SHORT.has(`${state} ${sink}`), "it is part of the long form");
    await using pipeline = await twoMoments();
    states[state](pipeline);
    await sinks[sink](pipeline);
    await pipeline.start(false);
    await pipeline.run("update moving set body = 'at last' where id % 2 = 0");
    await eventually(
      async () => {
        const status = await pipeline.installation.status();
        const { deadLetters, error } = status.sinks.find(({ name }) => name === SINK)!;
        if (expected.startsWith("MR")) return expect(error?.code).toBe(expected);
        expect({ error, snapshots: status.unfinishedSnapshots }).toEqual({ error: null, snapshots: 0 });
        const lacked = expected === "letter" ? 1 : 0;
        const rows = { kept: 0, late: 0, moving: 0 };
        for (const table of ["kept", "late", "moving"] as const) rows[table] = await differences(pipeline, table);
        expect(rows).toEqual({ kept: lacked, late: lacked, moving: 0 });
        if (expected === "letter") expect(deadLetters).toBe(2);
      },
      { withinMs: 90_000, everyMs: 250 },
    );
  });

  test("the sink is set back behind a read that had settled what it owed", { tags: "heavy" }, async () => {
    await using pipeline = await scene();
    const { folder } = pipeline.installation;
    await pipeline.daemon.stop();
    await refuseRow(pipeline);
    copyFiles(folder, join(folder, "older"), "warehouse.duckdb");
    await pipeline.start(false);
    await eventually(async () => expect((await pipeline.installation.status()).phase).toBe("streaming"));
    const body = { sinks: [SINK], tables: ["public.kept"] };
    expect(await pipeline.installation.ask<object>("POST", "/api/v1/snapshots", body)).toEqual({ tables: body.tables });
    await eventually(async () =>
      expect(await pipeline.installation.status()).toMatchObject({ unfinishedSnapshots: 0 }),
    );
    expect(await differences(pipeline, "kept")).toBe(0);
    await pipeline.daemon.stop();
    sinks.older(pipeline);
    await pipeline.start(false);
    await eventually(async () => expect(await differences(pipeline, "kept")).toBe(0), { withinMs: 90_000 });
  });

  const lost = { gone: states.gone, emptied: sinks.emptied } as const;

  test.for(["gone", "emptied"] as const)(
    "snapshot: none, and the %s one knew what was owed of tables that were complete: they are read",
    async (which, { skip }) => {
      skip(!isLongForm() && which === "emptied", "it is part of the long form");
      await using pipeline = await RunningPipeline.start(PREPARE, {
        kinds: [SINK],
        configure: (config) => ({
          ...config,
          source: { ...config.source, snapshot: "none" },
          sinks: { [SINK]: { ...config.sinks[SINK], onLost: "resync" } },
        }),
      });
      const { installation } = pipeline;
      // A table is known by its first row.
      await pipeline.run("update kept set body = 'seen' where id = 1; update moving set body = 'seen' where id = 1");
      await pipeline.settled();
      await pipeline.readAgain("public.kept");
      await pipeline.settled();
      expect([await differences(pipeline, "kept"), await differences(pipeline, "moving")]).toEqual([0, 19]);
      await pipeline.daemon.stop();
      const state = await openState(`sqlite:${join(stateFolder(pipeline), `${installation.name}.db`)}`, {});
      await runInFile(join(installation.folder, "warehouse.duckdb"), "delete from public.kept where id = 7");
      await state.snapshots.addKeys(SINK, "public.kept", [["7"]]);
      await state.close();
      lost[which](pipeline);
      await pipeline.start();
      await pipeline.settled();
      // What nobody asked for is not read.
      expect([await differences(pipeline, "kept"), await differences(pipeline, "moving")]).toEqual([
        0,
        which === "gone" ? 19 : 20,
      ]);
    },
  );

  test("a sink that had failed keeps what it owes when a table is asked for", { tags: "heavy" }, async () => {
    await using pipeline = await scene();
    const { installation } = pipeline;
    await pipeline.daemon.stop();
    const state = await openState(`sqlite:${join(stateFolder(pipeline), `${installation.name}.db`)}`, {});
    await runInFile(join(installation.folder, "warehouse.duckdb"), "delete from public.kept where id = 7");
    await state.snapshots.addKeys(SINK, "public.kept", [["7"]]);
    await state.sinks.setError(SINK, { code: "MR1304", message: "m", hint: null, at: "2026-01-01T00:00:00Z" });
    await state.close();
    const asked = await installation.command("snapshot", "start", "--tables", "public.moving");
    expect(asked).toMatchObject({ exitCode: 0 });
    await pipeline.start(false);
    await eventually(async () => expect(await differences(pipeline, "kept")).toBe(0), { withinMs: 90_000 });
  });
});
