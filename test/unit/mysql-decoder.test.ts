import { crc32 } from "node:zlib";
import { assert, boolean, constantFrom, nat, property } from "fast-check";
import { describe, expect, test } from "vitest";
import {
  DELETE_ROWS,
  DELETE_ROWS_V1,
  FORMAT_DESCRIPTION,
  PARTIAL_UPDATE_ROWS,
  TABLE_MAP,
  UPDATE_ROWS_V1,
  WRITE_ROWS,
  WRITE_ROWS_V1,
} from "../../connectors/mysql/source/wire/event-header.ts";
import { Decoder, TOOK_TABLE_NEEDED } from "../../connectors/mysql/source/rows/decoder.ts";
import { RowTarget } from "../../connectors/mysql/source/rows/rows.ts";
import { Block } from "../../src/core/model/block.ts";
import { ByteWriter } from "../../src/core/bytes.ts";
import { findMillraceError } from "../../src/core/errors.ts";
import { eventsOf, readRecording } from "../support/mysql/mysql-recording.ts";
import { decodeLog } from "../support/mysql/mysql-rows.ts";
import { mysqlFlavours } from "../support/run/services.ts";

const TYPE_AT = 4;
const FLAGS_AT = 17;
const HEADER_BYTES = 19;

const typeOf = (event: Buffer): number => event[TYPE_AT] ?? 0;

/** The event after a change, with a checksum that fits it. */
function changed(event: Buffer, change: (copy: Buffer) => void): Buffer {
  const copy = Buffer.from(event);
  change(copy);
  copy.writeUInt32LE(crc32(copy.subarray(0, -4)), copy.length - 4);
  return copy;
}

/** The events with the first of that type changed. */
function withChanged(events: readonly Buffer[], types: readonly number[], change: (copy: Buffer) => void): Buffer[] {
  const at = events.findIndex((event) => types.includes(typeOf(event)));
  return events.map((event, i) => (i === at ? changed(event, change) : event));
}

describe.each(mysqlFlavours)("%s", (flavour) => {
  const recording = readRecording(flavour);
  const events = eventsOf(recording);
  const { schema } = recording;
  const writes = [WRITE_ROWS, WRITE_ROWS_V1];

  test("the recorded log has the recorded rows", () => {
    const { rows } = decodeLog(events, { schema });
    expect(rows.map(({ op, index, before, after }) => ({ op, index, before, after }))).toEqual(recording.rows);
    const columns = rows[0]?.table.columns ?? [];
    expect(columns.map(({ name, native, nullable }) => ({ name, native, nullable }))).toEqual(recording.columns);
  });

  test("an event of a kind that nobody knows stops the stream", () => {
    const unknown = withChanged(events, writes, (copy) => copy.writeUInt8(99, TYPE_AT));
    expect(() => decodeLog(unknown, { schema })).toThrow(expect.objectContaining({ code: "MR2023", kind: "fatal" }));
  });

  test("an unknown event that its writer calls ignorable is left to the session", () => {
    const ignorable = withChanged(events, [DELETE_ROWS, DELETE_ROWS_V1], (copy) => {
      copy.writeUInt8(99, TYPE_AT);
      copy.writeUInt16LE(0x80, FLAGS_AT);
    });
    expect(decodeLog(ignorable, { schema }).controls).toContain(99);
  });

  test("a bit that was flipped on the way stops the stream", () => {
    const at = events.findIndex((event) => writes.includes(typeOf(event)));
    const flipped = events.map((event, i) => (i === at ? Buffer.from(event) : event));
    flipped[at]![40]! ^= 1;
    expect(() => decodeLog(flipped, { schema })).toThrow(expect.objectContaining({ code: "MR2023" }));
  });

  test("rows whose table map did not come are no rows", () => {
    const without = events.filter((event) => typeOf(event) !== TABLE_MAP);
    expect(() => decodeLog(without, { schema })).toThrow(expect.objectContaining({ code: "MR2023" }));
  });

  test("rows that were delivered before are numbered and not appended", () => {
    const { rows } = decodeLog(events, { schema, skipBelow: 2 });
    expect(rows).toEqual(decodeLog(events, { schema }).rows.filter(({ index }) => index >= 2));
  });

  test("bytes that are not what a server writes give rows or a numbered error, and nothing else", () => {
    const targets = events.flatMap((event, i) => (typeOf(event) === FORMAT_DESCRIPTION ? [] : [i]));
    assert(
      property(constantFrom(...targets), nat(), nat(255), boolean(), (i, place, value, isCut) => {
        const damagedLog = events.map((event, k) => {
          if (k !== i) return event;
          return changed(isCut ? cut(event, place) : event, (copy) => {
            const span = copy.length - HEADER_BYTES - 4;
            if (span > 0) copy[HEADER_BYTES + (place % span)] = value;
          });
        });
        try {
          decodeLog(damagedLog, { schema });
        } catch (error) {
          expect(findMillraceError(error)?.kind, String(error)).toBe("fatal");
        }
      }),
      { numRuns: 2_000 },
    );
  });
});

