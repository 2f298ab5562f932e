/** What the former owner of a table still writes when another daemon takes it over, at any moment of that: nothing of it stays. */
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { expect, test, vi } from "vitest";
import { quoteLiteral } from "../../../connectors/clickhouse/names.ts";
import { ClickhouseWarehouse } from "../../../connectors/clickhouse/tables/warehouse.ts";
import { DuckdbWarehouse } from "../../../connectors/duckdb/tables/warehouse.ts";
import { connectors } from "../../../connectors/registry.ts";
import { SqliteWarehouse } from "../../../connectors/sqlite/tables/warehouse.ts";
import { duckdbExtensions } from "../../../scripts/services/packages/duckdb-extensions.ts";
import type { Batch } from "../../../src/core/model/batch.ts";
import { rowVersion } from "../../../src/core/model/position.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import type { Sink } from "../../../src/core/contracts/sink.ts";
import { kindOf } from "../../../src/runtime/retry.ts";
import { checkpointAt, failure, put, Reports, rowsBatch, timeout } from "../../conformance/stage.ts";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { tableVersion } from "../../support/model/blocks.ts";
import { lateGateway } from "../../support/network/http-gateway.ts";
import { quietLog } from "../../support/run/quiet-log.ts";
import { clickhouseUrl, freshColumns, freshDatabase, freshKeyPrefix, redisUrl } from "../../support/run/services.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";
import { clickhouseGateway, refusal } from "../../support/warehouses/clickhouse-gateway.ts";
import { askClickhouse } from "../../support/warehouses/clickhouse-values.ts";

const users = tableVersion({ table: "users", columns: { id: "int8", name: "text" } });
const others = tableVersion({ table: "others", columns: { id: "int8", name: "text" }, relation: 2 });
const row = (table: TableVersion, at: bigint, name: string): Batch => rowsBatch(at, [table, [put(["1", name])]]);

interface Place extends AsyncDisposable {
  readonly options: object;
}

const PLACES: Readonly<Record<string, () => Promise<Place>>> = {
  sqlite: async () => {
    const folder = temporaryFolder();
    return {
      options: { path: folder.file("replica.sqlite") },
      [Symbol.asyncDispose]: async () => folder[Symbol.dispose](),
    };
  },
  duckdb: async () => {
    const folder = temporaryFolder();
    return {
      options: { path: folder.file("warehouse.duckdb") },
      [Symbol.asyncDispose]: async () => folder[Symbol.dispose](),
    };
  },
  ducklake: async () => {
    const folder = temporaryFolder();
    const options = {
      catalog: `sqlite:${folder.file("lake.db")}`,
      data: folder.file("data"),
      extensions: await duckdbExtensions(),
    };
    return { options, [Symbol.asyncDispose]: async () => folder[Symbol.dispose]() };
  },
  postgres: async () => {
    const database = await freshDatabase();
    return { options: { url: database.url }, [Symbol.asyncDispose]: () => database[Symbol.asyncDispose]() };
  },
  redis: async () => {
    const keys = freshKeyPrefix();
    return {
      options: { url: redisUrl(), prefix: keys.prefix },
      [Symbol.asyncDispose]: () => keys[Symbol.asyncDispose](),
    };
  },
  clickhouse: async () => {
    const columns = freshColumns();
    const options = { url: clickhouseUrl(), schema: columns.prefix, fsync: false };
    return { options, [Symbol.asyncDispose]: () => columns[Symbol.asyncDispose]() };
  },
};

/** A DuckDB file lets one process in, which looks whose a table is before it writes it. */
const WITH_OTHERS = Object.keys(PLACES).filter((kind) => kind !== "duckdb");

/** The sink of one daemon. */
async function made(
  kind: string,
  { options }: Place,
  daemon: string,
  more: object = {},
): Promise<Sink & AsyncDisposable> {
  const parsed = (await connectors.sink(kind)).parse({ ...options, ...more });
  if (parsed.kind === "invalid") throw new Error(JSON.stringify(parsed.issues));
  const sink = await parsed.bind({ name: "mirror", daemon, folder: "/" }).create(quietLog);
  return Object.assign(sink, { [Symbol.asyncDispose]: () => sink.close() });
}

