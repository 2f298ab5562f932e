/**
 * Tables whose changes of shape are ignored: turns rows of the source's present shape into rows of the shape that was kept.
 */
import { comparePositions, type Position } from "../core/model/position.ts";
import { isWider } from "../core/model/schema-change.ts";
import type { Column } from "../core/model/schema.ts";
import type { TableShape } from "../core/contracts/catalog.ts";

/** The shape that sinks keep, as it was at the source, and the position in the log from which it counts. */
export interface Pin {
  readonly shape: TableShape;
  readonly since: Position;
}

/** By table id. */
export type Pins = ReadonlyMap<string, Pin>;

export const NO_PINS: Pins = new Map();

/** True if the pin does not cover this position: changes from before it are followed as usual. */
export function isBefore(position: Position, { since }: Pin): boolean {
  return comparePositions(position, since) < 0;
}

/** Where the values of a kept column come from now. */
export interface KeptCell {
  /** Null: the column was dropped. */
  readonly ordinal: number | null;
  /** True if they have another type now: they are sent as text. */
  readonly asText: boolean;
}

type PinnedCells = { readonly cells: readonly KeptCell[] } | { readonly misfit: string };

/**
 * `masked`: by ordinal of the kept column. A masked column fits with any type, because its visible values are text or null.
 */
export function kept(pinned: TableShape, now: TableShape, masked: (ordinal: number) => boolean): PinnedCells {
  if (pinned.relation !== now.relation) return { misfit: "another table has the name now" };
  const cells: KeptCell[] = [];
  for (const [i, column] of pinned.columns.entries()) {
    const ordinal = successor(column, now.columns);
    if (ordinal === undefined) return { misfit: `it is not known what became of column ${quoted(column)}` };
    const successorNow = ordinal === null ? column : now.columns[ordinal]!;
    const isSame = sameType(column, successorNow);
    if (!isSame && !masked(i) && !takesText(column, successorNow))
      return {
        misfit: `column ${quoted(column)} has type ${successorNow.native} now, whose values do not fit ${column.native}`,
      };
    cells.push({ ordinal, asText: !isSame && !masked(i) });
  }
  const key = pinned.key.map((ordinal) => cells[ordinal]!.ordinal);
  if (key.length !== now.key.length || key.some((ordinal, i) => ordinal !== now.key[i]))
    return { misfit: "its key has changed" };
  if (pinned.deferrableKey !== now.deferrableKey) return { misfit: "its key is checked at another time" };
  if (now.unenforcedKey === true && pinned.unenforcedKey !== true)
    return { misfit: "no constraint enforces its key any more" };
  return { cells };
}

/** The present columns under their kept names, for conditions; a new column can't be named there. */
export function namedAsKept(pinned: TableShape, now: TableShape, cells: readonly KeptCell[]): readonly Column[] {
  return now.columns.map((column, ordinal) => {
    const at = cells.findIndex((cell) => cell.ordinal === ordinal);
    return { ...column, name: at < 0 ? "" : pinned.columns[at]!.name };
  });
}

/** Null: dropped. Undefined: the source does not tell these columns apart. */
function successor({ identity, name }: Column, columns: readonly Column[]): number | null | undefined {
  if (identity > 0) {
    const proven = columns.findIndex((column) => column.identity === identity);
    if (proven >= 0) return proven;
  }
  const named = columns.findIndex((column) => column.name === name && (column.identity <= 0 || identity <= 0));
  if (named >= 0) return named;
  return columns.some((column) => column.identity <= 0) ? undefined : null;
}

function sameType(a: Column, b: Column): boolean {
  return JSON.stringify(a.type) === JSON.stringify(b.type);
}

/** Sinks have these as text. If a sink limits their length or form, a value that does not fit is a refused row. */
const TEXTS: ReadonlySet<string> = new Set(["text", "enum", "opaque"]);

function takesText(column: Column, now: Column): boolean {
  return TEXTS.has(column.type.kind) || isWider(now, column);
}

function quoted({ name }: Column): string {
  return JSON.stringify(name);
}
