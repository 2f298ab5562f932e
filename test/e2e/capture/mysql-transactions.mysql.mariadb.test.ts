/** MySQL and MariaDB: rows that the log takes back, and those that wait in it for their outcome. */
import { randomUUID } from "node:crypto";
import { createConnection } from "mysql2/promise";
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { mysqlFlavours, mysqlUrl } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const KINDS = ["duckdb"] as const;
const TABLES = [
  "create table t (id int primary key, v varchar(40)) engine = innodb",
  "create table other (id int primary key, v varchar(40)) engine = innodb",
  "create table plain (id int primary key, v varchar(40)) engine = myisam",
];
/** More than is given out at once. */
const WIDE = "alter table t add wide mediumtext";
const FILL = "update t set wide = repeat(hex(id + 4096), 300000) where id between 20 and 21";

/** A session of its own, for XA holds it; what it has left prepared is rolled back, or nobody could drop the table. */
class Xa implements AsyncDisposable {
  readonly xid = `'${randomUUID()}','''b',7`;
  readonly #pipeline: MysqlPipeline;
  readonly #connection: Promise<Awaited<ReturnType<typeof createConnection>>>;

  constructor(pipeline: MysqlPipeline) {
    this.#pipeline = pipeline;
    this.#connection = createConnection({ uri: pipeline.url });
  }

  async prepare(...statements: readonly string[]): Promise<void> {
    await this.run(`xa start ${this.xid}`, ...statements, `xa end ${this.xid}`, `xa prepare ${this.xid}`);
  }

