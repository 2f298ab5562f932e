import { scopeOf } from "../core/clock.ts";

/**
 * Does the work for each, so many of them at a time, begun in their order. Where one fails the others are ended before it
 * rejects.
 */
export async function eachOf<T>(
  all: readonly T[],
  countMax: number,
  signal: AbortSignal,
  work: (one: T, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  using over = scopeOf(signal);
  const until = over.signal;
  const left = all.values();
  let failure: { readonly error: unknown } | null = null;
  const worker = async (): Promise<void> => {
    try {
      for (const one of left) {
        if (until.aborted) return;
        await work(one, until);
      }
    } catch (error) {
      failure ??= { error };
      over.end();
    }
  };
  await Promise.all(Array.from({ length: countMax }, worker));
  signal.throwIfAborted();
  // oxlint-disable-next-line typescript/only-throw-error -- what was thrown
  if (failure !== null) throw (failure as { readonly error: unknown }).error;
}
