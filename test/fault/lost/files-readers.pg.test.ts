/**
 * A reader takes each file once, and merges by `_millrace_sequence`. Whatever happens to the sink's path and to the state, its rows
 * become those of the source, and no number that it compares falls.
 * @module-tag heavy
 */
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { SetClock } from "../../support/daemon/set-clock.ts";
import { connectedDuckdb, FilesReader } from "../../support/warehouses/files-reader.ts";
import { mergeSql } from "../../support/warehouses/files-merge.ts";
import { manifestIn, manifestPaths } from "../../support/warehouses/files-sample.ts";
import { eventually } from "../../support/run/waiting.ts";

const PREPARE = `create table kept (id int primary key, body text);
  insert into kept select g, 'first' from generate_series(1, 30) g;
  create table emptied (id int primary key, body text);
  insert into emptied select g, 'first' from generate_series(1, 3) g`;

/** Has its own copy of every file that it ever found. */
class Reader {
  readonly #path: string;
  readonly #loaded: string;
  #manifest = 0;
  #sequence = 0n;

  constructor({ installation }: RunningPipeline) {
    this.#path = join(installation.folder, "changes");
    this.#loaded = join(installation.folder, "loaded");
  }

  async load(): Promise<void> {
    const manifests = manifestPaths(this.#path).map(numberOf);
    const fresh = new FilesReader(this.#path).listed().filter((path) => !existsSync(join(this.#loaded, path)));
    for (const path of fresh) {
      mkdirSync(dirname(join(this.#loaded, path)), { recursive: true });
      cpSync(join(this.#path, path), join(this.#loaded, path));
    }
    using duckdb = await connectedDuckdb();
    const files = fresh.map((path) => `'${join(this.#loaded, path)}'`).join(", ");
    const found = await duckdb.connection.runAndReadAll(
      `SELECT min(_millrace_sequence), max(_millrace_sequence) FROM read_parquet([${files}], union_by_name = true)`,
    );
    const [first, last] = found.getRows()[0]!.map(String).map(BigInt);
    expect(first! > this.#sequence, `${first} after ${this.#sequence}`).toBe(true);
    const behind = manifests.filter((number) => number > this.#manifest);
    expect(behind.length, `a manifest behind ${this.#manifest}`).toBeGreaterThan(0);
    const listed = behind.flatMap((number) => manifestIn(manifestPaths(this.#path)[manifests.indexOf(number)]!).files);
    expect(listed.map(({ path }) => path).toSorted()).toEqual(fresh);
    this.#sequence = last!;
    this.#manifest = Math.max(...manifests);
  }

  /** What the files that were ever loaded leave. */
  async rows(table: string): Promise<readonly unknown[]> {
    using duckdb = await connectedDuckdb();
    const files = join(this.#loaded, `public.${table}/*/*.parquet`);
    const merged = mergeSql({ files, key: ["id"], columns: ["id", "body"] });
    const found = await duckdb.connection.runAndReadAll(`SELECT id::INT, body FROM (${merged}) ORDER BY id`);
    return found.getRowsJson();
  }
}

function numberOf(path: string): number {
  return Number.parseInt(path.split("/").at(-1)!, 10);
}

async function expectLoaded(pipeline: RunningPipeline, reader: Reader): Promise<void> {
  await pipeline.settled();
  await eventually(() => expect(new FilesReader(join(pipeline.installation.folder, "changes")).waiting()).toBe(0), {
    withinMs: 30_000,
  });
  await reader.load();
  for (const table of ["kept", "emptied"]) {
    const { rows } = await pipeline.source.query(`select id, body from ${table} order by id`);
    expect(await reader.rows(table)).toEqual(rows.map(({ id, body }) => [id, body]));
  }
}

function pathOf({ installation }: RunningPipeline): string {
  return join(installation.folder, "changes");
}

function emptyPath(pipeline: RunningPipeline): void {
  rmSync(pathOf(pipeline), { recursive: true });
}

function putOlderBack(pipeline: RunningPipeline): void {
  emptyPath(pipeline);
  cpSync(join(pipeline.installation.folder, "older"), pathOf(pipeline), { recursive: true });
}

function loseState({ installation }: RunningPipeline): void {
  const folder = join(installation.folder, ".millrace");
  for (const name of readdirSync(folder)) if (name.startsWith(installation.name)) rmSync(join(folder, name));
}

function putBack(pipeline: RunningPipeline, part: string): void {
  rmSync(join(pathOf(pipeline), part), { recursive: true });
  cpSync(join(pipeline.installation.folder, "older", part), join(pathOf(pipeline), part), { recursive: true });
}

function putOlderStateBack(pipeline: RunningPipeline): void {
  loseState(pipeline);
  const { folder } = pipeline.installation;
  cpSync(join(folder, "older-state"), join(folder, ".millrace"), { recursive: true });
}

/** The slot has gone on beyond such a state: a start says so with a number. */
async function recoverOlder(pipeline: RunningPipeline): Promise<void> {
  putOlderStateBack(pipeline);
  expect(await pipeline.installation.run().ended).toMatchObject({ stderr: expect.stringContaining("MR2010") });
  expect(await pipeline.installation.command("recover", "--yes")).toMatchObject({ exitCode: 0 });
}

const DAY_MS = 86_400_000;
const SET_BACK = "the clock is set back";
const TORN_DOWN = "everything is torn down and begun again";

const HAPPENINGS: Readonly<Record<string, (pipeline: RunningPipeline) => unknown>> = {
  "the path is emptied": emptyPath,
  "the path is emptied and the state lost": (pipeline) => {
    emptyPath(pipeline);
    loseState(pipeline);
  },
  "an older copy of the path is put back": putOlderBack,
  "an older copy of the path is put back and the state lost": (pipeline) => {
    putOlderBack(pipeline);
    loseState(pipeline);
  },
  "an older log is put back below newer files": (pipeline) => putBack(pipeline, "_millrace/log"),
  "an older log is put back below newer files, and the state is lost": (pipeline) => {
    putBack(pipeline, "_millrace/log");
    loseState(pipeline);
  },
  "older manifests are put back beside a newer log": (pipeline) => putBack(pipeline, "_millrace/manifests"),
  "manifests and files are lost, and the log stays": (pipeline) => {
    for (const name of readdirSync(pathOf(pipeline)))
      if (name !== "_millrace") rmSync(join(pathOf(pipeline), name), { recursive: true });
    rmSync(join(pathOf(pipeline), "_millrace/manifests"), { recursive: true });
  },
  "an older state is put back": putOlderStateBack,
  "older copies of path and state are put back": (pipeline) => {
    putOlderBack(pipeline);
    return recoverOlder(pipeline);
  },
  "the path is emptied, and an older state put back": (pipeline) => {
    emptyPath(pipeline);
    return recoverOlder(pipeline);
  },
  "only the sink's log is lost, and the state": (pipeline) => {
    rmSync(join(pathOf(pipeline), "_millrace/log"), { recursive: true });
    loseState(pipeline);
  },
  [`the path is emptied, and ${SET_BACK}`]: emptyPath,
  [`an older copy of the path is put back, and ${SET_BACK}`]: putOlderBack,
  [TORN_DOWN]: async ({ installation }) => {
    const { exitCode, stderr } = await installation.command("teardown", "--yes", "--sink-metadata");
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  },
};

test.for(Object.entries(HAPPENINGS))("%s: readers get the source's rows", async ([what, happen]) => {
  using clock = new SetClock(what.endsWith(SET_BACK) ? DAY_MS : 0);
  const { environment } = clock;
  await using pipeline = await RunningPipeline.start(PREPARE, { kinds: ["files"], environment });
  const reader = new Reader(pipeline);
  await pipeline.settled();
  await pipeline.daemon.stop();
  const { folder } = pipeline.installation;
  // The reader knows rows of a second epoch. A slot that outlives its state is not torn down.
  if (what !== TORN_DOWN) loseState(pipeline);
  await pipeline.start(true, environment);
  await pipeline.run(
    "update kept set body = 'second' where id <= 10; insert into kept values (31, 'new'), (32, 'new')",
  );
  await expectLoaded(pipeline, reader);
  await pipeline.daemon.stop();
  cpSync(pathOf(pipeline), join(folder, "older"), { recursive: true });
  cpSync(join(folder, ".millrace"), join(folder, "older-state"), { recursive: true });
  await pipeline.start(true, environment);
  await pipeline.run("update kept set body = 'between' where id > 20; insert into emptied values (4, 'between')");
  await expectLoaded(pipeline, reader);
  await pipeline.daemon.stop();
  await happen(pipeline);
  clock.set(0);
  await pipeline.run("delete from kept where id in (3, 13, 31); delete from emptied");
  await pipeline.run("update kept set body = 'third' where id % 7 = 0");
  await pipeline.start(true, environment);
  await expectLoaded(pipeline, reader);
  await pipeline.run("update kept set body = 'fourth' where id % 5 = 0; delete from kept where id = 4");
  await expectLoaded(pipeline, reader);
});
