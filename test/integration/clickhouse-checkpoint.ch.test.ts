/**
 * A ClickHouse sink's checkpoint that somebody put back or a replica does not show, and processes that take it over.
 */
import { expect, test } from "vitest";
import { checkpointAt, failure, put, Reports, rowsBatch, timeout } from "../conformance/stage.ts";
import { type ClickhouseTarget, clickhouseTarget } from "../support/warehouses/clickhouse-target.ts";
import { nameIn } from "../support/warehouses/clickhouse-values.ts";
import { httpGateway } from "../support/network/http-gateway.ts";
import { clickhouseGateway, refusal } from "../support/warehouses/clickhouse-gateway.ts";
import { FormerAnswers } from "../support/warehouses/clickhouse-replicas.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { definition, factory } from "../../connectors/clickhouse/config.ts";
import { clickhouseUrl } from "../support/run/services.ts";

const COPY = "millrace.copied_progress";

test("a checkpoint that was put back to an older copy is taken over, and written on", async () => {
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, clickhouseUrl());
  const first = await target.makeSink();
  await first.open(1, timeout());
  const write = async (sink: typeof first, at: bigint): Promise<void> =>
    await sink.apply({ kind: "checkpoint", checkpoint: checkpointAt(at) }, new Reports(), timeout());
  await write(first, 10n);
  const own = `sink = '${target.sink}'`;
  await target.query(
    `CREATE TABLE ${COPY} ENGINE = MergeTree ORDER BY sink AS SELECT * FROM millrace.progress FINAL WHERE ${own}`,
  );
  for (let at = 11n; at < 20n; at++) await write(first, at);
  await target.query(`ALTER TABLE millrace.progress DELETE WHERE ${own} SETTINGS mutations_sync = 2`);
  await target.query(`INSERT INTO millrace.progress SELECT * FROM ${COPY}`);
  await target.query(`DROP TABLE ${COPY} SYNC`);
  await first.close();
  const second = await target.makeSink();
  const held = await second.open(2, timeout());
  expect(held?.position.commit).toBe(10n);
  for (let at = 11n; at < 25n; at++) await write(second, at);
  expect((await second.look(timeout()))?.position.commit).toBe(24n);
  await second.close();
});

test("a sink that forgets its checkpoint leaves the table to those that have just begun to use it", async () => {
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, clickhouseUrl());
  await using other = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, clickhouseUrl());
  const [going, coming] = [await target.makeSink(), await other.makeSink()];
  await going.open(1, timeout());
  await going.apply({ kind: "checkpoint", checkpoint: checkpointAt(10n) }, new Reports(), timeout());
  // Whatever the order of these two is.
  await Promise.all([going.forget(timeout()), coming.open(1, timeout())]);
  await coming.apply({ kind: "checkpoint", checkpoint: checkpointAt(20n) }, new Reports(), timeout());
  await coming.verify(timeout());
  expect(await going.look(timeout())).toBeNull();
  // Others on this server may have tables that are shared, and a table of their owners.
  const tables = await target.query("SELECT name FROM system.tables WHERE database = 'millrace'");
  expect(tables).toEqual(expect.arrayContaining([["progress"], ["targets"]]));
  for (const sink of [going, coming]) await sink.close();
});

const shown = (...rows: readonly (readonly string[])[]) => ({
  status: 200,
  headers: { "x-clickhouse-summary": "{}" },
  body: JSON.stringify({ data: rows }),
});

/** Simulates replicas: a gateway that answers such reads as it answered them before, as long as it is asked to. */
async function staleGateway(isRead: (sql: string) => boolean = (sql) => sql.startsWith("SELECT revision")) {
  const state = { isStale: false, remembers: true, reads: 0 };
  const former = new FormerAnswers();
  const gateway = await clickhouseGateway(clickhouseUrl(), async (statement) => {
    if (!isRead(statement.sql)) return await statement.pass();
    state.reads++;
    const old = state.isStale ? former.to(statement) : undefined;
    if (old !== undefined) return old;
    const reply = await statement.pass();
    if (!state.isStale && state.remembers) former.keep(statement, reply);
    return reply;
  });
  return { ...gateway, state };
}

