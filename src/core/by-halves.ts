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
