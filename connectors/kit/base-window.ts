import type { BaseLookup } from "../../src/core/targets/base-rows.ts";

const FIRST_COUNT = 8;
const COUNT_MAX = 500;
const BYTES_AIM = 8 * 1024 * 1024;

/**
 * Gives each request the row from which its PATCH takes unchanged columns, or "missing"; a newer row is passed by. `read` gets
 * few at first, then as many as their measured size allows.
 */
export async function withBases<Request, Base>(
  requests: readonly Request[],
  read: (some: readonly Request[]) => Promise<readonly BaseLookup<Base>[]>,
  bytesIn: (base: Base) => number,
  take: (request: Request, base: Base | "missing") => Promise<void> | void,
): Promise<void> {
  let count = FIRST_COUNT;
  for (let from = 0; from < requests.length;) {
    const some = requests.slice(from, from + count);
    const bases = await read(some);
    let byteCount = 0;
    for (const [i, base] of bases.entries()) {
      if (base.kind === "found") byteCount += bytesIn(base);
      if (base.kind !== "newer") await take(some[i]!, base.kind === "found" ? base : "missing");
    }
    const average = byteCount / bases.length;
    count = average === 0 ? COUNT_MAX : Math.max(1, Math.min(COUNT_MAX, Math.floor(BYTES_AIM / average)));
    from += some.length;
  }
}
