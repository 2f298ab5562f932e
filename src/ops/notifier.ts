import { type Clock, timestamp } from "../core/clock.ts";
import type { StoredError } from "../core/contracts/state-store.ts";
import type { Concern, NoticeStore } from "../core/concerns/concern.ts";
import type { Logger } from "../core/contracts/telemetry.ts";
import { findMillraceError } from "../core/errors.ts";
import type { Message } from "./webhook.ts";

const LOOK_EVERY_MS = 2_000;
/** Of concerns in one message; the count of the others is told. */
const TOLD_COUNT_MAX = 50;

export interface NotifierParts {
  readonly clock: Clock;
  /** The daemon's. */
  readonly name: string;
  readonly level: Concern["level"];
  /** What does not last so long is not told. */
  readonly afterMs: number;
  readonly concerns: () => Promise<readonly Concern[]>;
  readonly notices: NoticeStore;
  readonly send: (message: Message, signal: AbortSignal) => Promise<void>;
  readonly logger: Logger;
}

/**
 * Tells a webhook what begins to be not well, and what is well again. At each look it compares what there is with what the
 * receiver was told, so a message that was lost, or an end of the process, leaves nothing untold. A message that was
 * accepted just before the end of the process is sent again.
 */
export class Notifier {
  readonly #parts: NotifierParts;
  /** By id: what the receiver knows. */
  #told = new Map<string, Concern>();
  /** By id: when it was first seen, by `clock.elapsed`. */
  #seen = new Map<string, number>();
  #error: StoredError | null = null;

  constructor(parts: NotifierParts) {
    this.#parts = parts;
  }

  /** Why the last message was not accepted. */
  get error(): StoredError | null {
    return this.#error;
  }

  async run(signal: AbortSignal): Promise<never> {
    const { clock, notices, logger } = this.#parts;
    this.#told = byId(await notices.list());
    for (;;) {
      await clock.sleep(LOOK_EVERY_MS, signal);
      try {
        await this.#look(signal);
        this.#error = null;
      } catch (error) {
        signal.throwIfAborted();
        const {
          code = "MR1158",
          message = "the webhook did not take the message",
          hint = null,
        } = findMillraceError(error) ?? {};
        this.#error = { code, message, hint, at: timestamp(clock) };
        logger.warn({ error }, "the webhook was not told what is not well; it is told later");
      }
    }
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { clock, name, level, afterMs, concerns, notices, send } = this.#parts;
    const all = await concerns();
    const now = byId(all.filter((one) => one.kind !== "webhook.failing" && (level === "watch" || one.level === "act")));
    const elapsed = clock.elapsed();
    this.#seen = new Map([...now.keys()].map((id) => [id, this.#seen.get(id) ?? elapsed]));
    const lasting = [...now].filter(([id]) => elapsed - (this.#seen.get(id) ?? elapsed) >= afterMs);
    const began = lasting.flatMap(([id, concern]) => (this.#told.has(id) ? [] : [concern]));
    const ended = [...this.#told].flatMap(([id, concern]) => (now.has(id) ? [] : [concern]));
    if (began.length === 0 && ended.length === 0) return;
    const told = new Map([...this.#told].filter(([id]) => now.has(id)));
    for (const concern of began) told.set(concern.id, concern);
    const id = clock.unique(12);
    const at = timestamp(clock);
    const message = { event: "concerns", id, name, at, ...listed({ began, ended }), open: told.size };
    await send(message, signal);
    this.#told = told;
    await notices.replace([...told.values()]);
  }
}

function byId(concerns: readonly Concern[]): Map<string, Concern> {
  return new Map(concerns.map((concern) => [concern.id, concern]));
}

function listed({ began, ended }: { readonly began: readonly Concern[]; readonly ended: readonly Concern[] }) {
  const omitted = Math.max(0, began.length - TOLD_COUNT_MAX) + Math.max(0, ended.length - TOLD_COUNT_MAX);
  return { began: began.slice(0, TOLD_COUNT_MAX), ended: ended.slice(0, TOLD_COUNT_MAX), omitted };
}
