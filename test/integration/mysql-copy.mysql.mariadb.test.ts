/**
 * The initial snapshot of a large table, by several sessions.
 * @module-tag heavy
 */
import { once } from "node:events";
import { createServer } from "node:net";
import { createConnection } from "mysql2/promise";
import { describe, expect, test } from "vitest";
import { freePort } from "../../scripts/services/processes/port.ts";
import { sourceFactory } from "../../connectors/mysql/source/config.ts";
import type { FirstCopy } from "../../src/core/contracts/log-admin.ts";
import type { Block } from "../../src/core/model/block.ts";
import { keyText } from "../../src/core/model/row-id.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { firstVersion } from "../support/model/blocks.ts";
import { believeLarge, KEPT_STATISTICS } from "../support/mysql/mysql-large.ts";
import { type ProxyTarget, tcpProxy } from "../support/network/proxy.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import {
  type FreshMysqlDatabase,
  freshMysqlDatabase,
  mysqlFlavours,
  mysqlUrl,
  ownMysql,
} from "../support/run/services.ts";
import { eventually } from "../support/run/waiting.ts";

const signal = AbortSignal.timeout(300_000);
const SESSIONS = 3;
/** Of a table whose rows do not fit into what waits between server and reader. */
const LONG_ROWS = 1_200;
const LONG = "repeat('long', 5000)";

function contextFor(url: URL, name: string) {
  url.pathname = `/${name}`;
  return { daemon: name, folder: ".", tables: [`${name}.*`], options: { url: url.href, copySessions: SESSIONS } };
}

interface Cut {
  readonly ranges: number;
}

interface Opened extends AsyncDisposable {
  readonly copy: FirstCopy;
  readonly table: (name: string) => TableVersion;
  /** What was logged of tables that were read in ranges. */
  readonly cuts: Cut[];
}

async function opened(url: URL, { name }: FreshMysqlDatabase): Promise<Opened> {
  const cuts: Cut[] = [];
  const info = (fields: object): void => {
    if ("ranges" in fields && typeof fields.ranges === "number") cuts.push({ ...fields, ranges: fields.ranges });
  };
  const log = { ...quietLog, info };
  const source = await sourceFactory.create(contextFor(url, name), log);
  const { copy } = await source.admin.create({ epoch: 1, wantCopy: true, resumeIntent: false }, signal);
  if (copy === null) throw new Error("no copy");
  return {
    copy,
    table: (wanted) => firstVersion(copy.tables.find(({ table }) => table === wanted)!),
    cuts,
    [Symbol.asyncDispose]: async () => {
      await copy.close();
      await source.close();
    },
  };
}

async function keysOf(blocks: AsyncIterable<Block>, table: TableVersion): Promise<string[]> {
  const keys: string[] = [];
  for await (const block of blocks) {
    for (let i = 0; i < block.count; i++) keys.push(keyText(table, block.bytes, block.after[i]!).join("|"));
    block.release();
  }
  return keys.toSorted();
}

async function makeLarge(database: FreshMysqlDatabase, table: string, columns: string, rows: string[]): Promise<void> {
  const { connection } = database;
  await connection.query(`create table ${table} (${columns}) ${KEPT_STATISTICS}`);
  await connection.query(`insert into ${table} values ${rows.join(", ")}`);
  for (const sql of believeLarge(table)) await connection.query(sql);
}

const numbers = (value: (i: number) => bigint | string): string[] =>
  Array.from({ length: 300 }, (_, i) => `(${value(i)})`);

