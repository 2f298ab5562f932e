import { type Clock, timestamp } from "../core/clock.ts";
import type { StoredError } from "../core/contracts/state-store.ts";
import { type Condition, isToBeTold, type NoticeStore } from "../core/conditions/condition.ts";
import type { Logger } from "../core/contracts/telemetry.ts";
import { findMillraceError } from "../core/errors.ts";
import type { Send } from "./webhook.ts";

const LOOK_EVERY_MS = 2_000;
/** After a message that was not taken each look comes later than the one before it. */
const LOOK_MS_MAX = 60_000;
/** A supervisor that stops the daemon kills it after some seconds. */
const LAST_MS_MAX = 3_000;
/** Another level or number of what was told is told once it has lasted so long: causes may alternate. */
const CHANGED_MS_MIN = 10_000;
/** Of conditions in one message; the count of the others is told. */
const TOLD_COUNT_MAX = 50;

interface NotifierParts {
  readonly clock: Clock;
  /** The daemon's. */
  readonly name: string;
  readonly level: Condition["level"];
  /** What does not last so long is not told. */
  readonly afterMs: number;
  /** Null: there is no state to store it in. */
  readonly notices: NoticeStore | null;
  readonly told: ToldConditions;
  readonly send: Send;
  readonly logger: Logger;
}

/** What was told and is not in the state yet. It lies elsewhere, for the state may be what is away. */
export interface Unstored {
  readonly conditions: readonly Condition[];
  /** False: what the state has was told too. */
  readonly isWhole: boolean;
}

export interface UnstoredPlace {
  read(): Unstored | null;
  /** Null: all is in the state. */
  write(told: Unstored | null): void;
}

/**
 * What the receiver knows, over all runs of this process. The state follows when it can be read and written: what began while it
 * was away would otherwise never be told to have ended, by this process or, if it is killed, by the next one.
 */
export class ToldConditions {
  conditions: ReadonlyMap<string, Condition>;
  /** By id, of what is there now: when it was first seen, by `clock.elapsed`. */
  seen: ReadonlyMap<string, number> = new Map();
  /** The same of each with its level and number. */
  seenAs: ReadonlyMap<string, number> = new Map();
  /** Null: the state was not asked yet. */
  #stored: ReadonlyMap<string, Condition> | null = null;
  readonly #place: UnstoredPlace | null;
  #kept: ReadonlyMap<string, Condition>;
  #isWhole: boolean;

  constructor(place: UnstoredPlace | null = null) {
    const left = place?.read() ?? null;
    this.#place = place;
    this.conditions = byId(left?.conditions ?? []);
    this.#kept = this.conditions;
    this.#isWhole = left?.isWhole === true;
  }

