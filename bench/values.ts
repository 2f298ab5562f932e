/**
 * Rendering rows of 12 columns as JSON and as text, from text cells and from binary cells: rows/s on one core.
 * `node bench/values.ts [rows]`. Rate to hold for JSON: 700k rows/s.
 */
import { ByteWriter } from "../src/core/bytes.ts";
import { CellMap, TupleWriter } from "../src/core/model/tuple.ts";
import type { ColumnType } from "../src/core/model/types.ts";
import { writeJson } from "../src/core/values/json.ts";
import { writeText } from "../src/core/values/text.ts";

const ROUNDS = 3;
const BATCH_ROWS = 1000;
const rowCount = Number(process.argv[2] ?? 1_000_000);

type Write = typeof writeJson;
interface Sample {
  readonly type: ColumnType;
  text(row: number): string;
  binary(row: number): Uint8Array;
}

function int(bits: 16 | 32 | 64, value: (row: number) => bigint): Sample {
  const binary = (row: number): Uint8Array => {
    const cell = Buffer.alloc(8);
    cell.writeBigInt64BE(value(row));
    return cell.subarray(8 - bits / 8);
  };
  return { type: { kind: "int", bits, signed: true }, text: (row) => String(value(row)), binary };
}

function text(value: (row: number) => string): Sample {
  return { type: { kind: "text" }, text: value, binary: (row) => Buffer.from(value(row)) };
}

function timestamp(zone: boolean): Sample {
  const us = (row: number): bigint => 780_000_000_000_000n + BigInt(row) * 1_234_567n;
  const binary = (row: number): Uint8Array => {
    const cell = Buffer.alloc(8);
    cell.writeBigInt64BE(us(row));
    return cell;
  };
  const printed = (row: number): string => {
    const out = new ByteWriter(64);
    writeText(out, { kind: "timestamp", zone }, 0x62, binary(row), 0, 8);
    return out.view().toString();
  };
  return { type: { kind: "timestamp", zone }, text: printed, binary };
}

const samples: readonly Sample[] = [
  int(64, (row) => BigInt(row) * 7919n + 1n),
  int(64, (row) => 1_234_567_890_123_456_789n + BigInt(row)),
  int(32, (row) => BigInt(row)),
  int(16, (row) => BigInt(row % 100)),
  { type: { kind: "bool" }, text: (row) => (row % 2 === 0 ? "t" : "f"), binary: (row) => Buffer.from([(row + 1) % 2]) },
  {
    type: { kind: "decimal", precision: 12, scale: 2 },
    text: (row) => `${row}.50`,
    binary: (row) => {
      const groups = row >= 10_000 ? [Math.floor(row / 10_000), row % 10_000] : [row];
      return Buffer.from(
        new Uint16Array([groups.length + 1, groups.length - 1, 0, 2, ...groups, 5000]).buffer,
      ).swap16();
    },
  },
  text((row) => `customer ${row}`),
  text((row) => `${row} Long Street, Some City, Some Country, a longer text without anything to escape in it`),
  text((row) => ["new", "paid", "sent"][row % 3] ?? ""),
  timestamp(true),
  timestamp(false),
  {
    type: { kind: "uuid" },
    text: (row) => `a0eebc99-9c0b-4ef8-bb6d-${String(row).padStart(12, "0")}`,
    binary: (row) => Buffer.from(`a0eebc999c0b4ef8bb6d${String(row).padStart(12, "0")}`, "hex"),
  },
];
const types = samples.map((sample) => sample.type);
const prefixes = samples.map((_, i) => Buffer.from(`${i === 0 ? "{" : ","}"column_${i}":`));

function tuples(binary: boolean): { bytes: Uint8Array; offsets: Uint32Array } {
  const out = new ByteWriter();
  const writer = new TupleWriter(out);
  const offsets = new Uint32Array(BATCH_ROWS);
  for (let row = 0; row < BATCH_ROWS; row++) {
    offsets[row] = writer.begin(samples.length);
    for (const sample of samples) {
      const cell = binary ? sample.binary(row * 37) : Buffer.from(sample.text(row * 37));
      if (binary) writer.binary(cell, 0, cell.length);
      else writer.text(cell, 0, cell.length);
    }
  }
  return { bytes: out.view(), offsets };
}

const cells = new CellMap();
const out = new ByteWriter(1024 * 1024);

function renderBatch(write: Write, bytes: Uint8Array, offsets: Uint32Array): void {
  out.reset();
  for (let row = 0; row < BATCH_ROWS; row++) {
    cells.read(bytes, offsets[row]!);
    for (let i = 0; i < cells.count; i++) {
      const prefix = prefixes[i]!;
      out.copy(prefix, 0, prefix.length);
      write(out, types[i]!, cells.kind[i]!, bytes, cells.start[i]!, cells.length[i]!);
    }
    out.byte(0x7d);
  }
}

for (const [name, write] of [
  ["JSON", writeJson],
  ["text", writeText],
] as const) {
  for (const binary of [false, true]) {
    const { bytes, offsets } = tuples(binary);
    const rates: number[] = [];
    for (let round = 0; round <= ROUNDS; round++) {
      const start = performance.now();
      for (let row = 0; row < rowCount; row += BATCH_ROWS) renderBatch(write, bytes, offsets);
      if (round > 0) rates.push((rowCount / (performance.now() - start)) * 1000);
    }
    const median = rates.toSorted((a, b) => a - b)[ROUNDS >> 1] ?? 0;
    console.log(
      `${name} from ${binary ? "binary" : "text"}: ${Math.round(median / 1000)}k rows/s, ${out.length / BATCH_ROWS} bytes/row`,
    );
  }
}
