/**
 * Compares tables of a source with a sink, row by row and column by column. What should be in the sink is worked
 * out from the texts that the source's server prints and the type tables of the documentation, never by the product's own
 * encoders; the sink is read through a client of its own. The source is read in one snapshot; the rows of one table lie in
 * a scratch file meanwhile, so memory stays bounded, and the sink is read in its own order.
 *
 * Nothing may be on its way to the sink while it is compared.
 */
import { Client } from "pg";
import { temporaryFolder } from "../run/temporary-folder.ts";
import { clickhouseReader, type ClickhouseSinkAddress } from "./clickhouse.ts";
import { duckdbReader, type DuckdbSinkAddress, lakeReader, type LakeSinkAddress } from "./duckdb.ts";
import { elasticsearchReader, type ElasticsearchSinkAddress } from "./elasticsearch.ts";
import { postgresReader, type PostgresSinkAddress } from "./postgres.ts";
import { filesReader, type FilesSinkAddress } from "./files.ts";
import { Findings, type TableDifference } from "./findings.ts";
import { kafkaReader, type KafkaSinkAddress } from "./kafka.ts";
import { describeMysqlTable, openMysql, readMysqlRows } from "./mysql-source.ts";
import type { SinkReader } from "./reader.ts";
import { redisReader, type RedisSinkAddress } from "./redis.ts";
import { Scratch } from "./scratch.ts";
import { sqliteReader, type SqliteSinkAddress } from "./sqlite.ts";
import { type Cells, describeTable, PRINTING, readRows, type SourceTable, type TableName } from "./source-table.ts";

export type { TableDifference, TableName };

export type SinkAddress =
  | ClickhouseSinkAddress
  | DuckdbSinkAddress
  | ElasticsearchSinkAddress
  | FilesSinkAddress
  | KafkaSinkAddress
  | LakeSinkAddress
  | PostgresSinkAddress
  | RedisSinkAddress
  | SqliteSinkAddress;

export interface Comparison {
  /** The source's URL, read as a role that may SELECT. */
  readonly source: string;
  readonly sink: SinkAddress;
  readonly tables: readonly TableName[];
}

/** One result per table, in their order. */
export async function compareSink({ source, sink, tables }: Comparison): Promise<TableDifference[]> {
  await using reader = await openSink(sink);
  await using client = await openSource(source);
  const results: TableDifference[] = [];
  for (const name of tables) results.push(await compareTable(client, reader, await client.describe(name)));
  return results;
}

export function isEqual({ missing, extra, different }: TableDifference): boolean {
  return missing === 0 && extra === 0 && different === 0;
}

function openSink(sink: SinkAddress): Promise<SinkReader> {
  switch (sink.kind) {
    case "clickhouse":
      return clickhouseReader(sink);
    case "duckdb":
      return duckdbReader(sink);
    case "ducklake":
      return lakeReader(sink);
    case "elasticsearch":
      return elasticsearchReader(sink);
    case "files":
      return filesReader(sink);
    case "kafka":
      return kafkaReader(sink);
    case "postgres":
      return postgresReader(sink);
    case "redis":
      return redisReader(sink);
    case "sqlite":
      return sqliteReader(sink);
    default:
      return sink satisfies never;
  }
}

/** The source by a client of its own, inside one snapshot. */
interface SourceReader extends AsyncDisposable {
  describe(name: TableName): Promise<SourceTable>;
  rows(table: SourceTable): AsyncIterable<readonly Cells[]>;
}

async function openSource(url: string): Promise<SourceReader> {
  if (/^(mysql|mariadb):/.test(url)) {
    const connection = await openMysql(url);
    return {
      describe: (name) => describeMysqlTable(connection, name),
      rows: (table) => readMysqlRows(connection, table),
      [Symbol.asyncDispose]: () => connection.end(),
    };
  }
  const client = new Client({ connectionString: url });
  await client.connect();
  await client.query(PRINTING);
  await client.query("begin isolation level repeatable read read only");
  return {
    describe: (name) => describeTable(client, name),
    rows: (table) => readRows(client, table),
    [Symbol.asyncDispose]: () => client.end(),
  };
}

async function compareTable(source: SourceReader, reader: SinkReader, table: SourceTable): Promise<TableDifference> {
  using folder = temporaryFolder();
  using scratch = new Scratch(folder.file("expected.db"));
  await readSource(source, reader, table, scratch);
  const findings = new Findings(table);
  for await (const rows of reader.rows(table)) {
    for (const { id, cells, flaws } of rows) {
      const match = scratch.match(id, cells);
      if (match.kind === "unknown") findings.extra(id);
      else if (match.kind !== "again") findings.met(id, match.kind === "equal" ? [] : match.columns, flaws);
      else if (!reader.mayRepeat) findings.twice(id);
    }
  }
  return findings.result(scratch.rowCount, scratch.missingCount, scratch.missing());
}

async function readSource(
  source: SourceReader,
  reader: SinkReader,
  table: SourceTable,
  scratch: Scratch,
): Promise<void> {
  for await (const rows of source.rows(table)) {
    for (const row of rows) {
      const landed = row.map((text, i) => (text === null ? null : reader.expected(table.columns[i]!, text)));
      const keyOf = (cells: Cells) => table.key.map((ordinal) => cells[ordinal] ?? null);
      scratch.add(reader.idOf(keyOf(row), keyOf(landed)), landed);
    }
  }
}
