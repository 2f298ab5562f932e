/**
 * Targets that are files on a disk of their own: read-only, full or gone for a while. Each blocks its own sink alone, is told
 * with its path, and passes by itself.
 * @module-tag heavy
 */
import { readdirSync, renameSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import type { SinkKind } from "../../support/daemon/sink-set.ts";
import { SmallDisk } from "../../support/faults/small-disk.ts";
import { eventually } from "../../support/run/waiting.ts";

const PREPARE = `create table item (id int primary key, body text);
  insert into item select g, md5(g::text) from generate_series(1, 500) g`;

/** The names of the target in the installation's folder, and how the sink is told to lie on the disk. */
const PLACES = {
  duckdb: {
    files: ["warehouse.duckdb", "warehouse.duckdb.wal"],
    on: (disk: string) => ({ path: join(disk, "warehouse.duckdb") }),
  },
  sqlite: { files: ["replica.sqlite"], on: (disk: string) => ({ path: join(disk, "replica.sqlite") }) },
  ducklake: {
    files: ["ducklake.db", "ducklake"],
    on: (disk: string) => ({ catalog: `sqlite:${join(disk, "ducklake.db")}`, data: join(disk, "ducklake") }),
  },
  files: { files: ["changes"], on: (disk: string) => ({ path: join(disk, "changes") }) },
} as const satisfies Partial<Record<SinkKind, { files: readonly string[]; on: (disk: string) => object }>>;
type Kind = keyof typeof PLACES;

class OnDisk implements AsyncDisposable {
  readonly pipeline: RunningPipeline;
  readonly disk: SmallDisk;
  readonly kind: Kind;
  #count = 0;

  private constructor(pipeline: RunningPipeline, disk: SmallDisk, kind: Kind) {
    this.pipeline = pipeline;
    this.disk = disk;
    this.kind = kind;
  }

  static async start(kind: Kind, disk: SmallDisk): Promise<OnDisk> {
    const pipeline = await RunningPipeline.start(PREPARE, {
      kinds: [kind, "postgres"],
      configure: (config) => ({
        ...config,
        sinks: { ...config.sinks, [kind]: { ...config.sinks[kind], ...PLACES[kind].on(disk.folder) } },
      }),
    });
    for (const file of PLACES[kind].files)
      symlinkSync(join(disk.folder, file), join(pipeline.installation.folder, file));
    return new OnDisk(pipeline, disk, kind);
  }

  async change(): Promise<void> {
    const n = this.#count++;
    await this.pipeline.run(
      `update item set body = 'c${n}' where id % 7 = ${n % 7}; insert into item values (${1_000 + n}, 'new'); delete from item where id = ${n + 1}`,
    );
  }

  /** The other sink has all; this one says what is wrong, and where. */
  async told(): Promise<{ readonly code: string; readonly message: string; readonly state: string }> {
    return await eventually(
      async () => {
        await this.change();
        const { sinks } = await this.pipeline.installation.status();
        const own = sinks.find(({ name }) => name === this.kind)!;
        if (own.error === null) throw new Error("nothing is told yet");
        const other = sinks.find(({ name }) => name === "postgres")!;
        expect(other).toMatchObject({ state: "streaming", error: null });
        return { code: own.error.code, message: own.error.message, state: own.state };
      },
      { withinMs: 60_000, everyMs: 200 },
    );
  }

  async equal(): Promise<void> {
    await this.change();
    await this.pipeline.expectEqual(["item"]);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.pipeline[Symbol.asyncDispose]();
  }
}

async function fill(folder: string): Promise<void> {
  for (let size = 32 * 1024 * 1024; size > 1_000; size = Math.floor(size / 2)) {
    try {
      writeFileSync(join(folder, "filler"), Buffer.alloc(size), { flag: "a" });
    } catch {
      // Half of it may fit.
    }
  }
}

const KINDS: readonly Kind[] = ["duckdb", "sqlite", "ducklake", "files"];
/** Readers of files come to emptied folders by themselves: another test's promise. */
const HELD: readonly Kind[] = ["duckdb", "sqlite", "ducklake"];
const NO_DISK = "no file system of a size of its own may be mounted here";

test.for(KINDS)("%s: a disk that is read-only at the start", async (kind, { skip }) => {
  const disk = await SmallDisk.mount("64m");
  skip(disk === null, NO_DISK);
  await using mounted = disk!;
  await using on = await OnDisk.start(kind, mounted);
  await on.equal();
  await on.pipeline.daemon.stop();
  await mounted.become("ro");
  on.pipeline.daemon = on.pipeline.installation.run();
  expect(await on.told()).toEqual({
    code: "MR3203",
    state: "retrying",
    message: expect.stringContaining(mounted.folder),
  });
  const { sinks } = await on.pipeline.installation.status();
  const hint = sinks.find(({ name }) => name === kind)?.error?.hint;
  expect(hint).toMatch(kind === "ducklake" ? /its disk take writes/ : /^The file system is read-only: mount it/);
  await mounted.become("rw");
  await on.equal();
});

test.for(KINDS)("%s: a disk that is full for a while", async (kind, { skip }) => {
  const disk = await SmallDisk.mount("24m");
  skip(disk === null, NO_DISK);
  await using mounted = disk!;
  await using on = await OnDisk.start(kind, mounted);
  await on.equal();
  await fill(mounted.folder);
  await on.pipeline.run("insert into item select g, repeat(md5(g::text), 100) from generate_series(20001, 24000) g");
  expect(await on.told()).toEqual({
    code: "MR3213",
    state: "retrying",
    message: expect.stringContaining(mounted.folder),
  });
  rmSync(join(mounted.folder, "filler"));
  await on.equal();
});

test.for(HELD)("%s: what lies there is moved away, and back", async (kind, { skip }) => {
  const disk = await SmallDisk.mount("64m");
  skip(disk === null, NO_DISK);
  await using mounted = disk!;
  await using on = await OnDisk.start(kind, mounted);
  await on.equal();
  const away = join(mounted.folder, "away");
  mkdirSync(away);
  const names = readdirSync(mounted.folder).filter((name) => name !== "away");
  for (const name of names) renameSync(join(mounted.folder, name), join(away, name));
  // What is gone is told first, and what its successor lacks as soon as there is one.
  expect([
    { code: "MR3110", state: "retrying", message: expect.stringContaining(mounted.folder) },
    { code: "MR1301", state: "failed", message: expect.stringContaining("holds no checkpoint any more") },
  ]).toContainEqual(await on.told());
  for (const name of readdirSync(mounted.folder).filter((one) => one !== "away"))
    rmSync(join(mounted.folder, name), { recursive: true });
  for (const name of readdirSync(away)) renameSync(join(away, name), join(mounted.folder, name));
  const { exitCode } = await on.pipeline.installation.command("resume", "--sink", kind);
  expect(exitCode).toBe(0);
  await on.equal();
});
