import { describe, expect, test } from "vitest";
import { FilterMemory, SEES_NOTHING } from "../../src/rules/filter-memory.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import { tableVersion } from "../support/model/blocks.ts";

const plan = "1";
const TABLE = "public.t";
const at = (commit: bigint, index = 0) => ({ version: rowVersion(1, commit), index, xid: Number(commit) });
const position = (commit: bigint, index = 0) => ({ epoch: 1, commit, index });
const upTo = (xid: number) => (other: number) => other <= xid;

function memoryFrom(commit: bigint): FilterMemory {
  const memory = new FilterMemory();
  memory.streamFrom(position(commit));
  return memory;
}

describe("what a filter said of a row before", () => {
  test("is known behind the change that told it, and not before", () => {
    const memory = memoryFrom(1n);
    memory.tell(TABLE, plan, "1", "1", at(10n, 2));
    expect(memory.recall(TABLE, plan, "1", at(10n, 3))).toBe("1");
    expect(memory.recall(TABLE, plan, "1", at(10n, 2))).toBeNull();
    expect(memory.recall(TABLE, plan, "1", at(9n))).toBeNull();
    memory.tell(TABLE, plan, "1", null, at(11n));
    expect(memory.recall(TABLE, plan, "1", at(12n))).toBeNull();
  });

  test("a stream that follows behind tells nothing, and may ask", () => {
    const memory = memoryFrom(1n);
    memory.tell(TABLE, plan, "1", "1", at(10n));
    memory.streamedUntil(position(20n));
    memory.streamFrom(position(5n));
    memory.tell(TABLE, plan, "1", "0", at(6n));
    memory.tell(TABLE, plan, "2", "0", at(6n));
    expect(memory.recall(TABLE, plan, "1", at(7n))).toBeNull();
    expect(memory.recall(TABLE, plan, "1", at(11n))).toBe("1");
    expect(memory.recall(TABLE, plan, "2", at(21n))).toBeNull();
  });

  test("a stream that begins behind a gap knows nothing", () => {
    const memory = memoryFrom(1n);
    memory.tell(TABLE, plan, "1", "1", at(10n));
    memory.streamedUntil(position(20n));
    memory.streamFrom(position(20n));
    expect(memory.recall(TABLE, plan, "1", at(21n))).toBe("1");
    memory.streamFrom(position(30n));
    expect(memory.recall(TABLE, plan, "1", at(31n))).toBeNull();
  });

  test("a row that was read counts for changes that the read did not see", () => {
    const memory = memoryFrom(1n);
    memory.tell(TABLE, plan, "1", "0", at(10n));
    memory.tellRead(TABLE, plan, "1", "1", upTo(15));
    expect(memory.recall(TABLE, plan, "1", at(12n))).toBeNull();
    expect(memory.recall(TABLE, plan, "1", at(16n))).toBe("1");
    // What the read saw is older than the read, and does not replace it.
    memory.tell(TABLE, plan, "1", "0", at(14n));
    expect(memory.recall(TABLE, plan, "1", at(16n))).toBe("1");
    memory.tell(TABLE, plan, "1", "2", at(16n));
    expect(memory.recall(TABLE, plan, "1", at(17n))).toBe("2");
    // The stream knew of a change that this read did not see.
    memory.tellRead(TABLE, plan, "1", "1", upTo(15));
    expect(memory.recall(TABLE, plan, "1", at(17n))).toBe("2");
  });

  test("what the stream tells while a read is under way is told to the read", () => {
    const memory = memoryFrom(1n);
    using read = memory.reading(TABLE);
    memory.tell(TABLE, plan, "1", null, at(10n));
    expect([...read.told]).toEqual(["1"]);
  });

  test("rows read before the log begins count for all of it, until a truncate", () => {
    const memory = new FilterMemory();
    memory.tellRead(TABLE, plan, "1", "1", SEES_NOTHING);
    memory.streamFrom(position(1n));
    expect(memory.recall(TABLE, plan, "1", { ...at(2n), xid: 0 })).toBe("1");
    memory.forgetTable(TABLE);
    expect(memory.recall(TABLE, plan, "1", at(3n))).toBeNull();
  });

  test("behind another generation, or a partition that the stream shows for the first time, rows may be others", () => {
    const memory = memoryFrom(1n);
    const shape = tableVersion({ table: "t", columns: { id: "int8" } });
    const look = (generation: string | undefined, ...parts: readonly number[]): void =>
      memory.looked({
        tables: [{ ...shape, parts }],
        generations: new Map(generation === undefined ? [] : [[TABLE, generation]]),
      });
    let commit = 10n;
    const isKnownAfter = (what: () => void): boolean => {
      memory.tell(TABLE, plan, "1", "1", at(commit++));
      what();
      return memory.recall(TABLE, plan, "1", at(commit)) !== null;
    };
    look(undefined, 1);
    expect(isKnownAfter(() => look("a", 1))).toBe(true);
    expect(isKnownAfter(() => look("a", 1))).toBe(true);
    expect(isKnownAfter(() => memory.shows({ id: TABLE, parts: [1] }))).toBe(true);
    const read = memory.reading(TABLE);
    expect(isKnownAfter(() => look(undefined, 1, 2))).toBe(true);
    expect(read.isVoid).toBe(false);
    expect(isKnownAfter(() => look("b", 1, 2))).toBe(false);
    expect(read.isVoid).toBe(true);
    read[Symbol.dispose]();
    // The stream was behind that look.
    expect(isKnownAfter(() => memory.shows({ id: TABLE, parts: [2] }))).toBe(false);
    expect(isKnownAfter(() => memory.shows({ id: TABLE, parts: [2] }))).toBe(true);
    look("b", 1);
    expect(isKnownAfter(() => memory.shows({ id: TABLE, parts: [2] }))).toBe(false);
  });

  test("of a table that was gone and is back with the same name, what the stream told meanwhile is forgotten", () => {
    const memory = memoryFrom(1n);
    const { id, ...shape } = tableVersion({ table: "t", columns: { id: "int8" } });
    const look = (...ids: readonly string[]): void =>
      memory.looked({
        tables: ids.map((one) => ({ ...shape, id: one, parts: [1] })),
        generations: new Map(ids.map((one) => [one, "a"])),
      });
    look(id);
    const read = memory.reading(id);
    memory.tell(id, plan, "1", "1", at(10n));
    look("public.other");
    expect(memory.recall(id, plan, "1", at(11n))).toBeNull();
    memory.tell(id, plan, "1", "1", at(11n));
    look(id, "public.other");
    expect(memory.recall(id, plan, "1", at(12n))).toBeNull();
    expect(read.isVoid).toBe(true);
    read[Symbol.dispose]();
    memory.tell(id, plan, "1", "1", at(12n));
    look(id, "public.other");
    expect(memory.recall(id, plan, "1", at(13n))).toBe("1");
  });

  test("rows as of the log's beginning tell nothing once a stream may have passed changes of theirs", () => {
    const memory = memoryFrom(1n);
    memory.tell(TABLE, plan, "1", null, at(2n));
    memory.tellRead(TABLE, plan, "1", "1", SEES_NOTHING);
    expect(memory.recall(TABLE, plan, "1", at(3n))).toBeNull();
  });

  test("the rows that changed last stay, and rows under another rule are others", () => {
    const memory = memoryFrom(1n);
    for (let i = 0; i <= 100_000; i++) memory.tell(TABLE, plan, String(i), "1", at(10n, i));
    expect(memory.recall(TABLE, plan, "0", at(11n))).toBeNull();
    expect(memory.recall(TABLE, plan, "100000", at(11n))).toBe("1");
    expect(memory.recall(TABLE, "2", "100000", at(11n))).toBeNull();
  });
});
