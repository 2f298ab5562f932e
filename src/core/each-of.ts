/**
 * Runs the work for all items, a limited number at a time, begun in their order. After a failure no more begin, and it rejects
 * with the first one when those that had begun have ended.
 */
export async function eachOf<T>(all: readonly T[], countMax: number, work: (one: T) => Promise<void>): Promise<void> {
  const left = all.values();
  let failure: { readonly error: unknown } | null = null;
  const worker = async (): Promise<void> => {
    for (const one of left) {
      try {
        await work(one);
      } catch (error) {
        failure ??= { error };
      }
      if (failure !== null) return;
    }
  };
  await Promise.all(Array.from({ length: countMax }, worker));
  // oxlint-disable-next-line typescript/only-throw-error -- what was thrown
  if (failure !== null) throw (failure as { readonly error: unknown }).error;
}
