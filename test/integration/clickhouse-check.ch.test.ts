/** What `check` says of a ClickHouse sink, and how failures of a real engine are told. */
import { expect, test } from "vitest";
import { definition, factory } from "../../connectors/clickhouse/config.ts";
import { findMillraceError } from "../../src/core/errors.ts";
import { askClickhouse, nameIn } from "../support/warehouses/clickhouse-values.ts";
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
  expect(refused).toMatchObject({ level: "error", what: expect.stringContaining("MR4102") });
  const [away] = await factory.check(contextOf("http://127.0.0.1:9"), within());
  expect(away).toMatchObject({ level: "error", what: expect.stringContaining("MR4101") });
  const sink = await factory.create(contextOf(login), quietLog);
  const error = findMillraceError(await sink.open(1, within()).catch((failure: unknown) => failure));
  await sink.close();
  expect(error).toMatchObject({ code: "MR4102", kind: "blocked" });
  for (const text of [error?.message, error?.hint, String(error?.cause)]) expect(text).not.toContain("secret");
});