test("a checkpoint that a replica does not show yet is waited for with pauses; our own lease is no stranger's", async () => {
  await using gateway = await staleGateway();
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, gateway.url);
  const sink = await target.makeSink();
  await sink.open(1, timeout());
  const write = async (at: bigint): Promise<void> =>
    await sink.apply({ kind: "checkpoint", checkpoint: checkpointAt(at) }, new Reports(), timeout());
  await write(10n);
  const { state } = gateway;
  state.isStale = true;
  state.reads = 0;
  setTimeout(() => (state.isStale = false), 300);
  await write(11n);
  expect(state.reads).toBeLessThan(10);
  state.isStale = true;
  state.reads = 0;
  // For good: it is told, and may pass.
  await expect(write(12n)).rejects.toMatchObject({ code: "MR1308", kind: "retryable" });
  expect(state.reads).toBeLessThan(30);
  state.isStale = false;
  const held = await sink.open(1, timeout());
  expect(held?.position.commit).toBe(12n);
  await write(13n);
  await sink.close();
});

const users = tableVersion({ table: "users", columns: { id: "int4", name: "text" } });

const widened = tableVersion({ table: "users", columns: { id: "int4", name: "text", note: "text" }, version: 2 });

test("what lists of a replica do not show yet is neither lost nor foreign", async () => {
  await using gateway = await staleGateway((sql) => /^SELECT[^]* FROM (system|`millrace`\.`targets`)/.test(sql));
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, gateway.url);
  const { state } = gateway;
  const sink = await target.makeSink();
  const staleFor = (ms: number): void => {
    state.isStale = true;
    state.reads = 0;
    setTimeout(() => (state.isStale = false), ms);
  };
  await sink.open(1, timeout());
  const presence = sink.presence!;
  // Every list is remembered as it is without the table.
  expect(await presence.missing([users], timeout())).toEqual([users]);
  expect(await presence.foreign!([users], timeout())).toEqual([]);
  staleFor(300);
  await sink.prepare([users], timeout());
  await sink.apply(rowsBatch(10n, [users, [put(["1", "ann"])]]), new Reports(), timeout());
  staleFor(300);
  await sink.verify(timeout());
  expect(await presence.missing([users], timeout())).toEqual([]);
  // A table that is really gone is told.
  await target.query("DROP TABLE public.users SYNC");
  expect(await presence.missing([users], timeout())).toEqual([users]);
  await sink.close();
});

test("a table that the server hides from its user is not gone: it alone waits, and nothing is read again", async () => {
  let isRevoked = false;
  await using gateway = await httpGateway(clickhouseUrl(), async ({ body, pass }) => {
    const sql = body.toString("latin1");
    if (!isRevoked) return await pass();
    // As the server does without a grant: its lists leave the table out, and every other statement is refused.
    if (/ FROM system\./.test(sql))
      return await pass({ body: Buffer.from(sql.replaceAll("'public'", "'hidden'"), "latin1") });
    return sql.includes("`public`") ? refusal(497, "Not enough privileges. (ACCESS_DENIED)") : await pass();
  });
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, gateway.url);
  const sink = await target.makeSink();
  await sink.open(1, timeout());
  await sink.prepare([users], timeout());
  await sink.apply(rowsBatch(10n, [users, [put(["1", "ann"])]]), new Reports(), timeout());
  isRevoked = true;
  const hidden = { code: "MR2008", kind: "blocked", reason: "privilege" };
  await sink.verify(timeout());
  expect(
    await failure(sink.apply(rowsBatch(20n, [users, [put(["1", "bob"])]]), new Reports(), timeout())),
  ).toMatchObject(hidden);
  const next = await target.makeSink();
  await next.open(2, timeout());
  const missing = async () => await next.presence!.missing([users], timeout());
  expect(await failure(missing().then(() => undefined))).toMatchObject(hidden);
  isRevoked = false;
  expect(await missing()).toEqual([]);
  await target.query("DROP TABLE public.users SYNC");
  expect(await missing()).toEqual([users]);
  await sink.close();
  await next.close();
});

