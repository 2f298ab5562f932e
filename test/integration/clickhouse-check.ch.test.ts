/** What `check` says of a ClickHouse sink, and how failures of a real engine are told. */
import { expect, test } from "vitest";
import { definition, factory } from "../../connectors/clickhouse/config.ts";
import { findMillraceError } from "../../src/core/errors.ts";
import type { Batch } from "../../src/core/model/batch.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import { clickhouseGateway, refusal } from "../support/warehouses/clickhouse-gateway.ts";
import { askClickhouse, nameIn } from "../support/warehouses/clickhouse-values.ts";
import { checkpointAt, put, remove, Reports, rowsBatch } from "../conformance/stage.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { clickhouseUrl, freshColumns } from "../support/run/services.ts";

const TABLES = [{ schema: "public", table: "orders" }];
const within = () => AbortSignal.timeout(30_000);

function contextOf(url: string, options: object = {}) {
  return { name: "columns", daemon: "shop", folder: "/", options: definition.parse({ url, ...options }) };
}

function withLogin(url: string, login: string): string {
  return url.replace(/^http:\/\/([^@]*@)?/, `http://${login}@`);
}

test("check finds version, grants and tables in order, and creates nothing", async () => {
  await using database = freshColumns();
  const context = contextOf(clickhouseUrl(), { schema: database.prefix });
  const findings = await factory.check(context, within(), TABLES);
  expect(findings.map(({ id, level }) => [id, level])).toEqual([
    ["clickhouse.columns.connect", "ok"],
    ["clickhouse.columns.grants", "ok"],
    ["clickhouse.columns.statements", "ok"],
  ]);
  expect(await askClickhouse(clickhouseUrl(), `SHOW DATABASES LIKE '${database.prefix}'`)).toEqual([]);
});

test("check names a table that Millrace did not make, and a cluster that is not there", async () => {
  await using database = freshColumns();
  await askClickhouse(clickhouseUrl(), `CREATE DATABASE ${database.prefix}`);
  await askClickhouse(
    clickhouseUrl(),
    `CREATE TABLE ${nameIn(database.prefix, "orders")} (id Int32) ENGINE = MergeTree ORDER BY id`,
  );
  const context = contextOf(clickhouseUrl(), { schema: database.prefix, cluster: "nowhere" });
  const findings = (await factory.check(context, within(), TABLES)).filter(({ level }) => level === "error");
  expect(findings).toMatchObject([
    { id: "clickhouse.columns.table", what: expect.stringContaining("orders") },
    { id: "clickhouse.columns.cluster", what: "the server knows no cluster nowhere" },
  ]);
});

test("a wrong login, a server that is not there and a database that may not be used are told apart", async () => {
  const login = withLogin(clickhouseUrl(), "nobody:secret");
  const [refused] = await factory.check(contextOf(login), within());
  expect(refused).toMatchObject({ level: "error", what: expect.stringContaining("MR2002") });
  const [away] = await factory.check(contextOf("http://127.0.0.1:9"), within());
  expect(away).toMatchObject({ level: "error", what: expect.stringContaining("MR2001") });
  const sink = await factory.create(contextOf(login), quietLog);
  const error = findMillraceError(await sink.open(1, within()).catch((failure: unknown) => failure));
  await sink.close();
  expect(error).toMatchObject({ code: "MR2002", kind: "blocked" });
  for (const text of [error?.message, error?.hint, String(error?.cause)]) expect(text).not.toContain("secret");
});

