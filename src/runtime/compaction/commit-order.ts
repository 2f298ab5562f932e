/** Numbers the changes of a batch in the order of the log, and puts the entries of all tables into that order. */
export class CommitOrder {
  /** The number of the change that is being compacted, from 1. */
  number = 0;
  #count = 0;

  begin(): void {
    this.number = this.#count = 0;
  }

  next(): void {
    this.number = ++this.#count;
  }

  /**
   * Takes, for each table, the change numbers of its entries in ascending order. Returns for each entry of the batch the
   * index of its table.
   */
  of(tables: readonly Uint32Array[]): Uint16Array {
    // All entries of one change belong to one table.
    const owner = new Uint16Array(this.#count + 1);
    const times = new Uint8Array(this.#count + 1);
    let total = 0;
    for (const [table, numbers] of tables.entries()) {
      total += numbers.length;
      for (const number of numbers) {
        owner[number] = table;
        times[number]!++;
      }
    }
    const order = new Uint16Array(total);
    let at = 0;
    for (let number = 1; number <= this.#count; number++) {
      for (let i = times[number]!; i > 0; i--) order[at++] = owner[number]!;
    }
    return order;
  }
}