  async recall(notices: NoticeStore | null): Promise<void> {
    if (this.#stored !== null || notices === null) return;
    this.#stored = byId(await notices.list());
    if (!this.#isWhole)
      this.conditions = this.conditions.size === 0 ? this.#stored : new Map([...this.#stored, ...this.conditions]);
    this.#isWhole = true;
  }

  /** Before the state has it. */
  keep(): void {
    const { conditions } = this;
    if (conditions === this.#kept || conditions === this.#stored) return;
    const isNothing = conditions.size === 0 && !this.#isWhole;
    this.#place?.write(isNothing ? null : { conditions: [...conditions.values()], isWhole: this.#isWhole });
    this.#kept = conditions;
  }

  async store(notices: NoticeStore | null): Promise<void> {
    const { conditions } = this;
    if (notices === null || this.#stored === null || conditions === this.#stored) return;
    await notices.replace([...conditions.values()]);
    this.#stored = conditions;
    if (this.conditions === conditions) this.#place?.write(null);
  }
}

export interface Looked {
  /** What is not well now. */
  readonly conditions: readonly Condition[];
  /** False: something else may be not well too, because not everything could be asked. */
  readonly isWhole: boolean;
}

/**
 * Tells a webhook what begins to be not well, and what is well again. At each look it compares what there is with what the
 * receiver was told, so a message that was lost, or an end of the process, leaves nothing untold. A message that was
 * accepted just before the end of the process, or while the state was away, is sent again.
 */
export class Notifier {
  readonly #parts: NotifierParts;
  #error: StoredError | null = null;
  #storing: Promise<void> | null = null;
  /** Ids of what this one saw. */
  readonly #own = new Set<string>();

  constructor(parts: NotifierParts) {
    this.#parts = parts;
  }

  /** Why the last message was not accepted, from the first attempt on. */
  get error(): StoredError | null {
    return this.#error;
  }

  async run(looked: () => Promise<Looked>, signal: AbortSignal): Promise<never> {
    const { clock, notices, told, logger } = this.#parts;
    await told.recall(notices);
    let waitMs = LOOK_EVERY_MS;
    try {
      for (;;) {
        await clock.sleep(waitMs, signal);
        let now: Looked;
        try {
          now = await looked();
        } catch (error) {
          signal.throwIfAborted();
          logger.debug({ error }, "what is not well can't be looked at; the next look follows");
          continue;
        }
        try {
          await this.#look(now, signal);
          this.#error = null;
          waitMs = LOOK_EVERY_MS;
        } catch (error) {
          signal.throwIfAborted();
          waitMs = Math.min(waitMs * 2, LOOK_MS_MAX);
          this.#refused(error);
          logger.warn({ error }, "the webhook was not told what is not well; it is told later");
        }
        this.#store();
      }
    } finally {
      await this.#storing;
    }
  }

  /** Nobody waits for it: a state that can't be written holds up no message. */
  #store(): void {
    const { told, notices, logger } = this.#parts;
    told.keep();
    this.#storing ??= told
      .store(notices)
      .catch((error: unknown) => logger.debug({ error }, "what the webhook was told is stored later"))
      .finally(() => (this.#storing = null));
  }

  #refused(error: unknown): void {
    const {
      code = "MR1158",
      message = "the webhook did not take the message",
      hint = null,
    } = findMillraceError(error) ?? {};
    const at = timestamp(this.#parts.clock);
    this.#error = { code, message, hint, at, since: this.#error?.since ?? at };
  }

  /** The daemon ends: nobody tells it later. The process waits for the receiver only shortly. */
  async last(condition: Condition): Promise<void> {
    const { notices, told, logger } = this.#parts;
    try {
      await told.recall(notices);
      if (told.conditions.has(condition.id)) return;
      await this.#tell({ began: [condition], changed: [], ended: [] }, AbortSignal.timeout(LAST_MS_MAX));
    } catch (error) {
      logger.warn({ error }, "the webhook was not told that the daemon ends");
    }
    this.#store();
    await this.#storing;
  }

  async #look({ conditions: all, isWhole }: Looked, signal: AbortSignal): Promise<void> {
    const { clock, level, afterMs, told } = this.#parts;
    const now = byId(all.filter((one) => one.kind !== "webhook.failing" && (level === "watch" || isToBeTold(one))));
    const elapsed = clock.elapsed();
    const { seen, seenAs } = told;
    told.seen = new Map([...now.keys()].map((id) => [id, seen.get(id) ?? elapsed]));
    told.seenAs = new Map([...now.values()].map(kindOf).map((kind) => [kind, seenAs.get(kind) ?? elapsed]));
    const lasting = [...now].filter(([id]) => elapsed - (seen.get(id) ?? elapsed) >= afterMs);
    const began = lasting.flatMap(([id, condition]) => (told.conditions.has(id) ? [] : [condition]));
    const changed = [...now.values()].filter((condition) => {
      const before = told.conditions.get(condition.id);
      const kind = kindOf(condition);
      const lastedMs = elapsed - (seenAs.get(kind) ?? elapsed);
      return before !== undefined && kindOf(before) !== kind && lastedMs >= Math.max(afterMs, CHANGED_MS_MIN);
    });
    for (const id of now.keys()) this.#own.add(id);
    // Whether a process runs, and what it saw itself, it always knows.
    const isSeen = ({ id, kind }: Condition): boolean => isWhole || this.#own.has(id) || kind.startsWith("daemon.");
    const ended = [...told.conditions.values()].filter((one) => !now.has(one.id) && isSeen(one));
    if (began.length + changed.length + ended.length === 0) return;
    await this.#tell({ began, changed, ended }, signal);
  }

  async #tell({ began, changed, ended }: Changes, signal: AbortSignal): Promise<void> {
    const { clock, name, send } = this.#parts;
    const told = new Map(this.#parts.told.conditions);
    for (const { id } of ended) told.delete(id);
    for (const condition of [...began, ...changed]) told.set(condition.id, condition);
    const id = clock.unique(12);
    const at = timestamp(clock);
    const message = { event: "conditions", id, name, at, ...listed({ began, changed, ended }), open: told.size };
    await send(message, signal, (error) => this.#refused(error));
    this.#parts.told.conditions = told;
  }
}

interface Changes {
  readonly began: readonly Condition[];
  /** They are open, and were told with another level or number. */
  readonly changed: readonly Condition[];
  readonly ended: readonly Condition[];
}

/** What somebody who was told of it acts on. */
function kindOf({ id, level, code }: Condition): string {
  return JSON.stringify([id, level, code]);
}

function byId(conditions: readonly Condition[]): Map<string, Condition> {
  return new Map(conditions.map((condition) => [condition.id, condition]));
}

function listed({ began, changed, ended }: Changes) {
  const omitted = [began, changed, ended].reduce((sum, { length }) => sum + Math.max(0, length - TOLD_COUNT_MAX), 0);
  const some = (all: readonly Condition[]) => all.slice(0, TOLD_COUNT_MAX);
  return { began: some(began), changed: some(changed), ended: some(ended), omitted };
}