/** Sinks of one name share a checkpoint in ClickHouse, in whatever database their tables are. */
let lease = 0;
const open = (sink: Sink) => sink.open(++lease, timeout());
const apply = (sink: Sink, batch: Batch): Promise<void> => sink.apply(batch, new Reports(), timeout());
const TAKEN = [{ table: users, owner: "first/mirror" }];
const foreign = async (sink: Sink) => await sink.presence!.foreign!([users], timeout());
const missing = async (sink: Sink) => await sink.presence!.missing([users], timeout());
const highest = async (sink: Sink) => await sink.rows!.highestVersion([users], timeout());

/** The first daemon has filled the first of these tables, and ended. */
async function hadByFirst(kind: string, place: Place, tables: readonly TableVersion[]): Promise<void> {
  await using first = await made(kind, place, "first");
  await open(first);
  await first.prepare(tables, timeout());
  await apply(first, row(users, 100n, "first"));
}

/** The second daemon begins, and takes the table from the first. */
async function takes(second: Sink): Promise<void> {
  await open(second);
  expect(await foreign(second)).toEqual(TAKEN);
  await second.prepare([users], timeout());
}

async function expectTaken(work: Promise<void>): Promise<void> {
  expect(await failure(work)).toMatchObject({ code: "MR3121", table: users.id });
}

test.each(WITH_OTHERS)("rows that its former owner writes in between go, also after a kill: %s", async (kind) => {
  await using place = await PLACES[kind]!();
  await using first = await made(kind, place, "first");
  await open(first);
  await first.prepare([users, others], timeout());
  await apply(first, row(users, 100n, "first"));
  {
    await using second = await made(kind, place, "second");
    await open(second);
    expect(await foreign(second)).toEqual(TAKEN);
    await apply(first, row(users, 150n, "in between"));
    await second.prepare([users], timeout());
    await expectTaken(apply(first, row(users, 200n, "late")));
  }
  await using second = await made(kind, place, "second");
  await takes(second);
  await second.rows!.expel([users], rowVersion(1, 10n), timeout());
  expect([await foreign(second), await missing(second), await highest(second)]).toEqual([[], [], 0n]);
  await apply(second, row(users, 20n, "second"));
  await apply(first, row(others, 210n, "first"));
  await second.verify(timeout());
  await apply(second, row(users, 30n, "second"));
  expect(await highest(second)).toBe(rowVersion(1, 30n));
  // It is prepared in the next process, where it stays what it is.
  await second.prepare([{ ...users, version: 2 }], timeout());
  expect([await foreign(second), await missing(second)]).toEqual([[], []]);
});

/** As the runtime repeats it. */
async function repeated(work: () => Promise<void>): Promise<void> {
  for (let left = 3; ; left--) {
    try {
      return await work();
    } catch (error) {
      if (left === 0 || kindOf(error) !== "retryable") throw error;
    }
  }
}

test.each(WITH_OTHERS)(
  "who is still removing rows of the former owner, which has come back, removes none that it has written since: %s",
  async (kind) => {
    await using place = await PLACES[kind]!();
    await hadByFirst(kind, place, [users]);
    await using second = await made(kind, place, "second");
    await takes(second);
    await using first = await made(kind, place, "first");
    await open(first);
    expect(await foreign(first)).toEqual([{ table: users, owner: "second/mirror" }]);
    await first.prepare([users], timeout());
    await first.rows!.expel([users], rowVersion(1, 100n), timeout());
    await apply(first, row(users, 200n, "first"));
    const expel = () => second.rows!.expel([users], rowVersion(1, 10n), timeout());
    await repeated(expel);
    await expectTaken(apply(second, row(users, 20n, "second")));
    await open(second);
    await repeated(expel);
    await first.verify(timeout());
    expect([await foreign(first), await highest(first)]).toEqual([[], rowVersion(1, 200n)]);
    await repeated(() => apply(first, row(users, 210n, "later")));
  },
);

