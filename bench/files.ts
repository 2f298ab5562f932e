/**
 * The files sink against the same Parquet without a log: steps of 50,000 changes of 12 columns, made beforehand, through
 * `apply` into files of 500,000; and the same text, written to one file without waiting for the disk, then made Parquet
 * of by the same statement, without checkpoint, fence, manifest and failure in mind.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { appendFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";
import { parquetSql } from "../connectors/files/publish/parquet.ts";
import { FilesSink } from "../connectors/files/sink.ts";
import { FolderStore } from "../connectors/files/store/folder.ts";
import { CsvRows } from "../connectors/files/text/csv.ts";
import { type BatchParts, BatchRows } from "../connectors/files/text/batch-parts.ts";
import { ByteWriter } from "../src/core/bytes.ts";
import type { Outcome } from "../src/core/contracts/sink.ts";
import type { Batch } from "../src/core/model/batch.ts";
import { BEFORE_NONE, Block, NO_TUPLE, OP_CREATE } from "../src/core/model/block.ts";
import type { KeyedTable } from "../src/core/model/schema.ts";
import { TupleWriter } from "../src/core/model/tuple.ts";
import type { ColumnType } from "../src/core/model/types.ts";
import { rowVersion } from "../src/core/model/position.ts";
import { Compactor } from "../src/runtime/compaction/compaction.ts";
import { type BenchOptions, type BenchReport, type Line, median } from "./report.ts";
import { checkpointOf } from "../test/support/daemon/complete.ts";

const ROWS = 1_000_000;
const STEP_ROWS = 50_000;
const FILE_ROWS = 500_000;
const WANTED = 0.8;
const MEMORY_LIMIT = "512MB";
const TICKS_PER_S = 100;
const COMMIT_TIME_US = 1_795_000_000_000_000n;

const COLUMNS: readonly (readonly [name: string, type: ColumnType, text: (row: number) => string | null])[] = [
  ["id", { kind: "int", bits: 64, signed: true }, String],
  ["customer_id", { kind: "int", bits: 64, signed: true }, (row) => String((row * 7919) % 100_000)],
  ["status", { kind: "text" }, (row) => ["new", "paid", "shipped", "done"][row % 4]!],
  ["total", { kind: "decimal", precision: 12, scale: 2 }, (row) => (((row * 31) % 100_000) / 100).toFixed(2)],
  ["currency", { kind: "text" }, () => "EUR"],
  ["items", { kind: "int", bits: 32, signed: true }, (row) => String((row % 9) + 1)],
  ["weight", { kind: "float", bits: 64 }, (row) => String((row % 1_000) / 7)],
  ["paid", { kind: "bool" }, (row) => (row % 2 === 0 ? "t" : "f")],
  ["note", { kind: "text" }, (row) => (row % 3 === 0 ? null : `a note that belongs to order ${row}`)],
  ["email", { kind: "text" }, (row) => `customer${(row * 7919) % 100_000}@example.com`],
  [
    "created_at",
    { kind: "timestamp", zone: true },
    (row) => `2026-11-20 06:${String(row % 60).padStart(2, "0")}:15.5+00`,
  ],
  ["updated_at", { kind: "timestamp", zone: true }, () => "2026-11-20 06:43:15.123456+00"],
];

const TABLE: KeyedTable = {
  id: "public.orders",
  schema: "public",
  table: "orders",
  dialect: "postgres",
  relation: 1,
  columns: COLUMNS.map(([name, type], i) => ({ name, type, native: name, nullable: i > 0, identity: i + 1 })),
  key: [0],
  deferrableKey: false,
  version: 1,
  since: { epoch: 1, commit: 0n, index: 0 },
  fingerprint: "bench",
};

const NO_OUTCOME: Outcome = {
  incomplete: () => Promise.reject(new Error("a stream is told every change")),
  poison: () => Promise.reject(new Error("no row is refused")),
};

export async function run({ scale, runs, log }: BenchOptions): Promise<BenchReport> {
  const steps = Array.from({ length: Math.max(1, Math.round((ROWS * scale) / STEP_ROWS)) }, (_, i) => stepOf(i));
  const rows = steps.length * STEP_ROWS;
  const figures = { millrace: [] as Measured[], bare: [] as Measured[] };
  for (let i = 0; i < runs; i++) {
    figures.millrace.push(await measured(rows, (folder) => throughSink(folder, steps)));
    figures.bare.push(await measured(rows, (folder) => bare(folder, steps)));
    log(`files: ${figures.millrace.at(-1)!.rate} and ${figures.bare.at(-1)!.rate} rows/s`);
  }
  const line = (who: "millrace" | "bare"): Line => ({
    work: "inserts",
    who: who === "bare" ? "the same Parquet" : who,
    figures: {
      "rows/s": median(figures[who].map(({ rate }) => rate)),
      "CPU s per 1M": median(figures[who].map(({ cpu }) => cpu)),
    },
  });
  const value = median(figures.millrace.map(({ rate }, i) => rate / figures.bare[i]!.rate));
  const ratios = [{ what: "rows/s beside the same Parquet without a log", value, target: WANTED, atLeast: true }];
  return { name: "files", lines: [line("millrace"), line("bare")], ratios };
}

interface Measured {
  readonly rate: number;
  /** Seconds of processor time per million rows. */
  readonly cpu: number;
}

