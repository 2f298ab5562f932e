import { describe, expect, test } from "vitest";
import { GtidSet, parseGtid } from "../../connectors/mysql/source/events/gtid-set.ts";
import { readPreviousGtids, readTaggedGtid } from "../../connectors/mysql/source/events/log-events.ts";
import { ReadTransactions, Trail } from "../../connectors/mysql/source/transactions/read-transactions.ts";

const A = "11111111-1111-1111-1111-111111111111";
const B = "22222222-2222-2222-2222-222222222222";

const setOf = (text: string): GtidSet => GtidSet.parse(text)!;
const seen = (number: number, origin = A) => ({ gtid: `${origin}:${number}`, time: number * 1_000 });

describe("sets", () => {
  test("join what touches, in whatever order it comes", () => {
    const set = new GtidSet();
    for (const number of [5, 3, 9, 4, 1, 2, 8]) set.add(A, number, number);
    expect(set.toString()).toBe(`${A}:1-5:8-9`);
    set.add(A, 2, 8);
    expect(set.toString()).toBe(`${A}:1-9`);
  });

  test("with numbers that can't be told apart are none", () => {
    expect(GtidSet.parse("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-9007199254740991")).toBeDefined();
    expect(GtidSet.parse("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-9007199254740992")).toBeUndefined();
  });

  test("are read as servers print them", () => {
    expect(setOf(`${A}:1-5:7,\n${B}:1`).toString()).toBe(`${A}:1-5:7,${B}:1`);
    expect(setOf("").isEmpty).toBe(true);
    const tagged = setOf(`${A}:1-5:blue:1-2:red_2:7,\n${B}:Blue:1`);
    expect(tagged.toString()).toBe(`${A}:1-5,${A}:blue:1-2,${A}:red_2:7,${B}:blue:1`);
    expect(setOf(tagged.toString()).toString()).toBe(tagged.toString());
    expect(GtidSet.parse(`${A}:1-5:2x`)).toBeUndefined();
    expect(GtidSet.ofServer("0-1-5,0-2-9,3-1-2", "mariadb")?.toString()).toBe("0-1:1-5,0-2:1-9,3-1:1-2");
    expect(GtidSet.ofServer("0-1-5,0-2-9", "mariadb")?.spelled).toBe("0-1-5,0-2-9");
    expect(setOf(`${A}:1-5:7`).spelled).toBe(`${A}:1-5:7`);
    expect(GtidSet.ofServer("", "mariadb")?.isEmpty).toBe(true);
  });

  test("lie within one another, or do not", () => {
    expect(setOf(`${A}:1-5`).isWithin(setOf(`${A}:1-5,${B}:1`))).toBe(true);
    expect(setOf(`${A}:1-6`).isWithin(setOf(`${A}:1-5:7`))).toBe(false);
    expect(setOf(`${A}:4-6`).isWithin(setOf(`${A}:1-5:6-9`))).toBe(true);
    expect(setOf(`${B}:1`).isWithin(setOf(`${A}:1-5`))).toBe(false);
    expect(setOf("").isWithin(setOf(""))).toBe(true);
    expect(setOf(`${A}:blue:1`).isWithin(setOf(`${A}:1-5`))).toBe(false);
  });

  test("names are those of either server, and no others", () => {
    expect(parseGtid(`${A}:12`)).toEqual({ origin: A, number: 12 });
    expect(parseGtid("0-1-12")).toEqual({ origin: "0-1", number: 12 });
    expect(parseGtid(`${A}:blue:12`)).toEqual({ origin: `${A}:blue`, number: 12 });
    for (const text of ["", `${A}:2x:12`, "0-1"]) expect(parseGtid(text)).toBeUndefined();
  });
});

/** As MySQL 9.7 wrote them. */
const TAGGED =
  "02740000000241034d03c103a29503a022c503fd024d0204f10300000002040c0608626c756508080a0c0c7f9e0e9a05c06006108d041283120b";
const LONG_TAG =
  "02ac0000000241034d03c103a29503a022c503fd024d0204f1030000000204080640615f766572795f6c6f6e675f7461675f6f665f33325f6368617261637465727308080a140c7fbb149a05c0600610fd041283120b";
const PREVIOUS =
  "0103000000000001d0d3f051e55011f1bf9302fc0000000100010000000000000001000000000000001a00000000000000d0d3f051e55011f1bf9302fc0000000140615f766572795f6c6f6e675f7461675f6f665f33325f63686172616374657273010000000000000001000000000000000300000000000000d0d3f051e55011f1bf9302fc0000000108626c7565010000000000000001000000000000000500000000000000";
const SERVER = "d0d3f051-e550-11f1-bf93-02fc00000001";
const LONG = "a_very_long_tag_of_32_characters";

/** Behind the header of an event. */
function event(body: string): Buffer {
  return Buffer.concat([Buffer.alloc(19), Buffer.from(body, "hex")]);
}

