/** What must hold of committed records, as they are: the log has no gap and nothing twice, and no checkpoint goes back. */
import { logTopic, ownTopic } from "../../../connectors/kafka/names.ts";
import { Assembly, messageOf } from "../../../connectors/kafka/writer/messages.ts";
import { Frame } from "../../../src/core/model/frame.ts";
import { comparePositions, parsePosition, type Position, serializePosition } from "../../../src/core/model/position.ts";
import type { WrittenRecord } from "./transactions.ts";

export const NAMING = { prefix: "", daemon: "shop", single: undefined, isDebezium: false } as const;
/** The one topic of all tables, in plans with one. */
export const SINGLE = "all";
const LOG = logTopic(NAMING);
const CHECKPOINTS = ownTopic("checkpoint.", NAMING);

export class LogChecks {
  readonly #fail: (text: string) => void;
  readonly #assembly = new Assembly();
  #offset = 0n;
  /** Where the log ends. */
  end: Position | null = null;
  /** By topic, the position of each checkpoint. */
  readonly checkpoints = new Map<string, Position>();

  constructor(fail: (text: string) => void) {
    this.#fail = fail;
  }

  committed(records: readonly WrittenRecord[]): void {
    /** By topic and message, what is there of it. */
    const parts = new Map<string, Assembly>();
    for (const { topic, key, value } of records) {
      if (topic === LOG) this.#part(value);
      if (!topic.startsWith(CHECKPOINTS) || key === null) continue;
      const message = `${messageOf(key)} of ${topic}`;
      const assembly = parts.get(message) ?? new Assembly();
      parts.set(message, assembly);
      const whole = assembly.add({ offset: 0n, value });
      if (whole === null) continue;
      parts.delete(message);
      if (messageOf(key) === "position") this.#checkpoint(topic, whole.message);
    }
    for (const message of parts.keys()) this.#fail(`a transaction has a part of the ${message}`);
  }

  #part(value: Buffer | null): void {
    const whole = this.#assembly.add({ offset: this.#offset++, value });
    if (whole === null) return;
    const { from, until } = new Frame(whole.message);
    const { end } = this;
    if (end !== null && from.epoch === end.epoch && comparePositions(from, end) !== 0)
      this.#fail(`the log ended at ${serializePosition(end)}, and goes on from ${serializePosition(from)}`);
    if (end !== null && from.epoch < end.epoch) this.#fail(`the log goes back to epoch ${from.epoch}`);
    this.end = until;
  }

  #checkpoint(topic: string, message: Buffer): void {
    const { position }: { readonly position: string } = JSON.parse(message.toString());
    const before = this.checkpoints.get(topic);
    if (position === "" && before !== undefined) this.#fail(`${topic} has lost ${serializePosition(before)}`);
    if (position === "") return;
    const now = parsePosition(position);
    if (before !== undefined && comparePositions(now, before) < 0)
      this.#fail(`${topic} went back from ${serializePosition(before)} to ${position}`);
    this.checkpoints.set(topic, now);
  }

  /** The source may forget what is before `commit`: each sink of the capturing daemon has it. */
  acknowledged(commit: bigint, epoch: number): void {
    for (const [topic, position] of this.checkpoints)
      if (position.epoch === epoch && commit > position.commit)
        this.#fail(`${commit} was acknowledged although ${topic} is at ${position.commit}`);
  }
}
