import { invariant } from "../../core/invariant.ts";
import type { Clock } from "../../core/clock.ts";
import { EVERYTHING_VISIBLE, type Visibility, type Watermarks } from "../../core/contracts/watermarks.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { kindOf, ReconnectBackoff } from "../retry.ts";

const ROOM_MIN = 1 << 10;
/** Beyond this the oldest are dropped; before that, many snapshots have been asked for (`forgetVisible`). */
const COUNT_MAX = 1 << 20;

/**
 * The transactions that the stream has delivered and no snapshot has shown yet. A commit is in the log, and is sent, before
 * other sessions see it. A chunk whose snapshot misses a delivered transaction would undo that transaction's changes. This
 * usually lasts microseconds, but hours if the source waits for a synchronous standby.
 */
export class DeliveredTransactions {
  #xids = new Uint32Array(ROOM_MIN);
  #count = 0;
  /** How many were delivered before the first of `#xids`. */
  #before = 0;
  /** Delivered transactions that a later snapshot did not show: at most one per waiting session. */
  #late: number[] = [];

  /** Records a transaction as delivered, in the order of commits. */
  add(xid: number): void {
    if (xid === 0 || (this.#count > 0 && this.#xids[this.#count - 1] === xid)) return;
    if (this.#count === this.#xids.length) this.#makeRoom();
    this.#xids[this.#count++] = xid;
  }

  /** Transactions that may have been delivered before this process began. */
  addEarlier(xids: readonly number[]): void {
    this.#late.push(...xids);
  }

  /** A mark for `allSeen` and `prune`: transactions delivered after it do not count. */
  get mark(): number {
    return this.#before + this.#count;
  }

  /** True if a snapshot could show something new. */
  get isUnproven(): boolean {
    return this.#count > 0 || this.#late.length > 0;
  }

  /** Whether a snapshot sees every transaction delivered before `mark`. */
  allSeen(mark: number, sees: (xid: number) => boolean): boolean {
    const end = this.#endOf(mark);
    for (let i = 0; i < end; i++) if (!sees(this.#xids[i]!)) return false;
    return this.#late.every((xid) => sees(xid));
  }

  /**
   * Forgets the transactions that a snapshot sees, if it was taken after all before `mark` were delivered: every later
   * snapshot sees them too. Afterwards, no call may ask about an earlier snapshot.
   */
  prune(mark: number, sees: (xid: number) => boolean): void {
    const end = this.#endOf(mark);
    this.#late = this.#late.filter((xid) => !sees(xid));
    for (let i = 0; i < end; i++) if (!sees(this.#xids[i]!)) this.#late.push(this.#xids[i]!);
    this.#drop(end);
  }

  #endOf(mark: number): number {
    const end = Math.max(0, mark - this.#before);
    invariant(end <= this.#count, "a mark names transactions that were delivered");
    return end;
  }

  #makeRoom(): void {
    if (this.#count >= COUNT_MAX) {
      this.#drop(this.#count / 2);
      return;
    }
    const larger = new Uint32Array(this.#xids.length * 2);
    larger.set(this.#xids);
    this.#xids = larger;
  }

  #drop(count: number): void {
    this.#xids.copyWithin(0, count, this.#count);
    this.#before += count;
    this.#count -= count;
  }
}

interface VisibilityParts {
  readonly clock: Clock;
  readonly watermarks: Watermarks;
  readonly fanOut: {
    readonly delivered: DeliveredTransactions;
    forgetVisible(mark: number, sees: (xid: number) => boolean): void;
  };
  readonly logger: Logger;
}

const INTERVAL_MS = 1_000;

/**
 * Asks for the transactions that an earlier process may have delivered while other sessions did not see them yet. Rows read
 * beside the stream must wait for those too.
 */
export async function noteEarlierDeliveries(parts: VisibilityParts, signal: AbortSignal): Promise<void> {
  const { clock, watermarks, fanOut, logger } = parts;
  const backoff = new ReconnectBackoff(clock);
  for (;;) {
    try {
      const { committing } = await visibility(watermarks, signal);
      fanOut.delivered.addEarlier(committing);
      return;
    } catch (error) {
      signal.throwIfAborted();
      if (kindOf(error) === "fatal") throw error;
      logger.warn({ error }, "the source did not tell its transactions; the next attempt follows");
      await clock.sleep(backoff.next(), signal);
    }
  }
}

/** Keeps the list of delivered transactions short that may not be visible yet. */
export async function forgetVisible(
  { clock, watermarks, fanOut, logger }: VisibilityParts,
  signal: AbortSignal,
): Promise<never> {
  for (;;) {
    await clock.sleep(INTERVAL_MS, signal);
    if (!fanOut.delivered.isUnproven) continue;
    const { mark } = fanOut.delivered;
    try {
      const { sees } = await visibility(watermarks, signal);
      fanOut.forgetVisible(mark, sees);
    } catch (error) {
      signal.throwIfAborted();
      logger.debug({ error }, "the source did not tell which transactions are visible");
    }
  }
}

async function visibility(watermarks: Watermarks, signal: AbortSignal): Promise<Visibility> {
  return (await watermarks.visibility?.(signal)) ?? EVERYTHING_VISIBLE;
}
