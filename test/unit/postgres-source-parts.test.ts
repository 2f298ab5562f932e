import { describe, expect, test } from "vitest";
import { formatLsn, parseLsn } from "../../connectors/postgres/source/wire/lsn.ts";
import { Pace } from "../../connectors/postgres/source/stream/replication-session.ts";
import { Decoder, STOP_BYTES, STOP_TABLE } from "../../connectors/postgres/source/stream/pgoutput.ts";
import { statusFrame } from "../../connectors/postgres/source/stream/replication-session.ts";
import { snapshotSees } from "../../src/core/contracts/watermarks.ts";
import { BEFORE_FULL, Block } from "../../src/core/model/block.ts";
import { TableSelection } from "../../src/core/table-selection.ts";
import type { CatalogTable } from "../../connectors/postgres/source/catalog/catalog.ts";
import { columnType } from "../../connectors/postgres/source/catalog/types.ts";
import { relationShape } from "../../connectors/postgres/source/stream/table-lookups.ts";
import { tableVersion } from "../support/model/blocks.ts";

test("log positions are written as Postgres writes them", () => {
  expect(formatLsn(parseLsn("16/B374D848"))).toBe("16/B374D848");
  expect(parseLsn("0/10")).toBe(16n);
  expect(() => parseLsn("16")).toThrow(RangeError);
});

test("tables are chosen by globs over schema.table, and ! excludes whatever stands before or after it", () => {
  const some = new TableSelection(["!public.audit_*", "public.*", "Ünï.a.b"]);
  expect(some.matches("public", "orders")).toBe(true);
  expect(some.matches("public", "audit_log")).toBe(false);
  expect(some.matches("other", "orders")).toBe(false);
  expect(some.matches("Ünï", "a.b")).toBe(true);
  expect(some.literals).toEqual(["Ünï.a.b"]);
  expect(new TableSelection(["!public.x"]).matches("s", "t")).toBe(true);
  expect(new TableSelection(["!public.x"]).matches("public", "x")).toBe(false);
  expect(new TableSelection(["public.a+b"]).matches("public", "aab")).toBe(false);
  expect(new TableSelection([]).matches("any", "thing")).toBe(true);
});

test("a snapshot tells 32-bit transaction ids apart across their wrap", () => {
  const sees = snapshotSees("4294967290:4294967300:4294967292,4294967299");
  expect(sees(4_294_967_289)).toBe(true);
  expect(sees(4_294_967_291)).toBe(true);
  expect(sees(4_294_967_292)).toBe(false);
  expect(sees(2)).toBe(true); // 4294967298
  expect(sees(3)).toBe(false); // 4294967299 runs
  expect(sees(4)).toBe(false); // 4294967300 is beyond the end
  expect(snapshotSees("10:10:")(9)).toBe(true);
  expect(snapshotSees("10:10:")(10)).toBe(false);
});

test("a log that has come beyond the room of row versions is stopped, before its rows pass for old ones", () => {
  const beginning = (commit: bigint) => {
    const frame = Buffer.alloc(5 + 25 + 21);
    frame.write("d", 0);
    frame.writeInt32BE(frame.length - 1, 1);
    frame.write("w", 5);
    frame.write("B", 30);
    frame.writeBigUInt64BE(commit, 31);
    return frame;
  };
  const decoder = (bytes: Buffer) =>
    new Decoder({ epoch: 1, commit: 0n, index: 0 }, new Block(bytes), bytes, 1 << 20, "renew");
  const last = (1n << 55n) - 1n;
  const [good, bad] = [beginning(last), beginning(last + 1n)];
  expect(decoder(good).run(good.length)).toBe(STOP_BYTES);
  expect(() => decoder(bad).run(bad.length)).toThrow(expect.objectContaining({ code: "MR2035", kind: "fatal" }));
});

