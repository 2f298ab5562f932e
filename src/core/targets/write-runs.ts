/**
 * Which of a sink's requests count. A request that got no answer (no answer in time, a lost connection, a killed process)
 * may reach its target later, after what was written since, and versions do not always tell: all changes of a transaction
 * have the same one, and a table that was made since knows no former deletions.
 *
 * A run is a series of requests of which each was answered before the next one that builds on it. Before a run writes a
 * table it enters it: from then on the target refuses what names an earlier run, and nothing of earlier runs is still
 * being carried out there. How a target does that is the connector's; a run that has entered a table pays nothing more.
 * A table that no run has entered since takes late requests as if they had come in time, which is no harm: nothing was
 * written after them. A sink that is opened again is still the same process: its run goes on if everything was answered.
 */
export class WriteRuns {
  readonly #newId: () => string;
  readonly #entered = new Set<string>();
  #id: string;
  #isOver = false;

  constructor(newId: () => string) {
    this.#newId = newId;
    this.#id = newId();
  }

  get id(): string {
    return this.#id;
  }

  /** A request got no answer, so the run ends. */
  unanswered(): void {
    this.#isOver = true;
  }

  /** The targets that must be entered before they are written, each once. Begins a run if the last one is over. */
  unentered<T>(tables: readonly T[], nameOf: (table: T) => string): readonly T[] {
    if (this.#isOver) {
      this.#isOver = false;
      this.#id = this.#newId();
      this.#entered.clear();
    }
    const targets = new Map(tables.map((table) => [nameOf(table), table]));
    return [...targets].flatMap(([name, table]) => (this.#entered.has(name) ? [] : [table]));
  }

  entered(name: string): void {
    this.#entered.add(name);
  }

  /** The target has refused the run, with an answer: it is entered again before it is written. */
  left(name: string): void {
    this.#entered.delete(name);
  }
}