const TABLES: readonly (readonly [table: string, columns: string, rows: string[], key: string, rangesMin: number])[] = [
  ["negative", "k int primary key", numbers((i) => `${i - 150}`), "k", 20],
  ["large_numbers", "k bigint unsigned primary key", numbers((i) => 2n ** 64n - 1n - BigInt(i) * 7n), "k", 20],
  [
    "all_numbers",
    "k bigint primary key",
    ["(-9223372036854775808)", "(9223372036854775807)", ...numbers(String)],
    "k",
    10,
  ],
  ["sparse", "k bigint primary key", ["(4611686018427387904)", ...numbers(String)], "k", 10],
  ["composite", "b int, a int, primary key (a, b)", numbers((i) => `${i}, ${i % 5}`), "concat(a, '|', b)", 5],
  ["tens", "k decimal(30,0) primary key", numbers((i) => `${BigInt(i - 7) * 10n ** 27n}`), "k", 20],
  [
    "ids",
    "k binary(16) primary key",
    numbers((i) => `unhex(left(sha2('${i}', 256), 32))`),
    String.raw`concat('\\x', lower(hex(k)))`,
    20,
  ],
  ["one", "k int primary key", ["(7)"], "k", 1],
];

/** The copy's sessions are in the database, the one that looks at the catalogue is not. */
const COPYING = "select id from information_schema.processlist where db = database() and id <> connection_id()";

async function longTable(database: FreshMysqlDatabase): Promise<void> {
  const { connection } = database;
  await makeLarge(
    database,
    "long_rows",
    "k int primary key, v longtext",
    Array.from({ length: LONG_ROWS }, (_, i) => `(${i}, ${LONG})`),
  );
  await connection.query("set @@session.lock_wait_timeout = 1");
}

