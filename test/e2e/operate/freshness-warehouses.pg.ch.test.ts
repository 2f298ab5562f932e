/** Freshness of warehouses: who has the answer and then reads finds the rows, with an engine of its own. */
import { join } from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";
import { expect, test } from "vitest";
import * as z from "zod";
import { duckdbExtensions } from "../../../scripts/services/packages/duckdb-extensions.ts";
import type { FreshAnswer } from "../../../src/core/contracts/orders.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { clickhouseUrl } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";
import { askClickhouse } from "../../support/warehouses/clickhouse-values.ts";

const COMMITS = 12;
const KINDS = ["duckdb", "ducklake", "clickhouse"] as const;
const QUERIED = z.object({ rows: z.array(z.object({ note: z.string() })) });

type Read = (ids: string) => Promise<readonly unknown[]>;

test("no answer comes before the warehouse shows the rows to a reader", async () => {
  await using pipeline = await RunningPipeline.start(
    "create table notes (id int primary key, note text); insert into notes values (0, 'note 0')",
    // No heartbeat helps.
    { kinds: KINDS, configure: (config) => ({ ...config, source: { ...config.source, heartbeat: "1h" } }) },
  );
  const { installation, sinks, source } = pipeline;
  await using lake = await lakeReader(join(installation.folder, "ducklake.db"));
  const readers: Readonly<Record<(typeof KINDS)[number], Read>> = {
    duckdb: async (ids) => {
      const sql = `select note from public.notes where id in (${ids}) order by id`;
      const { stdout } = await installation.command("query", sql, "--sink", "duckdb", "--json");
      return QUERIED.parse(JSON.parse(stdout)).rows.map(({ note }) => note);
    },
    ducklake: lake.read,
    clickhouse: async (ids) => {
      const from = `${sinks.databases[0]}.notes final where _millrace_deleted = 0`;
      const rows = await askClickhouse(clickhouseUrl(), `select note from ${from} and id in (${ids}) order by id`);
      return rows.map(([note]) => note);
    },
  };
  for (let id = 1; id <= COMMITS; id++) {
    await pipeline.run(
      `insert into notes values (${id}, 'note ${id}'); update notes set note = 'changed ${id}' where id = ${id - 1}`,
    );
    const { rows } = await source.query<{ token: string }>("select pg_current_wal_insert_lsn() as token");
    const asked = KINDS.map(async (sink) => {
      const query = new URLSearchParams({ at: rows[0]!.token, sink, timeout: "60s" });
      const answer = await installation.ask<FreshAnswer>("GET", `/api/v1/fresh?${query.toString()}`);
      return { sink, ...answer, notes: await readers[sink](`${id - 1}, ${id}`) };
    });
    for (const found of await Promise.all(asked))
      expect(found).toMatchObject({ reached: true, missing: [], notes: [`changed ${id}`, `note ${id}`] });
  }
});

async function lakeReader(catalog: string): Promise<{ readonly read: Read } & AsyncDisposable> {
  const instance = await DuckDBInstance.create(":memory:", { allow_unsigned_extensions: "true", threads: "2" });
  const connection = await instance.connect();
  const extensions = await duckdbExtensions();
  for (const name of ["ducklake", "sqlite_scanner"])
    await connection.run(`LOAD '${extensions}/${name}.duckdb_extension'`);
  await connection.run(`ATTACH 'ducklake:sqlite:${catalog}' AS lake (READ_ONLY, META_BUSY_TIMEOUT 5000)`);
  return {
    read: async (ids) => {
      const sql = `select note from lake.public.notes where id in (${ids}) order by id`;
      // Who reads in the moment in which maintenance moves rows is told, and asks again.
      const found = await eventually(() => connection.runAndReadAll(sql), { withinMs: 1_000 });
      return found.getRowsJson().map(([note]) => note);
    },
    [Symbol.asyncDispose]: async () => {
      connection.disconnectSync();
      instance.closeSync();
    },
  };
}