test("each way in which the server refuses a user has its meaning, under the server's own code", async () => {
  const ways = [
    [720, "USER_EXPIRED", "MR2002", "login"],
    [516, "AUTHENTICATION_FAILED", "MR2002", "login"],
    [195, "IP_ADDRESS_NOT_ALLOWED", "MR2002", "login"],
    [291, "DATABASE_ACCESS_DENIED", "MR2008", "privilege"],
    [497, "ACCESS_DENIED", "MR2008", "privilege"],
    [700, "USER_SESSION_LIMIT_EXCEEDED", "MR2006", "user-limit"],
  ] as const;
  let said = refusal(0, "");
  await using gateway = await clickhouseGateway(clickhouseUrl(), async () => said);
  for (const [number, name, code, reason] of ways) {
    expect(await askClickhouse(clickhouseUrl(), `SELECT errorCodeToName(${number})`)).toEqual([[name]]);
    said = refusal(number, `as ClickHouse says it. (${name})`);
    const sink = await factory.create(contextOf(gateway.url), quietLog);
    const error = findMillraceError(await sink.open(1, within()).catch((failure: unknown) => failure));
    await sink.close();
    expect({ name, error }).toMatchObject({ error: { code, reason, kind: "blocked" } });
  }
});

const own =
  "_millrace_version UInt64, _millrace_commit_time DateTime64(6, 'UTC'), _millrace_exact String, _millrace_deleted UInt8";
const replacing = "ReplacingMergeTree(_millrace_version, _millrace_deleted)";
const orders = tableVersion({ table: "orders", columns: { id: "int4", day: "int4" } });

/** What somebody made in place of the sink's own table, and what is told of it. */
const ALTERED = {
  "another engine": [`ENGINE = MergeTree ORDER BY id`, "its engine is MergeTree, and not ReplacingMergeTree"],
  "no version": [`ENGINE = ReplacingMergeTree ORDER BY id`, "its engine has (), and not (_millrace_version)"],
  "another version": [
    `ENGINE = ReplacingMergeTree(_millrace_commit_time) ORDER BY id`,
    "its engine has (_millrace_commit_time), and not (_millrace_version)",
  ],
  "partitions that a row can change": [
    `ENGINE = ${replacing} PARTITION BY ifNull(day, 0) ORDER BY id`,
    "its partitions depend on day",
  ],
  "an expression as its key": [`ENGINE = ${replacing} ORDER BY intDiv(id, 10)`, "sorting key"],
} as const;

test.for(Object.entries(ALTERED))(
  "a table that was made again with %s is told by check and by the sink",
  async ([, [engine, text]]) => {
    await using database = freshColumns();
    const url = clickhouseUrl();
    await askClickhouse(url, `CREATE DATABASE ${database.prefix}`);
    const name = nameIn(database.prefix, "orders");
    await askClickhouse(url, `CREATE TABLE ${name} (id Int32, day Nullable(Int32), ${own}) ${engine}`);
    const context = contextOf(url, { schema: database.prefix });
    const found = (await factory.check(context, within(), TABLES)).filter(({ level }) => level === "error");
    expect(found).toMatchObject([{ id: "clickhouse.columns.table", what: expect.stringContaining(text) }]);
    const sink = await factory.create({ ...context, name: database.prefix }, quietLog);
    await sink.open(1, within());
    const refused = findMillraceError(await sink.prepare([orders], within()).catch((error: unknown) => error));
    expect(refused).toMatchObject({ kind: "fatal", table: "public.orders" });
    expect(refused?.code).toMatch(/^MR3107$/);
    await sink.forget(within());
    await sink.close();
  },
);

test.for([
  ["mirror", "history"],
  ["history", "mirror"],
] as const)("the table of a %s is refused for a %s, by check and by the sink", async ([made, wanted]) => {
  await using database = freshColumns();
  const contextAs = (mode: string) => contextOf(clickhouseUrl(), { schema: database.prefix, mode });
  const sinkAs = async (mode: string) => {
    const sink = await factory.create({ ...contextAs(mode), name: database.prefix }, quietLog);
    await sink.open(1, within());
    return sink;
  };
  const first = await sinkAs(made);
  await first.prepare([orders], within());
  await first.close();
  const errors = async (mode: string) =>
    (await factory.check(contextAs(mode), within(), TABLES)).filter(({ level }) => level === "error");
  expect(await errors(made)).toEqual([]);
  const other = await sinkAs(wanted);
  const refused = findMillraceError(await other.prepare([orders], within()).catch((error: unknown) => error));
  expect(refused).toMatchObject({ code: "MR3120", kind: "fatal", table: orders.id });
  expect(await errors(wanted)).toMatchObject([
    {
      id: "clickhouse.columns.table",
      what: expect.stringContaining(`holds a ${made}, and the sink is to keep a ${wanted}`),
      fix: refused?.hint,
    },
  ]);
  await other.forget(within());
  await other.close();
});