test("rows of a table that lists do not show yet are carried, and have a highest version", async () => {
  await using gateway = await staleGateway((sql) => /^SELECT[^]* FROM system/.test(sql));
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, gateway.url);
  const { state } = gateway;
  const sink = await target.makeSink();
  await sink.open(1, timeout());
  const highest = async () => await sink.rows!.highestVersion([users], timeout());
  const carries = async () => await sink.evolution!.carries(users, widened, timeout());
  // Every list is remembered as it is without the table.
  expect([await highest(), await carries()]).toEqual([0n, false]);
  state.remembers = false;
  await sink.prepare([users], timeout());
  await sink.apply(rowsBatch(10n, [users, [put(["1", "ann"])]]), new Reports(), timeout());
  const stale = async <T>(ask: () => Promise<T>): Promise<T> => {
    state.isStale = true;
    setTimeout(() => (state.isStale = false), 300);
    return await ask();
  };
  expect(await stale(highest)).toBe(rowVersion(1, 10n));
  expect(await stale(carries)).toBe(true);
  await sink.close();
});

test("a table whose columns a replica shows as they were takes no late statement of an earlier run", async () => {
  await using gateway = await staleGateway((sql) => sql.includes("FROM system.columns WHERE database IN"));
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, gateway.url);
  const runs = async () =>
    await target.query(
      "SELECT name FROM system.columns WHERE database = 'public' AND table = 'users' AND startsWith(name, '_millrace_run_')",
    );
  const [first, second] = [await target.makeSink(), await target.makeSink()];
  await first.open(1, timeout());
  await first.prepare([users], timeout());
  const own = await runs();
  await second.open(2, timeout());
  gateway.state.isStale = true;
  await second.prepare([users], timeout());
  setTimeout(() => (gateway.state.isStale = false), 300);
  await second.apply(rowsBatch(10n, [users, [put(["1", "ann"])]]), new Reports(), timeout());
  const left = await runs();
  expect(left).toHaveLength(1);
  expect(left).not.toEqual(own);
  for (const sink of [first, second]) await sink.close();
});

test("a checkpoint that a slow replica does not show is not replaced by a new one", async () => {
  const replica = { isSlow: false, catchesUp: false };
  const sessions = new Set<string | null>();
  await using gateway = await clickhouseGateway(clickhouseUrl(), async ({ sql, settings, pass }) => {
    const session = settings.get("session_id");
    if (sql.startsWith("SYSTEM SYNC REPLICA")) {
      if (!replica.catchesUp) return refusal(159, "SYNC REPLICA progress: command timed out. (TIMEOUT_EXCEEDED)");
      sessions.add(session);
      return shown();
    }
    if (replica.isSlow && sql.startsWith("SELECT revision") && !sessions.has(session)) return shown();
    // What is written there is shown there.
    if (sql.startsWith("INSERT INTO `millrace`.`progress`")) replica.isSlow = false;
    const reply = await pass();
    if (!sql.startsWith("SELECT engine_full, sorting_key")) return reply;
    return { ...reply, body: reply.body.toString("latin1").replaceAll('"Repl', '"ReplicatedRepl') };
  });
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, gateway.url);
  const first = await target.makeSink();
  replica.catchesUp = true;
  await first.open(1, timeout());
  await first.apply({ kind: "checkpoint", checkpoint: checkpointAt(10n) }, new Reports(), timeout());
  await first.close();
  replica.isSlow = true;
  replica.catchesUp = false;
  sessions.clear();
  // The first start of a daemon whose state is another one, too.
  for (const lease of [1, 2]) {
    const waiting = await target.makeSink();
    expect(await failure(waiting.open(lease, timeout()))).toMatchObject({ code: "MR2006", kind: "retryable" });
    await waiting.close();
  }
  replica.catchesUp = true;
  const next = await target.makeSink();
  expect((await next.open(3, timeout()))?.position.commit).toBe(10n);
  await next.close();
});

