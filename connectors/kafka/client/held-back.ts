import type { Clock } from "../../../src/core/clock.ts";
import type { TargetHint } from "../../../src/core/contracts/sink.ts";
import { span } from "../../../src/core/figures.ts";

const WINDOW_MS = 30_000;
/** Below this nobody notices. */
const TOLD_MS = 3_000;

/** How long brokers have lately held back this client's requests. They say so in their answers: a quota is used up. */
export class HeldBack {
  readonly #clock: Clock;
  #untilMs = 0;
  readonly #told: { readonly atMs: number; readonly ms: number }[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Of any answer. */
  note(answer: unknown): void {
    if (typeof answer !== "object" || answer === null || !("throttleTimeMs" in answer)) return;
    const { throttleTimeMs: ms } = answer;
    if (typeof ms !== "number" || ms <= 0) return;
    const nowMs = this.#clock.elapsed();
    // Of several connections at once it counts once.
    const atMs = Math.max(nowMs, this.#untilMs);
    this.#untilMs = Math.max(this.#untilMs, nowMs + ms);
    if (this.#untilMs > atMs) this.#told.push({ atMs, ms: this.#untilMs - atMs });
  }

  get hints(): readonly TargetHint[] {
    const fromMs = this.#clock.elapsed() - WINDOW_MS;
    // A single one may hold requests back for longer.
    while (this.#told[0] !== undefined && this.#told[0].atMs + this.#told[0].ms < fromMs) this.#told.shift();
    const ms = this.#told.reduce((sum, one) => sum + one.ms, 0);
    if (ms < TOLD_MS) return [];
    const what = `a quota of the brokers holds it back, lately for ${span(ms)}`;
    const fix =
      "raise `producer_byte_rate`, `consumer_byte_rate` or `request_percentage` of its user or client (`kafka-configs.sh --bootstrap-server HOST:PORT --describe --entity-type users`, and `clients`)";
    return [{ table: null, what, fix, slows: true }];
  }
}
