/** Compares one row of the source with the sink's row under the same key. */
import { isDeepStrictEqual } from "node:util";
import { type Block, NO_TUPLE } from "../../core/model/block.ts";
import type { ComparedSlice, Inspection, StoredRow } from "../../core/contracts/comparing.ts";
import type { ReadableColumn } from "../../core/contracts/readable.ts";
import type { DriftCause, DriftKind, ValuePair } from "../../core/contracts/reconciliation.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { KeyText } from "../../core/contracts/row-reads.ts";
import { CELL_BINARY, CELL_FAILED, CELL_TEXT, CellMap } from "../../core/model/tuple.ts";
import { isRecord } from "../../core/stored-json.ts";
import { readText } from "../../core/values/text.ts";
import { EPOCH_MAX, epochOf } from "../../core/model/position.ts";

/** How a row in the sink differs from the expected one. */
export interface Finding {
  readonly kind: DriftKind;
  /** In the order of the table; of a document's relation the first place inside it that differs: `items[2].product.sku`. */
  readonly columns: readonly string[];
  readonly why: DriftCause;
  readonly values?: Readonly<Record<string, ValuePair>>;
}

/** The values that the sink must show; null: the source does not have the row. */
interface ExpectedCells {
  readonly cells: readonly (string | null)[] | null;
}

const VERSION = "_millrace_version";
const SHOWN_CHARACTERS_MAX = 200;
/** No sink can hold what a function that fails would make: the row waits as a dead letter. */
const FAILED = "\0(the function failed)";

const map = new CellMap();

/** A row of the source, or a requested key that the source does not have. */
export interface SourceRow {
  /** The row's ordinal in the block. */
  readonly row: number;
  readonly id: string;
  readonly key: KeyText;
  readonly isThere: boolean;
  /** The size of its values as read. */
  readonly byteCount: number;
}

/** The rows of a slice that are wanted. */
export function wantedRows(
  inspection: Inspection,
  table: TableVersion,
  { block, from, to, without }: ComparedSlice,
  isWanted: (id: string) => boolean,
): readonly SourceRow[] {
  const rows: SourceRow[] = [];
  for (let row = from; row < to; row++) {
    if (without?.has(row) === true) continue;
    const isThere = block.after[row] !== NO_TUPLE;
    map.read(block.bytes, isThere ? block.after[row]! : block.before[row]!);
    const key = table.key.map((ordinal) => textOf(table, block.bytes, ordinal)!);
    const id = inspection.id(table, key);
    if (isWanted(id)) rows.push({ row, id, key, isThere, byteCount: isThere ? mappedBytes() : 0 });
  }
  return rows;
}

/** How the sink must show an existing row. */
export function expectedCells(
  inspection: Inspection,
  table: TableVersion,
  block: Block,
  row: number,
): readonly (string | null)[] {
  map.read(block.bytes, block.after[row]!);
  return table.columns.map((_, ordinal) => {
    const text = textOf(table, block.bytes, ordinal);
    return text === null || text === FAILED ? text : inspection.expected(table, ordinal, text);
  });
}

function mappedBytes(): number {
  let sum = 0;
  for (let i = 0; i < map.count; i++) sum += map.length[i]!;
  return sum;
}

/** From the tuple that is mapped now. */
function textOf(table: TableVersion, bytes: Uint8Array, ordinal: number): string | null {
  const kind = map.kind[ordinal]!;
  if (kind === CELL_FAILED) return FAILED;
  if (kind !== CELL_TEXT && kind !== CELL_BINARY) return null;
  return readText(table.columns[ordinal]!.type, kind, bytes, map.start[ordinal]!, map.length[ordinal]!);
}

/** Null: the sink holds the expected row. */
export function judge(
  table: TableVersion,
  { cells }: ExpectedCells,
  stored: StoredRow | undefined,
  versionMax: bigint,
): Finding | null {
  if (stored === undefined) return cells === null ? null : { kind: "missing", columns: [], why: "unknown" };
  const why = causeOf(stored, versionMax);
  if (cells === null) return { kind: "extra", columns: [], why };
  const columns = table.columns.flatMap((column, i) =>
    cells[i] === stored.cells[i] ? [] : [placeOf(column, cells[i] ?? null, stored.cells[i] ?? null)],
  );
  // A version that the log has not reached yet would keep later changes out.
  if (stored.version === null || stored.version > versionMax) columns.push(VERSION);
  columns.push(...(stored.surplus ?? []));
  return columns.length === 0 ? null : { kind: "different", columns, why };
}

/** The column, and of a document's relation the first place inside it that differs. */
export function placeOf({ name, type }: ReadableColumn, expected: string | null, found: string | null): string {
  if (type.kind !== "json" || type.shape === undefined || expected === null || found === null) return name;
  try {
    return name + placeWithin(JSON.parse(expected), JSON.parse(found));
  } catch (error) {
    // Somebody wrote something else there.
    if (error instanceof SyntaxError) return name;
    throw error;
  }
}

/** Empty: the two differ as a whole. */
function placeWithin(expected: unknown, found: unknown): string {
  if (Array.isArray(expected) && Array.isArray(found)) {
    const at = Array.from({ length: Math.max(expected.length, found.length) }, (_, i) => i).find(
      (i) => !isDeepStrictEqual(expected[i], found[i]),
    );
    return at === undefined ? "" : `[${at}]${placeWithin(expected[at], found[at])}`;
  }
  if (!isRecord(expected) || !isRecord(found)) return "";
  const name = Object.keys({ ...expected, ...found }).find((key) => !isDeepStrictEqual(expected[key], found[key]));
  if (name === undefined) return "";
  const step = /^\w+$/.test(name) ? `.${name}` : `[${JSON.stringify(name)}]`;
  return step + placeWithin(expected[name], found[name]);
}

function causeOf({ version, surplus = [] }: StoredRow, versionMax: bigint): DriftCause {
  if (version !== null && version > versionMax) return epochOf(version) < EPOCH_MAX ? "beyond-log" : "beyond-epochs";
  return version === null || surplus.length > 0 ? "written-outside" : "unknown";
}

/** Adds the differing values, for users who may see them. */
export function withValues(
  { columns }: TableVersion,
  { cells }: ExpectedCells,
  stored: StoredRow | undefined,
  finding: Finding,
): Finding {
  const pairs = columns.flatMap(({ name }, i) =>
    finding.columns.some(
      (place) => place === name || (/^[.[]/.test(place.slice(name.length)) && place.startsWith(name)),
    )
      ? [[name, { expected: shown(cells?.[i]), found: shown(stored?.cells[i]) }] as const]
      : [],
  );
  return { ...finding, values: Object.fromEntries(pairs) };
}

function shown(text: string | null | undefined): string | null {
  if (text === null || text === undefined) return null;
  return text.length > SHOWN_CHARACTERS_MAX ? `${text.slice(0, SHOWN_CHARACTERS_MAX)}…` : text;
}

export function isSame(a: Finding | null, b: Finding): boolean {
  return a !== null && a.kind === b.kind && a.columns.join("\0") === b.columns.join("\0");
}
