import type { StateStore, StoredError } from "../core/contracts/state-store.ts";
import { replacing } from "../core/replacing.ts";

/** A state that stores errors as logs show them: a copy of it reveals no password from a target's message. */
export function redacting(store: StateStore, redact: (json: string) => string): StateStore {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the same document with other texts
  const shown = <T>(value: T): T => JSON.parse(redact(JSON.stringify(value))) as T;
  const shownError = (error: StoredError): StoredError => shown(error);
  const { sinks, suspensions, deadLetters, ending } = store;
  return {
    ...store,
    sinks: replacing(sinks, {
      setError: (name, error) => sinks.setError(name, error === null ? null : shownError(error)),
    }),
    suspensions: replacing(suspensions, {
      suspend: (tables) =>
        suspensions.suspend(
          tables.map(({ error, former, ...table }) => ({
            ...table,
            error: shownError(error),
            ...(former === undefined ? {} : { former: shownError(former) }),
          })),
        ),
    }),
    ending: replacing(ending, { set: (error) => ending.set(error === null ? null : shownError(error)) }),
    deadLetters: replacing(deadLetters, {
      add: (letter) => deadLetters.add({ ...letter, reason: shown({ reason: letter.reason }).reason }),
    }),
  };
}
