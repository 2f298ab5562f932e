import { type Clock, timestamp } from "../core/clock.ts";
import { findMillraceError, type MillraceError } from "../core/errors.ts";
import { type StateStore, type StateWait, type StoredError, storedErrorOf } from "../core/contracts/state-store.ts";
import type { Logger } from "../core/contracts/telemetry.ts";

type Around = (call: () => Promise<unknown>) => Promise<unknown>;

/** The same state; each call of one of its parts goes through `around`. */
export function aroundCalls(store: StateStore, around: Around): StateStore {
  const members = Object.entries(store).map(([name, part]: [string, unknown]) => [
    name,
    typeof part === "object" && part !== null ? wrapped(part, around) : part,
  ]);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the same members, each of the same type
  return Object.fromEntries(members) as StateStore;
}

function wrapped(part: object, around: Around): object {
  const made = new Map<string | symbol, unknown>();
  return new Proxy(part, {
    get: (target, property) => {
      if (made.has(property)) return made.get(property);
      const member: unknown = Reflect.get(target, property);
      if (typeof member !== "function") return member;
      const method = (...given: readonly unknown[]): Promise<unknown> =>
        // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- every method of a store is asynchronous
        around(() => Reflect.apply(member, target, given) as Promise<unknown>);
      made.set(property, method);
      return method;
    },
  });
}

const FIRST_WAIT_MS = 250;
const WAIT_MS_MAX = 5_000;
/** How often a continuing wait is logged. */
const REPEATED_MS = 30_000;

interface PatientParts {
  readonly store: StateStore;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * A state whose calls wait while its file can't be written, until they succeed or `signal` aborts. Nothing is
 * acknowledged to the source meanwhile, because each acknowledgement is stored first.
 */
export function patient({ store, ...parts }: PatientParts, signal: AbortSignal): StateStore {
  const waiting = new WaitingCalls(parts, signal);
  const waitsFor = (): StateWait | null =>
    waiting.error === null ? (store.waitsFor?.() ?? null) : { error: waiting.error, isSilent: false };
  return { ...aroundCalls(store, (call) => waiting.until(call)), waitsFor };
}

class WaitingCalls {
  readonly #parts: Omit<PatientParts, "store">;
  readonly #signal: AbortSignal;
  #calls = 0;
  #error: StoredError | null = null;
  #loggedMs = -Infinity;

  constructor(parts: Omit<PatientParts, "store">, signal: AbortSignal) {
    this.#parts = parts;
    this.#signal = signal;
  }

  get error(): StoredError | null {
    return this.#error;
  }

  async until(call: () => Promise<unknown>): Promise<unknown> {
    try {
      return await call();
    } catch (error) {
      const known = findMillraceError(error);
      if (known?.reason !== "passing" || this.#signal.aborted) throw error;
      return await this.#again(call, known);
    }
  }

  async #again(call: () => Promise<unknown>, first: MillraceError): Promise<unknown> {
    this.#calls++;
    try {
      let failure = first;
      for (let waitMs = FIRST_WAIT_MS; ; waitMs = Math.min(WAIT_MS_MAX, waitMs * 2)) {
        this.#tell(failure);
        await this.#parts.clock.sleep(waitMs, this.#signal).catch(() => {});
        try {
          return await call();
        } catch (error) {
          const known = findMillraceError(error);
          if (known?.reason !== "passing" || this.#signal.aborted) throw error;
          failure = known;
        }
      }
    } finally {
      if (--this.#calls === 0) this.#error = null;
    }
  }

  #tell(error: MillraceError): void {
    const { clock, logger } = this.#parts;
    const { code, message } = error;
    const at = timestamp(clock);
    this.#error = storedErrorOf(error, at, this.#error?.since ?? at);
    const nowMs = clock.elapsed();
    if (nowMs - this.#loggedMs < REPEATED_MS) return;
    this.#loggedMs = nowMs;
    logger.error({ code, error }, `${message}; it is tried again, and what has to be stored waits`);
  }
}