/** Accepts connections and closes them. */
async function hangingUp(): Promise<AsyncDisposable & ProxyTarget & { readonly reached: Promise<void> }> {
  const { promise: reached, resolve } = Promise.withResolvers<void>();
  const server = createServer((socket) => {
    socket.destroy();
    resolve();
  });
  const port = await freePort();
  await once(server.listen(port, "127.0.0.1"), "listening");
  return {
    host: "127.0.0.1",
    port,
    reached,
    [Symbol.asyncDispose]: async () => {
      await once(server.close(), "close");
    },
  };
}

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("each row is read once, whatever the key is", async () => {
    await using database = await freshMysqlDatabase(mysqlUrl(flavour));
    for (const [table, columns, rows] of TABLES) await makeLarge(database, table, columns, rows);
    await makeLarge(database, "texts", "k varchar(20) primary key", ["('a')", "('b')"]);
    await makeLarge(database, "chosen", "k int not null unique", ["(1)", "(2)"]);
    await database.connection.query("create table small (k int primary key)");
    await makeLarge(database, "emptied", "k int primary key", ["(1)"]);
    await database.connection.query("delete from emptied");
    await using source = await opened(new URL(mysqlUrl(flavour)), database);
    const { name } = database;
    for (const [table, , , key, rangesMin] of TABLES) {
      const version = source.table(table);
      const expected = (await database.texts(`select ${key} from ${table}`)).map(([text]) => text!);
      expect(await keysOf(source.copy.read(version, signal), version)).toEqual(expected.toSorted());
      const cut = source.cuts.pop();
      expect(cut).toMatchObject({ table: `${name}.${table}`, sessions: SESSIONS });
      expect(cut?.ranges, table).toBeGreaterThanOrEqual(rangesMin);
    }
    for (const [table, rows] of [
      ["texts", ["a", "b"]],
      ["chosen", ["1", "2"]],
      ["small", []],
    ] as const) {
      const version = source.table(table);
      expect(await keysOf(source.copy.read(version, signal), version)).toEqual(rows);
    }
    expect(source.cuts).toEqual([]);
    expect(await keysOf(source.copy.read(source.table("emptied"), signal), source.table("emptied"))).toEqual([]);
  });

  test("a table that was altered since, and one that somebody alters meanwhile", async () => {
    await using database = await freshMysqlDatabase(mysqlUrl(flavour));
    await longTable(database);
    await using source = await opened(new URL(mysqlUrl(flavour)), database);
    const table = source.table("long_rows");
    const blocks = source.copy.read(table, signal)[Symbol.asyncIterator]();
    (await blocks.next()).value?.release();
    const alter = database.connection.query("alter table long_rows add column more int");
    // Error 1205: each session's transaction keeps the table as it is.
    await expect(alter).rejects.toMatchObject({ errno: 1205 });
    await blocks.return?.();
    await eventually(() => database.connection.query("alter table long_rows add column more int"));
    await expect(keysOf(source.copy.read(table, signal), table)).rejects.toMatchObject({ code: "MR2025" });
    expect(source.cuts).toHaveLength(2);
  });

  test("all sessions end with the first that fails, and when they are stopped", async () => {
    await using database = await freshMysqlDatabase(mysqlUrl(flavour));
    await longTable(database);
    await using source = await opened(new URL(mysqlUrl(flavour)), database);
    const table = source.table("long_rows");
    const sessions = async (): Promise<(string | null)[]> =>
      (await database.texts(COPYING)).map(([id]) => id!).toSorted();
    const noneIsLeft = async (): Promise<void> => {
      await eventually(async () => expect(await sessions()).toEqual([]));
    };

    for (const nth of [0, SESSIONS - 1]) {
      const blocks = source.copy.read(table, signal)[Symbol.asyncIterator]();
      (await blocks.next()).value?.release();
      const running = await eventually(async () => {
        const ids = await sessions();
        expect(ids).toHaveLength(SESSIONS);
        return ids;
      });
      await database.connection.query(`kill ${running[nth]!}`);
      const rest = async (): Promise<void> => {
        for (let next = await blocks.next(); next.done !== true; next = await blocks.next()) next.value.release();
      };
      await expect(rest()).rejects.toMatchObject({ kind: "retryable", code: expect.stringMatching(/^MR200[16]$/) });
      await noneIsLeft();
    }

    const stopping = new AbortController();
    const reading = async (): Promise<void> => {
      for await (const block of source.copy.read(table, stopping.signal)) {
        block.release();
        stopping.abort();
      }
    };
    await expect(reading()).rejects.toMatchObject({ code: "MR2029" });
    await noneIsLeft();
  });

  test("a session that was cut without a word is found at the server, or not there; one that has read its part is well", async () => {
    await using database = await freshMysqlDatabase(mysqlUrl(flavour));
    const { connection, name } = database;
    await longTable(database);
    const columns = "tenant int, k int, v longtext, primary key (tenant, k)";
    await makeLarge(database, "of_tenants", columns, [`(1, ${LONG_ROWS}, '')`]);
    await connection.query("insert into of_tenants select 1, k, v from long_rows");
    await using idling = await opened(new URL(mysqlUrl(flavour)), database);
    const ofTenants = idling.copy.read(idling.table("of_tenants"), signal)[Symbol.asyncIterator]();
    let tenantCount = 0;
    const take = async (): Promise<boolean> => {
      const { value, done } = await ofTenants.next();
      if (done === true) return false;
      tenantCount += value.count;
      value.release();
      return true;
    };
    await take();
    // Of all sessions one alone has something to read, and waits for its reader.
    expect(idling.cuts).toMatchObject([{ sessions: SESSIONS, ranges: 1 }]);

    const user = `${name}_cut`;
    await connection.query(`create user ${user}@'%' identified by 'secret'`);
    await connection.query(`grant select, replication slave, replication client, lock tables on *.* to ${user}@'%'`);
    await using proxy = await tcpProxy(mysqlUrl(flavour));
    const url = new URL(proxy.url(mysqlUrl(flavour)));
    // The proxy reads along.
    url.searchParams.set("ssl-mode", "DISABLED");
    url.username = user;
    url.password = "secret";
    await using source = await opened(url, database);
    const blocks = source.copy.read(source.table("long_rows"), signal)[Symbol.asyncIterator]();
    (await blocks.next()).value?.release();
    expect(source.cuts[0]?.ranges).toBeGreaterThan(SESSIONS);
    const held = proxy.hold("long_rows");
    const rest = async (): Promise<void> => {
      for (let next = await blocks.next(); next.done !== true; next = await blocks.next()) next.value.release();
    };
    // The first look gets no answer, which says nothing of the session.
    await using wrong = await hangingUp();
    proxy.redirect(wrong);
    const [ordinary] = await database.texts(
      `select id from information_schema.processlist where user = '${user}' and db = 'information_schema'`,
    );
    await connection.query(`kill ${ordinary![0]}`);
    const ended = expect(rest()).rejects.toMatchObject({ kind: "retryable", code: "MR2022" });
    await Promise.race([wrong.reached, ended]);
    proxy.redirect(mysqlUrl(flavour));
    await ended;
    await held.reached;
    proxy.cut();
    await connection.query(`drop user ${user}@'%'`);

    while (await take());
    expect(tenantCount).toBe(LONG_ROWS + 1);
  });

  test("a user who may have few connections reads by fewer sessions", async () => {
    await using database = await freshMysqlDatabase(mysqlUrl(flavour));
    const { name, connection } = database;
    await longTable(database);
    const user = `${name}_few`;
    await connection.query(`create user ${user}@'%' identified by 'secret' with max_user_connections 3`);
    await connection.query(`grant select, replication slave, replication client, lock tables on *.* to ${user}@'%'`);
    try {
      const url = new URL(mysqlUrl(flavour));
      url.username = user;
      url.password = "secret";
      await using source = await opened(url, database);
      const table = source.table("long_rows");
      expect(await keysOf(source.copy.read(table, signal), table)).toHaveLength(LONG_ROWS);
      // One of the three looks at the catalogue.
      expect(source.cuts).toMatchObject([{ sessions: 2 }]);
      const findings = await sourceFactory.check(contextFor(url, name), signal);
      const fix = expect.stringContaining(`ALTER USER '${user}'@'%' WITH MAX_USER_CONNECTIONS ${2 * SESSIONS + 2};`);
      expect(findings).toContainEqual(expect.objectContaining({ id: "connections", level: "warning", fix }));
      const own = await sourceFactory.check(contextFor(new URL(mysqlUrl(flavour)), name), signal);
      expect(own.filter(({ id }) => id === "connections")).toEqual([]);
    } finally {
      const last = await createConnection({ uri: mysqlUrl(flavour) });
      await last.query(`drop user ${user}@'%'`);
      await last.end();
    }
  });
});

