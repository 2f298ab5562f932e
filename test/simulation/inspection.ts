/** What a comparison reads of a target. */
import type { Inspection, KeyPage, ListedKey, StoredRow } from "../../src/core/contracts/comparing.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import type { KeyText } from "../../src/core/contracts/row-reads.ts";
import type { Connection } from "./network.ts";
import type { Target } from "./targets.ts";

const KEYS_PER_PAGE = 2;

export class TargetInspection implements Inspection {
  readonly #target: Target;
  readonly #connection: Connection;
  #isReading = false;

  constructor(target: Target, connection: Connection) {
    this.#target = target;
    this.#connection = connection;
  }

  expected(_table: TableVersion, _ordinal: number, text: string): string {
    return text;
  }

  id(_table: TableVersion, key: KeyText): string {
    return key.join(":");
  }

  async rows(table: TableVersion, keys: readonly KeyText[], signal: AbortSignal): Promise<readonly StoredRow[]> {
    const found = () => {
      const rows = this.#target.tables.get(table.id)?.rows;
      return keys.flatMap((key) => {
        const id = key.join(":");
        const held = rows?.get(id);
        return held === undefined ? [] : [{ id, cells: held.row, version: held.version }];
      });
    };
    if (this.#isReading) this.#target.watch.askedMeanwhile(this.#target);
    this.#isReading = true;
    try {
      return await this.#connection.call("inspect", found, signal);
    } finally {
      this.#isReading = false;
    }
  }

  async *keys(table: TableVersion, signal: AbortSignal): AsyncGenerator<readonly ListedKey[]> {
    yield await this.#connection.call(
      "list keys",
      () => [...(this.#target.tables.get(table.id)?.rows.keys() ?? [])].map((id) => ({ id, key: [id] })),
      signal,
    );
  }

  /** In the order of the keys as text. */
  async page(table: TableVersion, after: string | null, signal: AbortSignal): Promise<KeyPage> {
    return await this.#connection.call(
      "list a page of keys",
      () => {
        const all = [...(this.#target.tables.get(table.id)?.rows.keys() ?? [])].toSorted();
        const ids = all.filter((id) => after === null || id > after).slice(0, KEYS_PER_PAGE);
        const next = ids.length < KEYS_PER_PAGE ? null : ids.at(-1)!;
        return { keys: ids.map((id) => ({ id, key: [id] })), next };
      },
      signal,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}
