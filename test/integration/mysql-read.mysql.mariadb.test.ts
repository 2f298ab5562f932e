/** Rows read beside the stream. */
import { firstVersion } from "../support/model/blocks.ts";
import { expect, test } from "vitest";
import { sourceFactory } from "../../connectors/mysql/source/config.ts";
import type { KeyText, RowRange } from "../../src/core/contracts/row-reads.ts";
import { tcpProxy } from "../support/network/proxy.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import type { Source } from "../../src/core/contracts/source.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { freshMysqlDatabase, type MysqlFlavour, mysqlFlavours, mysqlUrl, ownMysql } from "../support/run/services.ts";

const signal = AbortSignal.timeout(100_000);
const row = (i: number): string => `(${i % 10}, 'b${i}', ${i % 70 === 0 ? "'wanted'" : "null"})`;

interface Opened extends AsyncDisposable {
  readonly source: Source;
  readonly table: TableVersion;
  readonly run: (...statements: readonly string[]) => Promise<void>;
}

/** The only table of a new database, made by these statements. */
async function opened(flavour: MysqlFlavour, ...statements: readonly string[]): Promise<Opened> {
  return await openedAt(mysqlUrl(flavour), ...statements);
}

async function openedAt(server: string, ...statements: readonly string[]): Promise<Opened> {
  const database = await freshMysqlDatabase(server);
  const run = async (...more: readonly string[]): Promise<void> => {
    for (const sql of more) await database.connection.query(sql);
  };
  await run(...statements);
  const url = new URL(server);
  url.pathname = `/${database.name}`;
  const settings = { daemon: "d", folder: ".", tables: [`${database.name}.*`], options: { url: url.href } };
  const source = await sourceFactory.create(settings, quietLog);
  await source.admin.create({ epoch: 1, wantCopy: false, resumeIntent: false }, signal);
  const { tables } = await source.catalog.tables(signal);
  return {
    source,
    table: firstVersion(tables[0]!),
    run,
    async [Symbol.asyncDispose]() {
      await source.close();
      await database[Symbol.asyncDispose]();
    },
  };
}

async function chunksOf({ source, table }: Opened, range: Omit<RowRange, "after">) {
  const chunks: { rowCount: number; byteCount: number; last: KeyText | null }[] = [];
  do {
    const after = chunks.at(-1)?.last ?? null;
    const { block, last } = await source.rows.readRange(table, { ...range, after }, signal);
    chunks.push({ rowCount: block?.count ?? 0, byteCount: block?.byteCount ?? 0, last });
    block?.release();
  } while (chunks.at(-1)!.last !== null);
  return chunks;
}

test.each(mysqlFlavours)(
  "%s: under a condition that no index serves a chunk ends after so many rows",
  async (flavour) => {
    await using scene = await opened(
      flavour,
      "create table t (a int, b varchar(20), note varchar(20), primary key (a, b))",
      `insert into t values ${Array.from({ length: 700 }, (_, i) => row(i)).join(", ")}`,
    );
    const chunks = await chunksOf(scene, { where: "note = 'wanted'", scanRowCountMax: 50 });
    expect(chunks.reduce((sum, { rowCount }) => sum + rowCount, 0)).toBe(10);
    expect(chunks.length).toBeGreaterThanOrEqual(14);
  },
);

test.each(mysqlFlavours)("%s: a chunk ends when large rows follow small ones", async (flavour) => {
  await using scene = await opened(
    flavour,
    "create table t (id int primary key, body longtext)",
    `insert into t values ${Array.from({ length: 150 }, (_, i) => `(${i + 1}, 'small')`).join(", ")}`,
    "update t set body = repeat('x', 1000000) where id > 70",
  );
  const chunks = await chunksOf(scene, { where: null });
  let rowCount = 0;
  for (const chunk of chunks) {
    rowCount += chunk.rowCount;
    if (chunk.last !== null) expect(chunk.last).toEqual([String(rowCount)]);
    expect(chunk.byteCount).toBeLessThan(18_000_000);
  }
  expect(rowCount).toBe(150);
});

test.each(mysqlFlavours)(
  "%s: keys are looked up by statements that the server takes, counted in bytes",
  async (flavour) => {
    await using server = await ownMysql(flavour, { settings: { "max-allowed-packet": 32_768 } });
    const keys = Array.from({ length: 60 }, (_, i) => [`${i}${"ü".repeat(500)}`]);
    await using scene = await openedAt(
      server.url,
      "create table t (id varchar(700) character set utf8mb4 collate utf8mb4_bin primary key)",
      ...keys.map(([key]) => `insert into t values ('${key}')`),
    );
    const { block } = await scene.source.rows.readKeys(scene.table, keys, signal);
    expect(block?.count).toBe(keys.length);
    block?.release();
    const long = scene.source.rows.readKeys(scene.table, [["x".repeat(40_000)]], signal);
    await expect(long).rejects.toMatchObject({
      code: "MR2027",
      message: expect.stringContaining("max_allowed_packet"),
    });
  },
);

test.each(mysqlFlavours)("%s: reads take a session that another one gave back, until one fails", async (flavour) => {
  await using proxy = await tcpProxy(mysqlUrl(flavour));
  await using scene = await openedAt(
    proxy.url(mysqlUrl(flavour)),
    "create table t (id int primary key)",
    "insert into t values (1), (2)",
  );
  const { source, table } = scene;
  const read = async (): Promise<void> => {
    const chunks = [
      await source.rows.readRange(table, { after: null, where: null }, signal),
      await source.rows.readKeys(table, [["2"]], signal),
    ];
    expect(chunks.map(({ block }) => block?.count)).toEqual([2, 1]);
    for (const { block } of chunks) block?.release();
  };
  const opened = async (count: number): Promise<number> => {
    const before = proxy.counters.accepted;
    for (let i = 0; i < count; i++) await read();
    return proxy.counters.accepted - before;
  };
  // A machine under load may take longer between two reads than a session is kept.
  await expect.poll(() => opened(3)).toBeLessThanOrEqual(1);
  // Its transaction has ended: it holds no lock.
  await scene.run("set @@session.lock_wait_timeout = 5", "alter table t add column more int default 7");
  await expect(source.rows.readKeys(table, [["2"]], signal)).rejects.toMatchObject({ code: "MR2025" });
  await scene.run("alter table t drop column more");
  expect(await opened(1)).toBeGreaterThan(0);
});
