/** Tables whose changes of shape are ignored: rows of the shape that the source has now, as the shape that was kept. */
import { comparePositions, type Position } from "../core/model/position.ts";
import { isWider } from "../core/model/schema-change.ts";
import type { Column } from "../core/model/schema.ts";
import type { TableShape } from "../core/contracts/catalog.ts";

/** The shape that sinks keep, as the source had it, and from which place of the log on. */
export interface Pin {
  readonly shape: TableShape;
  readonly since: Position;
}

/** By table id. */
export type Pins = ReadonlyMap<string, Pin>;

export const NO_PINS: Pins = new Map();

/** True where the pin says nothing of this place: what was followed before changes were ignored is followed again. */
export function isBefore(position: Position, { since }: Pin): boolean {
  return comparePositions(position, since) < 0;
}

/** Where the values of a kept column are now. */
export interface KeptCell {
  /** Null: the column was dropped. */
  readonly ordinal: number | null;
  /** True where another type has them: they go over as text. */
  readonly asText: boolean;
}

export type Kept = { readonly cells: readonly KeptCell[] } | { readonly misfit: string };

/** `masked`: by ordinal of the kept column; whatever type lies behind a mask, what is seen is text or null. */
export function kept(pinned: TableShape, now: TableShape, masked: (ordinal: number) => boolean): Kept {
  if (pinned.relation !== now.relation) return { misfit: "another table has the name now" };
  const cells: KeptCell[] = [];
  for (const [i, column] of pinned.columns.entries()) {
    const ordinal = successor(column, now.columns);
    if (ordinal === undefined) return { misfit: `what became of column ${quoted(column)} can't be told` };
    const successorNow = ordinal === null ? column : now.columns[ordinal]!;
    const isSame = sameType(column, successorNow);
    if (!isSame && !masked(i) && !takesText(column, successorNow))
      return {
        misfit: `column ${quoted(column)} has type ${successorNow.native} now, which ${column.native} does not take`,
      };
    cells.push({ ordinal, asText: !isSame && !masked(i) });
  }
  const key = pinned.key.map((ordinal) => cells[ordinal]!.ordinal);
  if (key.length !== now.key.length || key.some((ordinal, i) => ordinal !== now.key[i]))
    return { misfit: "its key has changed" };
  if (pinned.deferrableKey !== now.deferrableKey) return { misfit: "its key is checked at another time" };
  if (now.keyOnWord === true && pinned.keyOnWord !== true)
    return { misfit: "no constraint keeps its rows apart by their key any more" };
  return { cells };
}

/** The columns of now under the names that were kept, for conditions; a new one can't be named. */
export function namedAsKept(pinned: TableShape, now: TableShape, cells: readonly KeptCell[]): readonly Column[] {
  return now.columns.map((column, ordinal) => {
    const at = cells.findIndex((cell) => cell.ordinal === ordinal);
    return { ...column, name: at < 0 ? "" : pinned.columns[at]!.name };
  });
}

/** Null: dropped. Undefined: the source does not say which columns these are. */
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

/** Sinks have these as text; where one holds them to a length or a form, what does not fit is a refused row. */
const TEXTS: ReadonlySet<string> = new Set(["text", "enum", "opaque"]);

function takesText(column: Column, now: Column): boolean {
  return TEXTS.has(column.type.kind) || isWider(now, column);
}

function quoted({ name }: Column): string {
  return JSON.stringify(name);
}
