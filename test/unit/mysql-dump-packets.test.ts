/** Packets of a dump, however the socket cuts them. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DumpPackets, type OnLarge } from "../../connectors/mysql/source/wire/dump-packets.ts";

const PAYLOAD_BYTES_MAX = 0xff_ffff;

/** One event as the server sends it, in as many packets as its length takes. */
function packetsOf(payload: Buffer): Buffer[] {
  const parts: Buffer[] = [];
  for (let at = 0; ; at += PAYLOAD_BYTES_MAX) {
    const part = payload.subarray(at, at + PAYLOAD_BYTES_MAX);
    const head = Buffer.alloc(4);
    head.writeUIntLE(part.length, 0, 3);
    parts.push(head, part);
    if (part.length < PAYLOAD_BYTES_MAX) return parts;
  }
}

/** An event's mark, then bytes that tell where they lie; the header says how long the event is. */
function eventOf(length: number, seed: number): Buffer {
  const payload = Buffer.alloc(1 + length);
  for (let i = 1; i <= length; i++) payload[i] = (i * 31 + (i >> 8) + seed) & 0xff;
  if (length >= 13) payload.writeUInt32LE(length, 10);
  return payload;
}

/** As the socket brings it: each part has its memory to itself. */
function* cut(bytes: Buffer, lengths: readonly number[]): Generator<Buffer> {
  let at = 0;
  for (let i = 0; at < bytes.length; i++) {
    const length = lengths[i % lengths.length]!;
    const chunk = Buffer.allocUnsafeSlow(Math.min(length, bytes.length - at));
    at += bytes.copy(chunk, 0, at);
    yield chunk;
  }
}

interface Taken {
  readonly events: Buffer[];
  readonly others: Buffer[];
  readonly chunks: readonly Buffer[];
}

function taken(payloads: readonly Buffer[], lengths: readonly number[], onLarge: OnLarge = () => undefined): Taken {
  const events: Buffer[] = [];
  const others: Buffer[] = [];
  const packets = new DumpPackets(
    (bytes, start, end) => void events.push(Buffer.from(bytes.subarray(start, end))),
    (payload) => void others.push(payload),
    onLarge,
  );
  const chunks = [...cut(Buffer.concat(payloads.flatMap(packetsOf)), lengths)];
  for (const chunk of chunks) packets.execute(chunk);
  return { events, others, chunks };
}

describe("the packets of a dump", () => {
  test("are put together, wherever they are cut", () => {
    const length = fc.oneof(fc.integer({ min: 0, max: 30 }), fc.integer({ min: 0, max: 5_000 }));
    fc.assert(
      fc.property(
        fc.array(length, { maxLength: 20 }),
        fc.array(fc.integer({ min: 1, max: 3_000 }), { minLength: 1, maxLength: 6 }),
        (sizes, lengths) => {
          const payloads = sizes.map((size, i) => eventOf(size, i));
          const { events } = taken(payloads, lengths);
          expect(events).toEqual(payloads.map((payload) => payload.subarray(1)));
        },
      ),
    );
  });

  test.each([PAYLOAD_BYTES_MAX - 1, PAYLOAD_BYTES_MAX, 2 * PAYLOAD_BYTES_MAX - 1, 2 * PAYLOAD_BYTES_MAX + 5_000])(
    "of %d bytes go on in the next one, between small ones",
    (size) => {
      const payloads = [eventOf(100, 1), eventOf(size, 2), eventOf(100, 3)];
      // Such that a packet's end is a part's, too.
      for (const lengths of [[65_536], [105 + 4 + PAYLOAD_BYTES_MAX, 1, 3]]) {
        const { events } = taken(payloads, lengths);
        expect(events.map((event, i) => event.equals(payloads[i]!.subarray(1)))).toEqual([true, true, true]);
      }
    },
  );

  test("of large events are given as they come, where they are not wanted whole", () => {
    const largeBytes = 70_000;
    const sizes = [18, 19, 20, largeBytes, PAYLOAD_BYTES_MAX - 1, PAYLOAD_BYTES_MAX + 5_000];
    const payloads = sizes.flatMap((size, i) => [eventOf(40, i), eventOf(size, i)]);
    for (const lengths of [[1_000], [65_536, 7]]) {
      const large: Buffer[] = [];
      const { events } = taken(payloads, lengths, (header) => {
        expect(header).toHaveLength(19);
        const parts: Buffer[] = [];
        const append = (bytes: Buffer): void => void parts.push(Buffer.from(bytes));
        return header.readUInt32LE(9) < largeBytes
          ? undefined
          : { append, end: () => large.push(Buffer.concat(parts)) };
      });
      const { whole = [], inParts = [] } = Object.groupBy(payloads, ({ length }) =>
        length > largeBytes ? "inParts" : "whole",
      );
      const areOf = (found: readonly Buffer[], expected: readonly Buffer[]): boolean =>
        found.length === expected.length && found.every((event, i) => event.equals(expected[i]!.subarray(1)));
      expect([areOf(events, whole), areOf(large, inParts)]).toEqual([true, true]);
    }
  });

  test("are told from errors and the end, which are the driver's", () => {
    const error = Buffer.from([0xff, 0xd4, 0x04, ...Buffer.from("#HY000gone")]);
    const { events, others } = taken([eventOf(50, 1), error, Buffer.from([0xfe])], [7]);
    expect(events).toHaveLength(1);
    expect(others).toEqual([error, Buffer.from([0xfe])]);
  });

  test("give their memory back as soon as they are taken, not when the collector comes", () => {
    const { chunks } = taken([eventOf(5_000, 1), eventOf(20, 2)], [512]);
    expect(chunks.map(({ buffer }) => buffer.byteLength)).toEqual(chunks.map(() => 0));
  });
});