test("an old row is no whole one if it has only what some partition logs, until the partition is announced with whole ones", () => {
  const [ROOT, SHORT, WHOLE] = [10, 11, 12];
  const int16 = (n: number) => Buffer.from([n >> 8, n & 255]);
  const int32 = (n: number) => Buffer.from([n >> 24, n >> 16, n >> 8, n]);
  const column = (name: string, inKey: boolean) =>
    Buffer.concat([Buffer.from([Number(inKey)]), Buffer.from(`${name}\0`), int32(25), int32(-1)]);
  const relation = (oid: number, identity: string, columns = ["id", "a"]) => {
    const all = columns.map((name) => column(name, identity === "f" || name === "id"));
    return Buffer.concat([
      Buffer.from("R"),
      int32(oid),
      Buffer.from(`public\0t${oid}\0${identity}`),
      int16(all.length),
      ...all,
    ]);
  };
  const deleted = (...cells: readonly (string | null)[]) => {
    const written = cells.map((cell) =>
      cell === null ? Buffer.from("n") : Buffer.concat([Buffer.from("t"), int32(cell.length), Buffer.from(cell)]),
    );
    return Buffer.concat([Buffer.from("D"), int32(ROOT), Buffer.from("O"), int16(cells.length), ...written]);
  };
  const frame = (message: Buffer) =>
    Buffer.concat([Buffer.from("d"), int32(message.length + 29), Buffer.from("w"), Buffer.alloc(24), message]);
  const begin = Buffer.alloc(21);
  begin.write("B");
  const messages = [
    begin,
    [relation(ROOT, "f"), relation(SHORT, "d", ["a", "id"]), deleted("1", null), deleted("2", "x")],
    [relation(ROOT, "f"), relation(WHOLE, "f"), deleted("3", null), deleted("4", "x")],
    [relation(ROOT, "f"), relation(SHORT, "f", ["a", "id"]), deleted("5", null), deleted("6", "x")],
  ].flat();
  const bytes = Buffer.concat(messages.map(frame));
  const block = new Block(bytes);
  const decoder = new Decoder({ epoch: 1, commit: 0n, index: 0 }, block, bytes, 1 << 20, "renew");
  const table = tableVersion({ table: "t", columns: { id: "text", a: "text" } });
  while (decoder.run(bytes.length) === STOP_TABLE) decoder.needed!.table = table;
  const areWhole = Array.from(block.beforeKind.subarray(0, block.count), (kind) => kind === BEFORE_FULL);
  expect(areWhole).toEqual([false, true, false, true, true, true]);
});

test("a status update says the position as it is, in all three places", () => {
  const frame = statusFrame(0x16_b374_d848n, true);
  expect(frame.subarray(0, 6)).toEqual(Buffer.from([0x64, 0, 0, 0, 38, 0x72]));
  for (const at of [6, 14, 22]) expect(frame.readBigUInt64BE(at)).toBe(0x16_b374_d848n);
  expect(frame[38]).toBe(1);
  expect(frame).toHaveLength(39);
});

test("a dense stream is paused for longer and longer, a sparse one never, a Unix socket by naps alone", () => {
  const pace = new Pace(true);
  expect([1, 5, 20, 40].map((ms) => pace.read(500, true, ms))).toEqual([0, 0, 0, 0]);
  const pauses = [50, 51, 53, 57, 65, 81].map((ms) => pace.read(200_000, true, ms));
  expect(pauses).toEqual([1, 2, 4, 8, 16, 16]);
  expect(pace.read(200_000, false, 82)).toBe(0);
  expect(pace.read(100, true, 200)).toBe(0);
  const unix = new Pace(false);
  expect([1, 5, 20, 40].map((ms) => unix.read(500, true, ms))).toEqual([0, 0, 0, 0]);
  const naps = [50, 51, 53, 57, 65, 81].map((ms) => unix.read(200_000, true, ms));
  expect(Math.min(...naps)).toBeGreaterThan(0);
  expect(Math.max(...naps)).toBeLessThan(0.5);
  expect(unix.read(200_000, false, 82)).toBe(0);
});

test("a stream that has fallen quiet is not dense any more, and the next row is not paused for", () => {
  const pace = new Pace(true);
  expect(pace.read(2_000_000, true, 50)).toBe(1);
  expect(pace.dense).toBe(true);
  pace.quiet(56);
  expect(pace.dense).toBe(false);
  expect(pace.read(500, true, 70)).toBe(0);
});

