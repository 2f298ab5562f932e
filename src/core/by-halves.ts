/**
 * Asks for all of these at once; where that is refused because of some of them, for each half, so that the refused ones are
 * left out and the others are not.
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