test("what somebody attached to a table and refuses its rows is told as that table's", async () => {
  await using database = freshColumns();
  const url = clickhouseUrl();
  const context = { ...contextOf(url, { schema: database.prefix }), dropsColumns: () => true };
  const sink = await factory.create({ ...context, name: database.prefix }, quietLog);
  await sink.open(1, within());
  const other = tableVersion({ table: "other", columns: { id: "int4", day: "int4" } });
  await sink.prepare([orders, other], within());
  const name = nameIn(database.prefix, "orders");
  const at = (part: string) => name.replace("orders", part);
  const write = async (commit: bigint) => {
    const rows = [put(["1", "0"])];
    return findMillraceError(
      await sink
        .apply(rowsBatch(commit, [other, rows], [orders, rows]), new Reports(), within())
        .catch((error: unknown) => error),
    );
  };
  const passing = { code: "MR2027", kind: "retryable", table: undefined };
  const refused = { code: "MR2027", kind: "retryable", table: orders.id };
  await askClickhouse(url, `CREATE TABLE ${at("days")} (id Int32) ENGINE = MergeTree ORDER BY id`);
  await askClickhouse(url, `CREATE MATERIALIZED VIEW ${at("by_day")} TO ${at("days")} AS SELECT id FROM ${name}`);
  await askClickhouse(url, `DROP TABLE ${at("days")} SYNC`);
  expect(await write(10n)).toMatchObject(passing);
  expect(await write(10n)).toMatchObject({ ...refused, message: expect.stringContaining("attached") });
  await askClickhouse(url, `DROP VIEW ${at("by_day")} SYNC`);
  const thrower = `ENGINE = MergeTree ORDER BY tuple() AS SELECT intDiv(id, day) AS id FROM ${name}`;
  await askClickhouse(url, `CREATE MATERIALIZED VIEW ${at("by_day")} ${thrower}`);
  expect(await write(20n)).toMatchObject(passing);
  expect(await write(20n)).toMatchObject({ ...refused, message: expect.stringContaining("ILLEGAL_DIVISION") });
  const narrower = tableVersion({ table: "orders", columns: { id: "int4" }, version: 2 });
  const altered = await sink.prepare([narrower], within()).catch((error: unknown) => error);
  expect(findMillraceError(altered)).toMatchObject({ code: "MR2027", kind: "fatal", table: orders.id });
  await askClickhouse(url, `DROP VIEW ${at("by_day")} SYNC`);
  expect(await write(30n)).toBeUndefined();
  await sink.forget(within());
  await sink.close();
});

test("a table whose rows are refused for a column is entered again, and no other one", async () => {
  await using database = freshColumns();
  const url = clickhouseUrl();
  const altered: string[] = [];
  await using gateway = await clickhouseGateway(url, async ({ sql, pass }) => {
    if (sql.startsWith("ALTER TABLE")) altered.push(sql);
    return await pass();
  });
  const sink = await factory.create(
    { ...contextOf(gateway.url, { schema: database.prefix }), name: database.prefix },
    quietLog,
  );
  const other = tableVersion({ table: "other", columns: { id: "int4", day: "int4" } });
  await sink.open(1, within());
  await sink.prepare([orders, other], within());
  const name = nameIn(database.prefix, "orders");
  await askClickhouse(url, `ALTER TABLE ${name} ADD COLUMN extra Int32`);
  const view = name.replace("orders", "extras");
  await askClickhouse(url, `CREATE MATERIALIZED VIEW ${view} ENGINE = Null AS SELECT extra FROM ${name}`);
  await askClickhouse(url, `ALTER TABLE ${name} RENAME COLUMN extra TO more`);
  altered.length = 0;
  const write = async (commit: bigint) => {
    const rows = [put(["1", "0"])];
    return await sink
      .apply(rowsBatch(commit, [other, rows], [orders, rows]), new Reports(), within())
      .catch((error: unknown) => findMillraceError(error));
  };
  expect(await write(10n)).toMatchObject({ code: "MR2027", kind: "retryable", table: undefined });
  expect(await write(10n)).toMatchObject({ code: "MR2027", kind: "retryable", table: orders.id });
  await askClickhouse(url, `DROP VIEW ${view} SYNC`);
  expect(await write(10n)).toBeUndefined();
  expect(altered).toEqual([]);
  await sink.forget(within());
  await sink.close();
});

