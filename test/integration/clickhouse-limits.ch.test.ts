/** Limits of a profile, which are meant for people who type statements, end no statement of the sink and cut no answer. */
import { expect, test } from "vitest";
import { Client } from "../../connectors/clickhouse/client.ts";
import { ownClickhouse } from "../support/run/services.ts";
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
  limit: "3",
  offset: "1",
  http_receive_timeout: "1",
};

const NO_TLS = { ca: undefined, cert: undefined, certKey: undefined, serverName: undefined };

test("what a profile limits is lifted for the sink's statements", async () => {
  await using server = await ownClickhouse();
  const signal = AbortSignal.timeout(60_000);
  // The engine in the tests has one session: what is set in it stays until the sink says otherwise.
  for (const [name, value] of Object.entries(HOSTILE)) await askClickhouse(server.url, `SET ${name} = '${value}'`);
  await using client = await Client.open({ url: server.url, tls: NO_TLS, quorum: undefined }, signal);
  expect(client.fixedLimits).toEqual([]);
  await client.run("CREATE TABLE t (id UInt32, part UInt8) ENGINE = MergeTree PARTITION BY part ORDER BY id", signal);
  await client.run("INSERT INTO t SELECT number, number % 5 FROM numbers(100)", signal);
  expect(await client.rows("SELECT id, part FROM t", signal)).toHaveLength(100);
  expect(await client.rows("SELECT id, any(part) FROM t GROUP BY id", signal)).toHaveLength(100);
});