/** An event that ends too early, but says so in its header. */
function cut(event: Buffer, place: number): Buffer {
  const length = HEADER_BYTES + 4 + (place % (event.length - HEADER_BYTES - 4 + 1));
  const shorter = Buffer.from(event.subarray(0, length));
  shorter.writeUInt32LE(length, 9);
  return shorter;
}

test("partial updates of JSON are in MySQL's recording", () => {
  const types = eventsOf(readRecording("mysql")).map(typeOf);
  expect(types).toContain(PARTIAL_UPDATE_ROWS);
});

test("events are verified by the format of their own file", () => {
  const events = eventsOf(readRecording("mysql"));
  const format = events.find((event) => typeOf(event) === FORMAT_DESCRIPTION)!;
  const plain = changed(format, (copy) => copy.writeUInt8(0, copy.length - 5));
  const out = new ByteWriter();
  const decoder = new Decoder(new RowTarget(out, new Block(out.bytes)), { zeroDates: () => "null" });
  decoder.take(plain, 0, plain.length);
  expect(decoder.events.format).toMatchObject({ hasChecksums: false, flavour: "mysql" });
  const map = events.find((event) => typeOf(event) === TABLE_MAP)!;
  const without = Buffer.from(map.subarray(0, -4));
  without.writeUInt32LE(without.length, 9);
  decoder.take(without, 0, without.length);
  decoder.take(format, 0, format.length);
  expect(decoder.events.format?.hasChecksums).toBe(true);
  expect(() => decoder.take(without, 0, without.length)).toThrow(expect.objectContaining({ code: "MR2023" }));
});

/** An event without a checksum, as in a log that has none. */
function event(type: number, ...parts: readonly (readonly number[])[]): Buffer {
  const body = parts.flat();
  const bytes = Buffer.alloc(HEADER_BYTES + body.length);
  bytes.writeUInt8(type, TYPE_AT);
  bytes.writeUInt32LE(bytes.length, 9);
  bytes.set(body, HEADER_BYTES);
  return bytes;
}

const TABLE_ID = [1, 0, 0, 0, 0, 0];

/** s.t (id int primary key, a varchar(10), b int); the number of its collation as the log has it. */
const smallTable = (...collation: readonly number[]): Buffer =>
  event(
    TABLE_MAP,
    TABLE_ID,
    [0, 0, 1, 0x73, 0, 1, 0x74, 0],
    [3, 3, 15, 3, 2, 40, 0, 0b110],
    [2, collation.length, ...collation],
    [4, 7, 2, 0x69, 0x64, 1, 0x61, 1, 0x62],
    [8, 1, 0],
  );
const SMALL_TABLE = smallTable(45);

test("columns that a new row leaves out because they did not change are those of the old row", () => {
  // MariaDB's FULL_NODUP: the old row whole, of the new one what changed.
  const update = event(
    24,
    TABLE_ID,
    [1, 0, 3, 0b111, 0b100],
    [0b010, 7, 0, 0, 0, 5, 0, 0, 0],
    [0, 9, 0, 0, 0],
    [0, 8, 0, 0, 0, 1, 0x78, 5, 0, 0, 0],
    [1],
  );
  const { rows } = decodeLog([SMALL_TABLE, update], { schema: "s" });
  expect(rows.map(({ before, after }) => [before, after])).toEqual([
    [
      ["7", null, "5"],
      ["7", null, "9"],
    ],
    [
      ["8", "x", "5"],
      ["8", "x", null],
    ],
  ]);
});