  /** From another session: the one that prepared it is gone. */
  async decide(outcome: "commit" | "rollback"): Promise<void> {
    (await this.#connection).destroy();
    await expect.poll(() => this.#tryTo(outcome)).toBe(true);
  }

  async run(...statements: readonly string[]): Promise<void> {
    for (const sql of statements) await (await this.#connection).query(sql);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // By the session that has it: of one that is gone the server learns later.
    await this.run(`xa rollback ${this.xid}`).catch(() => undefined);
    (await this.#connection).destroy();
  }

  async #tryTo(outcome: string): Promise<boolean> {
    return await this.#pipeline.run(`xa ${outcome} ${this.xid}`).then(
      () => true,
      () => false,
    );
  }
}

async function expectSuspended(pipeline: MysqlPipeline, code: string, ...tables: readonly string[]): Promise<void> {
  await eventually(async () => {
    const { suspended } = (await pipeline.installation.status()).tables;
    expect(suspended.map(({ error, table }) => `${table} ${error?.code}`).toSorted()).toEqual(
      tables.map((table) => `${pipeline.source.name}.${table} ${code}`).toSorted(),
    );
  });
}

/** While others are suspended. */
async function expectFlowing(
  { installation, sinks, source, url }: MysqlPipeline,
  ...names: readonly string[]
): Promise<void> {
  const tables = names.map((table) => ({ schema: source.name, table }));
  await eventually(async () => expect(await sinks.differences(url, installation.folder, tables)).toEqual([]));
}

describe.each(mysqlFlavours)("%s", (flavour) => {
  test(
    "what is rolled back never reaches a sink, and tables without transactions keep theirs",
    { tags: "heavy" },
    async () => {
      await using pipeline = await MysqlPipeline.start(flavour, TABLES, { kinds: KINDS });
      // Without GTIDs' restrictions only: MariaDB then logs what was rolled back, and that it was.
      const plain = (id: number): string[] =>
        flavour === "mysql" ? [] : [`insert into plain values (${id}, 'stays')`];
      await pipeline.run(
        "begin",
        "insert into t values (1, 'keep')",
        "savepoint `A b`",
        "insert into t values (2, 'gone')",
        ...plain(2),
        "update t set v = 'gone' where id = 1",
        "savepoint inner_one",
        "insert into t values (3, 'gone')",
        "rollback to inner_one",
        "insert into t values (4, 'gone')",
        "rollback to `a B`",
        "insert into t values (2, 'keep')",
        "commit",
        "begin",
        "insert into t values (5, 'gone')",
        ...plain(5),
        "create temporary table passing (id int)",
        "rollback",
        "insert into t values (20, 'wide'), (21, 'wide')",
        WIDE,
        "begin",
        "insert into t values (22, 'keep', null)",
        "savepoint large",
        FILL,
        ...plain(20),
        "rollback to large",
        "delete from t where id = 21",
        "commit",
        "begin",
        FILL,
        ...plain(21),
        "savepoint first",
        "rollback",
      );
      await pipeline.expectEqual("t", "plain");
    },
  );

  test("a prepared transaction counts when it is committed, and not where it is rolled back", async () => {
    await using pipeline = await MysqlPipeline.start(flavour, TABLES, { kinds: KINDS });
    await using first = new Xa(pipeline);
    await using second = new Xa(pipeline);
    await using third = new Xa(pipeline);
    await first.prepare(
      "insert into t values (1, 'xa')",
      "savepoint s",
      "update t set v = 'gone' where id = 1",
      "rollback to s",
    );
    await second.prepare("insert into other values (2, 'gone')");
    await pipeline.run("insert into t values (3, 'between')");
    await pipeline.expectEqual("t");
    await first.decide("commit");
    await second.decide("rollback");
    await pipeline.run("insert into other values (2, 'after')", "update t set v = 'later' where id = 1");
    await third.run(
      `xa start ${third.xid}`,
      "insert into t values (4, 'at once')",
      `xa end ${third.xid}`,
      `xa commit ${third.xid} one phase`,
    );
    await pipeline.expectEqual("t", "other");
  });

  test(
    "the tables of one that is larger than what is kept are suspended if it is committed; all others flow",
    { tags: "heavy" },
    async () => {
      const columns = "(id int primary key, v longtext)";
      await using pipeline = await MysqlPipeline.start(
        flavour,
        ["wide", "also", "other", "spared"].map((name) => `create table ${name} ${columns}`),
        { kinds: KINDS },
      );
      await using large = new Xa(pipeline);
      await using dropped = new Xa(pipeline);
      const half = "repeat('x', 7000000)";
      await dropped.prepare(`insert into spared values (1, ${half}), (2, ${half})`);
      await large.prepare(
        "insert into also values (1, 'small')",
        `insert into wide values (2, ${half})`,
        `insert into wide values (3, ${half})`,
        "savepoint s",
        `insert into wide values (4, ${half})`,
        "rollback to s",
      );
      await pipeline.run("insert into other values (1, 'between')");
      await dropped.decide("rollback");
      await pipeline.run("insert into spared values (3, 'x')");
      await pipeline.expectEqual("other", "spared");
      await large.decide("commit");
      await pipeline.run("insert into other values (2, 'behind')");
      await expectSuspended(pipeline, "MR2123", "also", "wide");
      await expectFlowing(pipeline, "other", "spared");
      await pipeline.readAgain("also", "wide");
      await pipeline.expectEqual("also", "wide");
      await using atOnce = new Xa(pipeline);
      await atOnce.run(
        `xa start ${atOnce.xid}`,
        `insert into wide values (5, ${half}), (6, ${half})`,
        `xa end ${atOnce.xid}`,
        `xa commit ${atOnce.xid} one phase`,
      );
      // MariaDB logs it like any other transaction.
      if (flavour === "mariadb") await pipeline.expectEqual("wide");
      else await expectSuspended(pipeline, "MR2123", "wide");
      await pipeline.run("insert into other values (4, 'x')");
      await expectFlowing(pipeline, "other", "also");
    },
  );

  test(
    "one that was prepared before the copy, or before a kill, has its rows when it is committed",
    { tags: "long" },
    async () => {
      const xid = `'${randomUUID()}'`;
      await using pipeline = await MysqlPipeline.start(
        flavour,
        [
          ...TABLES,
          `xa start ${xid}`,
          "insert into t values (1, 'before the copy')",
          `xa end ${xid}`,
          `xa prepare ${xid}`,
        ],
        { kinds: KINDS, url: mysqlUrl(flavour) },
      );
      await pipeline.run(`xa commit ${xid}`, "insert into t values (2, 'x')");
      await pipeline.expectEqual("t");
      await using first = new Xa(pipeline);
      await using second = new Xa(pipeline);
      await using third = new Xa(pipeline);
      await first.prepare("insert into t values (3, 'before the kill')", "update t set v = 'y' where id = 2");
      await third.prepare("insert into other values (5, 'gone')");
      await pipeline.run("flush binary logs", "flush binary logs", "insert into other values (4, 'x')");
      await second.prepare("delete from other where id = 4");
      await pipeline.run("insert into plain values (6, 'x')");
      await pipeline.expectEqual("t", "other", "plain");
      await pipeline.kill();
      await third.decide("rollback");
      await first.decide("commit");
      await pipeline.start();
      await pipeline.expectEqual("t", "other");
      await second.decide("commit");
      await pipeline.run("update t set v = 'last'");
      await pipeline.expectEqual("t", "other");
    },
  );
});

test(
  "MariaDB: the table of a transaction that is rolled back after a part was given out is suspended; all others flow",
  { tags: "heavy" },
  async () => {
    await using pipeline = await MysqlPipeline.start("mariadb", [...TABLES, WIDE], { kinds: KINDS });
    const wide = (id: number): string => `insert into t values (${id}, 'gone', repeat('x', 7000000))`;
    // With a temporary table MariaDB logs what was rolled back.
    const taken = ["create temporary table passing (id int)", wide(1), wide(2), wide(3)];
    await pipeline.run("begin", ...taken, "insert into plain values (1, 'stays')", "rollback");
    await pipeline.run("insert into other values (1, 'behind')");
    await expectSuspended(pipeline, "MR2123", "t");
    await expectFlowing(pipeline, "other", "plain");
    await pipeline.readAgain("t");
    await pipeline.expectEqual("t");
    const inside = ["savepoint s", wide(2), "insert into plain values (2, 'stays')", wide(3), "rollback to s"];
    await pipeline.run("begin", wide(1), ...inside, "insert into other values (2, 'inside')", "commit");
    await expectSuspended(pipeline, "MR2123", "t");
    await expectFlowing(pipeline, "other", "plain");
    await pipeline.readAgain("t");
    await pipeline.expectEqual("t");
  },
);