test.each(WITH_OTHERS)(
  "a former owner that began again, and has not written the table since, is refused as well: %s",
  async (kind) => {
    await using place = await PLACES[kind]!();
    await hadByFirst(kind, place, [users, others]);
    await using first = await made(kind, place, "first");
    await open(first);
    expect([await foreign(first), await missing(first)]).toEqual([[], []]);
    await first.prepare([users, others], timeout());
    await using second = await made(kind, place, "second");
    await takes(second);
    await expectTaken(apply(first, row(users, 150n, "late")));
    await repeated(() => second.rows!.expel([users], rowVersion(1, 10n), timeout()));
    expect([await foreign(second), await missing(second), await highest(second)]).toEqual([[], [], 0n]);
    await apply(second, row(users, 20n, "second"));
    await repeated(() => apply(first, row(others, 210n, "first")));
    await second.verify(timeout());
    expect(await highest(second)).toBe(rowVersion(1, 20n));
  },
);

test("statements of the former owner in a table end before ClickHouse has it for another daemon", async () => {
  await using place = await PLACES["clickhouse"]!();
  const sent: { readonly id: string; readonly sql: string }[] = [];
  await using gateway = await clickhouseGateway(clickhouseUrl(), async ({ sql, settings, pass }) => {
    sent.push({ id: settings.get("query_id") ?? "", sql: sql.split("\n")[0]! });
    return await pass();
  });
  await using first = await made("clickhouse", place, "first", { url: gateway.url });
  await using second = await made("clickhouse", place, "second", { url: gateway.url });
  for (const sink of [first, second]) await open(sink);
  await first.prepare([users, others], timeout());
  for (const table of [users, others]) await apply(first, row(table, 100n, "first"));
  const inserts = sent.filter(({ sql }) => /^INSERT INTO \S*`(?:users|others)` /.test(sql));
  expect(inserts).toHaveLength(2);
  sent.length = 0;
  expect(await foreign(second)).toEqual(TAKEN);
  await second.prepare([users], timeout());
  const at = (what: string) => sent.findIndex(({ sql }) => sql.includes(what));
  const [, ended = ""] = /^KILL QUERY WHERE (.*) SYNC$/.exec(sent[at("KILL QUERY")]!.sql)!;
  expect(at("ADD COLUMN `_millrace_run_")).toBeLessThan(at("KILL QUERY"));
  expect(at("KILL QUERY")).toBeLessThan(at(`FROM system.processes WHERE ${ended} `));
  expect(at(`FROM system.processes WHERE ${ended} `)).toBeLessThan(at("MODIFY COMMENT"));
  const running = [...inserts, ...sent].map(({ id, sql }) => `(${quoteLiteral(id)}, ${quoteLiteral(sql)})`).join(", ");
  const those = `SELECT query FROM values('query_id String, query String', ${running}) WHERE ${ended}`;
  expect(await askClickhouse(clickhouseUrl(), those)).toEqual([[inserts[0]!.sql]]);
  // Another process removes the rows. One of the first may have entered the table since.
  await using next = await made("clickhouse", place, "second", { url: gateway.url });
  await open(next);
  await next.prepare([users], timeout());
  sent.length = 0;
  await next.rows!.expel([users], rowVersion(1, 10n), timeout());
  expect(sent[at("KILL QUERY")]!.sql).toContain("'millrace first%2Fmirror '");
  expect(at("KILL QUERY")).toBeLessThan(at("` DELETE WHERE"));
});

/** Between what a sink has found of a target, and its change. */
const CHANGING: Readonly<Record<string, () => { readonly change: (...change: never[]) => Promise<unknown> }>> = {
  sqlite: () => SqliteWarehouse.prototype,
  ducklake: () => DuckdbWarehouse.prototype,
  clickhouse: () => ClickhouseWarehouse.prototype,
};

