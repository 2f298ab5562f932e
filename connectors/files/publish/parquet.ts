import type { Clock } from "../../../src/core/clock.ts";
import { findMillraceError } from "../../../src/core/errors.ts";
import { quoteLiteral } from "../../kit/duckdb.ts";
import type { EngineConnection } from "../../kit/duckdb-engine/engine.ts";
import { EngineProcess } from "../../kit/duckdb-engine/engine-process.ts";
import { quoteIdentifier } from "../../kit/sql-names.ts";
import { filesError } from "../errors.ts";
import type { Shape } from "../log/entry.ts";
import { type FileColumn, fileColumns } from "./columns.ts";

/** Since the last file. The engine takes 0.4 s of the processor to start, and keeps up to 200 MB of a large file until it ends. */
const IDLE_MS = 10_000;

/** Makes Parquet files, one at a time, by an engine in a process of its own (decision 36), which holds no data. */
export class ParquetMaker implements AsyncDisposable {
  readonly #memoryLimit: string;
  readonly #clock: Pick<Clock, "after">;
  #engine: EngineProcess | null = null;
  #connection: EngineConnection | null = null;
  #stayOpen = (): void => undefined;

  constructor(memoryLimit: string, clock: Pick<Clock, "after">) {
    this.#memoryLimit = memoryLimit;
    this.#clock = clock;
  }

  async make(shape: Shape, from: RowsFile, to: string): Promise<void> {
    this.#stayOpen();
    try {
      const connection = await this.#connected();
      await connection.run(parquetSql(shape, from, to));
    } catch (error) {
      throw await this.#failure(error, shape.id);
    }
    this.#stayOpen = this.#clock.after(IDLE_MS, () => void this.#end());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stayOpen();
    await this.#end();
  }

  async #connected(): Promise<EngineConnection> {
    if (this.#connection !== null) return this.#connection;
    const settings = { threads: "1", memory_limit: this.#memoryLimit, temp_directory: "" };
    this.#engine = await EngineProcess.open(":memory:", settings);
    const connection = await this.#engine.connect();
    await connection.run("SET TimeZone = 'UTC'");
    return (this.#connection = connection);
  }

  async #failure(error: unknown, table: string): Promise<Error> {
    await this.#end();
    const known = findMillraceError(error);
    if (known !== undefined) {
      const message = `no Parquet file of ${table} was made: ${known.message}`;
      if (known.code === "MR3235") return filesError("MR3235", "blocked", message);
      return filesError(known.code, known.kind, message, { hint: known.hint, cause: known.cause });
    }
    // The engine's text may hold values of rows: it is not repeated.
    const [how, hint] =
      error instanceof Error && /^Out of Memory/i.test(error.message)
        ? ["needs more memory", "Raise `memoryLimit`, or lower `roll.bytes`."]
        : ["failed", "See whether the folder for temporary files has room. Report it, with the table's definition."];
    return filesError("MR2027", "blocked", `DuckDB ${how} while it made a Parquet file of ${table}`, { hint });
  }

  async #end(): Promise<void> {
    const engine = this.#engine;
    this.#engine = null;
    this.#connection = null;
    await engine?.close();
  }
}

/** The reader refuses longer rows by default. */
const ROW_BYTES_DEFAULT = 1024 * 1024;
const BUFFER_BYTES = 2 * ROW_BYTES_DEFAULT;

interface RowsFile {
  readonly path: string;
  readonly rowBytesMax: number;
}

/** Makes a Parquet file of the lines of CsvRows. */
export function parquetSql(shape: Shape, from: RowsFile, to: string): string {
  const columns = fileColumns(shape).map((column, i) => ({ ...column, field: `c${i}` }));
  const own = [
    'sequence AS "_millrace_sequence"',
    'op AS "_millrace_op"',
    'version AS "_millrace_version"',
    '"offset" AS "_millrace_offset"',
    'make_timestamptz(commit_us) AS "_millrace_commit_time"',
    'transaction_id AS "_millrace_transaction"',
    'unchanged AS "_millrace_unchanged"',
  ];
  const values = columns.map(({ field, expression, name }) => `${expression(field)} AS ${quoteIdentifier(name)}`);
  const exact = `${exactOf(columns)} AS "_millrace_exact"`;
  const select = `SELECT ${[...own, exact, ...values].join(", ")} FROM ${readCsv(columns.length, from)}`;
  return `COPY (${select}) TO ${quoteLiteral(to)} (FORMAT parquet, COMPRESSION zstd)`;
}

/** A JSON object with the texts of the cells whose types can't hold them; null where all do. */
function exactOf(columns: readonly (FileColumn & { readonly field: string })[]): string {
  const tests = columns.flatMap(({ name, field, unfit }) =>
    unfit === null ? [] : [{ name, field, is: unfit(field) }],
  );
  if (tests.length === 0) return "CAST(NULL AS VARCHAR)";
  const pairs = tests.map(
    ({ name, field, is }) => `{'k': ${quoteLiteral(name)}, 'v': CASE WHEN ${is} THEN ${field} END}`,
  );
  const kept = `list_filter([${pairs.join(", ")}], lambda x: x.v IS NOT NULL)`;
  const any = tests.map(({ field, is }) => `(${field} IS NOT NULL AND ${is})`).join(" OR ");
  return `CASE WHEN ${any} THEN CAST(to_json(map_from_entries(${kept})) AS VARCHAR) END`;
}

function readCsv(columnCount: number, { path, rowBytesMax }: RowsFile): string {
  const fields = [
    ...Array.from({ length: columnCount }, (_, i) => `'c${i}': 'VARCHAR'`),
    "'sequence': 'BIGINT', 'op': 'VARCHAR', 'version': 'BIGINT', 'offset': 'BIGINT', 'commit_us': 'BIGINT'",
    "'transaction_id': 'VARCHAR', 'unchanged': 'VARCHAR'",
  ];
  const size = rowBytesMax > ROW_BYTES_DEFAULT ? rowBytesMax + 1024 : null;
  const options = [
    "auto_detect = false, header = false, delim = ',', quote = '\"', escape = '\"', new_line = '\\n'",
    // An empty field is null, an empty quoted one is the empty text.
    "nullstr = '', allow_quoted_nulls = false, parallel = false",
    `columns = {${fields.join(", ")}}`,
    size === null ? `buffer_size = ${BUFFER_BYTES}` : `max_line_size = ${size}, buffer_size = ${size}`,
  ];
  return `read_csv(${quoteLiteral(path)}, ${options.join(", ")})`;
}
