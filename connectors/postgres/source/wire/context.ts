import type { ChosenKey, TableName } from "../../../../src/core/contracts/connector.ts";
import type { Logger } from "../../../../src/core/contracts/telemetry.ts";
import type { PostgresAddress } from "../../../../src/postgres/url.ts";
import type { TableSelection } from "../../../../src/core/table-selection.ts";
import type { Database } from "./database.ts";
import type { PlacedMarks } from "./placed-marks.ts";
import type { SaidSchemas } from "./said-schemas.ts";
import type { Writer } from "./writer.ts";

/** What the parts of one source share. */
export interface SourceContext {
  readonly address: PostgresAddress;
  readonly database: Database;
  readonly writer: Writer;
  readonly marks: PlacedMarks;
  readonly schemas: SaidSchemas;
  readonly leaves: KnownLeaves;
  /** By a tree's root, then by table: for which CHECKs it is proven that no two of its tables hold the same key. */
  readonly provenTrees: Map<number, ReadonlyMap<number, string>>;
  readonly slot: string;
  readonly publication: string;
  readonly selection: TableSelection;
  /** False with `snapshot: none`: rows that the log did not bring are in no sink, and are never read. */
  readonly readsRows: boolean;
  /** How many sessions copy one large table at once. */
  readonly copySessions: number;
  readonly chosenKey: (table: TableName) => ChosenKey | null;
  readonly logger: Logger;
}

export async function closeAll({ database, writer }: Pick<SourceContext, "database" | "writer">): Promise<void> {
  await Promise.all([database.close(), writer.close()]);
}

/** The tables that hold the rows of each partitioned table, and of each tree by inheritance, as the last look at the catalogue had them. */
export class KnownLeaves {
  #ofRoots: ReadonlyMap<number, readonly number[]> | null = null;
  #rootOf: ReadonlyMap<number, number> = new Map();
  #trees: ReadonlySet<number> = new Set();

  /**
   * By oid of the root; `trees`: the roots of trees, which hold rows themselves. Called last in a look: rules get what it has
   * found before a read can end that relies on it. True: other tables are in trees than before.
   */
  take(ofRoots: ReadonlyMap<number, readonly number[]>, trees: ReadonlySet<number>): boolean {
    const rootOf = new Map([...trees].flatMap((root) => (ofRoots.get(root) ?? []).map((oid) => [oid, root] as const)));
    const before = this.#rootOf;
    const isSame = rootOf.size === before.size && [...rootOf].every(([oid, root]) => before.get(oid) === root);
    this.#ofRoots = ofRoots;
    this.#rootOf = rootOf;
    this.#trees = trees;
    return !isSame;
  }

  /** Whether a look has ended. */
  get areKnown(): boolean {
    return this.#ofRoots !== null;
  }

  /** The roots of trees by inheritance. */
  get trees(): readonly number[] {
    return [...this.#trees];
  }

  isTree(oid: number): boolean {
    return this.#trees.has(oid);
  }

  /** The root of the tree in which the table is; its own oid if it is one. */
  rootOf(oid: number): number | undefined {
    return this.#rootOf.get(oid);
  }

  /** Undefined: no look has shown the table. */
  of(root: number): readonly number[] | undefined {
    return this.#ofRoots?.get(root);
  }
}
