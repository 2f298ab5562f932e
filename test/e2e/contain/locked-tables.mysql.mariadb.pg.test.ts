/**
 * A table that somebody has locked is named by `status` and read when it can be; the others are read meanwhile.
 * @module-tag heavy
 */
import { describe, expect, test } from "vitest";
import type { SnapshotStatus, StatusDocument } from "../../../src/core/contracts/status.ts";
import { openMysqlDatabase } from "../../support/mysql/mysql-database.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { mysqlFlavours, mysqlUrl, type MysqlFlavour } from "../../support/run/services.ts";
import type { SinkKind } from "../../support/daemon/sink-set.ts";
import { eventually } from "../../support/run/waiting.ts";

const KINDS: readonly SinkKind[] = ["postgres", "duckdb"];
const ROW_COUNT = 600;
/** Rows are read so slowly that `large` takes some ten chunks. */
const SLOWLY_SECONDS = 0.005;

interface Locked extends AsyncDisposable {
  readonly pipeline: MysqlPipeline | RunningPipeline;
  readonly schema: string;
  /** The code that says that a lock was not to be had. */
  readonly code: string;
  readonly slowly: string;
  unlock(): Promise<void>;
  expectEqual(): Promise<void>;
}

const SOURCES = ["postgres", ...mysqlFlavours] as const;

async function locked(source: (typeof SOURCES)[number]): Promise<Locked> {
  return source === "postgres" ? await lockedPostgres() : await lockedMysql(source);
}

async function lockedPostgres(): Promise<Locked> {
  const pipeline = await RunningPipeline.start(
    `create table held (id int primary key, body text);
      create table large (id int primary key, body text);
      insert into held values (1, 'a'), (2, 'b');
      insert into large select g, 'm' || g from generate_series(1, ${ROW_COUNT}) g`,
    { kinds: KINDS },
  );
  await pipeline.settled();
  const holder = await pipeline.source.connect();
  await holder.query("begin; lock table held in access exclusive mode");
  return {
    pipeline,
    schema: "public",
    code: "MR2026",
    slowly: `pg_sleep(${SLOWLY_SECONDS}) is not null`,
    unlock: async () => void (await holder.query("commit")),
    expectEqual: () => pipeline.expectEqual(["held", "large"]),
    async [Symbol.asyncDispose]() {
      await holder.end();
      await pipeline[Symbol.asyncDispose]();
    },
  };
}

async function lockedMysql(flavour: MysqlFlavour): Promise<Locked> {
  const numbers = Array.from({ length: ROW_COUNT }, (_, i) => `(${i}, 'm${i}')`).join(", ");
  const prepare = [
    "create table held (id int primary key, body text)",
    "create table large (id int primary key, body text)",
    "insert into held values (1, 'a'), (2, 'b')",
    `insert into large values ${numbers}`,
  ];
  const pipeline = await MysqlPipeline.start(flavour, prepare, { kinds: KINDS });
  await pipeline.settled();
  const { name } = pipeline.source;
  const { connection: holder } = await openMysqlDatabase(mysqlUrl(flavour), name);
  await holder.query("lock tables held write");
  return {
    pipeline,
    schema: name,
    code: "MR2026",
    slowly: `sleep(${SLOWLY_SECONDS}) = 0`,
    unlock: async () => void (await holder.query("unlock tables")),
    expectEqual: () => pipeline.expectEqual("held", "large"),
    async [Symbol.asyncDispose]() {
      holder.destroy();
      await pipeline[Symbol.asyncDispose]();
    },
  };
}

async function readAgain({ pipeline, schema }: Locked, table: string, where: string | null = null): Promise<void> {
  const body = { tables: [`${schema}.${table}`], where };
  expect(await pipeline.installation.ask<object>("POST", "/api/v1/snapshots", body)).toBeDefined();
}

async function spoil({ pipeline: { sinks }, schema }: Locked, table: string): Promise<void> {
  await sinks.target!.query(`update "${schema}"."${table}" set body = 'spoiled'`);
}

async function snapshots({ pipeline }: Locked, id: string): Promise<readonly SnapshotStatus[]> {
  const listed = await pipeline.installation.ask<readonly SnapshotStatus[]>("GET", "/api/v1/snapshots");
  return listed!.filter(({ tableId, reason }) => tableId === id && reason === "asked for by an operator");
}

async function unreadable({ pipeline }: Locked): Promise<StatusDocument["tables"]["unreadable"]> {
  return (await pipeline.installation.status()).tables.unreadable;
}

describe.concurrent.each(SOURCES)("%s", (source) => {
  test("one table is locked: the others are read, it is named with the reason, and read when it is free", async () => {
    await using scene = await locked(source);
    const { pipeline, schema, code, slowly } = scene;
    const [held, large] = [`${schema}.held`, `${schema}.large`];
    await spoil(scene, "held");
    await spoil(scene, "large");
    await readAgain(scene, "held");
    await readAgain(scene, "large", slowly);

    await eventually(async () => {
      const states = (await snapshots(scene, large)).map(({ state }) => state);
      expect(states).toEqual(["done", "done"]);
    });
    expect(await snapshots(scene, held)).toMatchObject([{ error: { code } }, { error: { code } }]);
    const [named, ...others] = await unreadable(scene);
    expect(others).toEqual([]);
    expect(named).toMatchObject({ table: held, sinks: ["duckdb", "postgres"], error: { code } });
    expect(named!.error.message).toContain(held);
    expect(named!.error.hint).not.toBeNull();
    expect(named!.error.message).toMatch(/(pid|connection) \d+ \((role|user) .* (holds|may hold) it/);
    expect(Date.parse(named!.since)).toBeLessThanOrEqual(Date.parse(named!.error.at));
    const { stdout, exitCode } = await pipeline.installation.command("status");
    expect(exitCode).toBe(0);
    expect(stdout).toContain(`! table ${held} can't be read for duckdb, postgres: ${code} `);
    const list = await pipeline.installation.command("snapshot", "list");
    expect(list.stdout).toMatch(new RegExp(`! \\d+: ${held} can't be read for duckdb: ${code} `));
    const missing = { missing: expect.arrayContaining([expect.stringContaining(code)]) };
    await eventually(async () => {
      expect(await pipeline.installation.ask<object>("POST", "/api/v1/wait", { timeoutMs: 500 })).toMatchObject(
        missing,
      );
    });

    await scene.unlock();
    await scene.expectEqual();
    expect(await unreadable(scene)).toEqual([]);
    expect(await snapshots(scene, held)).toMatchObject([{ error: null }, { error: null }]);
  });
});
