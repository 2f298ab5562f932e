/**
 * Limits of a profile, which are meant for people who type statements, end no statement of the sink and cut no answer.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { Client } from "../../connectors/clickhouse/client.ts";
import { definition, factory } from "../../connectors/clickhouse/config.ts";
import { readableServer } from "../../connectors/clickhouse/inspect/readable.ts";
import { classify } from "../../connectors/clickhouse/errors.ts";
import { targetOf } from "../../connectors/clickhouse/names.ts";
import { patch, put, Reports, rowsBatch, timeout } from "../conformance/stage.ts";
import { type Cell, tableVersion, UNCHANGED } from "../support/model/blocks.ts";
import { clickhouseTarget } from "../support/warehouses/clickhouse-target.ts";
import { findMillraceError, withLogin } from "../../src/core/errors.ts";
import { clickhouseGateway, refusal } from "../support/warehouses/clickhouse-gateway.ts";
import { clickhouseUrl, ownClickhouse } from "../support/run/services.ts";
import { askClickhouse } from "../support/warehouses/clickhouse-values.ts";

const HOSTILE: Readonly<Record<string, string>> = {
  max_execution_time: "0.001",
  max_result_rows: "10",
  result_overflow_mode: "break",
  max_rows_to_read: "10",
  read_overflow_mode: "break",
  max_rows_to_group_by: "10",
  max_columns_to_read: "1",
  max_partitions_per_insert_block: "1",
  max_ast_elements: "30",
  max_query_size: "300",
  force_primary_key: "1",
  limit: "3",
  offset: "1",
  http_receive_timeout: "1",
};

const NO_TLS = { ca: undefined, cert: undefined, certKey: undefined, serverName: undefined };
const within = () => AbortSignal.timeout(60_000);

test("what a profile limits is lifted for the sink's statements", async () => {
  await using server = await ownClickhouse();
  const signal = within();
  // The engine in the tests has one session: what is set in it stays until the sink says otherwise.
  for (const [name, value] of Object.entries(HOSTILE)) await askClickhouse(server.url, `SET ${name} = '${value}'`);
  await using client = await Client.open({ url: server.url, tls: NO_TLS, quorum: undefined }, signal);
  expect(client.fixedLimits).toEqual([]);
  await client.run("CREATE TABLE t (id UInt32, part UInt8) ENGINE = MergeTree PARTITION BY part ORDER BY id", signal);
  await client.run("INSERT INTO t SELECT number, number % 5 FROM numbers(100)", signal);
  expect(await client.rows("SELECT id, part FROM t", signal)).toHaveLength(100);
  expect(await client.rows("SELECT id, any(part) FROM t GROUP BY id", signal)).toHaveLength(100);
  const keys = Array.from({ length: 100 }, (_, i) => i).join(", ");
  expect(await client.rows(`SELECT id FROM t WHERE id IN (${keys}) AND part >= 0 AND part < 100`, signal)).toHaveLength(
    100,
  );
});

interface Constraint {
  readonly value: string;
  readonly min?: string;
  readonly max?: string;
  readonly isConst?: boolean;
}

/** A server whose profile has constraints: it refuses other values as ClickHouse does. */
async function constrained(constraints: Readonly<Record<string, Constraint>>) {
  return await clickhouseGateway(clickhouseUrl(), async ({ sql, settings, pass }) => {
    for (const [name, { value, min, max, isConst }] of Object.entries(constraints)) {
      const wanted = settings.get(name);
      if (wanted === null || wanted === value) continue;
      if (constraints.readonly !== undefined)
        return refusal(164, `Cannot modify '${name}' setting in readonly mode. (READONLY)`);
      if (isConst === true)
        return refusal(452, `Setting ${name} should not be changed. (SETTING_CONSTRAINT_VIOLATION)`);
      if (min !== undefined && Number(wanted) < Number(min))
        return refusal(452, `Setting ${name} shouldn't be less than ${min}. (SETTING_CONSTRAINT_VIOLATION)`);
      if (max !== undefined && Number(wanted) > Number(max))
        return refusal(452, `Setting ${name} shouldn't be greater than ${max}. (SETTING_CONSTRAINT_VIOLATION)`);
    }
    const reply = await pass();
    if (!sql.includes("system.settings")) return reply;
    const answer: { data: [[[string, ...unknown[]][]]] } = JSON.parse(reply.body.toString());
    for (const setting of answer.data[0][0]) {
      const found = constraints[setting[0]];
      if (found !== undefined)
        setting.splice(1, 4, found.value, found.min ?? null, found.max ?? null, found.isConst === true ? "1" : "0");
    }
    return { ...reply, body: Buffer.from(JSON.stringify(answer)) };
  });
}

