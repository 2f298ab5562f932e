/** For how long a row is in doubt of which the log did not tell a change. */
import { expect, test } from "vitest";
import { rowIdOf } from "../../src/core/model/row-id.ts";
import { Doubts, StreamDoubts } from "../../src/rules/doubts.ts";
import type { PendingRow } from "../../src/rules/former-rules.ts";

const TABLE = "public.person";
const row = (key: string): string => rowIdOf([key]);
const listed = (...keys: readonly string[]): PendingRow[] => keys.map((key) => ({ tableId: TABLE, key: [key] }));
const among = (doubts: Doubts, ...keys: readonly string[]): string[] =>
  keys.filter((key) => doubts.has(TABLE, row(key)));

test("where more rows are in doubt than are told apart, all of their table are, until all were read", () => {
  const doubts = new Doubts();
  for (let i = 0; i <= 100_000; i++) doubts.add(TABLE, row(String(i)), BigInt(i));
  doubts.add("public.other", row("1"), 1n);
  expect(among(doubts, "0", "100000", "x")).toEqual(["0", "100000", "x"]);
  expect(["1", "2"].filter((key) => doubts.has("public.other", row(key)))).toEqual(["1"]);
  doubts.settle(100_000n, []);
  expect([doubts.in(TABLE), doubts.in("public.other")]).toEqual([true, false]);
  doubts.settle(100_001n, listed("7"));
  expect(among(doubts, "7", "8")).toEqual(["7"]);
});

test("a row that every sink has read since its change is in doubt no longer, in the same connection and the next", async () => {
  let pending: readonly PendingRow[] = [...listed("1", "2"), { tableId: "public.large", key: null }];
  const all = new StreamDoubts(async () => pending);
  const shared = await all.opened(false);
  shared.add(TABLE, row("3"), 30n);
  shared.add(TABLE, row("4"), 40n);
  expect([among(shared, "1", "2", "3", "4"), shared.in("public.large")]).toEqual([["1", "2", "3", "4"], true]);
  // The third one waits in queues: no sink has listed it yet.
  pending = listed("2");
  await all.opened(false);
  expect([among(shared, "1", "2", "3", "4"), shared.in("public.large")]).toEqual([["2", "3", "4"], false]);
  all.acknowledged(31n);
  pending = listed("3");
  await all.settle();
  expect(among(shared, "1", "2", "3", "4")).toEqual(["3", "4"]);
  all.acknowledged(41n);
  pending = [];
  await all.settle();
  expect(shared.isEmpty).toBe(true);
});

test("what the second stream of a sink did not tell is in doubt in the shared one, which the sink follows next", async () => {
  const all = new StreamDoubts(async () => []);
  const shared = await all.opened(false);
  const second = await all.opened(true);
  second.add(TABLE, row("1"), 10n);
  // Later changes tell these rows, of each stream at its own place.
  shared.delete(TABLE, row("2"));
  second.add(TABLE, row("2"), 11n);
  second.delete(TABLE, row("2"));
  expect([among(second, "1", "2"), among(shared, "1", "2")]).toEqual([["1"], ["1", "2"]]);
});