test("a sink that is opened again in one process goes on with what it had begun, and enters no table twice", async () => {
  const sent: string[] = [];
  let refusals = 0;
  await using gateway = await clickhouseGateway(clickhouseUrl(), async ({ sql, pass }) => {
    const [what = ""] = /^(?:ALTER TABLE|KILL QUERY)/.exec(sql) ?? [];
    if (what !== "") sent.push(what);
    const isRefused = what === "KILL QUERY" && refusals-- > 0;
    return isRefused ? refusal(202, "Too many simultaneous queries. (TOO_MANY_SIMULTANEOUS_QUERIES)") : await pass();
  });
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, gateway.url);
  const first = await target.makeSink();
  await first.open(1, timeout());
  await first.prepare([users], timeout());
  await first.close();
  const sink = await target.makeSink();
  await sink.open(2, timeout());
  await sink.prepare([users], timeout());
  const write = async (at: bigint): Promise<void> =>
    await sink.apply(rowsBatch(at, [users, [put(["1", "ann"])]]), new Reports(), timeout());
  [sent.length, refusals] = [0, 1];
  expect((await failure(write(10n))).kind).toBe("retryable");
  await sink.open(2, timeout());
  await write(10n);
  expect(sent).toEqual(["ALTER TABLE", "KILL QUERY", "KILL QUERY"]);
  await sink.open(2, timeout());
  await write(20n);
  expect(sent).toHaveLength(3);
  await sink.close();
});

test("statements are ended of this sink alone, up to its own lease", async () => {
  const kills: string[] = [];
  const ids: string[] = [];
  await using gateway = await clickhouseGateway(clickhouseUrl(), async ({ sql, settings, pass }) => {
    if (sql.startsWith("KILL QUERY")) kills.push(sql.replace("KILL QUERY WHERE", "").replace("SYNC", ""));
    if (sql.startsWith("ALTER TABLE")) ids.push(settings.get("query_id") ?? "");
    return await pass();
  });
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, gateway.url);
  for (const lease of [3, 7, 5]) {
    const sink = await target.makeSink();
    if (lease !== 5) await sink.open(lease, timeout());
    else await expect(sink.open(lease, timeout())).rejects.toMatchObject({ code: "MR3109" });
    if (lease !== 5) {
      await sink.prepare([users], timeout());
      await sink.apply(rowsBatch(10n, [users, [put(["1", "ann"])]]), new Reports(), timeout());
    }
    await sink.close();
  }
  const id = ids.find((one) => one.includes(" 7 ")) ?? "";
  const [where = ""] = kills.slice(-1);
  const others = {
    before: id.replace(" 7 ", " 3 "),
    after: id.replace(" 7 ", " 9 "),
    other: id.replace("shop%2F", "store%2F"),
  };
  const all = { own: id, ...others, run: id.replace(/[0-9a-f]{16}/, "0123456789abcdef") };
  const values = Object.entries(all)
    .map(([name, query]) => `('${name}', '${query}')`)
    .join(", ");
  const ended = await target.query(
    `SELECT name FROM (SELECT *, currentUser() AS user FROM values('name String, query_id String', ${values})) WHERE ${where} ORDER BY name`,
  );
  expect(ended).toEqual([["before"], ["run"]]);
});

const counted = tableVersion({ table: "counted", columns: { id: "int8", v: "text" } });
const whole = {
  ...rowsBatch(10n, [counted, [put(["1", "a"])]]),
  checkpoint: checkpointAt(11n, { "public.counted": "1" }),
};

async function replace({ query, database }: ClickhouseTarget): Promise<void> {
  const [[made = ""] = []] = await query(
    `SELECT create_table_query FROM system.tables WHERE database = '${database}' AND name = 'counted'`,
  );
  await query(`DROP TABLE ${nameIn(database, "counted")} SYNC`);
  await query(made ?? "");
}

