/**
 * The SQL of docs/warehouses for engines that can't be run here, translated for DuckDB by a parser of their dialects: what it
 * makes of the files equals the source.
 * @module-tag long
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { DuckDBConnection } from "@duckdb/node-api";
import { afterAll, beforeAll, expect, test } from "vitest";
import * as z from "zod";
import { type Dialect, forDuckdb } from "../../../scripts/services/tools/sqlglot.ts";
import { connectedDuckdb } from "../../support/warehouses/files-reader.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";

const PAGES = join(import.meta.dirname, "../../../docs/warehouses");
/** Each has the columns of the pages; `plain` is never truncated or read again. */
const TABLES = "orders plain"
  .split(" ")
  .map(
    (name) =>
      `create table ${name} (id bigint primary key, status text, body text); alter table ${name} replica identity full`,
  );
/** A key that no row of the source has. */
const LOST = 999_999;
/** Redshift loads by position. */
const BY_NAME: ReadonlySet<Dialect> = new Set(["snowflake", "bigquery", "athena"]);

let pipeline: RunningPipeline;

beforeAll(async () => {
  pipeline = await RunningPipeline.start(TABLES.join("; "), { kinds: ["files"] });
  for (const name of ["orders", "plain"]) {
    const run = async (sql: string): Promise<void> => await pipeline.run(sql.replaceAll("@", name));
    await run("insert into @ select g, 'new', repeat(md5(g::text), 3) from generate_series(1, 200) g");
    if (name === "orders") {
      await run("truncate @");
      await run("insert into @ select g, 'again', null from generate_series(100, 300) g");
    }
    await run("update @ set status = 'paid' where id % 3 = 0; delete from @ where id % 7 = 0");
    await run(
      "insert into @ values (0, 'x', null); update @ set status = 'y' where id = 0; delete from @ where id = 0",
    );
    await run("update @ set id = id + 1000, body = '' where id % 11 = 0");
    if (name === "orders") {
      await pipeline.readAgain("public.orders");
      await pipeline.settled();
    }
    await run(
      "delete from @ where id % 13 = 0; insert into @ values (14, 'back', 'it''s'); update @ set status = null where id % 5 = 0",
    );
  }
  await pipeline.settled();
  // What waits becomes files.
  await pipeline.daemon.stop();
});

afterAll(async () => {
  await pipeline?.[Symbol.asyncDispose]();
});

test.for<Dialect>(["snowflake", "bigquery", "redshift", "athena"])("%s: the present rows", async (dialect) => {
  using duckdb = await connectedDuckdb();
  const { connection } = duckdb;
  const page = await statementsOf(dialect);
  const changes = await loaded(connection, dialect, page, "orders");
  const ops = await textsOf(connection, `SELECT DISTINCT _millrace_op FROM ${changes} ORDER BY 1`);
  expect(ops.flat()).toEqual(["c", "d", "r", "s", "t", "u"]);
  // A row whose delete the log did not have; only the sweep says that it is gone.
  await connection.run(
    `INSERT INTO ${changes} SELECT * REPLACE (${LOST} AS id) FROM ${changes} WHERE _millrace_op = 'c' AND status = 'again' LIMIT 1`,
  );
  await connection.run(presentRowsOf(page));
  const result = dialect === "bigquery" ? "silver.orders" : "orders";
  expect(await rowsOf(connection, result)).toEqual(await rowsOfSource("orders"));
});

test("snowflake: MERGE in pieces, wherever they are cut", async () => {
  const page = await statementsOf("snowflake");
  const merge = page.find(({ kind }) => kind === "merge")!.sql;
  using duckdb = await connectedDuckdb();
  const { connection } = duckdb;
  const changes = await loaded(connection, "snowflake", page, "plain");
  await connection.run(`ALTER TABLE ${changes} RENAME TO arrived; CREATE TABLE ${changes} AS FROM arrived LIMIT 0`);
  await connection.run("CREATE TABLE orders_now (id BIGINT, status VARCHAR, body VARCHAR)");
  const ends = await textsOf(
    connection,
    "SELECT max(_millrace_sequence)::VARCHAR FROM (SELECT *, ntile(7) OVER (ORDER BY _millrace_sequence) AS piece FROM arrived) GROUP BY piece ORDER BY piece",
  );
  let last = "0";
  for (const [end] of ends) {
    await connection.run(
      `INSERT INTO ${changes} FROM arrived WHERE _millrace_sequence > ${last} AND _millrace_sequence <= ${end}`,
    );
    await connection.run(merge.replace("$last", last));
    last = end!;
  }
  expect(await rowsOf(connection, "orders_now")).toEqual(await rowsOfSource("plain"));
});

type Statement = NonNullable<Awaited<ReturnType<typeof forDuckdb>>[number]>;

/** All that the parser knows; it fails at what is wrong. */
async function statementsOf(dialect: Dialect): Promise<readonly Statement[]> {
  const page = readFileSync(join(PAGES, `${dialect}.md`), "utf8");
  const blocks = Array.from(page.matchAll(/```sql\n(.*?)```/gs), ([, block]) => block!);
  return (await forDuckdb(dialect, blocks)).filter((statement) => statement !== null);
}

function presentRowsOf(page: readonly Statement[]): string {
  return page.find(({ kind, sql }) => kind === "create" && sql.includes("WITH newest"))!.sql;
}

/** The files in the table of changes, as the warehouse loads them; its name. */
async function loaded(
  connection: DuckDBConnection,
  dialect: Dialect,
  page: readonly Statement[],
  table: string,
): Promise<string> {
  const files = join(pipeline.installation.folder, "changes", `public.${table}/*/*.parquet`).replaceAll("'", "''");
  const rows = `SELECT * FROM read_parquet('${files}', hive_partitioning = false)`;
  const definition = page.find(({ sql }) => sql.startsWith("CREATE TABLE orders_changes ("));
  if (definition === undefined) {
    await connection.run(`CREATE SCHEMA bronze; CREATE SCHEMA silver; CREATE TABLE bronze.orders_changes AS ${rows}`);
    return "bronze.orders_changes";
  }
  await connection.run(definition.sql);
  await connection.run(`INSERT INTO orders_changes ${BY_NAME.has(dialect) ? "BY NAME" : ""} ${rows}`);
  return "orders_changes";
}

async function rowsOf(connection: DuckDBConnection, table: string): Promise<readonly (readonly (string | null)[])[]> {
  return await textsOf(connection, `SELECT id::BIGINT::VARCHAR, status, body FROM ${table} ORDER BY id`);
}

const TEXTS = z.array(z.array(z.string().nullable()));

async function textsOf(connection: DuckDBConnection, sql: string): Promise<readonly (readonly (string | null)[])[]> {
  const result = await connection.runAndReadAll(sql);
  return TEXTS.parse(result.getRowsJson());
}

async function rowsOfSource(table: string): Promise<readonly (readonly (string | null)[])[]> {
  const { rows } = await pipeline.source.query<{ id: string; status: string | null; body: string | null }>(
    `select id::text, status, body from ${table} order by ${table}.id`,
  );
  return rows.map(({ id, status, body }) => [id, status, body]);
}
