import type { Described, Fields } from "../described.ts";

/**
 * What a condition keeps from being: the daemon `ready`, a `wait` over, a `run --once` done. What blocks `once` does not pass
 * before somebody acts, so that such a run ends at once.
 */
const BLOCKS = ["ready", "wait", "once"] as const;
export type Block = (typeof BLOCKS)[number];

/**
 * Something that is not, or not yet, as it should be, and what to do about it. `status`, its exit code, `top`, the dashboard,
 * `/readyz`, `wait`, `run --once` and the webhook show this list, and none of them decides by itself.
 */
export type Condition = Described<typeof CONDITION>;

export const CONDITION = {
  id: ["text", "the same for as long as it lasts: its kind, and the sink and the table that it is of"],
  kind: ["text", "`sink.failing`, `sink.dead-letters`, `table.suspended` …"],
  level: [{ oneOf: ["act", "watch"] }, "`act`: it waits for a person; `watch`: Millrace deals with it"],
  blocks: [
    { listOf: { oneOf: BLOCKS } },
    "what it keeps from being: `ready` (`/readyz`), `wait` (`millrace wait`), `once` (`run --once`, which ends over it)",
  ],
  sink: [{ orNull: "text" }, "the sink that it is of"],
  table: [{ orNull: "text" }, "the table that it is of, `schema.table`"],
  what: ["text", "what is not well"],
  code: [{ orNull: "text" }, "the number of the error behind it"],
  message: [{ orNull: "text" }, "what that error says"],
  since: [{ orNull: "time" }, "when it began, or was found"],
  lastTried: [{ orNull: "time" }, "when Millrace last tried to get over it"],
  meanwhile: [{ orNull: "text" }, "what Millrace does about it by itself"],
  fix: [{ orNull: "text" }, "what to do"],
} as const satisfies Fields;

/** What the list comes to. */
export type Verdict = Described<typeof VERDICT>;

export const VERDICT = {
  kind: [
    { oneOf: ["act", "unready", "watch", "well"] },
    "`act`: somebody has to act; `unready`: it is not ready, and goes on by itself; `watch`: it is ready, and something is worth a look; `well`",
  ],
  headline: ["text", "the same as a sentence"],
} as const satisfies Fields;

/** Whether somebody is to be told: it waits for a person, or keeps the daemon from being ready. */
export function isToBeTold(condition: Condition): boolean {
  return condition.level === "act" || blocks(condition, "ready");
}

export function blocks(condition: Condition, block: Block): boolean {
  return condition.blocks.includes(block);
}

/** For conditions that do not know when they began: when they were first seen, for as long as they last. */
export class FirstSeen {
  #at = new Map<string, string>();

  dated(conditions: readonly Condition[], now: string): readonly Condition[] {
    this.#at = new Map(conditions.map(({ id }) => [id, this.#at.get(id) ?? now]));
    return conditions.map((one) => (one.since === null ? { ...one, since: this.#at.get(one.id) ?? now } : one));
  }
}

/** With the error's text, for those who may see it. */
export function sentenceOf({ what, code, message }: Condition): string {
  return code === null ? what : `${what}: ${[code, message ?? []].flat().join(" ")}`;
}

/** For `/readyz`, which needs no login: of an error its code alone. */
export function reasonOf({ what, code, level }: Condition): string {
  return `${what}${code === null ? "" : `: ${code}`}${level === "act" ? ", somebody has to act" : ""}`;
}

/** What the receiver of `notify.webhook` was last told to be not well. */
export interface NoticeStore {
  list(): Promise<readonly Condition[]>;
  replace(conditions: readonly Condition[]): Promise<void>;
}

/** The error over which a daemon ended. */
export interface Ending {
  readonly code: string;
  readonly message: string;
  readonly hint: string | null;
  readonly at: string;
}

/** Why the last daemon ended, until the next one starts. Null: it was stopped, or killed. */
export interface EndingStore {
  get(): Promise<Ending | null>;
  set(ending: Ending | null): Promise<void>;
}