for (const mode of ["mirror", "history"] as const)
  test(`a row that breaks a constraint of the table is one dead letter, and the others are written: ${mode}`, async () => {
    await using database = freshColumns();
    const url = clickhouseUrl();
    const sink = await factory.create(
      { ...contextOf(url, { schema: database.prefix, mode }), name: database.prefix },
      quietLog,
    );
    await sink.open(1, within());
    await sink.prepare([orders], within());
    const name = nameIn(database.prefix, "orders");
    await askClickhouse(url, `ALTER TABLE ${name} ADD CONSTRAINT small CHECK day < 10`);
    const days = [1, 2, 30, 4, 5, 60, 7];
    const reports = new Reports();
    const rows = days.map((day, i) => put([`${i}`, `${day}`]));
    await sink.apply(rowsBatch(10n, [orders, rows]), reports, within());
    expect(reports.poisons.map(({ entry, error: { code, kind } }) => [entry, code, kind])).toEqual([
      [2, "MR3111", "poison"],
      [5, "MR3111", "poison"],
    ]);
    const written = await askClickhouse(url, `SELECT day FROM ${name} ORDER BY day`);
    expect(written.map(([day]) => Number(day))).toEqual([1, 2, 4, 5, 7]);
    await sink.forget(within());
    await sink.close();
  });

for (const [mode, isRemoval] of [
  ["mirror", "_millrace_deleted = 1"],
  ["history", "_millrace_op IN ('d', 't')"],
] as const)
  test(`a constraint that refuses deletes suspends the table, and one that takes them does not: ${mode}`, async () => {
    await using database = freshColumns();
    const url = clickhouseUrl();
    const context = contextOf(url, { schema: database.prefix, mode });
    const sink = await factory.create({ ...context, name: database.prefix }, quietLog);
    await sink.open(1, within());
    await sink.prepare([orders], within());
    const name = nameIn(database.prefix, "orders");
    const reports = new Reports();
    const written = async (batch: Batch) =>
      findMillraceError(await sink.apply(batch, reports, within()).catch((error: unknown) => error));
    const left = async (sql: string) => (await askClickhouse(url, sql)).map(([id]) => Number(id));
    const latest = `SELECT id FROM ${name} FINAL ORDER BY id, _millrace_version DESC LIMIT 1 BY id`;
    const live = `SELECT id FROM (${latest.replace("SELECT id", "SELECT id, _millrace_deleted AS gone")}) WHERE gone = 0 ORDER BY id`;
    expect(await written(rowsBatch(10n, [orders, [1, 2, 3].map((id) => put([`${id}`, "5"]))]))).toBeUndefined();
    await askClickhouse(url, `ALTER TABLE ${name} ADD CONSTRAINT small CHECK day < 10`);
    const hint = expect.stringContaining(`\`${isRemoval} OR\``);
    const refused = { code: "MR2027", kind: "retryable", table: orders.id, hint };
    const changes = [put(["4", "40"]), remove(["1", null]), put(["5", null])];
    const deletes = rowsBatch(20n, [orders, changes]);
    const emptied: Batch = {
      kind: "truncate",
      table: orders,
      version: rowVersion(1, 30n),
      checkpoint: checkpointAt(30n),
    };
    for (const batch of [deletes, emptied]) expect(await written(batch)).toMatchObject(refused);
    expect(reports.poisons).toEqual([]);
    expect(await left(live)).toEqual([1, 2, 3]);
    await askClickhouse(url, `ALTER TABLE ${name} DROP CONSTRAINT small`);
    await askClickhouse(url, `ALTER TABLE ${name} ADD CONSTRAINT small CHECK ${isRemoval} OR day < 10`);
    expect(await written(deletes)).toBeUndefined();
    expect(reports.poisons.map(({ entry }) => entry)).toEqual([0, 2]);
    expect(await left(live)).toEqual([2, 3]);
    expect(await written(emptied)).toBeUndefined();
    const many = rowsBatch(40n, [orders, Array.from({ length: 22 }, (_, id) => put([`${id}`, "40"]))]);
    expect(await written(many)).toMatchObject({ ...refused, message: expect.stringContaining("20 rows") });
    await sink.forget(within());
    await sink.close();
  });

