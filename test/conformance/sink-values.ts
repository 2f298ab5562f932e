import { expect, test } from "vitest";
import { type ColumnType, hasBinaryForm } from "../../src/core/model/types.ts";
import { type Cell, type TableSpec, tableVersion } from "../support/model/blocks.ts";
import { binaryCell, enumArrayCell } from "./cells.ts";
import { HEAVY } from "../support/run/service-suffixes.ts";
import type { SinkHarness } from "./sink.ts";
import { put, Stage, type Write } from "./stage.ts";
import { ENUM_LABELS, HOSTILE_TEXTS, VALUES } from "./values.ts";

const MOOD = { kind: "enum", labels: ENUM_LABELS } as const;
const NATIVE_MOOD = 'public."mood"';

export function valueTests(harness: SinkHarness): void {
  const natives = Object.keys(VALUES).filter((native) => harness.without?.includes(native) !== true);
  const rowCount = Math.max(...natives.map((native) => VALUES[native]!.length));

  /** One table with a column per type; row i has each type's i-th value, then nulls. */
  function everyType(table: string, chosen: readonly string[]): { spec: TableSpec; rows: (string | null)[][] } {
    return {
      spec: {
        table,
        columns: [["id", "int4"], ...chosen.map((native, i) => [`c${i} ${native}`.slice(0, 60), native] as const)],
        key: ["id"],
      },
      rows: Array.from({ length: rowCount }, (_, row) => [
        `${row}`,
        ...chosen.map((native) => VALUES[native]?.[row] ?? null),
      ]),
    };
  }

  test("every type lands exactly, from text cells", async () => {
    const { spec, rows } = everyType("types_text", natives);
    const table = tableVersion(spec);
    await using stage = await Stage.of(harness, table);
    await inBothSizes(
      stage,
      rows,
      (cells) => put(cells, { fresh: true }),
      (expected) => stage.expectRows(table, expected),
      table,
    );
  });

  const isSlow = harness.heavy?.includes("binary cells") === true;
  test("every type lands exactly, from binary cells", { tags: isSlow ? HEAVY : [] }, async () => {
    const binary = natives.filter((native) =>
      hasBinaryForm(tableVersion(everyType("t", [native]).spec).columns[1]!.type),
    );
    const { spec, rows } = everyType("types_binary", binary);
    const table = tableVersion(spec);
    await using stage = await Stage.of(harness, table);
    const toBinary = (cells: readonly (string | null)[]): Write =>
      put(
        cells.map((cell, i): Cell => {
          if (cell === null) return null;
          return i === 0 ? int4(Number(cell)) : binaryCell(binary[i - 1]!, cell);
        }),
        { fresh: true },
      );
    await inBothSizes(stage, rows, toBinary, (expected) => stage.expectRows(table, expected), table);
  });

  test("text and binary cells of one row, and of one step, mix", async () => {
    const table = tableVersion({
      table: "mixed",
      columns: { id: "bigint", n: "numeric", t: "timestamp with time zone", s: "text", a: "integer[]", i: "inet" },
    });
    const time = "2026-11-20 06:43:15.123456+00";
    const id = "9223372036854775807";
    await using stage = await Stage.of(harness, table);
    await stage.write(table, 10n, [
      put([binaryCell("bigint", id), binaryCell("numeric", "-1.50"), time, Buffer.from("é"), "{1,NULL,3}", "::1"]),
      put([
        "1",
        "12.5",
        binaryCell("timestamp with time zone", time),
        "x",
        binaryCell("integer[]", "{1,NULL,3}"),
        null,
      ]),
      put(["2", null, null, null, null, null]),
    ]);
    const expected = [
      [id, "-1.50", time, "é", "{1,NULL,3}", "::1"],
      ["1", "12.5", time, "x", "{1,NULL,3}", null],
      ["2", null, null, null, null, null],
    ];
    await stage.expectRows(table, expected);
    // The same key as text and as bytes is one row.
    await stage.write(table, 20n, [
      put([id, null, null, null, null, null]),
      put([int8(1n), null, null, null, null, null]),
    ]);
    await stage.expectRows(table, [
      [id, null, null, null, null, null],
      ["1", null, null, null, null, null],
      ["2", null, null, null, null, null],
    ]);
  });

  // Formats of columns compress runs and dictionaries, for which both zeros may be one.
  test("a zero beside negative zeros has no sign", async () => {
    const table = tableVersion({
      table: "zeros",
      columns: { id: "int4", f: "double precision", r: "real", a: "double precision[]" },
    });
    await using stage = await Stage.of(harness, table);
    const row = (id: number, zero: string): string[] => [`${id}`, zero, zero, `{${zero},1}`];
    const rows = Array.from({ length: 400 }, (_, id) => row(id, id % 100 === 0 ? "-0" : "0"));
    await stage.write(
      table,
      10n,
      rows.map((cells) => put(cells, { fresh: true })),
    );
    await stage.restart(table);
    await stage.expectRows(table, rows);
  });

  test("enums and their arrays keep their labels", async () => {
    const table = tableVersion({
      table: "moods",
      columns: [
        ["id", "integer"],
        ["mood", NATIVE_MOOD, MOOD],
        ["all", `${NATIVE_MOOD}[]`, { kind: "array", of: MOOD }],
      ],
      key: ["id"],
    });
    await using stage = await Stage.of(harness, table);
    const array = '{sad,NULL,"a, b"}';
    await stage.write(table, 10n, [
      ...ENUM_LABELS.map((label, i) => put([`${i}`, label, array])),
      ...ENUM_LABELS.map((label, i) => put([int4(i + 100), Buffer.from(label), enumArrayCell(["sad", null, "a, b"])])),
    ]);
    await stage.expectRows(table, [
      ...ENUM_LABELS.map((label, i) => [`${i}`, label, array]),
      ...ENUM_LABELS.map((label, i) => [`${i + 100}`, label, array]),
    ]);
  });

  test("vectors land exactly, from text cells and from binary ones", async () => {
    const types: readonly ColumnType[] = [
      { kind: "vector", form: "single", dimension: 3 },
      { kind: "vector", form: "single", dimension: null },
      { kind: "vector", form: "half", dimension: 3 },
      { kind: "vector", form: "sparse", dimension: 5 },
      { kind: "vector", form: "single", dimension: 3, isUpTo: true },
    ];
    const natives = ["public.vector(3)", "public.vector", "public.halfvec(3)", "public.sparsevec(5)", "vector(3)"];
    const table = tableVersion({
      table: "vectors",
      columns: [["id", "integer"], ...types.map((type, i) => [`v${i}`, natives[i]!, type] as const)],
      key: ["id"],
    });
    await using stage = await Stage.of(harness, table);
    const isPlain = harness.needsPlainVectors === true;
    const short = isPlain ? ["[1,2,3]", "[4,5,6]"] : ["[1,2]", "[3]"];
    const large = isPlain ? "1e+19" : "3.4028235e+38";
    const rows = [
      ["[1,-2.5,0.1]", "[0.25]", "[1,-2.5,0.099975586]", "{1:1.5,4:-0.1}/5", short[0]!],
      [`[1e-45,${large},1e+10]`, "[0,0,0,0]", "[65504,6.1035156e-05,5.9604645e-08]", "{}/5", short[1]!],
      ["[0,0,0]", "[-0,1]", "[0,1,2]", "{5:1e+20}/5", "[1.1,2.2,3.3]"],
      [null, null, null, null, null],
    ];
    const cellsOf = (row: readonly (string | null)[]): Cell[] =>
      row.map((text, i) => (text === null ? null : vectorCell(types[i]!, text)));
    const expected = [...rows.entries()].flatMap(([i, row]) => [
      [`${i}`, ...row],
      [`${i + 100}`, ...row],
    ]);
    await stage.write(table, 10n, [
      ...rows.map((row, i) => put([`${i}`, ...row])),
      ...rows.map((row, i) => put([int4(i + 100), ...cellsOf(row)])),
    ]);
    expect(stage.reports.poisons).toEqual([]);
    await stage.expectRows(table, expected);
    // One by one, which sinks may do another way.
    for (const [i, row] of rows.entries()) {
      await stage.write(table, 20n + BigInt(2 * i), [put([`${i}`, ...row])]);
      await stage.write(table, 21n + BigInt(2 * i), [put([int4(i + 100), ...cellsOf(row)])]);
    }
    expect(stage.reports.poisons).toEqual([]);
    await stage.expectRows(table, expected);
    if (!isPlain) return;
    await stage.write(table, 40n, [
      put(["200", null, null, null, null, "[1,2]"]),
      put(["201", "[1e+20,1,1]", null, null, null, null]),
    ]);
    // An engine without a type for vectors keeps them as they are.
    const refusals = stage.reports.poisons.map(({ entry, error }) => `${entry} ${error.code}`);
    if (refusals.length > 0) expect(refusals).toEqual(["0 MR3111", "1 MR3111"]);
  });

  test("hostile text is data, in cells and in keys", async () => {
    const table = tableVersion({ table: "texts", columns: { k: "text", v: "text", n: "integer" } });
    // A key has an upper length in most targets; long values are cells only.
    const texts = HOSTILE_TEXTS.filter((text) => text.length < 1000);
    await using stage = await Stage.of(harness, table);
    const rows = texts.map((text, i) => [text, texts[(i + 1) % texts.length]!, `${i}`]);
    await stage.write(
      table,
      10n,
      rows.map((row) => put(row)),
    );
    await stage.expectRows(table, rows);
    const gone = texts.filter((_, i) => i % 2 === 0);
    for (let i = 0; i < gone.length; i += 2) await stage.write(table, BigInt(20 + i), gone.slice(i, i + 2).map(remove));
    await stage.write(
      table,
      100n,
      texts.flatMap((text, i) => (i % 2 === 1 ? [put([text, text, null])] : [])),
    );
    const left = texts.flatMap((text, i) => (i % 2 === 1 ? [[text, text, null]] : []));
    await stage.expectRows(table, left);
    function remove(text: string): Write {
      return { action: 2, before: [text, null, null] };
    }
  });

  test("a row of several megabytes", async () => {
    const table = tableVersion({ table: "large", columns: { id: "integer", doc: "text", raw: "bytea" } });
    await using stage = await Stage.of(harness, table);
    const doc = 'é"\\\n'.repeat(400_000);
    const raw = `\\x${"00ff7f".repeat(300_000)}`;
    await stage.write(table, 10n, [put(["1", doc, raw]), put(["2", "x", "\\x"])]);
    await stage.expectRows(table, [
      ["1", doc, raw],
      ["2", "x", "\\x"],
    ]);
  });

  /** Two rows at a time, as single changes come, and all at once: sinks may take two paths. */
  async function inBothSizes(
    stage: Stage,
    rows: readonly (string | null)[][],
    toWrite: (cells: readonly (string | null)[]) => Write,
    check: (expected: readonly (string | null)[][]) => Promise<void>,
    table: ReturnType<typeof tableVersion>,
  ): Promise<void> {
    expect(rows.length).toBeGreaterThan(20);
    await stage.write(table, 10n, rows.map(toWrite));
    expect(stage.reports.poisons).toEqual([]);
    await check(rows);
    const moved = rows.map(([id, ...cells]) => [`${Number(id) + 1000}`, ...cells]);
    for (let i = 0; i < moved.length; i += 2) {
      await stage.write(table, 20n + BigInt(i), moved.slice(i, i + 2).map(toWrite));
      expect(stage.reports.poisons).toEqual([]);
    }
    await check([...rows, ...moved]);
  }
}