test.each(Object.keys(CHANGING))(
  "a table that another daemon prepares while its owner changes it is that one's, which suspends it in the owner: %s",
  async (kind) => {
    await using place = await PLACES[kind]!();
    await hadByFirst(kind, place, [users]);
    await using first = await made(kind, place, "first");
    await using second = await made(kind, place, "second");
    await open(first);
    expect(await foreign(first)).toEqual([]);
    const warehouse = CHANGING[kind]!();
    const { change } = warehouse;
    const between = vi.spyOn(warehouse, "change").mockImplementationOnce(async function (this: unknown, ...planned) {
      await takes(second);
      return await change.apply(this, planned);
    });
    const wider = tableVersion({ table: "users", columns: { id: "int8", name: "text", more: "text" }, version: 2 });
    const preparing = failure(first.prepare([wider], timeout()));
    expect(await preparing.finally(() => between.mockRestore())).toMatchObject({ code: "MR3121", table: users.id });
    expect(await foreign(second)).toEqual(TAKEN);
    await repeated(() => second.rows!.expel([users], rowVersion(1, 10n), timeout()));
    expect([await foreign(second), await highest(second)]).toEqual([[], 0n]);
    await apply(second, row(users, 20n, "second"));
    await second.verify(timeout());
  },
);

/** Between a sink's look and its `prepare` another daemon prepares the table. */
async function staysTheOthers([kind, mode]: readonly [kind: string, mode: string]): Promise<void> {
  await using place = await PLACES[kind]!();
  await using first = await made(kind, place, "first", { mode });
  await using second = await made(kind, place, "second", { mode });
  await open(first);
  expect(await foreign(first)).toEqual([]);
  await open(second);
  await second.prepare([users], timeout());
  await apply(second, row(users, 100n, "second"));
  await expectTaken(first.prepare([users], timeout()));
  await repeated(() => apply(second, row(users, 110n, "second")));
  expect(await foreign(second)).toEqual([]);
  // Once it knows of it, and until the rows of that one were looked at.
  const theirs = [{ table: users, owner: "second/mirror" }];
  expect(await foreign(first)).toEqual(theirs);
  await first.prepare([users], timeout());
  await expectTaken(apply(second, row(users, 120n, "second")));
  expect(await foreign(first)).toEqual(theirs);
  await repeated(() => first.rows!.expel([users], rowVersion(1, 110n), timeout()));
  expect([await foreign(first), await highest(first)]).toEqual([[], rowVersion(1, 110n)]);
}

const STAYS = "a table that another daemon has prepared since a sink looked whose it is stays that one's: %s, %s";
const inModes = (kinds: readonly string[]) =>
  kinds.flatMap((kind) => ["mirror", "history"].map((mode) => [kind, mode] as const));

test.for(inModes(["sqlite"]))(STAYS, staysTheOthers);
test.for(inModes(["ducklake", "postgres", "clickhouse"]))(STAYS, { tags: "heavy" }, staysTheOthers);

test("rows are not gone from ClickHouse where a former owner has entered their table while they were removed", async () => {
  await using place = await PLACES["clickhouse"]!();
  await using first = await made("clickhouse", place, "first");
  await open(first);
  await first.prepare([users], timeout());
  await apply(first, row(users, 100n, "first"));
  const refused = async () => await expectTaken(apply(first, row(users, 150n, "late")));
  let comes = false;
  await using gateway = await clickhouseGateway(clickhouseUrl(), async ({ sql, pass }) => {
    if (comes && sql.includes("` DELETE WHERE")) {
      comes = false;
      await refused();
    }
    return await pass();
  });
  await using second = await made("clickhouse", place, "second", { url: gateway.url });
  await takes(second);
  const reset = () => second.rows!.expel([users], rowVersion(1, 10n), timeout());
  await reset();
  await refused();
  await repeated(() => apply(second, row(users, 300n, "second")));
  comes = true;
  expect(await failure(reset())).toMatchObject({ code: "MR1308", kind: "retryable" });
  expect(comes).toBe(false);
  expect(await highest(second)).toBe(rowVersion(1, 300n));
  await repeated(reset);
  expect(await highest(second)).toBe(0n);
});

