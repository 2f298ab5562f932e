/** Rows that the files of a files sink leave, by the SQL of docs/warehouses/duckdb.md: the files are found by their folder alone. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createHash } from "node:crypto";
import { expect } from "vitest";
import type { DuckDBConnection } from "@duckdb/node-api";
import { wholeResult } from "../../../connectors/kit/duckdb-engine/reading.ts";
import type { ColumnType } from "../../../src/core/model/types.ts";
import { parquetLanding } from "../warehouses/files-landing.ts";
import { mergeSql } from "../warehouses/files-merge.ts";
import { connectedDuckdb, FilesReader, textOf } from "../warehouses/files-reader.ts";
import { readJson, spelledJson } from "../model/json-text.ts";
import { type FreshBucket, mirrorBucket } from "../run/services.ts";
import { temporaryFolder } from "../run/temporary-folder.ts";
import { eventually } from "../run/waiting.ts";
import { rowId, type SinkReader, type SinkRow, versionFlaws } from "./reader.ts";
import { quoted, type SourceTable } from "./source-table.ts";

export interface FilesSinkAddress {
  readonly kind: "files";
  readonly path: string;
  /** Absent: `path` is a folder. */
  readonly bucket?: FreshBucket;
}

const PUBLISHED_WITHIN_MS = 30_000;

export async function filesReader({ path, bucket }: FilesSinkAddress): Promise<SinkReader> {
  const folder = temporaryFolder();
  const local = bucket === undefined ? path : folder.file(path);
  const reader = new FilesReader(local);
  // The daemon makes files of what waits when it is old enough.
  await eventually(
    async () => {
      if (bucket !== undefined) await mirrorBucket(bucket, folder.path);
      expect(reader.waiting()).toBe(0);
    },
    { withinMs: PUBLISHED_WITHIN_MS, everyMs: 300 },
  );
  const inManifests = reader.manifests().flatMap(({ files }) => files.map((file) => file.path));
  const listed = reader.listed();
  if (JSON.stringify(inManifests.toSorted()) !== JSON.stringify(listed)) {
    throw new Error(`files that are in no manifest, or not there: ${listed.length}, ${inManifests.length}`);
  }
  const duckdb = await connectedDuckdb();
  return {
    mayRepeat: false,
    expected: (column, text) => parquetLanding(column, text),
    idOf: (_key, landed) => rowId(landed),
    rows: (table) => rows(duckdb.connection, join(local, folderOf(table)), table),
    async [Symbol.asyncDispose]() {
      duckdb[Symbol.dispose]();
      folder[Symbol.dispose]();
    },
  };
}

async function* rows(connection: DuckDBConnection, folder: string, table: SourceTable): AsyncGenerator<SinkRow[]> {
  if (!existsSync(folder)) return;
  const files = `${folder.replaceAll("'", "''")}/*/*.parquet`;
  const described = await connection.runAndReadAll(
    `DESCRIBE SELECT * FROM read_parquet('${files}', union_by_name = true, hive_partitioning = false)`,
  );
  const types = new Map(described.getRowsJson().map(([name, type]) => [textOf(name), textOf(type)]));
  const names = targetNames(table);
  // Each cell as text, or as the text beside it that its type can't hold.
  const texts = names
    .filter((name) => types.has(name))
    .map((name) => `${cellText(name, types.get(name)!)} AS ${quoted(name)}`);
  const own = [...types.keys()].filter((name) => name.startsWith("_millrace_"));
  const view = `CREATE OR REPLACE TEMP VIEW changed AS SELECT ${[...own, ...texts].join(", ")}
    FROM read_parquet('${files}', union_by_name = true, hive_partitioning = false)`;
  await connection.run(view);
  const columns = names.filter((name) => types.has(name));
  const key = table.key.map((ordinal) => names[ordinal]!);
  const sql = mergeSql({ files: "", key, columns }).replace(/read_parquet\([^)]*\)/, "changed");
  const result = await connection.stream(
    `SELECT _millrace_version::VARCHAR, ${columns.map((name) => `hex(${quoted(name)})`).join(", ")} FROM (${sql})`,
  );
  for await (const found of wholeResult(result, (it) => it.yieldRowsJson())) {
    yield found.map(([version, ...values]) => {
      const held = new Map(columns.map((name, i) => [name, values[i] ?? null]));
      const cells = names.map((name, i) => {
        const hex = held.get(name) ?? null;
        if (hex === null) return null;
        const text = Buffer.from(textOf(hex), "hex").toString("utf8");
        return spelt(table.columns[i]!.type, text);
      });
      const id = rowId(table.key.map((ordinal) => cells[ordinal] ?? null));
      return { id, cells, flaws: versionFlaws(version) };
    });
  }
}

function spelt({ kind, ...of }: ColumnType, text: string): string {
  if (kind === "array") return spelledJson(readJson(text));
  if (kind === "float") {
    if (/^-0(\.0)?$/.test(text)) return "-0";
    const value = Number(text.replace("inf", "Infinity").replace("nan", "NaN"));
    return String("bits" in of && of.bits === 32 ? Math.fround(value) : value);
  }
  // Where all digits are behind the point, DuckDB prints no zero before it.
  return kind === "decimal" ? text.replace(/^(-?)\./, "$10.") : text;
}

function cellText(name: string, type: string): string {
  const column = quoted(name);
  if (type === "BLOB") return `'\\x' || lower(hex(${column}))`;
  return `coalesce(json_extract_string(_millrace_exact, ${jsonPath(name)}), CAST(${column} AS VARCHAR))`;
}

function jsonPath(name: string): string {
  return `'/${name.replaceAll("~", "~0").replaceAll("/", "~1").replaceAll("'", "''")}'`;
}

/** As the README of the connector says. */
function targetNames({ columns }: SourceTable): string[] {
  const taken = new Set<string>();
  return columns.map(({ name }) => {
    const digest = createHash("sha256").update(name).digest("hex").slice(0, 8);
    const chosen = taken.has(name.toLowerCase()) ? `${name}_${digest}` : name;
    taken.add(chosen.toLowerCase());
    return chosen;
  });
}

function folderOf({ schema, table }: SourceTable): string {
  const encoded = (name: string): string =>
    Array.from(Buffer.from(name), (byte) => {
      const character = String.fromCharCode(byte);
      return /[A-Za-z0-9_-]/.test(character) ? character : `%${byte.toString(16).padStart(2, "0").toUpperCase()}`;
    }).join("");
  return `${encoded(schema)}.${encoded(table)}`.replace(/^_/, "%5F");
}
