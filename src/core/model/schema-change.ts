/**
 * The differences between two shapes of a table, for people, and for the policy that decides whether sinks follow them.
 */
import type { Column, TableVersion } from "./schema.ts";
import type { ColumnType } from "./types.ts";

export type SchemaChange =
  | { readonly kind: "column added"; readonly column: string; readonly type: string; readonly nullable: boolean }
  | { readonly kind: "column dropped"; readonly column: string; readonly type: string; readonly nullable: boolean }
  | { readonly kind: "column renamed"; readonly column: string; readonly to: string }
  /** `widens`: every value of the old type is one of the new. */
  | {
      readonly kind: "type changed";
      readonly column: string;
      readonly from: string;
      readonly to: string;
      readonly widens: boolean;
    }
  | { readonly kind: "null allowed"; readonly column: string }
  | { readonly kind: "null forbidden"; readonly column: string }
  | { readonly kind: "key changed"; readonly from: readonly string[]; readonly to: readonly string[] }
  /** Another table has the name now: it was created again, or renamed to it. */
  | { readonly kind: "table replaced" };

/**
 * `backward`: readers of the new shape understand the old rows. `forward`: readers of the old shape understand the new
 * rows. `full`: both. `none`: no requirement.
 */
type Compatibility = "backward" | "forward" | "full" | "none";

type Shape = Pick<TableVersion, "relation" | "columns" | "key">;

export function schemaChanges(from: Shape, to: Shape): readonly SchemaChange[] {
  const isSame = from.relation === to.relation;
  const changes: SchemaChange[] = isSame ? [] : [{ kind: "table replaced" }];
  const goneOn = new Map<Column, Column>();
  for (const column of to.columns) {
    const before = predecessor(column, from.columns, isSame);
    if (before === undefined) changes.push({ kind: "column added", column: column.name, ...describe(column) });
    else goneOn.set(before, column);
  }
  for (const before of from.columns) {
    const column = goneOn.get(before);
    if (column === undefined) changes.push({ kind: "column dropped", column: before.name, ...describe(before) });
    else changes.push(...columnChanges(before, column));
  }
  const key = from.key.map((ordinal) => goneOn.get(from.columns[ordinal]!)?.name);
  const newKey = to.key.map((ordinal) => to.columns[ordinal]!.name);
  if (key.length !== newKey.length || key.some((name, i) => name !== newKey[i])) {
    changes.push({ kind: "key changed", from: from.key.map((ordinal) => from.columns[ordinal]!.name), to: newKey });
  }
  return changes;
}

/** Found by identity; by name if the identity is unknown. */
function predecessor(column: Column, before: readonly Column[], sameTable: boolean): Column | undefined {
  const proven =
    sameTable && column.identity > 0 ? before.find(({ identity }) => identity === column.identity) : undefined;
  if (proven !== undefined) return proven;
  const named = before.find(({ name }) => name === column.name);
  const isAnother = sameTable && named !== undefined && named.identity > 0 && column.identity > 0;
  return isAnother ? undefined : named;
}

function describe({ native, nullable }: Column): { readonly type: string; readonly nullable: boolean } {
  return { type: native, nullable };
}

function columnChanges(before: Column, now: Column): SchemaChange[] {
  const changes: SchemaChange[] = [];
  if (before.name !== now.name) changes.push({ kind: "column renamed", column: before.name, to: now.name });
  if (before.native !== now.native) {
    const widens = isWider(before, now);
    changes.push({ kind: "type changed", column: now.name, from: before.native, to: now.native, widens });
  }
  if (before.nullable !== now.nullable) {
    changes.push({ kind: now.nullable ? "null allowed" : "null forbidden", column: now.name });
  }
  return changes;
}

