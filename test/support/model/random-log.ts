/** Random tables and random logs of them, with the rows that the source has after each transaction. */
import * as fc from "fast-check";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { type Cell, tableVersion, UNCHANGED } from "./blocks.ts";
import { inBinary, keyOfRow, type LogChange, type Row } from "./log-model.ts";

const KEY_VALUES = 5;

export interface Shape {
  readonly table: TableVersion;
  readonly full: boolean;
  readonly binary: boolean;
}

export const shape: fc.Arbitrary<Shape> = fc
  .record({
    keyCount: fc.constantFrom(1, 2),
    plainCount: fc.nat({ max: 1 }),
    wideCount: fc.integer({ min: 1, max: 2 }),
    keysLast: fc.boolean(),
    textKey: fc.boolean(),
    full: fc.boolean(),
    binary: fc.boolean(),
  })
  .map(({ keyCount, plainCount, wideCount, keysLast, textKey, full, binary }) => {
    const keys = Array.from({ length: keyCount }, (_, i) => [`k${i}`, textKey ? "text" : "int4"] as const);
    const others = [
      ...Array.from({ length: plainCount }, (_, i) => [`p${i}`, "int4"] as const),
      ...Array.from({ length: wideCount }, (_, i) => [`w${i}`, "text"] as const),
    ];
    const columns = keysLast ? [...others, ...keys] : [...keys, ...others];
    return { table: tableVersion({ table: "t", columns, key: keys.map(([name]) => name) }), full, binary };
  });

/** One batch of the source: what it does depends on the rows that are there. */
export interface Command {
  readonly kind: "insert" | "update" | "move" | "delete";
  readonly key: number;
  readonly target: number;
  /** Bit i: the update leaves column i as it is. */
  readonly keep: number;
  /** Bit i: a kept wide column is not in the log. */
  readonly toasted: number;
  readonly commits: boolean;
}

export const command: fc.Arbitrary<Command> = fc.record({
  kind: fc.constantFrom("insert", "insert", "update", "update", "move", "move", "delete"),
  key: fc.noBias(fc.nat({ max: KEY_VALUES - 1 })),
  target: fc.noBias(fc.nat({ max: KEY_VALUES - 1 })),
  keep: fc.constantFrom(63, 63, 0, 2, 4, 8),
  toasted: fc.constantFrom(63, 63, 0, 6, 12),
  commits: fc.boolean(),
});

export const history = fc.array(command, { minLength: 1, maxLength: 60, size: "max" });

export interface Log {
  readonly changes: readonly LogChange[];
  /** The committed rows after each transaction. */
  readonly history: ReadonlyMap<bigint, ReadonlyMap<string, Row>>;
  readonly start: ReadonlyMap<string, Row>;
  readonly end: ReadonlyMap<string, Row>;
}

/** Runs the commands; those before `startAt` make the rows that are there when the log begins. */
export function run({ table, full, binary }: Shape, commands: readonly Command[], startAt: number): Log {
  const rows = new Map<string, Row>();
  const changes: LogChange[] = [];
  const history = new Map<bigint, ReadonlyMap<string, Row>>();
  let start: ReadonlyMap<string, Row> = new Map();
  let commit = 1000n;
  let index = 0;
  commands.forEach((batch, ordinal) => {
    if (ordinal === startAt) start = new Map(rows);
    const change = execute(table, full, rows, batch, ordinal);
    if (change === null || ordinal < startAt) return;
    const placed = { ...change, commit, index: index++ };
    changes.push(binary ? inBinary(placed) : placed);
    history.set(commit, new Map(rows));
    if (batch.commits) {
      commit += 10n;
      index = 0;
    }
  });
  return { changes, history, start, end: rows };
}

type BareChange = Omit<LogChange, "commit" | "index">;

function execute(
  table: TableVersion,
  full: boolean,
  rows: Map<string, Row>,
  batch: Command,
  ordinal: number,
): BareChange | null {
  const fresh = rowWithKey(table, batch.key, ordinal);
  const key = keyOfRow(table, fresh);
  const old = rows.get(key);
  if (batch.kind === "insert") {
    if (old !== undefined) return null;
    rows.set(key, fresh);
    return { table, op: "c", after: fresh };
  }
  if (old === undefined) return null;
  const before = { before: old, beforeKind: full ? "full" : "key" } as const;
  if (batch.kind === "delete") {
    rows.delete(key);
    return { table, op: "d", ...before };
  }
  const moves = batch.kind === "move" && batch.target !== batch.key;
  const written = rowWithKey(table, moves ? batch.target : batch.key, ordinal);
  const isKey = (i: number) => table.key.includes(i);
  const row = written.map((cell, i) => (isKey(i) || (batch.keep & (1 << i)) === 0 ? cell : old[i]!));
  const newKey = keyOfRow(table, row);
  if (newKey !== key && rows.has(newKey)) return null;
  rows.delete(key);
  rows.set(newKey, row);
  const sent = row.map((cell, i): Cell => {
    const kept = !isKey(i) && table.columns[i]!.name.startsWith("w") && cell !== null && cell === old[i];
    return kept && (batch.toasted & (1 << i)) !== 0 ? UNCHANGED : cell;
  });
  return { table, op: "u", after: sent, ...(full || newKey !== key ? before : {}) };
}

/** With two key columns, keys share their first or their second part with others. */
function rowWithKey(table: TableVersion, key: number, ordinal: number): Row {
  const parts = table.key.length === 1 ? [key] : [key >> 1, key & 1];
  return table.columns.map((column, i) => {
    const part = table.key.indexOf(i);
    if (part >= 0) return String(parts[part]);
    if ((ordinal + i) % 7 === 0) return null;
    return column.type.kind === "int" ? String(ordinal) : `${column.name} of step ${ordinal}`;
  });
}