test("a table that somebody replaced since the sink looked is not taken for the one with the rows, in no later process", async () => {
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, clickhouseUrl());
  const sink = await target.makeSink();
  await sink.open(1, timeout());
  await sink.prepare([counted], timeout());
  await sink.apply(whole, new Reports(), timeout());
  await replace(target);
  const again = { ...counted };
  expect(await failure(sink.prepare([again], timeout()))).toMatchObject({
    code: "MR3110",
    kind: "reopen",
    lostTables: [counted.id],
  });
  await sink.close();
  const next = await target.makeSink();
  await next.open(2, timeout());
  expect(await next.presence!.missing([counted], timeout())).toEqual([counted]);
  // Once the checkpoint does not count it, it is another table like any other.
  await next.apply({ kind: "checkpoint", checkpoint: checkpointAt(12n) }, new Reports(), timeout());
  await next.prepare([counted], timeout());
  await next.apply({ ...whole, checkpoint: checkpointAt(13n, { "public.counted": "1" }) }, new Reports(), timeout());
  expect(await next.presence!.missing([counted], timeout())).toEqual([]);
  expect(await target.readRows(counted)).toHaveLength(1);
  await next.close();
});

test("a checkpoint never counts rows of which a later start would not see that they are gone", async () => {
  let isCut = false;
  await using gateway = await clickhouseGateway(clickhouseUrl(), async ({ sql, pass }) =>
    isCut && /^INSERT INTO \S*targets/.test(sql) ? refusal(209, "Timeout. (SOCKET_TIMEOUT)") : await pass(),
  );
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, gateway.url);
  const sink = await target.makeSink();
  await sink.open(1, timeout());
  await sink.prepare([counted], timeout());
  isCut = true;
  await failure(sink.apply(whole, new Reports(), timeout()));
  await sink.close();
  isCut = false;
  await target.query(`TRUNCATE TABLE ${nameIn(target.database, "counted")}`);
  const next = await target.makeSink();
  const held = await next.open(2, timeout());
  const isKnown = (await next.presence!.missing([counted], timeout())).length > 0;
  expect(held?.tables["public.counted"] === undefined || isKnown).toBe(true);
  await next.close();
});

test.for([
  ["of a login that the sink had before", "system.processes", false],
  ["on another replica of the service", "clusterAllReplicas('all_groups.default', system.processes)", true],
] as const)("it waits for the end of statements %s", async ([, processes, hasReplicas]) => {
  const met: string[] = [];
  let looks = 0;
  await using gateway = await clickhouseGateway(clickhouseUrl(), async ({ sql, pass }) => {
    if (sql.startsWith("KILL QUERY"))
      return refusal(497, "User b attempts to kill query created by a. (ACCESS_DENIED)");
    if (hasReplicas && sql.startsWith("SELECT name FROM system.databases WHERE engine = 'Replicated'"))
      return shown(["default"], ["all_groups.default"]);
    if (sql.startsWith("SELECT cluster FROM system.clusters")) return shown(["all_groups.default"]);
    if (sql.startsWith(`SELECT DISTINCT user FROM ${processes} WHERE`)) {
      met.push("look");
      return ++looks < 3 ? shown(["a"]) : shown();
    }
    if (/^INSERT INTO [^ ]*`users`/.test(sql)) met.push("insert");
    // The engine knows no cluster.
    return sql.includes("clusterAllReplicas") ? shown() : await pass();
  });
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, gateway.url);
  const first = await target.makeSink();
  await first.open(1, timeout());
  await first.prepare([users], timeout());
  await first.close();
  const sink = await target.makeSink();
  await sink.open(2, timeout());
  await sink.prepare([users], timeout());
  [met.length, looks] = [0, 0];
  await sink.apply(rowsBatch(10n, [users, [put(["1", "ann"])]]), new Reports(), timeout());
  expect(met).toEqual(["look", "look", "look", "insert"]);
  await sink.close();
});