test.runIf(mysqlFlavours.includes("mysql"))(
  "mysql without GTIDs: one lock gives all sessions one snapshot",
  async () => {
    await using server = await ownMysql("mysql", { settings: { "gtid-mode": "OFF" } });
    await using database = await freshMysqlDatabase(server.url);
    const rowCount = 300;
    await makeLarge(database, "moving", "k int primary key", numbers(String));
    const stopping = new AbortController();
    const moving = async (): Promise<void> => {
      const own = await createConnection({ uri: server.url, database: database.name });
      for (let i = 0; !stopping.signal.aborted; i = (i + 1) % rowCount) {
        const keys = [i, 2 * rowCount - 1 - i];
        const sql = `update moving set k = ${2 * rowCount - 1} - k where k in (${keys.join(", ")})`;
        await own.query(sql).catch((error: unknown) => {
          if (!(error instanceof Error) || !/deadlock/i.test(error.message)) throw error;
        });
      }
      await own.end();
    };
    const writing = [moving(), moving()];
    try {
      await using source = await opened(new URL(server.url), database);
      const table = source.table("moving");
      for (let round = 0; round < 10; round++) {
        const keys = (await keysOf(source.copy.read(table, signal), table)).map(Number);
        const rows = new Set(keys.map((key) => Math.min(key, 2 * rowCount - 1 - key)));
        expect({ keys: keys.length, rows: rows.size }).toEqual({ keys: rowCount, rows: rowCount });
      }
      expect(source.cuts).toHaveLength(10);
    } finally {
      stopping.abort();
      await Promise.all(writing);
    }
  },
);
