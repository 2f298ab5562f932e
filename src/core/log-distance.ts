import type { Source } from "./contracts/source.ts";

/** Bytes of the source's log between two places, whichever comes first. */
export function logDistance(source: Pick<Source, "bytesBetween">, a: bigint, b: bigint): number {
  const [from, to] = a < b ? [a, b] : [b, a];
  return source.bytesBetween?.(from, to) ?? Number(to - from);
}