async function openedAt(url: string): Promise<Client> {
  return await Client.open({ url, tls: NO_TLS, quorum: undefined }, within());
}

test("of a limit with a constraint the sink sets what comes nearest to none, and check names what is left", async () => {
  await using gateway = await constrained({
    max_execution_time: { value: "10", min: "1", max: "600" },
    max_rows_to_read: { value: "1000000", min: "1" },
    max_result_rows: { value: "1000000", isConst: true },
    max_query_size: { value: "500", max: "100000" },
  });
  await using client = await openedAt(gateway.url);
  expect(client.fixedLimits).toEqual([
    { name: "max_execution_time", value: "600" },
    { name: "max_result_rows", value: "1000000" },
  ]);
  // As long as the constraint lets a statement be, and no longer.
  expect(await client.rows(`SELECT length('${"x".repeat(80_000)}')`, within())).toEqual([["80000"]]);
  const tooLong = await client
    .rows(`SELECT length('${"x".repeat(120_000)}')`, within())
    .catch((error: unknown) => error);
  const told = classify(tooLong, "reading", within());
  expect(told).toMatchObject({ code: "MR2006", kind: "blocked", message: expect.stringContaining("max_query_size") });
  const context = { name: "columns", daemon: "shop", folder: "/", options: definition.parse({ url: gateway.url }) };
  const findings = await factory.check(context, within());
  const limits = findings.filter(({ id }) => id.endsWith(".limits")).map(({ what }) => what);
  expect(limits).toEqual([
    expect.stringContaining("max_execution_time = 600"),
    expect.stringContaining("max_result_rows = 1000000"),
  ]);
});

test.for([
  ["async_insert", { value: "1", isConst: true }, "async_insert = 1, and the sink needs 0"],
  ["insert_deduplicate", { value: "0", isConst: true }, "insert_deduplicate = 0, and the sink needs 1"],
  ["alter_sync", { value: "1", max: "1" }, "alter_sync = 1, and the sink needs 2"],
  ["offset", { value: "1", min: "1" }, "offset = 1, and the sink needs 0"],
  ["readonly", { value: "1" }, "readonly = 1, and the sink needs 0"],
  ["allow_ddl", { value: "0" }, "allow_ddl = 0, and the sink needs 1"],
] as const)("a profile that keeps %s is told by name, with the value needed", async ([name, constraint, text]) => {
  await using gateway = await constrained({ [name]: constraint });
  const error = findMillraceError(await openedAt(gateway.url).catch((failure: unknown) => failure));
  expect(error).toMatchObject({ code: "MR2005", kind: "blocked", message: expect.stringContaining(text) });
  expect(error?.hint).toContain(`${name} = ${text.at(-1)}`);
  // No one value is enough for this one.
  if (name === "insert_deduplicate") return;
  await using none = await constrained({ [name]: { value: text.at(-1) ?? "", isConst: true } });
  await using client = await openedAt(none.url);
  expect(client.fixedLimits).toEqual([]);
});

