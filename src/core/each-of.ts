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

/**
 * Makes one call for all items. If it is refused because of some of them, tries each half, so that only the refused
 * items are left out.
 */
export async function byHalves<T>(
  all: readonly T[],
  isRefusal: (error: unknown) => boolean,
  ask: (some: readonly T[]) => Promise<void>,
): Promise<void> {
  try {
    await ask(all);
  } catch (error) {
    if (!isRefusal(error)) throw error;
    if (all.length === 1) return;
    const middle = all.length >> 1;
    await byHalves(all.slice(0, middle), isRefusal, ask);
    await byHalves(all.slice(middle), isRefusal, ask);
  }
}