describe("names with tags", () => {
  test("are read from their events, and from what lies before a file", () => {
    const [tagged, long, previous] = [event(TAGGED), event(LONG_TAG), event(PREVIOUS)];
    expect(readTaggedGtid(tagged, 0, tagged.length)).toMatchObject({
      gtid: `${SERVER}:blue:3`,
      committedUs: 1_795_227_704_233_630n,
      originUs: 1_795_227_704_233_630n,
    });
    expect(readTaggedGtid(long, 0, long.length).gtid).toBe(`${SERVER}:${LONG}:2`);
    expect(readPreviousGtids(previous, 0, previous.length)?.toString()).toBe(
      `${SERVER}:1-25,${SERVER}:${LONG}:1-2,${SERVER}:blue:1-4`,
    );
    for (const end of [25, 30, 45]) expect(() => readTaggedGtid(tagged, 0, end)).toThrow(/cut short/);
  });
});

describe("a trail", () => {
  const trail = (): Trail => {
    const made = new Trail(100n, { set: setOf(`${A}:1-3`), last: seen(3) });
    made.note(100n, seen(4));
    made.moveTo(150n);
    made.note(160n, seen(5));
    made.moveTo(200n);
    return made;
  };

  test("knows what lies before each place that it has passed, and nothing of others", () => {
    const known = trail();
    expect(known.at(100n)).toMatchObject({ last: seen(3) });
    expect(known.at(101n)?.set.toString()).toBe(`${A}:1-4`);
    expect(known.at(160n)?.set.toString()).toBe(`${A}:1-4`);
    expect(known.at(200n)?.set.toString()).toBe(`${A}:1-5`);
    expect(known.at(200n)?.last).toEqual(seen(5));
    expect([known.at(99n), known.at(201n)]).toEqual([undefined, undefined]);
  });

  test("forgets what is folded, and what is read again", () => {
    const known = trail();
    known.fold(150n);
    expect(known.at(149n)).toBeUndefined();
    expect(known.at(150n)).toMatchObject({ last: seen(4) });
    expect(known.resume(155n)).toBe(true);
    expect(known.at(160n)).toBeUndefined();
    expect(known.resume(140n)).toBe(false);
  });

  test("locates names at the end of the transaction that is read last, and none that was not read", () => {
    const known = trail();
    const places = (...names: string[]) => names.map((name) => known.locate(setOf(`${A}:${name}`)));
    expect(places("2", "4", "1-4", "5", "1-5", "6", "4-6")).toEqual([
      100n,
      160n,
      160n,
      200n,
      200n,
      undefined,
      undefined,
    ]);
    known.note(210n, seen(6));
    // The transaction has begun, and the stream is not behind it yet.
    expect(places("5", "6")).toEqual([210n, undefined]);
    known.moveTo(211n);
    expect(places("6")).toEqual([211n]);
    known.resume(155n);
    expect(places("4", "5", "6")).toEqual([155n, undefined, undefined]);
    known.fold(155n);
    expect(places("4")).toEqual([155n]);
  });

  test("ends at a transaction without a name", () => {
    const known = trail();
    known.note(210n, { gtid: "", time: 1 });
    known.moveTo(300n);
    known.note(310n, seen(7));
    expect(known.at(200n)?.set.toString()).toBe(`${A}:1-5`);
    expect(known.at(310n)).toBeUndefined();
  });
});

describe("what is read", () => {
  test("is known again in another process, for the places of the sinks", () => {
    const read = new ReadTransactions();
    read.know([[100n, { set: setOf(`${A}:1-3`), last: seen(3) }]]);
    read.looked(new Map([["shop.t", "#7"]]), 90n);
    const trail = read.trail(100n, true)!;
    trail.note(100n, seen(4));
    trail.moveTo(150n);
    read.keep([150n, 100n, 999n], []);
    const again = new ReadTransactions();
    again.load(read.text);
    expect(again.at(150n)?.set.toString()).toBe(`${A}:1-4`);
    expect(again.at(100n)?.last).toEqual(seen(3));
    expect(again.at(999n)).toBeUndefined();
    expect(again.generations).toEqual({ "shop.t": "#7" });
  });

  test("is not forgotten before anything new is", () => {
    const read = new ReadTransactions();
    read.know([[100n, { set: setOf(`${A}:1-3`), last: seen(3) }]]);
    read.keep([500n], []);
    expect(read.at(100n)).toBeDefined();
  });

  test("does not vouch for tables behind a statement that may have made them anew", () => {
    const read = new ReadTransactions();
    read.looked(new Map([["shop.t", "#7"]]), 90n);
    read.defined(80n);
    expect(read.generations).toEqual({ "shop.t": "#7" });
    read.defined(95n);
    expect(read.generations).toBeNull();
  });
});
