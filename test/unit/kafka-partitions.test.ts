import { expect, test } from "vitest";
import { compatibilityPartitioner } from "@platformatic/kafka";
import { murmur2, partitionOf } from "../../connectors/kafka/writer/records.ts";

/** Of org.apache.kafka.common.utils.UtilsTest. */
const JAVA = {
  "21": -973_932_308,
  foobar: -790_332_482,
  "a-little-bit-long-string": -985_981_536,
  "a-little-bit-longer-string": -1_486_304_829,
  lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8: -58_897_971,
  abc: 479_470_107,
};

test("keys have the hashes of the Java client", () => {
  const found = Object.keys(JAVA).map((text) => [text, murmur2(Buffer.from(text), text.length)]);
  expect(Object.fromEntries(found)).toEqual(JAVA);
});

test("keys of any length come into the partition that the library's Java-compatible partitioner gives", () => {
  for (let length = 0; length < 40; length++) {
    const key = Buffer.from(Array.from({ length }, (_, i) => (i * 97 + length * 31) & 0xff));
    const theirs = compatibilityPartitioner({ topic: "t" }, key) % 7;
    expect(partitionOf(Buffer.concat([key, Buffer.from("more")]), length, 7)).toBe(theirs);
  }
});