test("a table whose rows are refused in turn by two codes is at fault", async () => {
  await using database = freshColumns();
  const left: number[] = [473, 395, 473];
  await using gateway = await clickhouseGateway(clickhouseUrl(), async ({ sql, pass }) => {
    const code = sql.includes("FORMAT RowBinary") ? left.shift() : undefined;
    return code === undefined ? await pass() : refusal(code, "Refused. (REFUSED)");
  });
  const sink = await factory.create(
    { ...contextOf(gateway.url, { schema: database.prefix }), name: database.prefix },
    quietLog,
  );
  await sink.open(1, within());
  await sink.prepare([orders], within());
  const tables: unknown[] = [];
  while (left.length > 0) {
    const refused = sink.apply(rowsBatch(10n, [orders, [put(["1", "0"])]]), new Reports(), within());
    tables.push(findMillraceError(await refused.catch((error: unknown) => error))?.table);
  }
  expect(tables).toEqual([undefined, undefined, orders.id]);
  await sink.forget(within());
  await sink.close();
});

test("what ClickHouse answers once to a table's rows, whatever its code is, is repeated and blames no table", async () => {
  await using database = freshColumns();
  const left: (number | undefined)[] = [473, undefined, 473];
  await using gateway = await clickhouseGateway(clickhouseUrl(), async ({ sql, pass }) => {
    const code = sql.includes("FORMAT RowBinary") ? left.shift() : undefined;
    return code === undefined ? await pass() : refusal(code, "Locking attempt timed out. (DEADLOCK_AVOIDED)");
  });
  const context = contextOf(gateway.url, { schema: database.prefix });
  const sink = await factory.create({ ...context, name: database.prefix }, quietLog);
  await sink.open(1, within());
  await sink.prepare([orders], within());
  const write = async (commit: bigint) => {
    const applied = sink.apply(rowsBatch(commit, [orders, [put(["1", "0"])]]), new Reports(), within());
    return findMillraceError(await applied.catch((error: unknown) => error));
  };
  for (const commit of [10n, 20n]) {
    const told = await write(commit);
    expect(told).toMatchObject({ code: "MR2027", kind: "retryable", message: expect.stringContaining("473") });
    expect(told?.table).toBeUndefined();
    expect(await write(commit)).toBeUndefined();
  }
  expect(left).toEqual([]);
  await sink.forget(within());
  await sink.close();
});

