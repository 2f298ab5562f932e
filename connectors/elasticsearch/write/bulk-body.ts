import type { TableWrites } from "../../../src/core/model/batch.ts";
import { ByteWriter } from "../../../src/core/bytes.ts";

/**
 * A body is sent when it reaches either; one document may be larger. The engines take up to 100 MB by default. Larger ones
 * were not seen to be faster, and take more memory (docs/benchmarks.md).
 */
const BODY_BYTES_MAX = 2 * 1024 * 1024;
const BODY_ITEMS_MAX = 20_000;
const KEPT_BYTES_MAX = 2 * BODY_BYTES_MAX;

/** One bulk body in the making, and which entry each of its items came from. Reused. */
export class BulkBody {
  out = new ByteWriter(256 * 1024);
  count = 0;
  /** Item i takes the bytes from `start[i]` to `start[i + 1]`. */
  start = new Uint32Array(1024);
  entry = new Uint32Array(1024);
  readonly writes: (TableWrites | undefined)[] = [];
  readonly #table: string | undefined;

  /** `table`: the id of the one that entries without writes are of. */
  constructor(table?: string) {
    this.#table = table;
  }

  /** The id of the table that an item is of. */
  tableOf(item: number): string | undefined {
    return this.writes[item]?.table.id ?? this.#table;
  }

  reset(): void {
    if (this.out.bytes.length > KEPT_BYTES_MAX) this.out = new ByteWriter(256 * 1024);
    this.out.reset();
    this.count = 0;
    this.writes.length = 0;
  }

  get isFull(): boolean {
    return this.out.length >= BODY_BYTES_MAX || this.count >= BODY_ITEMS_MAX;
  }

  /** Takes what was written behind the last item as the next one. */
  add(writes: TableWrites | undefined, entry: number): void {
    if (this.count + 2 > this.start.length) this.#grow();
    this.writes.push(writes);
    this.entry[this.count++] = entry;
    this.start[this.count] = this.out.length;
  }

  /** Forgets what was written behind the last item. */
  abandon(): void {
    this.out.length = this.count === 0 ? 0 : this.start[this.count]!;
  }

  /** The bytes of items `from` up to, not including, `to`. */
  slice(from: number, to: number): Buffer {
    return this.out.bytes.subarray(this.start[from], this.start[to]);
  }

  #grow(): void {
    const start = new Uint32Array(this.start.length * 2);
    start.set(this.start);
    this.start = start;
    const entry = new Uint32Array(start.length);
    entry.set(this.entry);
    this.entry = entry;
  }
}