test("who still removes rows of a former owner from ClickHouse writes nothing into a table that a third has taken", async () => {
  await using place = await PLACES["clickhouse"]!();
  {
    await using first = await made("clickhouse", place, "first");
    await using second = await made("clickhouse", place, "second");
    await open(first);
    await first.prepare([users], timeout());
    await apply(first, row(users, 100n, "first"));
    await takes(second);
  }
  await using third = await made("clickhouse", place, "third");
  let comes = false;
  await using gateway = await clickhouseGateway(clickhouseUrl(), async ({ sql, pass }) => {
    if (comes && sql.startsWith("SELECT database, table, name FROM system.columns")) {
      comes = false;
      await open(third);
      expect(await foreign(third)).toEqual([{ table: users, owner: "second/mirror" }]);
      await third.prepare([users], timeout());
    }
    return await pass();
  });
  await using second = await made("clickhouse", place, "second", { url: gateway.url });
  await open(second);
  await second.prepare([users], timeout());
  comes = true;
  const taken = { code: "MR3121", table: users.id };
  const expel = (sink: Sink) => sink.rows!.expel([users], rowVersion(1, 10n), timeout());
  expect(await failure(expel(second))).toMatchObject(taken);
  expect(comes).toBe(false);
  expect(await failure(apply(second, row(users, 200n, "late")))).toMatchObject(taken);
  expect(await highest(third)).toBe(rowVersion(1, 100n));
  await repeated(() => expel(third));
  expect([await foreign(third), await highest(third)]).toEqual([[], 0n]);
});

test("a look into ClickHouse that got no answer is not taken for one that met no successor", async () => {
  await using place = await PLACES["clickhouse"]!();
  let isEntered = false;
  await using gateway = await clickhouseGateway(clickhouseUrl(), async ({ sql, pass }) => {
    isEntered ||= sql.includes("ADD COLUMN `_millrace_run_");
    if (!isEntered || !sql.includes(" comment, ")) return await pass();
    isEntered = false;
    return refusal(209, "Timeout. (SOCKET_TIMEOUT)");
  });
  {
    await using first = await made("clickhouse", place, "first");
    await open(first);
    await first.prepare([users], timeout());
  }
  await using first = await made("clickhouse", place, "first", { url: gateway.url });
  await open(first);
  await first.prepare([users], timeout());
  await using second = await made("clickhouse", place, "second");
  await takes(second);
  const late = () => failure(apply(first, row(users, 150n, "late")));
  expect(await late()).toMatchObject({ code: "MR2006", kind: "retryable" });
  expect(await late()).toMatchObject({ code: "MR3121", table: users.id });
  expect(await highest(second)).toBe(0n);
});

test("a table in ClickHouse is not another daemon's because one answer says so", async () => {
  await using place = await PLACES["clickhouse"]!();
  let isOld = false;
  await using gateway = await clickhouseGateway(clickhouseUrl(), async ({ sql, pass }) => {
    const answer = await pass();
    if (!isOld || !sql.includes(" comment, sorting_key FROM system.tables")) return answer;
    isOld = false;
    return { ...answer, body: answer.body.toString().replace(/second(?=\\*\/mirror)/, "before") };
  });
  await using second = await made("clickhouse", place, "second", { url: gateway.url });
  await open(second);
  await second.prepare([users], timeout());
  await open(second);
  isOld = true;
  await apply(second, row(users, 10n, "second"));
  expect([isOld, await highest(second)]).toEqual([false, rowVersion(1, 10n)]);
});

test("while another daemon is about to take a table in ClickHouse, its owner names that, and suspends no table", async () => {
  await using place = await PLACES["clickhouse"]!();
  await using first = await made("clickhouse", place, "first");
  await open(first);
  await first.prepare([users], timeout());
  await apply(first, row(users, 100n, "first"));
  const table = first.target(users);
  for (const run of ["one", "two", "three"]) {
    const names = (await askClickhouse(clickhouseUrl(), `DESCRIBE TABLE ${table}`)).map(([name]) => name ?? "");
    const column = names.find((name) => name.startsWith("_millrace_run_"));
    const taken = `ALTER TABLE ${table} DROP COLUMN \`${column}\`, ADD COLUMN _millrace_run_${run} UInt8 EPHEMERAL`;
    await askClickhouse(clickhouseUrl(), taken);
    const refused = await failure(apply(first, row(users, 150n, "first")));
    expect(refused).toMatchObject({ code: "MR1308", kind: "retryable", table: undefined });
    expect(refused.message).toContain(users.id);
    await apply(first, row(users, 150n, "first"));
  }
});

