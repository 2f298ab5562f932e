/** The time limit of a query: it holds at whatever moment it ends. */
import { DuckDBInstance } from "@duckdb/node-api";
import { expect, test } from "vitest";
import { runQuery } from "../../connectors/duckdb/inspect/query.ts";

const ENDLESS = "select count(*) from range(1000000000) a, range(1000000) b";

test("a query whose time ends between two statements is stopped", { timeout: 20_000 }, async () => {
  const instance = await DuckDBInstance.create(":memory:");
  const limit = new AbortController();
  const connect = async () => {
    const connection = await instance.connect();
    const extract = connection.extractStatements.bind(connection);
    // DuckDB does nothing at this moment.
    connection.extractStatements = async (sql) => {
      const statements = await extract(sql);
      limit.abort();
      return statements;
    };
    return connection;
  };
  const request = { sql: ENDLESS, rowCountMax: 10, byteCountMax: 1_000 };
  await expect(runQuery(connect, request, limit.signal)).rejects.toMatchObject({ kind: "aborted" });
  instance.closeSync();
});