test("a mode that cuts answers is refused with a limit that stays, and not without one", async () => {
  const mode = { result_overflow_mode: { value: "break", isConst: true } };
  await using alone = await constrained(mode);
  await using client = await openedAt(alone.url);
  expect(client.fixedLimits).toEqual([]);
  await using gateway = await constrained({ ...mode, max_result_rows: { value: "1000000", isConst: true } });
  await expect(openedAt(gateway.url)).rejects.toMatchObject({ code: "MR2005" });
});

test("a statement that needs more memory than its user may have is told with both numbers", async () => {
  await using server = await ownClickhouse();
  await askClickhouse(server.url, "SET max_memory_usage = '20000000'");
  await using client = await Client.open({ url: server.url, tls: NO_TLS, quorum: undefined }, within());
  const failed = await client
    .rows("SELECT groupArray(repeat('x', 1000)) FROM numbers(1000000)", within())
    .catch((error: unknown) => error);
  const told = classify(failed, "reading", within());
  expect(told).toMatchObject({ code: "MR2006", kind: "blocked" });
  expect(told.message).toMatch(/max_memory_usage: [\d.]+ MiB are too few for at least [\d.]+ MiB/);
});

/** As the server words them; the engine in the tests runs one statement at a time, and has no configuration of a server. */
test.for([
  [202, "Too many simultaneous queries. Maximum: 7", "max_concurrent_queries = 7"],
  [202, "Too many simultaneous insert queries. Maximum: 3", "max_concurrent_insert_queries = 3"],
  [
    202,
    "Too many simultaneous queries for all users. Current: 9, maximum: 8",
    "max_concurrent_queries_for_all_users = 8",
  ],
  [202, "Too many simultaneous queries for user ann 12. Current: 5, maximum: 5", "max_concurrent_queries_for_user = 5"],
  [
    252,
    "Too many parts (3001 with average size of 1.00 KiB) in table 'shop.t'. Merges are slower than inserts",
    "parts_to_throw_insert: 3001 parts",
  ],
  [252, "Too many parts (100001) in all partitions in total in table 'shop.t'", "max_parts_in_total: 100001 parts"],
] as const)("code %i, %s: the setting is named with its value", async ([code, text, told]) => {
  await using gateway = await clickhouseGateway(clickhouseUrl(), async ({ sql, pass }) =>
    sql.includes("'refused'") ? refusal(code, `${text}. (OF_A_LIMIT)`) : await pass(),
  );
  await using client = await openedAt(gateway.url);
  const failed = await client.rows("SELECT 'refused'", within()).catch((error: unknown) => error);
  const error = classify(failed, "writing", within());
  expect(error).toMatchObject({ code: "MR2006", kind: "retryable", message: expect.stringContaining(told) });
  expect(error.message).not.toContain("ann");
  expect(error.hint).toMatch(/max_concurrent_queries|max_parts_in_total/);
});

test.for([
  [201, "Quota for user `ann` for 3600s has been exceeded: queries = 11/10. (QUOTA_EXCEEDED)", "MR2006"],
  [202, "Too many simultaneous queries for user ann. Current: 5, maximum: 5. (OF_A_LIMIT)", "MR2006"],
  [158, "Limit for rows (controlled by 'max_rows_to_read') exceeded. (TOO_MANY_ROWS)", "MR2006"],
  [452, "Setting offset should not be changed. (SETTING_CONSTRAINT_VIOLATION)", "MR2005"],
] as const)("what the user alone may not is told with its name: code %i, %s", async ([code, text, told]) => {
  await using gateway = await clickhouseGateway(clickhouseUrl(), async ({ sql, pass }) =>
    sql.includes("'refused'") ? refusal(code, text) : await pass(),
  );
  await using client = await openedAt(gateway.url);
  const failed = await client.rows("SELECT 'refused'", within()).catch((error: unknown) => error);
  const error = withLogin(classify(failed, "writing", within()), { user: "writer", note: null });
  expect(error).toMatchObject({ code: told, message: expect.stringMatching(/, user "writer"$/) });
});

