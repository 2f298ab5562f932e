/**
 * Which rows a fast comparison compares by value: one part of all rows, chosen by key, and another part each day. After
 * as many days as there are parts, all rows are compared.
 */
export const PART_COUNT = 7;

const DAY_MS = 86_400_000;
const OFFSET_BASIS = 0x811c_9dc5;
const FNV_PRIME = 0x0100_0193;

/** From 1 on; by the day in UTC. */
export function partOn(date: Date): number {
  return (Math.floor(date.getTime() / DAY_MS) % PART_COUNT) + 1;
}

/** The part of the row with this id, from its FNV-1a hash. */
export function partOf(id: string): number {
  let hash = OFFSET_BASIS;
  for (let i = 0; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), FNV_PRIME);
  return ((hash >>> 0) % PART_COUNT) + 1;
}
