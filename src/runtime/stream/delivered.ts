import { invariant } from "../../core/invariant.ts";

const ROOM_MIN = 1 << 10;
/** Beyond this the oldest are given up; until then a snapshot has been asked for many times (visibility.ts). */
const COUNT_MAX = 1 << 20;

/**
 * The transactions that the stream delivered and no snapshot has shown yet. A commit is in the log, and sent, before other
 * sessions see it; a chunk whose snapshot misses a delivered transaction would set its rows back. As a rule that is a
 * matter of microseconds, but while a source waits for a synchronous standby it may last for hours.
 */
export class DeliveredTransactions {
  #xids = new Uint32Array(ROOM_MIN);
  #count = 0;
  /** How many were delivered before the first of `#xids`. */
  #before = 0;
  /** Those that a snapshot has missed which was taken after they were delivered: one per session that waits. */
  #late: number[] = [];

  /** Notes a transaction as delivered, at its place in the order of commits. */
  add(xid: number): void {
    if (xid === 0 || (this.#count > 0 && this.#xids[this.#count - 1] === xid)) return;
    if (this.#count === this.#xids.length) this.#makeRoom();
    this.#xids[this.#count++] = xid;
  }

  /** Transactions that may have been delivered before this process began. */
  addEarlier(xids: readonly number[]): void {
    this.#late.push(...xids);
  }

  /** A mark for `allSeen` and `prune`: what is delivered from now on does not count. */
  get mark(): number {
    return this.#before + this.#count;
  }

  /** True where a snapshot could tell something new. */
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
   * Forgets what a snapshot sees, that was taken when all before `mark` had been delivered: every later one sees it too. No
   * earlier one may be asked about afterwards.
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