function int4(value: number): Cell {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return Uint8Array.from(bytes);
}

/** As pgvector's send functions write it. */
function vectorCell(type: ColumnType, text: string): Cell {
  if (type.kind !== "vector") throw new TypeError("no vector");
  if (type.form === "sparse") {
    const [, listed = "", dimension] = /^\{(.*)\}\/(\d+)$/.exec(text) ?? [];
    const pairs = listed === "" ? [] : listed.split(",").map((pair) => pair.split(":").map(Number));
    const bytes = Buffer.alloc(12 + pairs.length * 8);
    bytes.writeInt32BE(Number(dimension), 0);
    bytes.writeInt32BE(pairs.length, 4);
    for (const [i, [index = 0, number = 0]] of pairs.entries()) {
      bytes.writeInt32BE(index - 1, 12 + i * 4);
      bytes.writeFloatBE(number, 12 + pairs.length * 4 + i * 4);
    }
    return Uint8Array.from(bytes);
  }
  const numbers: number[] = text.slice(1, -1).split(",").map(Number);
  const width = type.form === "half" ? 2 : 4;
  const bytes = Buffer.alloc(4 + numbers.length * width);
  bytes.writeInt16BE(numbers.length, 0);
  for (const [i, number] of numbers.entries()) {
    if (type.form === "half") bytes.writeUInt16BE(halfBits(number), 4 + i * 2);
    else bytes.writeFloatBE(number, 4 + i * 4);
  }
  return Uint8Array.from(bytes);
}

/** Of a number that a half has, but for rounding. */
function halfBits(number: number): number {
  const magnitude = Math.abs(number);
  const sign = number < 0 ? 0x8000 : 0;
  if (magnitude < 2 ** -14) return sign | Math.round(magnitude * 2 ** 24);
  const exponent = Math.floor(Math.log2(magnitude));
  return sign | ((exponent + 15) << 10) | (Math.round((magnitude / 2 ** exponent) * 1024) - 1024);
}

function int8(value: bigint): Cell {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(value);
  return Uint8Array.from(bytes);
}
