import { randomBytes } from "node:crypto";
import { Reader, readRecordsBatches } from "@platformatic/kafka";
import { expect, test } from "vitest";
import { header, RecordBatch } from "../../connectors/kafka/client/record-batch.ts";
import { ByteWriter } from "../../src/core/bytes.ts";

const PRODUCER = { producerId: 7n, producerEpoch: 1 };
/** Where a number in a record takes one byte more, and beyond what 32 bits hold. */
const LENGTHS = [0, 1, 63, 64, 8_191, 8_192, 1_048_575, 1_048_576];
const DELTAS_MS = [
  0,
  63,
  64,
  -64,
  -65,
  8_192,
  -8_193,
  2 ** 30 - 1,
  2 ** 30,
  -(2 ** 30),
  2 ** 31,
  -(2 ** 31) - 1,
  2 ** 40,
];

test("the library reads what a batch holds: lengths and times around all limits", () => {
  const firstMs = 2 ** 41;
  const batch = new RecordBatch(new ByteWriter(1024));
  const wanted = DELTAS_MS.flatMap((deltaMs) => LENGTHS.map((length) => ({ deltaMs, length })));
  for (const { deltaMs, length } of wanted) {
    batch.add(Buffer.from("k"), Buffer.alloc(length, 0x78), [header("h", "v")], firstMs + deltaMs);
  }
  const [read] = readRecordsBatches(Reader.from(batch.finish(PRODUCER, 0, "none")));
  expect(read!.firstTimestamp).toBe(BigInt(firstMs));
  const found = read!.records.map(({ timestampDelta, value, offsetDelta, headers }, i) => ({
    deltaMs: Number(timestampDelta),
    length: value?.length,
    isInOrder: offsetDelta === i,
    header: [...headers].map(String).join(),
  }));
  expect(found).toEqual(wanted.map((one) => ({ ...one, isInOrder: true, header: "h,v" })));
});

test.each(["gzip", "zstd"] as const)("bytes that %s can't make fewer stay as they are", (compression) => {
  const sizes = (["none", compression] as const).map((how) => {
    const batch = new RecordBatch(new ByteWriter(1024));
    batch.add(null, randomBytes(300_000), [], 1);
    const bytes = batch.finish(PRODUCER, 0, how);
    const [read] = readRecordsBatches(Reader.from(bytes));
    expect(read!.records[0]!.value).toHaveLength(300_000);
    return bytes.length;
  });
  expect(sizes[1]).toBe(sizes[0]);
});
