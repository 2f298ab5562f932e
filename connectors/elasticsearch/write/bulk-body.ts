import type { TableWrites } from "../../../src/core/model/batch.ts";
import { ByteWriter } from "../../../src/core/bytes.ts";

/**
 * A body is sent when it reaches one of these limits; a single document may be larger. The engines accept up to 100 MB
 * by default. Larger bodies were not faster in tests, and take more memory (docs/benchmarks.md).
 */
const BODY_BYTES_MAX = 2 * 1024 * 1024;
const BODY_ITEMS_MAX = 20_000;
const KEPT_BYTES_MAX = 2 * BODY_BYTES_MAX;

/** One bulk body, and the entry of each item. Reused. */
export class BulkBody {
  out = new ByteWriter(256 * 1024);
  count = 0;
  /** Item i has the bytes from `start[i]` to `start[i + 1]`. */
  start = new Uint32Array(1024);
  entry = new Uint32Array(1024);
  readonly writes: (TableWrites | undefined)[] = [];
  readonly #table: string | undefined;

  /** `table`: the table id for entries without writes. */
  constructor(table?: string) {
    this.#table = table;
  }

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

  /** Adds what was written after the last item as the next one. */
  add(writes: TableWrites | undefined, entry: number): void {
    if (this.count + 2 > this.start.length) this.#grow();
    this.writes.push(writes);
    this.entry[this.count++] = entry;
    this.start[this.count] = this.out.length;
  }

  /** Discards what was written after the last item. */
  abandon(): void {
    this.out.length = this.count === 0 ? 0 : this.start[this.count]!;
  }

  /** The bytes of the items `from` (inclusive) to `to` (exclusive). */
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
