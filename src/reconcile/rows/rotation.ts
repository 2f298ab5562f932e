/**
 * Which rows a fast comparison compares by their values: one part of all, by their keys, and another each day, so that as
 * many days in a row as there are parts make a whole.
 */
export const PART_COUNT = 7;

const DAY_MS = 86_400_000;
const OFFSET_BASIS = 0x811c_9dc5;
const FNV_PRIME = 0x0100_0193;

/** From 1 on; of the day in UTC. */
export function partOn(date: Date): number {
  return (Math.floor(date.getTime() / DAY_MS) % PART_COUNT) + 1;
}

/** The part that the row with this id is in: FNV-1a of it. */
export function partOf(id: string): number {
  let hash = OFFSET_BASIS;
  for (let i = 0; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), FNV_PRIME);
  return ((hash >>> 0) % PART_COUNT) + 1;
}