test.each(["sqlite", "ducklake", "postgres", "clickhouse"])(
  "what rules hide is no longer hidden by a former owner of the table: %s",
  async (kind) => {
    await using place = await PLACES[kind]!();
    const soft = { deletes: "soft" };
    await using first = await made(kind, place, "first", soft);
    await using second = await made(kind, place, "second", soft);
    await open(first);
    await first.prepare([users], timeout());
    await apply(first, row(users, 10n, "first"));
    await open(first);
    const hiding = { ...users, version: 2, hides: "names" };
    await first.prepare([hiding], timeout());
    await takes(second);
    await second.rows!.expel([users], rowVersion(1, 5n), timeout());
    await apply(second, row(users, 20n, "second"));
    const sweep = { table: hiding, below: rowVersion(1, 50n) };
    const swept: Batch = { kind: "sweep", sweeps: [sweep], checkpoint: checkpointAt(60n) };
    expect(await failure(apply(first, swept))).toMatchObject({ code: "MR3121", table: users.id });
    expect([await foreign(second), await missing(second)]).toEqual([[], []]);
    expect(await highest(second)).toBe(rowVersion(1, 20n));
    await second.verify(timeout());
  },
);

test("a daemon that is killed when it has taken a table keeps no later row of the former owner", async () => {
  await using first = await RunningPipeline.start(
    "create table item (id int primary key, name text); insert into item select g, 'first' from generate_series(1, 50) g",
    { kinds: ["sqlite"] },
  );
  await first.expectEqual(["item"]);
  await first.daemon.stop();
  const { folder } = first.installation;
  await using source = await freshDatabase();
  await source.query("create table own (id int primary key, name text)");
  await using installation = new Installation({
    name: source.name,
    source: { kind: "postgres", url: source.url },
    sinks: first.sharedSinks,
  });
  expect(await installation.command("run", "--once")).toMatchObject({ exitCode: 0 });
  using file = new DatabaseSync(join(folder, "replica.sqlite"));
  file.exec('update "public.item" set _millrace_version = 9000000000000000000');
  file.close();
  await source.query(
    "create table item (id int primary key, name text); insert into item values (1, 'second'), (99, 'second')",
  );
  expect(await installation.run({ MILLRACE_FAILPOINTS: "sink.taken=kill" }).ended).toMatchObject({ signal: "SIGKILL" });
  expect(await installation.command("run", "--once")).toMatchObject({ exitCode: 0 });
  expect(await first.sinks.differences(source.url, folder, ["item"])).toEqual([]);
});

/** As a route shows a tenant's table to the sink. */
function tenant(name: string): TableVersion {
  const columns = { id: "int8", note: "text", tenant: "text" };
  const table = tableVersion({
    schema: "shared",
    table: "orders",
    key: ["tenant", "id"],
    columns,
    relation: name.length,
  });
  return { ...table, id: `tenant_${name}.orders`, scope: { tenant: name } };
}

const [acme, zed] = [tenant("acme"), tenant("zed")];
const order = (table: TableVersion, at: bigint, note: string): Batch =>
  rowsBatch(at, [table, [put(["1", note, table.scope!["tenant"]!])]]);
const TENANTS = ["sqlite", "postgres", "ducklake", "clickhouse"];

async function expectTenantTaken(work: Promise<void>, by: string): Promise<void> {
  const refused = await failure(work);
  expect(refused).toMatchObject({ code: "MR3121", table: acme.id, kind: "fatal" });
  expect(refused.message).toContain(`belong to ${by}/mirror`);
}

const theirs = async (sink: Sink) => await sink.presence!.foreign!([acme, zed], timeout());
const tops = async (sink: Sink) => [
  await sink.rows!.highestVersion([acme], timeout()),
  await sink.rows!.highestVersion([zed], timeout()),
];

