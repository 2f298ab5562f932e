/** Numbers the changes of a batch as they come, and puts the entries of all tables into that order. */
export class CommitOrder {
  /** Of the change that is being netted, from 1. */
  number = 0;
  #count = 0;

  begin(): void {
    this.number = this.#count = 0;
  }

  next(): void {
    this.number = ++this.#count;
  }

  /** For each entry, which of the tables has it; given by table the numbers of its entries' changes, ascending. */
  of(tables: readonly Uint32Array[]): Uint16Array {
    // All entries of one change are of one table.
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