test("what an operator may add to a table is in order, and a TTL is a warning", async () => {
  await using database = freshColumns();
  const url = clickhouseUrl();
  const context = { ...contextOf(url, { schema: database.prefix }), name: database.prefix };
  const sink = await factory.create(context, quietLog);
  await sink.open(1, within());
  await sink.prepare([orders], within());
  const name = nameIn(database.prefix, "orders");
  const statements = [
    `ALTER TABLE ${name} MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild'`,
    `ALTER TABLE ${name} ADD PROJECTION by_day (SELECT day, count() GROUP BY day)`,
    `ALTER TABLE ${name} ADD INDEX by_day_index day TYPE minmax`,
    `CREATE MATERIALIZED VIEW ${name.replace("orders", "days")} ENGINE = SummingMergeTree ORDER BY id AS SELECT id FROM ${name}`,
  ];
  for (const sql of statements) await askClickhouse(url, sql);
  const findings = async () =>
    (await factory.check(context, within(), TABLES)).filter(({ id }) => id === `clickhouse.${context.name}.table`);
  expect(await findings()).toEqual([]);
  await sink.prepare([{ ...orders }], within());
  expect(await sink.presence!.missing([orders], within())).toEqual([]);
  await askClickhouse(url, `ALTER TABLE ${name} MODIFY TTL toDateTime(_millrace_commit_time) + INTERVAL 1 YEAR`);
  expect(await findings()).toMatchObject([{ level: "warning", what: expect.stringContaining("TTL") }]);
  expect(await sink.presence!.missing([orders], within())).toEqual([]);
  await sink.forget(within());
  await sink.close();
});

/** What else can have a table's name (a Distributed table needs a cluster, and is as a Merge), with the columns of a table that Millrace made: `like` is such a table. */
const KINDS = {
  "a view": (name: string, like: string) => `CREATE VIEW ${name} AS SELECT * FROM ${like}`,
  "a materialized view": (name: string, like: string) =>
    `CREATE MATERIALIZED VIEW ${name} ENGINE = MergeTree ORDER BY id AS SELECT * FROM ${like}`,
  "a buffer": (name: string, like: string) =>
    `CREATE TABLE ${name} AS ${like} ENGINE = Buffer(${like.replace(".", ", ")}, 1, 1, 1, 1, 1, 1, 1)`,
  "a merge of tables": (name: string, like: string) =>
    `CREATE TABLE ${name} AS ${like} ENGINE = Merge(${like.split(".")[0]}, '^like$')`,
  "a dictionary": (name: string, like: string) =>
    `CREATE DICTIONARY ${name} (id UInt64, day Nullable(Int32)) PRIMARY KEY id SOURCE(CLICKHOUSE(TABLE 'like' DB '${like.split(".")[0]!.replaceAll("`", "")}')) LAYOUT(FLAT()) LIFETIME(0)`,
  "a table that keeps nothing": (name: string, like: string) => `CREATE TABLE ${name} AS ${like} ENGINE = Null`,
} as const;

test.for(Object.entries(KINDS))("where a table's name is %s, the table is refused and told", async ([, create]) => {
  await using database = freshColumns();
  const url = clickhouseUrl();
  await askClickhouse(url, `CREATE DATABASE ${database.prefix}`);
  const [name, like] = [nameIn(database.prefix, "orders"), nameIn(database.prefix, "like")];
  await askClickhouse(
    url,
    `CREATE TABLE ${like} (id Int32, day Nullable(Int32), ${own}) ENGINE = ${replacing} ORDER BY id`,
  );
  await askClickhouse(url, create(name, like));
  const context = contextOf(url, { schema: database.prefix });
  const findings = (await factory.check(context, within(), TABLES)).filter(({ level }) => level === "error");
  expect(findings).toMatchObject([
    { id: "clickhouse.columns.table", fix: expect.stringMatching(/^rename or drop it/) },
  ]);
  const sink = await factory.create({ ...context, name: database.prefix }, quietLog);
  await sink.open(1, within());
  const refused = findMillraceError(await sink.prepare([orders], within()).catch((error: unknown) => error));
  const hint = expect.stringMatching(/^Rename or drop it/);
  expect(refused).toMatchObject({ code: "MR3106", kind: "fatal", table: "public.orders", hint });
  expect(await askClickhouse(url, `SELECT count() FROM ${like}`)).toEqual([["0"]]);
  await sink.forget(within());
  await sink.close();
});