test.each([...TENANTS, "duckdb"])(
  "a tenant is the daemon's that had it first, until that one lets go of it: %s",
  async (kind) => {
    await using place = await PLACES[kind]!();
    await using first = await made(kind, place, "first");
    await using second = await made(kind, place, "second");
    for (const sink of [first, second]) await open(sink);
    await first.prepare([acme], timeout());
    await apply(first, order(acme, 100n, "first"));
    await second.prepare([zed], timeout());
    await apply(second, order(zed, 10n, "second"));
    await expectTenantTaken(second.prepare([zed, acme], timeout()), "first");
    await repeated(() => apply(first, order(acme, 110n, "first")));
    await first.presence!.keepOnly!([acme], timeout());
    await expectTenantTaken(second.prepare([acme], timeout()), "first");
    await repeated(() => apply(second, order(zed, 20n, "second")));
    expect(await theirs(first)).toEqual([{ table: zed, owner: "second/mirror" }]);
    expect(await theirs(second)).toEqual([{ table: acme, owner: "first/mirror" }]);

    await first.presence!.keepOnly!([], timeout());
    expect(await theirs(second)).toEqual([]);
    expect(await tops(second)).toEqual([rowVersion(1, 110n), rowVersion(1, 20n)]);
    await second.prepare([acme], timeout());
    await second.rows!.expel([acme], rowVersion(1, 20n), timeout());
    await apply(second, order(acme, 30n, "second"));
    await using again = await made(kind, place, "first");
    await open(again);
    await expectTenantTaken(again.prepare([acme], timeout()), "second");
    expect(await tops(second)).toEqual([rowVersion(1, 30n), rowVersion(1, 20n)]);

    // One that forgets its progress has nothing any more.
    await open(second);
    await second.forget(timeout());
    await again.prepare([acme, zed], timeout());
    expect(await theirs(again)).toEqual([]);
  },
);

test.each(TENANTS)("a tenant that is taken from a daemon that writes it is suspended there: %s", async (kind) => {
  await using place = await PLACES[kind]!();
  await using first = await made(kind, place, "first");
  await open(first);
  await first.prepare([acme, zed], timeout());
  for (const table of [acme, zed]) await apply(first, order(table, 100n, "first"));
  {
    await using second = await made(kind, place, "second");
    await open(second);
    expect(await second.presence!.foreign!([acme], timeout())).toEqual([{ table: acme, owner: "first/mirror" }]);
    await apply(first, order(acme, 150n, "in between"));
    await second.prepare([acme], timeout());
    await expectTenantTaken(apply(first, order(acme, 200n, "late")), "second");
    await repeated(() => apply(first, order(zed, 210n, "first")));
  }
  // Also for the process after that.
  await using second = await made(kind, place, "second");
  await open(second);
  expect(await second.presence!.foreign!([acme], timeout())).toEqual([{ table: acme, owner: "first/mirror" }]);
  await second.prepare([acme], timeout());
  await second.rows!.expel([acme], rowVersion(1, 10n), timeout());
  expect(await second.presence!.foreign!([acme], timeout())).toEqual([]);
  expect(await tops(second)).toEqual([0n, rowVersion(1, 210n)]);
  await apply(second, order(acme, 20n, "second"));
  await repeated(() => apply(first, order(zed, 220n, "first")));

  // It is taken back in the same way, from one that writes nothing and looks.
  expect(await first.presence!.foreign!([acme], timeout())).toEqual([{ table: acme, owner: "second/mirror" }]);
  await first.prepare([acme], timeout());
  await expectTenantTaken(second.verify(timeout()), "first");
  await first.rows!.expel([acme], rowVersion(1, 220n), timeout());
  await apply(first, order(acme, 230n, "first"));
  expect(await tops(first)).toEqual([rowVersion(1, 230n), rowVersion(1, 220n)]);
});

test.each([...TENANTS, "duckdb"])("nobody has a tenant in a target that is another table's alone: %s", async (kind) => {
  await using place = await PLACES[kind]!();
  await using first = await made(kind, place, "first");
  await using second = await made(kind, place, "second");
  for (const sink of [first, second]) await open(sink);
  const alone = tableVersion({ schema: "shared", table: "orders", columns: { id: "int8", note: "text" } });
  await second.prepare([alone], timeout());
  await open(first);
  expect(await failure(first.prepare([acme], timeout()))).toMatchObject({ code: "MR3106", table: acme.id });
  await open(second);
  expect(await theirs(second)).toEqual([]);
});

