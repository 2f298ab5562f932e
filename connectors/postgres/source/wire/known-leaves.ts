/** The leaves of each partitioned table, as the last look at the catalogue had them. */
export class KnownLeaves {
  #ofRoots: ReadonlyMap<number, readonly number[]> = new Map();

  /** By oid of the partitioned table. Called last in a look: rules get what it has found before a read can end that relies on it. */
  take(ofRoots: ReadonlyMap<number, readonly number[]>): void {
    this.#ofRoots = ofRoots;
  }

  /** Undefined: no look has shown the table. */
  of(root: number): readonly number[] | undefined {
    return this.#ofRoots.get(root);
  }
}
