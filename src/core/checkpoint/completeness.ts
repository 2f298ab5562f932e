/** What a sink's copy of a table is complete for: the table's shape, and what its name stood for. One form, known here alone. */
import type { TableVersion } from "../model/schema.ts";

declare const spelled: unique symbol;

/**
 * As checkpoints and the state store it: `FINGERPRINT/GENERATION`. Two copies are of the same rows where it is equal; a change of
 * either part asks for the rows again.
 */
export type Completeness = string & { readonly [spelled]: true };

/** By table id. */
export type CompleteTables = Readonly<Record<string, Completeness>>;

/** `generation`: what the source says that the table's name stands for. */
export function completeFor({ fingerprint }: Pick<TableVersion, "fingerprint">, generation: string): Completeness {
  return storedCompleteness(`${fingerprint}/${generation}`);
}

/** As it was stored. */
export function storedCompleteness(text: string): Completeness {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the one place where the form is made
  return text as Completeness;
}

/** Whether a value that was read is such tables, as they were stored. */
export function isCompleteTables(value: unknown): value is CompleteTables {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  return Object.values(value).every((item) => typeof item === "string");
}

export function isOfShape(held: Completeness, { fingerprint }: Pick<TableVersion, "fingerprint">): boolean {
  return held.startsWith(`${fingerprint}/`);
}

/** Whether the table's name stood for the same, whatever its shape was. */
export function isOfSameGeneration(held: Completeness, other: Completeness): boolean {
  return generationOf(held) === generationOf(other);
}

/** The same copy where the table's name stands for something else by now. */
export function inGeneration(held: Completeness, generation: string): Completeness {
  return completeFor({ fingerprint: held.slice(0, held.indexOf("/")) }, generation);
}

/** Of a copy of this generation, as it is called `now`; null: it is of another one. */
export function acrossGenerations(
  held: Completeness,
  [before, now]: readonly [before: string, now: string],
): Completeness | null {
  return generationOf(held) === before ? inGeneration(held, now) : null;
}

function generationOf(held: Completeness): string {
  return held.slice(held.indexOf("/") + 1);
}