async function measured(rows: number, work: (folder: string) => Promise<void>): Promise<Measured> {
  const folder = mkdtempSync(join(tmpdir(), "millrace-bench-"));
  const [startedMs, before] = [performance.now(), cpuSeconds()];
  try {
    await work(folder);
    const cpu = ((cpuSeconds() - before) / rows) * 1_000_000;
    return { rate: Math.round((rows / (performance.now() - startedMs)) * 1_000), cpu };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Of this process and of those of its own that have ended: see proc_pid_stat(5). */
function cpuSeconds(): number {
  const stat = readFileSync("/proc/self/stat", "latin1");
  const times = stat
    .slice(stat.lastIndexOf(")") + 2)
    .split(" ")
    .slice(11, 15);
  return times.reduce((sum, ticks) => sum + Number(ticks), 0) / TICKS_PER_S;
}

async function throughSink(folder: string, steps: readonly Batch[]): Promise<void> {
  const { signal } = new AbortController();
  const roll = { rows: FILE_ROWS, bytes: 2 ** 32, ageMs: 3_600_000 };
  const store = () => Promise.resolve(new FolderStore(folder));
  const sink = new FilesSink({
    daemon: "bench",
    name: "bench",
    format: "parquet",
    roll,
    keepMs: null,
    memoryLimit: MEMORY_LIMIT,
    store,
  });
  try {
    await sink.open(1, signal);
    for (const step of steps) await sink.apply(step, NO_OUTCOME, signal);
  } finally {
    await sink.close();
  }
}

async function bare(folder: string, steps: readonly Batch[]): Promise<void> {
  const rendered = new BatchRows(new CsvRows());
  const instance = await DuckDBInstance.create(":memory:", { threads: "1", memory_limit: MEMORY_LIMIT });
  const connection = await instance.connect();
  await connection.run("SET TimeZone = 'UTC'");
  for (let at = 0; at < steps.length; at += FILE_ROWS / STEP_ROWS) {
    const path = join(folder, String(at));
    let rowBytesMax = 0;
    let shape: BatchParts["shapes"][number] | undefined;
    for (const step of steps.slice(at, at + FILE_ROWS / STEP_ROWS)) {
      const { shapes, parts, bytes } = rendered.partsOf(
        step,
        { sequence: at * STEP_ROWS, begun: 0, holds: () => false },
        0,
      );
      shape = shapes[0];
      rowBytesMax = Math.max(rowBytesMax, ...parts.map((part) => part.rowBytesMax));
      await appendFile(path, bytes[0]!);
    }
    await connection.run(parquetSql(shape!, { path, rowBytesMax }, `${path}.parquet`));
  }
  connection.closeSync();
  instance.closeSync();
}

function stepOf(number: number): Batch {
  const out = new ByteWriter(STEP_ROWS * 200);
  const writer = new TupleWriter(out);
  const block = new Block(out.bytes, STEP_ROWS);
  const table = block.tables.push(TABLE) - 1;
  const commit = BigInt(1_000 + number * 10);
  const tx = block.transactions.add(commit, rowVersion(1, commit), COMMIT_TIME_US, 7);
  for (let i = 0; i < STEP_ROWS; i++) {
    const after = writer.begin(COLUMNS.length);
    for (const [, , text] of COLUMNS) {
      const value = text(number * STEP_ROWS + i);
      if (value === null) writer.null();
      else writer.text(Buffer.from(value), 0, Buffer.byteLength(value));
    }
    block.append(OP_CREATE, table, after, NO_TUPLE, BEFORE_NONE, tx, i);
  }
  block.bytes = out.bytes;
  const { tables, order } = new Compactor("stream").compact([{ block, from: 0, to: block.count }], () => true);
  const progress = checkpointOf({ epoch: 1, commit: commit + 1n, index: 0 });
  return { kind: "rows", tables, order, checkpoint: progress };
}
