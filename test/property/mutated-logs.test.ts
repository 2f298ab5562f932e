/** The decoders of both logs, given damaged bytes: rows or an error come out, without more work or memory than the bytes ask for. */
import { crc32 } from "node:zlib";
import { array, assert, boolean, constantFrom, integer, oneof, property, record } from "fast-check";
import { expect, test } from "vitest";
import { MillraceError } from "../../src/core/errors.ts";
import { eventsOf, readRecording as readBinlog } from "../support/mysql/mysql-recording.ts";
import { decodeLog } from "../support/mysql/mysql-rows.ts";
import { decode, readRecording as readStream } from "../support/postgres/postgres-recording.ts";

/** A loop over a damaged count took a thousand times as long as the decoding of what is whole. */
const COST_FACTOR_MAX = 20;
/** A frame that says that it has 1 GB, the most that a server sends, gets that room; nothing else of this size is made. */
const GROWN_BYTES_MAX = 1.5 * 1024 ** 3;
const HEADER_BYTES = 19;
const SIZE_AT = 9;
const CHECKSUM_BYTES = 4;

const PLACE = integer({ min: 0, max: 2 ** 31 });
const DAMAGE = record({
  changes: array(record({ place: PLACE, byte: oneof(constantFrom(0, 127, 128, 255), integer({ min: 0, max: 255 })) }), {
    minLength: 1,
    maxLength: 4,
  }),
  /** Everything from there on is missing; null: nothing is. */
  cut: oneof({ weight: 4, arbitrary: constantFrom(null) }, PLACE),
});

type Damage = Parameters<Parameters<typeof DAMAGE.map>[0]>[0];

function damaged(bytes: Buffer, { changes, cut }: Damage): Buffer {
  const copy = Buffer.from(bytes);
  for (const { place, byte } of changes) copy[place % copy.length] = byte;
  return cut === null ? copy : copy.subarray(0, 1 + (cut % copy.length));
}

/** A numbered error ends the stream, a broken invariant suspends the table; anything else is a fault of the decoder. */
function withstands(work: () => unknown): void {
  try {
    work();
  } catch (error) {
    const isBroken = error instanceof Error && error.message.startsWith("invariant broken:");
    if (!isBroken && !(error instanceof MillraceError)) throw error;
  }
}

/** Of `runs` damaged ones, against the time of the processor that as many whole ones take. */
function costFactor(whole: () => unknown, runs: number, damage: () => unknown): number {
  const usual = processorTime(whole) * runs;
  return processorTime(damage) / usual;
}

function processorTime(work: () => unknown): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return user + system;
}

function heldBytes(): number {
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

test("pgoutput", async () => {
  const { from, bytes: base64 } = await readStream();
  const bytes = Buffer.from(base64, "base64");
  const before = heldBytes();
  const whole = (): unknown => decode(bytes, BigInt(from), [300]);
  const runs = property(DAMAGE, (damage) => withstands(() => decode(damaged(bytes, damage), BigInt(from), [300])));
  expect(costFactor(whole, 200, () => assert(runs, { numRuns: 200 }))).toBeLessThan(COST_FACTOR_MAX);
  expect(heldBytes() - before).toBeLessThan(GROWN_BYTES_MAX);
});

test.each(["mysql", "mariadb"] as const)(
  "the binary log of %s, with checksums that fit and others",
  { tags: "heavy" },
  (flavour) => {
    const { schema, ...recording } = readBinlog(flavour);
    const events = eventsOf({ schema, ...recording });
    const before = heldBytes();
    const runs = property(PLACE, DAMAGE, boolean(), (place, damage, fits) => {
      const at = place % events.length;
      const event = damaged(events[at]!, damage);
      if (fits && event.length >= HEADER_BYTES + CHECKSUM_BYTES) {
        const end = event.length - CHECKSUM_BYTES;
        event.writeUInt32LE(event.length, SIZE_AT);
        event.writeUInt32LE(crc32(event.subarray(0, end)), end);
      }
      withstands(() => decodeLog(events.with(at, event), { schema }));
    });
    const whole = (): unknown => decodeLog(events, { schema });
    expect(costFactor(whole, 1_000, () => assert(runs, { numRuns: 1_000 }))).toBeLessThan(COST_FACTOR_MAX);
    expect(heldBytes() - before).toBeLessThan(GROWN_BYTES_MAX);
  },
);

test("pgoutput: no room is made for a frame that is larger than any of a server's", async () => {
  const { from } = await readStream();
  const frame = Buffer.from([0x64, 0x7f, 0xff, 0xff, 0xff, 0x77, 0, 0]);
  expect(() => decode(frame, BigInt(from), [8])).toThrow("a frame of more than 1 GB");
});

test("pgoutput: a relation with more columns than its frame has room for is refused", async () => {
  const { from, bytes: base64 } = await readStream();
  const bytes = Buffer.from(base64, "base64");
  const relation = bytes.indexOf("public\0f\0") + "public\0f\0".length + 1;
  const wider = Buffer.from(bytes);
  wider.writeUInt16BE(60_000, relation);
  expect(() => decode(wider, BigInt(from), [300])).toThrow("a relation that does not fit into its frame");
});
