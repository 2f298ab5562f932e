/** A query ends with all of its rows, or with an error: also when its time ends, or a row fails, half-way. */
import { DuckDBInstance } from "@duckdb/node-api";
import { expect, test } from "vitest";
import { runQuery } from "../../connectors/duckdb/inspect/query.ts";
import { EngineProcess } from "../../connectors/kit/duckdb-engine/engine-process.ts";
import { wholeResult } from "../../connectors/kit/duckdb-engine/reading.ts";

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

const LATE = "select case when i = 300000 then error('late') else 0 end from range(600000) r (i)";

test("a query of which a later row fails is no complete answer", async () => {
  const instance = await DuckDBInstance.create(":memory:");
  const request = { sql: LATE, rowCountMax: 1_000_000, byteCountMax: 100_000_000 };
  const connect = async () => await instance.connect();
  await expect(runQuery(connect, request, new AbortController().signal)).rejects.toMatchObject({ code: "MR2027" });
  instance.closeSync();
});

test("nor in a process of its own, which says it with the same number and remedy, and DuckDB's own errors as they are", async () => {
  const engine = await EngineProcess.open(":memory:", {});
  const connection = await engine.connect();
  const read = async (): Promise<void> => {
    for await (const rows of wholeResult(await connection.stream(LATE), (it) => it.yieldRowsJson()))
      expect(rows.length).toBeGreaterThan(0);
  };
  const hint = expect.stringContaining("memoryLimit");
  await expect(read()).rejects.toMatchObject({ code: "MR2027", kind: "retryable", hint });
  await expect(connection.run("select error('own')")).rejects.toThrow(/^Invalid Input Error: own$/);
  await engine.close();
});
