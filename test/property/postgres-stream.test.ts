/** The decoder against a recorded stream: what comes out does not depend on how the bytes arrive. */
import { array, assert, integer, property } from "fast-check";
import { expect, test } from "vitest";
import { decode, readRecording } from "../support/postgres/postgres-recording.ts";

const { from, bytes: base64, lines } = await readRecording();
const bytes = Buffer.from(base64, "base64");

test("a recorded stream decodes to its recorded rows", () => {
  expect(decode(bytes, BigInt(from), [bytes.length])).toEqual(lines);
});

test("byte by byte it decodes to the same", () => {
  expect(decode(bytes, BigInt(from), [1])).toEqual(lines);
});

test("cut anywhere it decodes to the same", () => {
  assert(
    property(array(integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 60 }), (lengths) => {
      expect(decode(bytes, BigInt(from), lengths)).toEqual(lines);
    }),
    { numRuns: 100 },
  );
});
