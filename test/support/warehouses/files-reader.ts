/** What a reader of a files sink finds, by its manifests, read by other means than the sink's own. */
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";
import type { StreamEntry } from "../../conformance/sink.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { fieldsOf, itemsOf, type Json, plainOf, readJson, spelledJson } from "../model/json-text.ts";

interface ManifestFile {
  readonly path: string;
  readonly table: string;
  readonly rows: number;
}

interface Manifest {
  readonly wholeBelow: bigint;
  readonly files: readonly ManifestFile[];
}

/** Not rows that were read, nor what a resync removes. */
const OF_THE_LOG =
  "_millrace_op IN ('c', 'u', 'd', 't') AND _millrace_offset < 4294967296 AND _millrace_transaction IS NOT NULL";
/** Of a sweep that takes away what was there before the log's beginning. */
const ANY_VERSION = 2n ** 63n - 1n;
/** Behind all changes of its transaction. */
const END = 2n ** 40n;

export class FilesReader {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  manifests(): readonly Manifest[] {
    const folder = join(this.#path, "_millrace/manifests");
    const names = existsSync(folder) ? readdirSync(folder).toSorted() : [];
    return names.map((name) => {
      const fields = fieldsOf(readJson(readFileSync(join(folder, name), "utf8")));
      const files = itemsOf(fields.get("files")).map((file) => {
        const of = fieldsOf(file);
        return {
          path: plainOf(of.get("path")),
          table: plainOf(of.get("table")),
          rows: Number(plainOf(of.get("rows"))),
        };
      });
      return { wholeBelow: BigInt(plainOf(fields.get("wholeBelow"))), files };
    });
  }