test("of two daemons that come for a tenant in ClickHouse at the same moment one has it", async () => {
  await using place = await PLACES["clickhouse"]!();
  await using second = await made("clickhouse", place, "second");
  let comes = true;
  await using gateway = await clickhouseGateway(clickhouseUrl(), async ({ sql, pass }) => {
    if (comes && sql.startsWith("INSERT INTO `millrace`.`scopes`")) {
      comes = false;
      await second.prepare([acme], timeout());
    }
    return await pass();
  });
  await using first = await made("clickhouse", place, "first", { url: gateway.url });
  for (const sink of [first, second]) await open(sink);
  await expectTenantTaken(first.prepare([acme, zed], timeout()), "second");
  expect(comes).toBe(false);
  await first.prepare([zed], timeout());
  await apply(second, order(acme, 10n, "second"));
  await repeated(() => apply(first, order(zed, 20n, "first")));
  expect(await theirs(first)).toEqual([{ table: acme, owner: "second/mirror" }]);
  expect(await theirs(second)).toEqual([{ table: zed, owner: "first/mirror" }]);
});

test("who has asked for a tenant in ClickHouse without an answer does not get it when another daemon has it", async () => {
  await using place = await PLACES["clickhouse"]!();
  await using gateway = await lateGateway(clickhouseUrl());
  await using first = await made("clickhouse", place, "first", { url: gateway.url });
  await using second = await made("clickhouse", place, "second");
  for (const sink of [first, second]) await open(sink);
  const late = gateway.lose((what) => what.includes("INSERT INTO `millrace`.`scopes`"));
  expect(await failure(first.prepare([acme], timeout()))).toMatchObject({ kind: "retryable" });
  await late.lost;
  await second.prepare([acme], timeout());
  await apply(second, order(acme, 10n, "second"));
  await late.deliver();
  expect([await theirs(first), await theirs(second)]).toEqual([[{ table: acme, owner: "second/mirror" }], []]);
});

test("who ends before it has stopped the former owner of a tenant in ClickHouse does so before it removes rows", async () => {
  await using place = await PLACES["clickhouse"]!();
  await using first = await made("clickhouse", place, "first");
  await open(first);
  await first.prepare([acme, zed], timeout());
  await apply(first, order(acme, 100n, "first"));
  let isCut = true;
  const ends: string[] = [];
  await using gateway = await clickhouseGateway(clickhouseUrl(), async ({ sql, pass }) => {
    if (isCut && sql.includes("DROP COLUMN IF EXISTS")) return refusal(209, "Timeout. (SOCKET_TIMEOUT)");
    if (sql.startsWith("KILL QUERY")) ends.push(sql);
    return await pass();
  });
  const former = [{ table: acme, owner: "first/mirror" }];
  {
    await using second = await made("clickhouse", place, "second", { url: gateway.url });
    await open(second);
    expect(await theirs(second)).toEqual([...former, { table: zed, owner: "first/mirror" }]);
    expect(await failure(second.prepare([acme], timeout()))).toMatchObject({ kind: "retryable" });
  }
  await apply(first, order(acme, 150n, "in between"));
  isCut = false;
  await using second = await made("clickhouse", place, "second", { url: gateway.url });
  await open(second);
  expect(await second.presence!.foreign!([acme], timeout())).toEqual(former);
  await second.prepare([acme], timeout());
  ends.length = 0;
  await second.rows!.expel([acme], rowVersion(1, 10n), timeout());
  expect(ends.join()).toContain("'millrace first%2Fmirror '");
  await expectTenantTaken(apply(first, order(acme, 200n, "late")), "second");
  expect([await second.presence!.foreign!([acme], timeout()), await tops(second)]).toEqual([[], [0n, 0n]]);
  // What it has of the same table stays its own.
  await repeated(() => apply(first, order(zed, 210n, "first")));
  await second.verify(timeout());
});