test("a server that takes one statement at a time gets them one at a time", async () => {
  let open = 0;
  let openMax = 0;
  let isLimited = false;
  await using gateway = await clickhouseGateway(clickhouseUrl(), async ({ sql, pass }) => {
    if (!/^\s*(CREATE TABLE|INSERT INTO `public`)/.test(sql)) return await pass();
    if (isLimited && open > 0) return refusal(202, "Too many simultaneous queries. Maximum: 1. (OF_A_LIMIT)");
    openMax = Math.max(openMax, ++open);
    try {
      return await pass();
    } finally {
      open--;
    }
  });
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, gateway.url);
  const tables = Array.from({ length: 6 }, (_, i) => tableVersion({ table: `t${i}`, columns: { id: "int4" } }));
  const sink = await target.makeSink();
  await sink.open(1, timeout());
  await sink.prepare(tables, timeout());
  expect(openMax).toBeGreaterThan(1);
  isLimited = true;
  const batch = rowsBatch(10n, ...tables.map((table) => [table, [put(["1"], { fresh: true })]] as const));
  const error = findMillraceError(
    await sink.apply(batch, new Reports(), timeout()).catch((failure: unknown) => failure),
  );
  expect(error).toMatchObject({ code: "MR2006", kind: "retryable" });
  await sink.apply(batch, new Reports(), timeout());
  await sink.close();
});

test.for([
  [724, "TOO_MANY_TABLES", "tables", "table"],
  [725, "TOO_MANY_DATABASES", "databases", "database"],
] as const)(
  "with code %i (%s) the table alone waits that the server has no room for",
  async ([code, name, what, one]) => {
    expect(JSON.stringify(await askClickhouse(clickhouseUrl(), `SELECT errorCodeToName(${code})`))).toContain(name);
    let isFull = false;
    await using gateway = await clickhouseGateway(clickhouseUrl(), async ({ sql, pass }) => {
      if (!isFull || !/^\s*CREATE TABLE/.test(sql)) return await pass();
      const limit = `\`max_${one}_num_to_throw\``;
      return refusal(
        code,
        `Too many ${what}. The limit (server configuration parameter ${limit}) is set to 5, the current number is 5. (${name})`,
      );
    });
    await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, gateway.url);
    const [first, second] = ["first", "second"].map((table) => tableVersion({ table, columns: { id: "int4" } }));
    const sink = await target.makeSink();
    await sink.open(1, timeout());
    await sink.prepare([first!], timeout());
    isFull = true;
    const error = findMillraceError(await sink.prepare([second!], timeout()).catch((failure: unknown) => failure));
    expect(error).toMatchObject({ code: "MR2006", kind: "blocked", table: second!.id });
    expect(error?.message).toContain(`max_${one}_num_to_throw = 5`);
    await sink.apply(rowsBatch(10n, [first!, [put(["1"])]]), new Reports(), timeout());
    isFull = false;
    await sink.prepare([second!], timeout());
    await sink.close();
  },
);

test("long keys are compared by statements that a constraint of max_query_size lets be", async () => {
  await using gateway = await constrained({ max_query_size: { value: "262144", isConst: true } });
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, gateway.url);
  const table = tableVersion({ table: "keys", columns: { id: "text" } });
  const sink = await target.makeSink();
  await sink.open(1, timeout());
  await sink.prepare([table], timeout());
  const keys = Array.from({ length: 300 }, (_, i) => [`${"ü".repeat(1_000)} ${i}`] as const);
  await sink.apply(rowsBatch(10n, [table, keys.map((cells) => put(cells, { fresh: true }))]), new Reports(), timeout());
  await using inspection = await sink.comparison!.inspect(timeout());
  expect(await inspection.rows(table, keys, timeout())).toHaveLength(300);
  const readable = await readableServer({ url: gateway.url, tls: NO_TLS, quorum: undefined }, "public", within());
  const found = (await readable.tables(within())).tables.find((one) => one.table === "keys");
  expect(await readable.rowsAt({ ...found!, key: [0] }, [0], keys, within())).toHaveLength(300);
  await readable.close();
  await sink.close();
});