  /** How many changes wait in the log for their files. */
  waiting(): number {
    const folder = join(this.#path, "_millrace/log");
    const newest = existsSync(folder) ? readdirSync(folder).toSorted().at(-1) : undefined;
    if (newest === undefined) return 0;
    const [head = "{}"] = readFileSync(join(folder, newest), "utf8").split("\n", 1);
    return Number(plainOf(fieldsOf(fieldsOf(readJson(head)).get("waiting")).get("rows")));
  }

  /** The files that readers find who list the folders of tables. */
  listed(): readonly string[] {
    if (!existsSync(this.#path)) return [];
    const found = readdirSync(this.#path, { recursive: true, withFileTypes: true });
    return found
      .filter((entry) => entry.isFile())
      .map(({ parentPath, name }) => join(parentPath, name).slice(this.#path.length + 1))
      .filter((path) => !path.startsWith("_"))
      .toSorted();
  }

  /** Changes of the log that are in Parquet files more than once, and changes whose order in the files is not that of the log. */
  async repeated(): Promise<readonly string[]> {
    using duckdb = await connectedDuckdb();
    const found: string[] = [];
    for (const table of new Set(this.listed().map((path) => path.split("/")[0]!))) {
      const files = `read_parquet('${join(this.#path, table)}/*/*.parquet', union_by_name = true, hive_partitioning = false)`;
      const twice = await duckdb.connection.runAndReadAll(`
        SELECT _millrace_version::VARCHAR, _millrace_offset::VARCHAR, _millrace_op, count(*)::INT FROM ${files}
        WHERE ${OF_THE_LOG} GROUP BY ALL HAVING count(*) > 1`);
      found.push(...twice.getRowsJson().map((row) => `${table} ${JSON.stringify(row)}`));
      const backwards = await duckdb.connection.runAndReadAll(`
        SELECT count(*)::INT FROM (SELECT _millrace_version AS v, _millrace_offset AS o,
          lag(_millrace_version) OVER q AS before_v, lag(_millrace_offset) OVER q AS before_o FROM ${files}
          WHERE ${OF_THE_LOG} WINDOW q AS (ORDER BY _millrace_sequence))
        WHERE v < before_v OR (v = before_v AND o < before_o)`);
      const count = Number(backwards.getRowsJson()[0]?.[0]);
      if (count > 0) found.push(`${table}: ${count} changes come before earlier ones`);
    }
    return found;
  }

  /** In commit order. */
  async stream(tables: readonly TableVersion[]): Promise<readonly StreamEntry[]> {
    const manifests = this.manifests();
    const entries: StreamEntry[] = [];
    for (const { path, table: id } of manifests.flatMap(({ files }) => files)) {
      const table = tables.find((one) => one.id === id);
      if (table === undefined) continue;
      const found = await this.#entries(path, table);
      entries.push(...found.filter((entry) => entry.kind !== "sweep" || entry.below !== ANY_VERSION));
    }
    const wholeBelow = manifests.at(-1)?.wholeBelow ?? 0n;
    const versions = new Set(entries.flatMap((entry) => (isOfTransaction(entry) ? [entry.version] : [])));
    for (const version of versions) if (version < wholeBelow) entries.push({ kind: "end", version });
    return entries
      .map((entry, at) => ({ entry, place: placeOf(entry), at }))
      .toSorted((a, b) => (a.place < b.place ? -1 : a.place > b.place ? 1 : a.at - b.at))
      .map(({ entry }) => entry);
  }

  async wipe(): Promise<void> {
    rmSync(this.#path, { recursive: true, force: true });
  }

  async #entries(path: string, table: TableVersion): Promise<readonly StreamEntry[]> {
    const file = join(this.#path, path);
    if (path.endsWith(".parquet")) return await parquetEntries(file, table);
    const lines = readFileSync(file, "utf8").trimEnd().split("\n");
    return lines.map((line) => {
      const fields = fieldsOf(readJson(line));
      const unchanged = fields.has("_millrace_unchanged") ? itemsOf(fields.get("_millrace_unchanged")) : [];
      return entryOf(table, fields, unchanged.map(plainOf), (name) => {
        const cell = fields.get(name);
        return cell == null ? null : spelledJson(cell);
      });
    });
  }
}

/** Each column as text, as `parquetLanding` says. */
export async function parquetEntries(file: string, table: TableVersion): Promise<readonly StreamEntry[]> {
  using duckdb = await connectedDuckdb();
  const { connection } = duckdb;
  const described = await connection.runAndReadAll(
    `DESCRIBE SELECT * FROM read_parquet('${file}', hive_partitioning = false)`,
  );
  const columns = described.getRowsJson().map(([name, type]) => ({ name: textOf(name), type: textOf(type) }));
  const texts = columns.map(({ name, type }) => asText(`"${name.replaceAll('"', '""')}"`, type));
  const rows = await connection.runAndReadAll(
    `SELECT ${texts.join(", ")} FROM read_parquet('${file}', hive_partitioning = false)`,
  );
  const own = columns.filter(({ name }) => name.startsWith("_millrace_")).length;
  return rows.getRowsJS().map((row) => {
    const cellOf = (value: unknown): string | null => (value === null ? null : spelled(value));
    const fields = new Map<string, Json>(columns.map(({ name }, i) => [name, cellOf(row[i])]));
    const jsonOf = (name: string) => {
      const text = fields.get(name);
      return typeof text === "string" ? readJson(text) : null;
    };
    const exact = jsonOf("_millrace_exact");
    const unchanged = jsonOf("_millrace_unchanged");
    return entryOf(table, fields, unchanged === null ? [] : itemsOf(unchanged).map(plainOf), (_name, ordinal) => {
      const held = exact === null ? undefined : fieldsOf(exact).get(columns[own + ordinal]!.name);
      const text = held === undefined ? cellOf(row[own + ordinal]) : plainOf(held);
      return text !== null && table.columns[ordinal]!.type.kind === "array" ? spelledJson(readJson(text)) : text;
    });
  });
}

export async function connectedDuckdb() {
  const instance = await DuckDBInstance.create(":memory:");
  const connection = await instance.connect();
  await connection.run("SET TimeZone = 'UTC'");
  return {
    connection,
    [Symbol.dispose]() {
      connection.closeSync();
      instance.closeSync();
    },
  };
}

/** Of a query whose columns are texts. */
export function textOf(value: unknown): string {
  if (typeof value !== "string") throw new TypeError("the query gives text here");
  return value;
}

function asText(column: string, type: string): string {
  if (type === "FLOAT" || type === "DOUBLE") return column;
  if (type === "BLOB") return `'\\x' || lower(hex(${column}))`;
  // As bytes: the driver leaves out a mark (U+FEFF) at the start of a text.
  return `encode(CAST(${column} AS VARCHAR))`;
}

function spelled(value: unknown): string {
  if (value instanceof Uint8Array) return Buffer.from(value).toString("utf8");
  return Object.is(value, -0) ? "-0" : String(value);
}

function entryOf(
  table: TableVersion,
  fields: ReadonlyMap<string, Json>,
  unchanged: readonly string[],
  cell: (name: string, ordinal: number) => string | null,
): StreamEntry {
  const op = plainOf(fields.get("_millrace_op"));
  const version = BigInt(plainOf(fields.get("_millrace_version")));
  const added = Object.keys(table.scope ?? {}).map((name) => [name, plainOf(fields.get(name))]);
  const scope = added.length === 0 ? {} : { scope: Object.fromEntries(added) };
  if (op === "t") return { kind: "truncate", table: table.id, version, ...scope };
  if (op === "s") return { kind: "sweep", table: table.id, below: version, ...scope };
  const shown = op === "d" ? table.key : [...table.columns.keys()];
  const cells = shown.map((c) => {
    const { name } = table.columns[c]!;
    return unchanged.includes(name) ? undefined : cell(name, c);
  });
  return {
    kind: "change",
    table: table.id,
    op,
    version,
    index: Number(plainOf(fields.get("_millrace_offset"))),
    cells,
  };
}

function isOfTransaction(entry: StreamEntry): entry is Extract<StreamEntry, { kind: "change" | "truncate" }> {
  return entry.kind === "truncate" || (entry.kind === "change" && entry.op !== "r");
}

function placeOf(entry: StreamEntry): bigint {
  const bits = 48n;
  if (entry.kind === "end") return (entry.version << bits) + END;
  if (entry.kind === "sweep") return (entry.below << bits) - 1n;
  return (entry.version << bits) + (entry.kind === "change" ? BigInt(entry.index) : 0n);
}