test("replicas that refuse the server's own login hold up nothing, and `check` warns", async () => {
  let said: number | undefined = 516;
  const ids: string[] = [];
  await using gateway = await clickhouseGateway(clickhouseUrl(), async ({ sql, settings, pass }) => {
    if (sql.includes("TEST")) ids.push(settings.get("query_id") ?? "");
    if (sql.startsWith("SELECT name FROM system.databases WHERE engine = 'Replicated'")) return shown(["shop"]);
    if (sql.startsWith("SELECT cluster FROM system.clusters")) return shown(["shop"]);
    // The engine knows no cluster.
    if (sql.includes("clusterAllReplicas"))
      return said === undefined ? shown() : refusal(said, "Received from b:9000: default: refused. (REFUSED)");
    return await pass();
  });
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, gateway.url);
  const sink = await target.makeSink();
  await sink.open(1, timeout());
  await sink.prepare([users], timeout());
  const first = await target.makeSink();
  await first.open(2, timeout());
  await first.prepare([users], timeout());
  await first.apply(rowsBatch(10n, [users, [put(["1", "ann"])]]), new Reports(), timeout());
  for (const one of [sink, first]) await one.close();
  const options = definition.parse({ url: gateway.url });
  const context = { name: "columns", daemon: "shop", folder: "/", options };
  const told = async () =>
    (await factory.check(context, timeout(), [{ schema: "public", table: "users" }])).filter(({ id }) =>
      /statements|replicas/.test(id),
    );
  const statements = { id: "clickhouse.columns.statements", level: "ok" };
  const replicas = { id: "clickhouse.columns.replicas" };
  const login = expect.stringContaining("collection_name");
  expect(await told()).toMatchObject([statements, { ...replicas, level: "warning", fix: login }]);
  said = 159;
  expect(await told()).toMatchObject([
    statements,
    { ...replicas, level: "error", what: expect.stringContaining("MR2006") },
  ]);
  said = 497;
  expect(await told()).toMatchObject([
    statements,
    { ...replicas, level: "error", fix: expect.stringContaining("GRANT") },
  ]);
  said = undefined;
  expect(await told()).toMatchObject([statements, { ...replicas, level: "ok" }]);
  expect(new Set(ids).size).toBe(4);
});

test("behind a proxy that gives statements ids of its own it writes nothing, and `check` says so", async () => {
  await using gateway = await clickhouseGateway(clickhouseUrl(), async ({ pass }) => {
    const reply = await pass();
    return { ...reply, headers: { ...reply.headers, "x-clickhouse-query-id": "1A2B" } };
  });
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, gateway.url);
  const sink = await target.makeSink();
  await expect(sink.open(1, timeout())).rejects.toMatchObject({ code: "MR2005", kind: "blocked" });
  await sink.close();
  const options = definition.parse({ url: gateway.url });
  const findings = await factory.check({ name: "columns", daemon: "shop", folder: "/", options }, timeout(), []);
  expect(findings.filter(({ level }) => level === "error").map(({ id }) => id)).toEqual([
    "clickhouse.columns.statements",
  ]);
});

test("rows that another daemon removes of a tenant of its own are no loss", async () => {
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, clickhouseUrl());
  await using other = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, clickhouseUrl());
  const tenant = (name: string): TableVersion => {
    const columns = { id: "int8", name: "text", tenant: "text" };
    const table = tableVersion({ table: "orders", columns, key: ["tenant", "id"] });
    return { ...table, id: `tenant_${name}.orders`, scope: { tenant: name } };
  };
  const [staying, moving] = [tenant("staying"), tenant("moving")];
  const [first, second] = [await target.makeSink(), await other.makeSink()];
  await first.open(1, timeout());
  await first.prepare([staying, moving], timeout());
  // A merge gives the numbers of parts without rows to others.
  await target.query(
    `ALTER TABLE ${nameIn(target.database, "orders")} MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1`,
  );
  await first.apply(rowsBatch(100n, [staying, [put(["1", "a", "staying"])]]), new Reports(), timeout());
  await first.apply(rowsBatch(110n, [moving, [put(["1", "b", "moving"])]]), new Reports(), timeout());
  await first.verify(timeout());
  await first.presence!.keepOnly!([staying], timeout());
  await second.open(1, timeout());
  await second.prepare([moving], timeout());
  await second.rows!.expel([moving], rowVersion(1, 10n), timeout());
  expect(await second.rows!.highestVersion([moving], timeout())).toBe(0n);
  await first.verify(timeout());
  expect(await first.presence!.missing([staying, moving], timeout())).toEqual([]);
  for (const sink of [first, second]) await sink.close();
});
