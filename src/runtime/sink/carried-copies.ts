import { carriesRows, mayCarry } from "../../core/targets/carrying.ts";
import { isLater, type TableVersion } from "../../core/model/schema.ts";
import type { Sink } from "../../core/contracts/sink.ts";
import type { ColumnFacts } from "../../core/contracts/catalog.ts";
import type { SchemaStore } from "../../core/contracts/state-store.ts";
import { type Completeness, isOfSameGeneration, isOfShape } from "../../core/checkpoint/completeness.ts";

interface CarriedCopy {
  /** What the sink recorded about the copy while it was complete. */
  readonly held: Completeness;
  /** The shape in which it was complete, and the shapes that the target has followed since. */
  readonly versions: readonly TableVersion[];
}

/**
 * Copies of one sink that were complete until their tables changed, and that may become complete again without a read. They
 * are kept in memory only: after a crash such copies are not complete, and are read.
 */
export class CarriedCopies {
  readonly #sink: Sink;
  readonly #schemas: Pick<SchemaStore, "versions">;
  readonly #copies = new Map<string, CarriedCopy>();

  constructor(sink: Sink, schemas: Pick<SchemaStore, "versions">) {
    this.#sink = sink;
    this.#schemas = schemas;
  }

  has(tableId: string): boolean {
    return this.#copies.has(tableId);
  }

  /** The target is about to follow. `held`: the completeness that this ends; null: nothing is recorded, or not any more. */
  async follow(table: TableVersion, held: Completeness | null, signal: AbortSignal): Promise<void> {
    const { id } = table;
    const before = held === null ? this.#copies.get(id) : await this.#begun(table, held);
    // If anything fails from here on, the copy is read.
    this.#copies.delete(id);
    const from = before?.versions.at(-1);
    if (before === undefined || from === undefined || !mayCarry(from, table)) return;
    if ((await this.#sink.evolution?.carries(from, table, signal)) !== true) return;
    this.#copies.set(id, { ...before, versions: [...before.versions, table] });
  }

  async #begun(table: TableVersion, held: Completeness): Promise<CarriedCopy | undefined> {
    if (this.#sink.evolution === undefined) return undefined;
    const known = await this.#schemas.versions(table.id);
    const under = known.findLast((version) => isLater(table, version) && isOfShape(held, version));
    return under === undefined ? undefined : { held, versions: [under] };
  }

  /** True if the copy is complete for that. In both cases it is forgotten here. */
  take(table: TableVersion, completeness: Completeness, facts: ColumnFacts): boolean {
    const copy = this.#copies.get(table.id);
    this.#copies.delete(table.id);
    if (copy === undefined || copy.versions.at(-1) !== table) return false;
    const kept = this.#sink.evolution?.kept?.(table) ?? table;
    if (!isOfShape(completeness, table) || !isOfSameGeneration(copy.held, completeness)) return false;
    return carriesRows(copy.versions, facts, kept);
  }

  forget(tableId: string): void {
    this.#copies.delete(tableId);
  }

  clear(): void {
    this.#copies.clear();
  }
}
