import { MOVED } from "./rules.ts";

const TRIES_MAX = 5;

/** Reads again if the engine knew the catalogue from before maintenance moved rows of former shapes into files. */
export async function untilUnmoved<T>(read: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await read();
    } catch (error) {
      if (tries === TRIES_MAX || !isMoved(error)) throw error;
    }
  }
}

function isMoved(error: unknown): boolean {
  return error instanceof Error && MOVED.test(error.message);
}