/** What proxies take as an address. */
const ADDRESS_BYTES_MAX = 16_000;

test("a table of 1,600 columns with long names is written", async () => {
  await using gateway = await clickhouseGateway(clickhouseUrl(), async ({ settings, pass }) => {
    if (String(settings).length < ADDRESS_BYTES_MAX) return await pass();
    return { status: 414, headers: {}, body: Buffer.from("URI too long") };
  });
  const form = { deletes: "hard", mode: "mirror" } as const;
  await using target = await clickhouseTarget(form, gateway.url);
  const names = Array.from({ length: 1_599 }, (_, i) => `${"ü".repeat(20)} ${i}`);
  const table = tableVersion({
    table: "wide",
    columns: [["id", "int4"], ...names.map((name) => [name, "text"] as const)],
    key: ["id"],
  });
  const sink = await target.makeSink();
  await sink.open(1, timeout());
  await sink.prepare([table], timeout());
  const [first, second] = ["a", "b"].map((text) => ["1", ...names.map(() => text)]);
  await sink.apply(rowsBatch(10n, [table, [put(first!, { fresh: true })]]), new Reports(), timeout());
  expect((await target.readRows(table)).map(({ cells }) => cells)).toEqual([first]);
  const changed: Cell[] = ["1", "b", ...names.slice(1).map((): Cell => UNCHANGED)];
  await sink.apply(rowsBatch(20n, [table, [patch(changed)]]), new Reports(), timeout());
  expect((await target.readRows(table)).map(({ cells }) => cells)).toEqual([["1", second![1], ...first!.slice(2)]]);
  await sink.close();
});

test("a full disk is told with its path and what is free there", async () => {
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, clickhouseUrl());
  const table = tableVersion({ table: "full", columns: { id: "int4" } });
  const sink = await target.makeSink();
  await sink.open(1, timeout());
  await sink.prepare([table], timeout());
  await target.query("ALTER TABLE public.full MODIFY SETTING min_free_disk_bytes_to_perform_insert = 1000000000000000");
  const failed = sink.apply(rowsBatch(10n, [table, [put(["1"])]]), new Reports(), timeout());
  const error = findMillraceError(await failed.catch((failure: unknown) => failure));
  expect(error).toMatchObject({ code: "MR3213", kind: "blocked", reason: "disk" });
  expect(error?.message).toMatch(/ClickHouse has no disk space left.* \(.*, \/.+ \([\d,]+ bytes free\)/);
  await sink.close();
});

test("what answers in ClickHouse's place is told by its HTTP status", async () => {
  const page = Buffer.from("<html>a page that may hold anything</html>");
  let status = 503;
  await using gateway = await clickhouseGateway(clickhouseUrl(), async () => ({ status, headers: {}, body: page }));
  const check = async () => {
    const context = { name: "columns", daemon: "shop", folder: "/", options: definition.parse({ url: gateway.url }) };
    return await factory.check(context, within());
  };
  for (status of [503, 502, 404, 413, 200]) {
    const [finding] = await check();
    expect(finding).toMatchObject({ id: "clickhouse.columns.connect", level: "error" });
    expect(finding!.what).toContain(`what answers at ${gateway.host} is not ClickHouse: HTTP ${status}`);
    expect(finding!.fix).toMatch(/proxy or load balancer.*`url`/);
    expect(JSON.stringify(finding)).not.toMatch(/gave no answer|anything/);
  }
  status = 401;
  expect(await check()).toMatchObject([
    { what: expect.stringContaining("HTTP 401"), fix: expect.stringMatching(/url/) },
  ]);
});

test("a reserved database: the fix is the sink's, not a column's", () => {
  expect(() => targetOf({ schema: "system", table: "item" }, undefined)).toThrow(
    expect.objectContaining({ code: "MR3117", hint: expect.stringMatching(/^Give the sink a `schema`/) }),
  );
});
