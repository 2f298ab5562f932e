import type { SQLOutputValue } from "node:sqlite";
import { isRecord } from "../../core/stored-json.ts";
import { invariant } from "../../core/invariant.ts";
import { parsePosition, type Position } from "../../core/model/position.ts";
import type { StoredError } from "../../core/contracts/state-store.ts";

/** A row as node:sqlite returns it; the readers below give its columns their types. */
export type Row = Record<string, SQLOutputValue>;

export function text(row: Row, column: string): string {
  const value = row[column];
  invariant(typeof value === "string", `state column ${column} is text`);
  return value;
}

export function textOrNull(row: Row, column: string): string | null {
  return row[column] === null ? null : text(row, column);
}

export function integer(row: Row, column: string): number {
  const value = row[column];
  invariant(typeof value === "number", `state column ${column} is an integer`);
  return value;
}

export function integerOrNull(row: Row, column: string): number | null {
  return row[column] === null ? null : integer(row, column);
}

export function positionOrNull(row: Row, column: string): Position | null {
  const value = textOrNull(row, column);
  return value === null ? null : parsePosition(value);
}

/** A value that the column's CHECK allows. */
export function oneOf<const W extends string>(row: Row, column: string, choices: readonly W[]): W {
  const value = text(row, column);
  const found = choices.find((w) => w === value);
  invariant(found !== undefined, `state column ${column} holds one of ${choices.join(", ")}`);
  return found;
}

/** JSON that this store wrote itself. The guard detects a damaged or edited file; it does not check every detail. */
export function stored<T>(row: Row, column: string, isValid: (value: unknown) => value is T): T {
  const value: unknown = JSON.parse(text(row, column));
  invariant(isValid(value), `state column ${column} holds what was stored`);
  return value;
}

export function storedOrNull<T>(row: Row, column: string, isValid: (value: unknown) => value is T): T | null {
  return row[column] === null ? null : stored(row, column, isValid);
}

export function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === "string");
}

export function isStoredError(value: unknown): value is StoredError {
  return isRecord(value) && isTexts([value["code"], value["message"], value["at"]]) && "hint" in value;
}
