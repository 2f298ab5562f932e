/**
 * Where the runtime's push meets the program's pull.
 *
 *   sink.apply ──give──▶ [ waits until the program asks ] ──▶ next() ──▶ the program ──done()──┐
 *        ▲                                                                                     │
 *        └── settled: all that was given is done ◀── kept, in the order of the log ◀───────────┘
 *
 * What was given and is not done holds back all that follows it: a checkpoint is kept only when every transaction before it is
 * done. So `done()` may be called in any order, and late.
 */
import { abortedError, findMillraceError } from "../core/errors.ts";
import type { Checkpoint } from "../core/checkpoint.ts";
import { STATE_REPLACED } from "../state/errors.ts";
import type { Change, Transaction } from "./api.ts";
import { libraryError } from "./errors.ts";

/** What a sink gives: `make` is called when the program asks for it. */
export interface Piece extends Omit<Transaction, "changes" | "position" | "done"> {
  readonly make: () => readonly Change[];
  readonly checkpoint: Checkpoint;
  readonly position: () => string;
}

/** Where checkpoints are kept of which the program has done everything. */
export interface Keeper {
  load(): Promise<Checkpoint | null>;
  keep(checkpoint: Checkpoint): Promise<void>;
}

class Delivery implements Transaction {
  readonly changes: readonly Change[];
  readonly isLast: boolean;
  readonly isSnapshot: boolean;
  readonly version: string | null;
  readonly commitTime: string | null;
  readonly hasNext: boolean;
  readonly #handover: Handover;
  readonly #piece: Piece;
  readonly #kept = Promise.withResolvers<void>();
  #isDone = false;

  constructor(handover: Handover, piece: Piece) {
    this.#handover = handover;
    this.#piece = piece;
    this.changes = piece.make();
    ({
      isLast: this.isLast,
      isSnapshot: this.isSnapshot,
      version: this.version,
      commitTime: this.commitTime,
      hasNext: this.hasNext,
    } = piece);
    // Who does not wait for it need not know why it was not kept.
    this.#kept.promise.catch(() => undefined);
  }

  get position(): string {
    return this.#piece.position();
  }

  done(): Promise<void> {
    if (!this.#isDone) {
      this.#isDone = true;
      this.#handover.done();
    }
    return this.#kept.promise;
  }

  static isDone(delivery: Delivery): boolean {
    return delivery.#isDone;
  }

  static checkpointOf(delivery: Delivery): Checkpoint {
    return delivery.#piece.checkpoint;
  }

  static end(delivery: Delivery, error: unknown): void {
    if (error === null) delivery.#kept.resolve();
    else delivery.#kept.reject(error);
  }
}

interface Asking {
  readonly resolve: (transaction: Transaction | null) => void;
  readonly reject: (error: unknown) => void;
}

export class Handover {
  #keeper: Keeper | null = null;
  /** Of the program: it has nothing in hand that it works on while it waits here, unless it takes several at once. */
  readonly #asking: Asking[] = [];
  /** Given and not kept, in the order of the log. */
  readonly #open: Delivery[] = [];
  #isKeeping = false;
  #isLeft = false;
  #failure: unknown = null;
  #wake: (() => void) | null = null;
  #ended: { readonly error: unknown } | null = null;

  /** What is done from now on is kept there, and what could not be kept in a state that was replaced. */
  keepIn(keeper: Keeper): void {
    this.#keeper = keeper;
    this.#failure = null;
    void this.#keep();
  }

  /** Transactions that the program has not done, while it asks for the next one. */
  get waitingFor(): number {
    return this.#asking.length === 0 ? 0 : this.#open.length;
  }

  /** The program asks for the next transaction; null: there is none any more. */
  take(): Promise<Transaction | null> {
    if (this.#ended !== null) {
      const { error } = this.#ended;
      this.#ended = { error: null };
      return error === null ? Promise.resolve(null) : Promise.reject(error);
    }
    return new Promise((resolve, reject) => {
      this.#asking.push({ resolve, reject });
      this.#look();
    });
  }

  /** Gives it as soon as the program asks. */
  async give(piece: Piece, signal: AbortSignal): Promise<void> {
    await this.#until(() => this.#asking.length > 0, signal);
    const asking = this.#asking.shift()!;
    try {
      const delivery = new Delivery(this, piece);
      this.#open.push(delivery);
      asking.resolve(delivery);
    } catch (error) {
      this.#asking.unshift(asking);
      throw error;
    }
  }

  /** Resolves when all that was given is done and kept. */
  async settled(signal: AbortSignal): Promise<void> {
    await this.#until(() => this.#open.length === 0 || this.#isLeft, signal);
    if (this.#isLeft && this.#open.length > 0) throw new DOMException("the program has left the loop", "AbortError");
  }

  /** The program does nothing more with what it has. */
  leave(): void {
    this.#isLeft = true;
    this.#look();
  }

  /** Nothing comes any more. The first one who asks gets the error. */
  end(error: unknown): void {
    if (this.#ended !== null) return;
    this.#ended = { error: null };
    const late = libraryError("MR1172", "follow has ended, and stores nothing any more", { cause: error ?? undefined });
    for (const delivery of this.#open.splice(0)) Delivery.end(delivery, late);
    const [first, ...others] = this.#asking.splice(0);
    if (error !== null && first === undefined) this.#ended = { error };
    else if (error === null) first?.resolve(null);
    else first?.reject(error);
    for (const { resolve } of others) resolve(null);
    this.#look();
  }

  /** One of those that were given is done. */
  done(): void {
    if (this.#ended === null) void this.#keep();
    else {
      const late = libraryError("MR1172", "follow has ended, and stores nothing any more");
      for (const delivery of this.#open.splice(0)) Delivery.end(delivery, late);
    }
  }

  /** Invariant: a checkpoint is kept only when everything before it is done. One write at a time, for all that is done by then. */
  async #keep(): Promise<void> {
    if (this.#isKeeping) return;
    this.#isKeeping = true;
    // A program that is done with several at once says so one by one.
    await Promise.resolve();
    for (let count = this.#doneCount(); count > 0; count = this.#doneCount()) {
      const last = Delivery.checkpointOf(this.#open[count - 1]!);
      let failure: unknown = null;
      try {
        await this.#keeper?.keep(last);
      } catch (error) {
        this.#failure = failure = error;
        // A run with the state that is there now begins, and has a keeper for it.
        if (findMillraceError(error)?.code === STATE_REPLACED) break;
      }
      for (const delivery of this.#open.splice(0, count)) Delivery.end(delivery, failure);
    }
    this.#isKeeping = false;
    this.#look();
  }

  #doneCount(): number {
    const first = this.#open.findIndex((delivery) => !Delivery.isDone(delivery));
    return first < 0 ? this.#open.length : first;
  }

  #look(): void {
    this.#wake?.();
  }

  /** One caller at a time: the sink. */
  async #until(isMet: () => boolean, signal: AbortSignal): Promise<void> {
    for (;;) {
      if (this.#failure !== null) throw this.#failure;
      if (signal.aborted) throw abortedError(signal);
      if (isMet()) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      const wake = (): void => resolve();
      this.#wake = wake;
      signal.addEventListener("abort", wake, { once: true });
      await promise;
      signal.removeEventListener("abort", wake);
      this.#wake = null;
    }
  }
}
