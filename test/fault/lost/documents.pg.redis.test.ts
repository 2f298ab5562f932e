/** What happens beside a daemon with documents: files lost, put back, damaged or full. Sinks are right afterwards, or a number says why not. */
import { closeSync, copyFileSync, existsSync, openSync, rmSync, statSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import {
  expectDocuments,
  HOSTILE_TABLES,
  hostileDocuments,
  HostileShop,
  postgresShop,
  readRedis,
  readSqlite,
  type ShopDatabase,
} from "../../support/documents/hostile-shop.ts";
import { SmallDisk } from "../../support/faults/small-disk.ts";
import { Random, testSeed } from "../../support/run/random.ts";
import { redisUrl } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const STEPS = 12;

/** The file and its log; what the source lacks, the target has no more. */
function replace(target: string, source?: string): void {
  for (const suffix of ["", "-wal", "-shm"]) {
    rmSync(target + suffix, { force: true });
    if (source !== undefined && existsSync(source + suffix)) copyFileSync(source + suffix, target + suffix);
  }
}

/** Every page but the first is other bytes. */
function damage(path: string): void {
  rmSync(`${path}-wal`, { force: true });
  rmSync(`${path}-shm`, { force: true });
  const file = openSync(path, "r+");
  const page = Buffer.alloc(4096, 0x5a);
  for (let at = 4096; at < statSync(path).size; at += 4096) writeSync(file, page, 0, page.length, at);
  closeSync(file);
}

class Beside implements AsyncDisposable {
  readonly pipeline: RunningPipeline;
  readonly shop: HostileShop;
  readonly #database: ShopDatabase;

  private constructor(pipeline: RunningPipeline, shop: HostileShop, database: ShopDatabase) {
    this.pipeline = pipeline;
    this.shop = shop;
    this.#database = database;
  }

  static async start(nest?: string): Promise<Beside> {
    let made: readonly [ShopDatabase, HostileShop] | undefined;
    const pipeline = await RunningPipeline.start(
      async (source) => {
        const database = postgresShop(source);
        made = [database, new HostileShop(database, new Random(testSeed()))];
        await source.query(HOSTILE_TABLES.join("; "));
        await made[1].fill();
      },
      {
        kinds: ["redis", "sqlite"],
        configure: (config) => ({
          ...config,
          documents: hostileDocuments("public"),
          ...(nest === undefined ? {} : { nest }),
          sinks: {
            redis: { ...config.sinks["redis"], format: "json", documents: ["orders", "people"] },
            sqlite: { ...config.sinks["sqlite"], documents: ["orders", "people"] },
          },
        }),
      },
    );
    return new Beside(pipeline, made![1], made![0]);
  }

  get path(): { readonly nest: string; readonly replica: string; readonly state: string } {
    const { folder, name } = this.pipeline.installation;
    const in_ = (file: string): string => join(folder, file);
    return {
      nest: in_(`.millrace/${name}-documents.db`),
      replica: in_("replica.sqlite"),
      state: in_(`.millrace/${name}.db`),
    };
  }

  async change(): Promise<void> {
    for (let i = 0; i < STEPS; i++) await this.shop.step(false);
  }

  async equal(after: string): Promise<void> {
    const { sinks } = this.pipeline;
    await eventually(async () => {
      await this.pipeline.settled();
      const readers = { redis: readRedis(redisUrl(), sinks.keyPrefix), sqlite: readSqlite(this.path.replica) };
      await expectDocuments(this.#database, readers, `after ${after}`);
    });
  }

  /** The numbers of sinks that do not go on. */
  async refusals(): Promise<Readonly<Record<string, string | undefined>>> {
    const { sinks } = await this.pipeline.installation.status();
    const failed = sinks.filter(({ error }) => error !== null);
    return Object.fromEntries(failed.map(({ name, error }) => [name, error?.code]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.pipeline[Symbol.asyncDispose]();
  }
}

test(
  "the nest is damaged, a target emptied or put back, the state put back, a second daemon",
  { tags: "heavy" },
  async () => {
    await using beside = await Beside.start();
    const { pipeline, path } = beside;
    const { installation } = pipeline;
    const older = (name: string): string => join(installation.folder, `older-${name}`);
    await beside.equal("the start");
    await pipeline.kill();
    for (const name of ["nest", "replica", "state"] as const) replace(older(name), path[name]);
    await pipeline.start();
    await beside.change();
    await beside.equal("changes");

    // A second daemon of the same name.
    const second = await installation.command("run");
    expect(second).toMatchObject({ exitCode: expect.any(Number), stderr: expect.stringMatching(/MR\d{4}/) });
    await beside.change();
    await beside.equal("a second daemon");

    await pipeline.daemon.stop();
    damage(path.nest);
    await beside.change();
    await pipeline.start(false);
    await eventually(async () =>
      expect(await beside.refusals()).toMatchObject({ documents: expect.stringMatching(/^MR3\d{3}$/) }),
    );
    await pipeline.daemon.stop();
    replace(path.nest);
    await pipeline.start();
    await beside.equal("a damaged nest");

    await pipeline.kill();
    using cache = pipeline.cache();
    await cache.unlink(...(await cache.keys(`${pipeline.sinks.keyPrefix}*`)));
    await beside.change();
    await pipeline.start();
    await beside.equal("an emptied cache");

    await pipeline.kill();
    replace(path.state, older("state"));
    await beside.change();
    await pipeline.start(false);
    await beside.equal("the state put back");

    // What the list no longer reaches is refused by a number, and filled again as its hint says.
    await pipeline.kill();
    replace(path.replica, older("replica"));
    await beside.change();
    await pipeline.start(false);
    await eventually(async () => expect(await beside.refusals()).toEqual({ sqlite: "MR1301" }));
    expect(await installation.command("snapshot", "start", "--sink", "sqlite")).toMatchObject({ exitCode: 0 });
    await beside.equal("an older copy of a sink");
  },
);

test("the nest's file is removed, put back from an older copy, and exchanged, while the daemon runs", async () => {
  await using beside = await Beside.start();
  const { pipeline, path } = beside;
  const older = join(pipeline.installation.folder, "older");
  const copied = (): void => {
    using nest = new DatabaseSync(path.nest, { readOnly: true, timeout: 10_000 });
    nest.exec(`VACUUM INTO '${older}'`);
  };
  await beside.equal("the start");
  copied();
  await beside.change();
  replace(path.nest);
  await beside.change();
  await beside.equal("a nest that was removed");
  replace(path.nest, older);
  await beside.change();
  await beside.equal("an older nest");
  writeFileSync(older, "not a database, and longer than the header of one ".repeat(100));
  replace(path.nest, older);
  await beside.change();
  await eventually(async () => expect(await beside.refusals()).toHaveProperty("documents"));
  expect(JSON.stringify(await pipeline.installation.status())).toContain(path.nest);
  replace(path.nest);
  expect(await pipeline.installation.command("resume", "--sink", "documents")).toMatchObject({ exitCode: 0 });
  await beside.change();
  await beside.equal("another file in its place");
});

test("the nest's disk is read-only for a while", { tags: "heavy" }, async ({ skip }) => {
  const disk = await SmallDisk.mount("64m");
  skip(disk === null, "no file system of a size of its own may be mounted here");
  await using mounted = disk!;
  const path = join(mounted.folder, "nest.db");
  await using beside = await Beside.start(path);
  await beside.equal("the start");
  await beside.pipeline.daemon.stop();
  await mounted.become("ro");
  await beside.change();
  await beside.pipeline.start(false);
  await eventually(async () => expect(await beside.refusals()).toEqual({ documents: "MR3203" }));
  expect(JSON.stringify(await beside.pipeline.installation.status())).toContain(path);
  await mounted.become("rw");
  await beside.equal("a disk that was read-only");
});

test("the nest's disk is full for a while", { tags: "heavy" }, async ({ skip }) => {
  const disk = await SmallDisk.mount("4m");
  skip(disk === null, "no file system of a size of its own may be mounted here");
  await using mounted = disk!;
  await using beside = await Beside.start(join(mounted.folder, "nest.db"));
  await beside.equal("the start");
  const filler = join(mounted.folder, "filler");
  for (let size = 4 * 1024 * 1024; size > 1_000; size = Math.floor(size / 2)) {
    try {
      writeFileSync(filler, Buffer.alloc(size), { flag: "a" });
    } catch {
      // Half of it may fit.
    }
  }
  for (let i = 0; i < 30; i++) await beside.change();
  await beside.shop.flood();
  await eventually(async () => expect(await beside.refusals()).toHaveProperty("documents"), { withinMs: 60_000 });
  const { sinks } = await beside.pipeline.installation.status();
  const told = sinks.find(({ name }) => name === "documents")?.error?.message;
  expect(told).toMatch(new RegExp(`is full: .*${mounted.folder}`));
  expect(told).toMatch(/\d+(\.\d+)? [KMG]?i?B|bytes/);
  rmSync(filler);
  await beside.equal("a full disk");
});