test("types are found through domains, arrays and enums; what is not known is opaque", () => {
  const types = (oid: number) =>
    [
      { oid: 1001, name: "d", kind: "d", base: 1700, baseModifier: ((12 << 16) | 2) + 4 },
      { oid: 1002, name: "_d", kind: "b", element: 1001 },
      { oid: 1003, name: "mood", kind: "e", labels: ["a", "b"] },
      { oid: 1004, name: "citext", kind: "b" },
      { oid: 1005, name: "hstore", kind: "b" },
      { oid: 1007, name: "country_code", kind: "d", base: 1042, baseModifier: 5 + 4 },
      { oid: 1006, name: "felt", kind: "c", attributes: [{ attnum: 2, type: 1003, modifier: -1 }] },
    ]
      .map((type) => ({
        send: null,
        base: 0,
        baseModifier: -1,
        element: 0,
        bounds: 0,
        labels: [],
        attributes: [],
        tables: [],
        ...type,
      }))
      .find((type) => type.oid === oid);
  expect(columnType(1001, -1, types)).toEqual({ kind: "decimal", precision: 12, scale: 2 });
  expect(columnType(1002, -1, types)).toEqual({ kind: "array", of: { kind: "decimal", precision: 12, scale: 2 } });
  expect(columnType(1003, -1, types)).toEqual({ kind: "enum", labels: ["a", "b"] });
  expect(columnType(1004, -1, types)).toEqual({ kind: "text" });
  expect(columnType(1007, -1, types)).toEqual({ kind: "text", padded: true });
  expect(columnType(1005, -1, types)).toEqual({ kind: "opaque" });
  expect(columnType(9999, -1, types)).toEqual({ kind: "opaque" });
  const attributes = [{ identity: 2, type: { kind: "enum", labels: ["a", "b"] } }];
  expect(columnType(1006, -1, types)).toEqual({ kind: "opaque", attributes });
  // numeric(3,-2), since Postgres 15: the scale is signed.
  expect(columnType(1700, ((3 << 16) | (-2 & 0x7ff)) + 4, types)).toEqual({ kind: "decimal", precision: 3, scale: -2 });
});

describe("columns of a Relation message where the catalogue is ahead", () => {
  const INTEGER = 23;
  const TEXT = 25;
  type Named = readonly [name: string, type: number];

  /** The identities of the message's columns. */
  function identities(announced: readonly Named[], now: readonly (readonly [attnum: number, ...Named])[]): number[] {
    const columns = announced.map(([name, type], i) => ({ name, type, modifier: -1, inKey: i === 0 }));
    const message = { oid: 1, schema: "public", table: "t", identity: "d", columns };
    const table: CatalogTable = {
      oid: 1,
      file: 1,
      written: null,
      named: null,
      schema: "public",
      table: "t",
      kind: "r",
      persistence: "p",
      identity: "d",
      ancestors: [],
      attached: null,
      heirs: [],
      parents: [],
      extension: null,
      hidesRows: false,
      mayRead: true,
      mayUseSchema: true,
      owned: true,
      columns: now.map(([attnum, name, type]) => {
        return {
          attnum,
          name,
          type,
          modifier: -1,
          native: "",
          notNull: false,
          generated: "",
          from: [],
          missing: false,
        };
      }),
      dropped: [],
      uniques: [],
    };
    return relationShape(message, [], table, { types: () => undefined, relation: (oid) => oid }).columns.map(
      ({ identity }) => identity,
    );
  }
  const announced: readonly Named[] = [
    ["id", INTEGER],
    ["b", INTEGER],
    ["body", TEXT],
    ["a", TEXT],
  ];

  test("a name that another column has by now tells nothing: no two columns are taken for one", () => {
    const now = [
      [1, "id", INTEGER],
      [5, "a", INTEGER],
      [6, "body", TEXT],
      [7, "c", TEXT],
    ] as const;
    expect(identities(announced, now)).toEqual([1, 5, 6, 7]);
    const retyped = now.map(([attnum, name]) => [attnum, name, TEXT] as const);
    expect(identities(announced, retyped)).toEqual([1, -2, -3, -4]);
  });

  test("a column that took the name of one that was renamed is not taken for that one", () => {
    const renamed = [
      [1, "id", INTEGER],
      [2, "mail", TEXT],
      [3, "body", TEXT],
    ] as const;
    const before: readonly Named[] = [
      ["id", INTEGER],
      ["body", TEXT],
      ["note", TEXT],
    ];
    expect(identities(before, renamed)).toEqual([1, 2, 3]);
  });

  test("names that were swapped are told by the order of the columns", () => {
    const swapped = [
      [1, "id", INTEGER],
      [2, "a", INTEGER],
      [3, "body", TEXT],
      [4, "b", TEXT],
    ] as const;
    expect(identities(announced, swapped)).toEqual([1, 2, 3, 4]);
  });
});
