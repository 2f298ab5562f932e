import * as z from "zod";

const STORED = z.object({ version: z.string(), counts: z.record(z.string(), z.int()) });

/** The source's transaction of which changes are written, and not its end: steps and processes may share it. */
export class OpenTransaction {
  #version: bigint | null = null;
  #counts = new Map<string, number>();

  /** `text`: of an earlier one; "" if there was none. */
  constructor(text: string) {
    if (text === "") return;
    const { version, counts } = STORED.parse(JSON.parse(text));
    this.#version = BigInt(version);
    this.#counts = new Map(Object.entries(counts));
  }

  get isOpen(): boolean {
    return this.#version !== null;
  }

  /** Only while it is open. */
  get version(): bigint {
    return this.#version ?? 0n;
  }

  /** Changes of each table, by its id. */
  get counts(): ReadonlyMap<string, number> {
    return this.#counts;
  }

  get text(): string {
    if (this.#version === null) return "";
    return JSON.stringify({ version: String(this.#version), counts: Object.fromEntries(this.#counts) });
  }

  add(version: bigint, tableId: string): void {
    this.#version = version;
    this.#counts.set(tableId, (this.#counts.get(tableId) ?? 0) + 1);
  }

  end(): void {
    this.#version = null;
    this.#counts = new Map();
  }

  copy(): OpenTransaction {
    const copied = new OpenTransaction("");
    copied.#version = this.#version;
    copied.#counts = new Map(this.#counts);
    return copied;
  }
}