describe("columns of the server's own, which an image has or leaves out", () => {
  // Eight columns that everybody sees and two hashes: with a hash, the bits of nulls need a second byte.
  const hashed = event(
    TABLE_MAP,
    TABLE_ID,
    [0, 0, 1, 0x73, 0, 1, 0x74, 0],
    [10, 1, 1, 1, 1, 1, 1, 1, 1, 8, 8, 0, 0xfe, 0b11],
    [1, 2, 0, 0],
    [4, 20, ...Array.from("abcdefghij", (name) => [1, name.charCodeAt(0)]).flat()],
    [8, 1, 0],
  );
  const LEFT_OUT = { bits: 0b00, nulls: [], value: [] };
  const IMAGES = {
    "both left out": LEFT_OUT,
    "both there": { bits: 0b11, nulls: [0b00], value: Array.from({ length: 16 }, () => 0xee) },
    "both null": { bits: 0b11, nulls: [0b11], value: [] },
    "one null": { bits: 0b11, nulls: [0b10], value: Array.from({ length: 8 }, () => 0xee) },
    "only the second there": { bits: 0b10, nulls: [0b0], value: Array.from({ length: 8 }, () => 0xee) },
  };
  const decoded = (rows: Buffer): unknown =>
    decodeLog([hashed, rows], { schema: "s", columnCount: 8 }).rows.map(({ before, after }) => [before, after]);
  const cells = (id: number, last: number): unknown => [`${id}`, "2", null, "4", "5", "6", "7", `${last}`];
  const row = (id: number, last: number, image: { nulls: number[]; value: number[] }): number[] =>
    // The third is null.
    [0b100, ...image.nulls, id, 2, 4, 5, 6, 7, last, ...image.value];

  test.each(Object.entries(IMAGES))("%s", (_, image) => {
    const ends = (kind: number, ...more: number[][]): Buffer =>
      event(kind, TABLE_ID, [1, 0, 10, 0xff, image.bits], ...more);
    const two = [row(1, 8, image), row(2, 9, image)];
    expect(decoded(ends(WRITE_ROWS_V1, ...two))).toEqual([
      [null, cells(1, 8)],
      [null, cells(2, 9)],
    ]);
    expect(decoded(ends(DELETE_ROWS_V1, ...two))).toEqual([
      [cells(1, 8), null],
      [cells(2, 9), null],
    ]);
    for (const other of Object.values(IMAGES)) {
      const pairs = [row(1, 8, image), row(1, 9, other), row(2, 8, image), row(2, 9, other)];
      expect(decoded(ends(UPDATE_ROWS_V1, [0xff, other.bits], ...pairs))).toEqual([
        [cells(1, 8), cells(1, 9)],
        [cells(2, 8), cells(2, 9)],
      ]);
      // FULL_NODUP: of the new row only what changed, which may be a hash too.
      const nulls = other.bits === 0 ? [0] : [(other.nulls[0] ?? 0) << 1];
      const changes = [
        row(1, 8, image),
        [...nulls, 9, ...other.value],
        row(2, 8, image),
        [...nulls, 7, ...other.value],
      ];
      expect(decoded(ends(UPDATE_ROWS_V1, [0b1000_0000, other.bits], ...changes))).toEqual([
        [cells(1, 8), cells(1, 9)],
        [cells(2, 8), cells(2, 7)],
      ]);
    }
  });

  test("without one that everybody sees, a row is refused", () => {
    const insert = event(
      WRITE_ROWS_V1,
      TABLE_ID,
      [1, 0, 10, 0x7f, 0b11],
      [0, 0, 1, 2, 3, 4, 5, 6, 7],
      Array.from({ length: 16 }, () => 0),
    );
    expect(() => decoded(insert)).toThrow(
      expect.objectContaining({ code: "MR2103", message: expect.stringContaining('"h"') }),
    );
  });
});

test("rows whose number of columns is not that of their table can't be read", () => {
  const insert = event(23, TABLE_ID, [1, 0, 2, 0b11], [0, 7, 0, 0, 0, 1, 0x78]);
  expect(() => decodeLog([SMALL_TABLE, insert], { schema: "s" })).toThrow(expect.objectContaining({ code: "MR2105" }));
  expect(decodeLog([SMALL_TABLE, insert], { schema: "elsewhere" }).rowCount).toBe(0);
});

test("if one row of an event can't be read, none of them is there, and all before and behind are", () => {
  const row = (id: number): number[] => [0b100, id, 0, 0, 0, 1, 0x78];
  const insert = (...rows: readonly number[][]): Buffer => event(23, TABLE_ID, [1, 0, 3, 0b111], ...rows);
  const events = [1, 2, 4].map((id) => (id === 2 ? insert(row(id), [0b100, 3, 0, 0, 0, 9, 0x78]) : insert(row(id))));
  const inserts = events.flatMap((one) => [SMALL_TABLE, one]);
  expect(() => decodeLog(inserts, { schema: "s" })).toThrow(expect.objectContaining({ code: "MR2105" }));
  const { rows } = decodeLog(inserts, { schema: "s", passesBy: true });
  expect(rows.map(({ after, index }) => [index, after?.[0]])).toEqual([
    [0, "1"],
    [3, "4"],
  ]);
});

test("rows of a column that is unknown in the log alone are those of their table", () => {
  const insert = event(23, TABLE_ID, [1, 0, 3, 0b111], [0b100, 1, 0, 0, 0, 1, 0x78]);
  const { version } = decodeLog([SMALL_TABLE, insert], { schema: "s" }).maps[0]!;
  const out = new ByteWriter();
  const decoder = new Decoder(new RowTarget(out, new Block(out.bytes)), { zeroDates: () => "null" });
  const unknown = smallTable(0xfc, 0x40, 0x9c);
  decoder.take(unknown, 0, unknown.length);
  expect(decoder.take(insert, 0, insert.length)).toBe(TOOK_TABLE_NEEDED);
  decoder.needed!.version = version!;
  expect(decoder.take(insert, 0, insert.length)).toBe(TOOK_TABLE_NEEDED);
  expect(decoder.needed!.fault).toMatchObject({ code: "MR2105" });
});

test("a new row that lacks a column is refused: nothing tells what the column got", () => {
  const insert = event(23, TABLE_ID, [1, 0, 3, 0b011], [0, 7, 0, 0, 0, 1, 0x78]);
  expect(() => decodeLog([SMALL_TABLE, insert], { schema: "s" })).toThrow(expect.objectContaining({ code: "MR2103" }));
  expect(decodeLog([SMALL_TABLE, insert], { schema: "elsewhere" }).rowCount).toBe(1);
});
