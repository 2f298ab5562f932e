import * as z from "zod";

const STORED = z.object({
  version: z.string(),
  /** Only where they are told. */
  counts: z.record(z.string(), z.int()).optional(),
  id: z.string().default(""),
  timeMs: z.number().default(0),
});

/** The source's transaction of which changes are written, and not its end: batches and processes may share it. */
export class OpenTransaction {
  #version: bigint | null = null;
  #isCounted = true;
  #counts = new Map<string, number>();
  /** The table of the last change, and how many of it are not in `#counts` yet. */
  #lastId = "";
  #lastCount = 0;
  #total = 0;
  /** Its name in the format's records, and when it was committed. */
  id = "";
  timeMs = 0;

  /** `text`: of an earlier one; "" if there was none. */
  constructor(text: string) {
    if (text === "") return;
    const { version, counts, id, timeMs } = STORED.parse(JSON.parse(text));
    this.#version = BigInt(version);
    this.#isCounted = counts !== undefined;
    this.#counts = new Map(Object.entries(counts ?? {}));
    for (const count of this.#counts.values()) this.#total += count;
    this.id = id;
    this.timeMs = timeMs;
  }

  get isOpen(): boolean {
    return this.#version !== null;
  }

  /** Only while it is open. */
  get version(): bigint {
    return this.#version ?? 0n;
  }

  /** All of its changes were counted; false where transactions are not told, or were not when it began. */
  get isCounted(): boolean {
    return this.#isCounted;
  }

  /** Changes of each table, by its id. */
  get counts(): ReadonlyMap<string, number> {
    this.#settle();
    return this.#counts;
  }

  /** Changes of all tables. */
  get total(): number {
    return this.#total;
  }

  get text(): string {
    if (this.#version === null) return "";
    const { id, timeMs } = this;
    const version = String(this.#version);
    if (!this.#isCounted) return JSON.stringify({ version });
    return JSON.stringify({ version, counts: Object.fromEntries(this.counts), id, timeMs });
  }

  /** A change of it is not counted: a transaction may be of thousands of tables, and each checkpoint has the counts. */
  pass(version: bigint): void {
    this.#version = version;
    this.#isCounted = false;
  }

  add(version: bigint, tableId: string): void {
    this.#version = version;
    this.#total++;
    if (tableId !== this.#lastId) {
      this.#settle();
      this.#lastId = tableId;
    }
    this.#lastCount++;
  }

  #settle(): void {
    if (this.#lastCount === 0) return;
    this.#counts.set(this.#lastId, (this.#counts.get(this.#lastId) ?? 0) + this.#lastCount);
    this.#lastCount = 0;
  }

  end(): void {
    this.#version = null;
    this.#isCounted = true;
    this.#counts = new Map();
    this.#lastCount = 0;
    this.#total = 0;
  }

  copy(): OpenTransaction {
    const copied = new OpenTransaction("");
    copied.#version = this.#version;
    copied.#isCounted = this.#isCounted;
    copied.#counts = new Map(this.counts);
    copied.#total = this.#total;
    copied.id = this.id;
    copied.timeMs = this.timeMs;
    return copied;
  }
}
