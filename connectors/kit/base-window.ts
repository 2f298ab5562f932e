const FIRST_COUNT = 8;
const COUNT_MAX = 500;
const BYTES_AIM = 8 * 1024 * 1024;

/** How many rows to read at once from which PATCHes take their unchanged columns: few at first, then by their measured size. */
export class BaseWindow {
  #count = FIRST_COUNT;

  get count(): number {
    return this.#count;
  }

  /** So many were asked for, and those that are there have so many bytes. */
  measured(count: number, byteCount: number): void {
    const average = byteCount / count;
    this.#count = average === 0 ? COUNT_MAX : Math.max(1, Math.min(COUNT_MAX, Math.floor(BYTES_AIM / average)));
  }
}
