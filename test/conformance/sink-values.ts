import { expect, test } from "vitest";
import { hasBinaryForm } from "../../src/core/model/types.ts";
import { type Cell, type TableSpec, tableVersion } from "../support/model/blocks.ts";
import { binaryCell, enumArrayCell } from "./cells.ts";
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

  test("every type lands exactly, from binary cells", async () => {
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
      columns: [
        ["id", "bigint"],
        ["n", "numeric"],
        ["t", "timestamp with time zone"],
        ["s", "text"],
        ["a", "integer[]"],
        ["i", "inet"],
      ],
      key: ["id"],
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
      columns: [
        ["id", "int4"],
        ["f", "double precision"],
        ["r", "real"],
        ["a", "double precision[]"],
      ],
      key: ["id"],
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

  test("hostile text is data, in cells and in keys", async () => {
    const table = tableVersion({
      table: "texts",
      columns: [
        ["k", "text"],
        ["v", "text"],
        ["n", "integer"],
      ],
      key: ["k"],
    });
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
    for (const [i, text] of texts.entries()) {
      if (i % 2 === 0) await stage.write(table, BigInt(20 + i), [remove(text)]);
    }
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
    const table = tableVersion({
      table: "large",
      columns: [
        ["id", "integer"],
        ["doc", "text"],
        ["raw", "bytea"],
      ],
      key: ["id"],
    });
    await using stage = await Stage.of(harness, table);
    const doc = 'é"\\\n'.repeat(400_000);
    const raw = `\\x${"00ff7f".repeat(300_000)}`;
    await stage.write(table, 10n, [put(["1", doc, raw]), put(["2", "x", "\\x"])]);
    await stage.expectRows(table, [
      ["1", doc, raw],
      ["2", "x", "\\x"],
    ]);
  });

  /** Row by row, as single changes come, and all at once: sinks may take two paths. */
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
    for (const [i, row] of moved.entries()) {
      await stage.write(table, 20n + BigInt(i), [toWrite(row)]);
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

function int8(value: bigint): Cell {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(value);
  return Uint8Array.from(bytes);
}