/** Whether every value of the first column's type is one of the second's. */
export function isWider({ type: from, native }: Column, { type: to, native: toNative }: Column): boolean {
  if (from.kind === "int" && to.kind === "int")
    return from.bits <= to.bits && (from.signed === to.signed || to.bits > from.bits);
  if (from.kind === "float" && to.kind === "float") return from.bits <= to.bits;
  if (from.kind === "int" && to.kind === "decimal") return to.precision === null;
  if (from.kind === "decimal" && to.kind === "decimal") return isWiderDecimal(from, to);
  if (from.kind === "enum" && to.kind === "enum") return from.labels.every((label) => to.labels.includes(label));
  if (from.kind === "text" && to.kind === "text") return lengthOf(native) <= lengthOf(toNative);
  return from.kind === "enum" && to.kind === "text" && lengthOf(toNative) === Infinity;
}

type Decimal = Extract<ColumnType, { kind: "decimal" }>;

function isWiderDecimal(from: Decimal, to: Decimal): boolean {
  if (to.precision === null) return true;
  if (from.precision === null) return false;
  const [scale, toScale] = [from.scale ?? 0, to.scale ?? 0];
  return toScale >= scale && to.precision - toScale >= from.precision - scale;
}

/**
 * The length in `varchar(20)` and similar types; not for bpchar, which pads, so that its values change with the length.
 */
function lengthOf(native: string): number {
  const length = /\((\d+)\)/.exec(native)?.[1];
  return length === undefined ? Infinity : Number(length);
}

export function isCompatible(change: SchemaChange, wanted: Compatibility): boolean {
  switch (wanted) {
    case "none":
      return true;
    case "backward":
      return isBackward(change);
    case "forward":
      return isForward(change);
    case "full":
      return isBackward(change) && isForward(change);
    default:
      return wanted satisfies never;
  }
}

function isBackward(change: SchemaChange): boolean {
  switch (change.kind) {
    case "column added":
    case "column dropped":
    case "null allowed":
      return true;
    case "type changed":
      return change.widens;
    case "column renamed":
    case "null forbidden":
    case "key changed":
    case "table replaced":
      return false;
    default:
      return change satisfies never;
  }
}

function isForward(change: SchemaChange): boolean {
  switch (change.kind) {
    case "column added":
    case "null forbidden":
      return true;
    case "column dropped":
      return change.nullable;
    case "column renamed":
    case "type changed":
    case "null allowed":
    case "key changed":
    case "table replaced":
      return false;
    default:
      return change satisfies never;
  }
}

export function describeChange(change: SchemaChange): string {
  switch (change.kind) {
    case "column added":
    case "column dropped":
      return `${change.kind}: ${quoted(change.column)} ${change.type}`;
    case "column renamed":
      return `column renamed: ${quoted(change.column)} to ${quoted(change.to)}`;
    case "type changed":
      return `type changed: ${quoted(change.column)} from ${change.from} to ${change.to}`;
    case "null allowed":
    case "null forbidden":
      return `${change.kind}: ${quoted(change.column)}`;
    case "key changed":
      return `key changed: from ${change.from.map(quoted).join(", ")} to ${change.to.map(quoted).join(", ")}`;
    case "table replaced":
      return "another table has the name now";
    default:
      return change satisfies never;
  }
}

function quoted(name: string): string {
  return JSON.stringify(name);
}

/** What happens when a table's shape changes. */
export interface SchemaPolicy {
  /**
   * `evolve`: the sinks follow. `pause`: the table is suspended until an operator approves. `ignore`: the sinks keep
   * their shape.
   */
  readonly schemaChange: "evolve" | "pause" | "ignore";
  /** Which changes may evolve; others pause. */
  readonly compatibility: Compatibility;
  /** Whether a table that appears after the first start is captured at once, or waits for approval. */
  readonly newTables: "take" | "wait";
  /** Whether a warehouse keeps columns that the table no longer has, null from then on. */
  readonly droppedColumns: "keep" | "drop";
}

export const DEFAULT_POLICY: SchemaPolicy = {
  schemaChange: "evolve",
  compatibility: "none",
  newTables: "take",
  droppedColumns: "keep",
};
