/**
 * Who keeps a table from being read is named with its age and statement; so is the grant that is missing for it.
 * @module-tag heavy
 */
import { describe, expect, test } from "vitest";
import { lockHolders } from "../../connectors/mysql/source/snapshot/lock-waits.ts";
import { Server } from "../../connectors/mysql/source/wire/server.ts";
import { parseMysqlUrl } from "../../connectors/mysql/url.ts";
import { createConnection, type Connection } from "mysql2/promise";
import type { FreshMysqlDatabase } from "../support/mysql/mysql-database.ts";
import { freshMysqlDatabase, type MysqlFlavour, mysqlFlavours, mysqlUrl, ownMysql } from "../support/run/services.ts";

const MEASURED = {
  "performance-schema": "ON",
  "performance-schema-instrument": "wait/lock/metadata/sql/mdl=ON",
  // MariaDB's default is off.
  "performance-schema-consumer-events-statements-current": "ON",
} as const;

class Scene implements AsyncDisposable {
  readonly #others: Connection[] = [];
  readonly #pending: Promise<unknown>[] = [];
  readonly url: string;
  readonly database: FreshMysqlDatabase;

  constructor(url: string, database: FreshMysqlDatabase) {
    this.url = url;
    this.database = database;
  }

  /** Another session; its number. */
  async session(...statements: readonly string[]): Promise<string> {
    const other = await createConnection({ uri: this.url, database: this.database.name });
    this.#others.push(other);
    for (const sql of statements) await other.query(sql);
    return String(other.threadId);
  }

  /** A session whose statement waits; its number. */
  async waiting(sql: string, state = /^Waiting for|^User sleep/): Promise<string> {
    const id = await this.session();
    this.#pending.push(
      this.#others
        .at(-1)!
        .query(sql)
        .catch(() => undefined),
    );
    await expect
      .poll(() => this.database.texts(`select state from information_schema.processlist where id = ${id}`))
      .toEqual([[expect.stringMatching(state)]]);
    return id;
  }

  async told(user = "root"): Promise<{ readonly what: string; readonly fix: string } | null> {
    const url = new URL(this.url);
    url.username = user;
    const server = new Server(parseMysqlUrl(url.href, "."), 1);
    return await lockHolders(server, { schema: this.database.name, table: "t" }, AbortSignal.timeout(30_000));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { threadId } of this.#others) await this.database.connection.query(`kill ${threadId}`);
    await Promise.all(this.#pending);
    for (const other of this.#others) other.destroy();
    await this.database[Symbol.asyncDispose]();
  }
}

async function scene(url: string): Promise<Scene> {
  const database = await freshMysqlDatabase(url);
  await database.connection.query("create table t (id int primary key, v varchar(20))");
  await database.connection.query("insert into t values (1, 'a')");
  return new Scene(url, database);
}

async function measured(flavour: MysqlFlavour) {
  return await ownMysql(flavour, { settings: MEASURED });
}

const HELD = "select * from t where v <> 'secret'";

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("with the server's own list of locks: the one that holds it, and the one that waits for it in front of us", async () => {
    await using server = await measured(flavour);
    await using one = await scene(server.url);
    const { name, connection } = one.database;
    const holder = await one.session("start transaction", HELD);
    // It has nothing to do with the table.
    await one.session("create table other (id int primary key)", "start transaction", "insert into other values (1)");
    const waiter = await one.waiting("alter table t add column held varchar(7)");
    const told = await one.told();
    expect(told?.what).toMatch(
      new RegExp(
        `^connection ${holder} \\(user root from \\S+, .*last statement: select \\* from t where v <> \\?\\) holds it; ` +
          `connection ${waiter} \\(user root from .*, statement: alter table t add column held varchar\\(\\?\\)\\) waits for it too$`,
      ),
    );
    if (flavour === "mysql") expect(told?.what).toMatch(/its transaction is \d+ (?:s|min) old, idle in transaction/);
    expect(told?.fix).toMatch(new RegExp(`by KILL ${holder}; Millrace tries again`));

    await connection.query("create user millrace@'%'");
    await connection.query(`grant select on ${name}.* to millrace@'%'`);
    const [what, grant] = ["who holds it is hidden from our user", /^GRANT (.+) TO 'millrace'@'%';/];
    const hidden = await one.told("millrace");
    expect(hidden).toMatchObject({ what, fix: expect.stringMatching(grant) });
    await connection.query(grant.exec(hidden!.fix)![0]);
    expect((await one.told("millrace"))?.what).toMatch(
      flavour === "mysql" ? `connection ${holder} ` : new RegExp(`connection ${holder} \\(.* (may hold|holds) it`),
    );
  });

  test("a prepared transaction whose session is gone is named with its age and what ends it", async () => {
    await using server = await measured(flavour);
    await using one = await scene(server.url);
    const session = await createConnection({ uri: server.url, database: one.database.name });
    for (const sql of ["start 'x'", "insert into t values (2, 'b')", "end 'x'", "prepare 'x'"])
      await session.query(sql.startsWith("insert") ? sql : `xa ${sql}`);
    await session.end();
    await one.waiting("alter table t add column held int", flavour === "mysql" ? undefined : /^preparing for alter/);
    const age = /the prepared transaction 'x'.* \(begun \d+ (?:s|min) ago, its session is gone\)/.source;
    await expect
      .poll(async () => (await one.told())?.what)
      .toMatch(
        new RegExp(
          flavour === "mysql"
            ? `^${age} holds it; connection \\d+ \\(.*alter table`
            : `^connection \\d+ \\(.*alter table.*\\) holds it; ${age} may hold that up$`,
        ),
      );
    expect((await one.told())?.fix).toMatch(/End it: XA COMMIT 'x'.*; or XA ROLLBACK 'x'.*; /);
    await one.database.connection.query("xa rollback 'x'");
  });

  test("a session that has locked the table", async () => {
    await using server = await measured(flavour);
    await using one = await scene(server.url);
    await one.session("lock tables t write");
    expect((await one.told())?.what).toMatch(/last statement: lock tables t write\) holds it$/);
  });

  test("a statement that FLUSH TABLES waits for, and that waits behind it", async (context) => {
    context.skip(flavour === "mariadb", "its FLUSH TABLES waits for no reader");
    await using server = await measured(flavour);
    await using one = await scene(server.url);
    await one.waiting("select sleep(100) from t");
    await one.waiting("flush tables with read lock");
    expect((await one.told())?.what).toMatch(
      /statement: select sleep\(\?\) from t\) holds it; connection \d+ \(.*flush tables with read lock\) waits for it too$/,
    );
  });

  test("without that list: those that may hold it, and how it would be known for certain", async () => {
    await using one = await scene(mysqlUrl(flavour));
    const holder = await one.session("start transaction", HELD);
    await one.waiting("alter table t add column held int");
    const told = await one.told();
    expect(told?.what).toMatch(
      new RegExp(
        `connection ${holder} \\(user root from \\S+, its transaction is \\d+ (?:s|min) old, idle in transaction\\) may hold it`,
      ),
    );
    expect(told?.what).toMatch(/statement: alter table t add column held int\) waits for it too$/);
    expect(told?.fix).toMatch(
      flavour === "mysql" ? /performance_schema = ON/ : /INSTALL SONAME 'metadata_lock_info'; lets Millrace/,
    );
  });
});
