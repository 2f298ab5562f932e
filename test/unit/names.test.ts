import { expect, test } from "vitest";
import {
  cacheKeyPart,
  documentField,
  indexName,
  INDEX_NAME_BYTES_MAX,
  shortened,
} from "../../src/core/targets/names.ts";

test("a name that fits stays as it is; a longer one is cut between characters and ends in its hash", () => {
  expect(shortened("x".repeat(63), 63)).toBe("x".repeat(63));
  const long = shortened("é".repeat(40), 63);
  expect(long).toMatch(/^é{27}_[0-9a-f]{8}$/);
  expect(Buffer.byteLength(long)).toBeLessThanOrEqual(63);
  expect(shortened("🚀".repeat(100), 63)).toMatch(/^🚀{13}_[0-9a-f]{8}$/u);
  expect(shortened("x".repeat(64), 63)).not.toBe(shortened(`${"x".repeat(64)}y`, 63));
});

test.each([
  ["", "public", "orders", "public.orders"],
  ["shop-", "Public", "Orders", "shop-public.orders"],
  ["", "public", 'a b/c\\d*e?f"g<h>i|j,k#l:m%', "public.a%20b%2fc%5cd%2ae%3ff%22g%3ch%3ei%7cj%2ck%23l%3am%25"],
  ["", "_x", "y", "%5fx.y"],
  ["-", "x", "y", "%2dx.y"],
  ["+", "x", "y", "%2bx.y"],
  [".", "x", "y", "%2ex.y"],
  ["", "öffentlich", "Ünï🚀", "öffentlich.ünï🚀"],
  ["", "public", "a\nb", "public.a%0ab"],
])("the index of %j %s.%s is %s", (prefix, schema, table, name) => {
  expect(indexName(prefix, schema, table)).toBe(name);
});

test("an index name leaves room for the number behind the alias", () => {
  const name = indexName("", "public", "ü".repeat(200));
  expect(Buffer.byteLength(name)).toBeLessThanOrEqual(INDEX_NAME_BYTES_MAX);
});

test.each([
  ["name", "name"],
  ["a.b", "a%2Eb"],
  ["a%2Eb", "a%252Eb"],
  ["50%", "50%"],
  ["_id", "%5Fid"],
  ["_source", "%5Fsource"],
  ["_ID", "_ID"],
  ["%5Fid", "%255Fid"],
  ["_mine", "_mine"],
  ["", "%"],
  [" ", "%20"],
  ["__proto__", "__proto__"],
])("the field of column %j is %s", (column, field) => {
  expect(documentField(column)).toBe(field);
});

test("parts of a cache key can't be mistaken for its colons", () => {
  expect(cacheKeyPart("a:b%")).toBe("a%3Ab%25");
});

test("index names do not keep letter case apart", () => {
  expect(indexName("", "public", "Users")).toBe(indexName("", "public", "users"));
});
