/**
 * Runs the work for all items, a limited number at a time, begun in their order. After a failure no more begin, and it rejects
 * with the first one when those that had begun have ended.
 */
export async function eachOf<T>(all: Iterable<T>, countMax: number, work: (one: T) => Promise<void>): Promise<void> {
  const left = (function* () {
    yield* all;
  })();
  let failure: { readonly error: unknown } | null = null;
  const worker = async (): Promise<void> => {
    try {
      // The first failure ends it for all.
      for (const one of left) await work(one);
    } catch (error) {
      failure ??= { error };
    }
  };
  await Promise.all(Array.from({ length: countMax }, worker));
  // oxlint-disable-next-line typescript/only-throw-error -- what was thrown
  if (failure !== null) throw (failure as { readonly error: unknown }).error;
}

/** In their order, each of so many at most; Infinity: all in one. */
export function groupsOf<T>(all: readonly T[], countMax: number): (readonly T[])[] {
  const groups: (readonly T[])[] = [];
  for (let from = 0; from < all.length; from += countMax) groups.push(all.slice(from, from + countMax));
  return groups;
}
