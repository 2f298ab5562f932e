/** One direction of one connection through the proxy: what one side sends, in order, late, slow or not at all. */
import type { Socket } from "node:net";

/** What all connections of a proxy have alike, changed while they run. */
export interface FlowRules {
  isStalled: boolean;
  delayMs: number;
  /** Infinity where there is no limit. */
  bytesPerSecond: number;
  byteCount: number;
  /** Whether what a connection sends from these bytes on is held. */
  holds: ((flow: Flow) => boolean) | null;
}

type Item =
  | { readonly kind: "bytes"; readonly bytes: Buffer; readonly dueAt: number }
  | { readonly kind: "end" | "reset"; readonly dueAt: number };

const HELD_BYTES_MAX = 1_000_000;
const PIECES_PER_SECOND = 50;

export class Flow {
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #rules: FlowRules;
  readonly #held: Item[] = [];
  #heldBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #freeAt = 0;
  /** Null: nothing is held. */
  #heldFrom: string | null = null;
  /** Null: it has passed, or nothing has to. */
  #heldAfter: string | null = null;
  #isHeld = false;
  readonly #reached = Promise.withResolvers<void>();

  constructor(from: Socket, to: Socket, rules: FlowRules) {
    this.#from = from;
    this.#to = to;
    this.#rules = rules;
    from.on("data", (bytes: Buffer) => this.#hold({ kind: "bytes", bytes, dueAt: this.#dueAt() }));
    from.once("end", () => this.#hold({ kind: "end", dueAt: this.#dueAt() }));
    from.on("error", () => this.#hold({ kind: "reset", dueAt: this.#dueAt() }));
    to.on("drain", () => this.advance());
    to.once("close", () => this.#stop());
  }

  /** Forwards nothing from the first bytes on that contain the text, behind `after`. Resolves when they are there. */
  hold(from: string, after: string | null): Promise<void> {
    this.#heldFrom = from;
    this.#heldAfter = after;
    return this.#reached.promise;
  }

  release(): void {
    this.#heldFrom = null;
    this.#isHeld = false;
    this.advance();
  }

  /** Forwards what is due; called again when a rule was changed. */
  advance(): void {
    clearTimeout(this.#timer);
    while (this.#held.length > 0 && !this.#rules.isStalled && !this.#isHeld && !this.#to.writableNeedDrain) {
      const item = this.#held[0];
      if (item === undefined) return;
      const waitMs = Math.max(item.dueAt, this.#freeAt) - performance.now();
      if (waitMs > 0) {
        this.#timer = setTimeout(() => this.advance(), waitMs);
        return;
      }
      this.#held.shift();
      this.#forward(item);
    }
    if (this.#heldBytes < HELD_BYTES_MAX) this.#from.resume();
  }

  #dueAt(): number {
    return performance.now() + this.#rules.delayMs;
  }

  #hold(item: Item): void {
    if (this.#heldAfter !== null && item.kind === "bytes" && item.bytes.includes(this.#heldAfter))
      this.#heldAfter = null;
    const from = this.#heldAfter === null ? this.#heldFrom : null;
    if (from !== null && item.kind === "bytes" && item.bytes.includes(from)) {
      this.#isHeld = true;
      this.#reached.resolve();
    }
    if (item.kind === "bytes" && this.#rules.holds?.(this) === true) this.#isHeld = true;
    this.#held.push(item);
    if (item.kind === "bytes") {
      this.#heldBytes += item.bytes.length;
      // The rest waits in the sender, as it would on a slow network.
      if (this.#heldBytes >= HELD_BYTES_MAX) this.#from.pause();
    }
    this.advance();
  }

  #forward(item: Item): void {
    switch (item.kind) {
      case "bytes":
        this.#write(item.bytes, item.dueAt);
        return;
      case "end":
        this.#to.end();
        return;
      case "reset":
        reset(this.#to);
        return;
      default: {
        const unknown: never = item;
        throw new Error(`unknown item ${JSON.stringify(unknown)}`);
      }
    }
  }

  /** Under a limit a piece at a time, so that a large write trickles and does not come in one burst. */
  #write(bytes: Buffer, dueAt: number): void {
    const { bytesPerSecond } = this.#rules;
    const piece = bytes.subarray(0, Math.max(1, Math.ceil(bytesPerSecond / PIECES_PER_SECOND)));
    if (piece.length < bytes.length) this.#held.unshift({ kind: "bytes", bytes: bytes.subarray(piece.length), dueAt });
    this.#heldBytes -= piece.length;
    this.#rules.byteCount += piece.length;
    this.#freeAt = performance.now() + (piece.length / bytesPerSecond) * 1_000;
    this.#to.write(piece);
  }

  #stop(): void {
    clearTimeout(this.#timer);
    this.#held.length = 0;
  }
}

/** Behind a FIN that is still on its way a reset fails, and Node then leaves the socket open. */
export function reset(socket: Socket): void {
  if (socket.writableEnded) socket.destroy();
  else socket.resetAndDestroy();
}
