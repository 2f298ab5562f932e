import type { TableVersion } from "../../../../src/core/model/schema.ts";
import { FULL } from "../catalog/keys.ts";
import { unreadable } from "./frame.ts";

/** The content of a Relation message: the shape of a table's tuples from here on. */
export interface RelationMessage {
  readonly oid: number;
  readonly schema: string;
  readonly table: string;
  /** pg_class.relreplident: d default, n nothing, f full, i index. */
  readonly identity: string;
  readonly columns: readonly RelationColumn[];
}

interface RelationColumn {
  readonly name: string;
  readonly inKey: boolean;
  readonly type: number;
  readonly modifier: number;
}

/**
 * A relation as the decoder knows it. Relation messages also come for tables whose rows come under another name (leaves of
 * a partitioned table), so a table is looked up when the first row refers to it. Rows of a tree by inheritance come under the name
 * of the table that holds them.
 */
export interface Relation {
  readonly message: RelationMessage;
  /** Oid of the leaf that holds the row at which it is looked up, if that is another table. */
  leaf: number | undefined;
  /** What those leaves log that log less than whole old rows, as ordinals; null: as far as is known, all log whole ones. */
  logged: ReadonlySet<number> | null;
  /**
   * Of a table whose rows are another's, the root's of a tree: by ordinal of that one's columns, the cell of a tuple. null: the
   * tuples are as they are.
   */
  cells: readonly number[] | null;
  /** Of a table in a tree by inheritance: the oids of all of its tables. A truncate that does not name each leaves rows. */
  tree: readonly number[] | null;
  /** null: not captured, its rows are counted and skipped. undefined: not looked up yet. */
  table: TableVersion | null | undefined;
  /** Of one that is not captured, and may be since: the id under which it then flows. */
  refused: string | undefined;
  /** Its next row has bytes that are no UTF-8: the table is suspended, and the row passed by. */
  isIllegible: boolean;
  /** Ordinal in the tables of the block numbered `blockNumber`. */
  ordinal: number;
  blockNumber: number;
}

/** The leaves of a table that log less than whole old rows, and the names of all columns that one of them logs. */
interface PartlyLogged {
  readonly leaves: Set<number>;
  readonly columns: Set<string>;
}

/** The relations of a stream by their oids. */
export class Relations {
  readonly #all = new Map<number, Relation>();
  /** By the root's oid. */
  readonly #partlyLogged = new Map<number, PartlyLogged>();
  /** By oid, what the marks so far say. */
  readonly #schemas = new Map<number, string>();
  #last: Relation | undefined;
  /**
   * Oid in the last Relation message, as long as no row has followed: for a row that comes under its root's name, the oid
   * of the leaf.
   */
  announced: number | undefined;
  readonly #isFlowing: (tableId: string) => boolean;

  constructor(isFlowing: (tableId: string) => boolean) {
    this.#isFlowing = isFlowing;
  }

  /** Takes a Relation message (after its type byte) from `at` to `end`. */
  announce(bytes: Buffer, at: number, end: number): void {
    const read = readRelation(bytes.subarray(0, end), at);
    // A transaction that was open at a mark may still announce the name from before.
    const message = { ...read, schema: this.#schemas.get(read.oid) ?? read.schema };
    // Looked up again each time: a column that was dropped and added again under its name leaves the message the same.
    this.#all.set(message.oid, {
      message,
      leaf: undefined,
      logged: null,
      cells: null,
      tree: null,
      table: undefined,
      refused: undefined,
      isIllegible: false,
      ordinal: 0,
      blockNumber: -1,
    });
    this.#last = undefined;
    this.announced = message.oid;
  }

  isLookedUp(oid: number): boolean {
    return this.#all.get(oid)?.table !== undefined;
  }

  /** The relation of a row. If its `table` is undefined, it must be looked up. */
  of(oid: number): Relation {
    const last = this.#last;
    if (last !== undefined && last.message.oid === oid && last.refused === undefined) return last;
    const relation = this.#all.get(oid);
    if (relation === undefined) throw unreadable("a row of a relation that was not announced");
    // Why it was refused may end without a word in the log: a type or an index has another name.
    if (relation.refused !== undefined && this.#isFlowing(relation.refused)) forget(relation);
    if (relation.table === undefined) {
      relation.leaf = this.announced === oid ? undefined : this.announced;
      this.announced = undefined;
      const leaf = relation.leaf === undefined ? undefined : this.#all.get(relation.leaf);
      if (leaf !== undefined) this.#noteLeaf(oid, leaf.message);
      relation.logged = this.#loggedOf(relation);
    } else {
      this.#last = relation;
    }
    return relation;
  }

  /**
   * A leaf is announced, behind its root, before the first row after each change of its identity. Of later rows nothing says in
   * which leaf they are.
   */
  #noteLeaf(root: number, { oid, identity, columns }: RelationMessage): void {
    const partly = this.#partlyLogged.get(root) ?? { leaves: new Set(), columns: new Set() };
    if (identity === FULL) partly.leaves.delete(oid);
    else {
      partly.leaves.add(oid);
      for (const { name, inKey } of columns) if (inKey) partly.columns.add(name);
    }
    if (partly.leaves.size > 0) this.#partlyLogged.set(root, partly);
    else this.#partlyLogged.delete(root);
  }

  #loggedOf({ message }: Relation): Relation["logged"] {
    const columns = this.#partlyLogged.get(message.oid)?.columns;
    if (columns === undefined) return null;
    return new Set(message.columns.flatMap(({ name }, ordinal) => (columns.has(name) ? [ordinal] : [])));
  }

  /** The schemas of the tables that were announced. */
  get schemas(): readonly (readonly [oid: number, schema: string])[] {
    return Array.from(this.#all, ([oid, { message }]) => [oid, message.schema]);
  }

  /** Tables are looked up again, and are in the schemas that `said` has. */
  renew(said: ReadonlyMap<number, string>): void {
    for (const [oid, schema] of said) {
      this.#schemas.set(oid, schema);
      const relation = this.#all.get(oid);
      if (relation !== undefined) this.#all.set(oid, { ...relation, message: { ...relation.message, schema } });
    }
    for (const relation of this.#all.values()) forget(relation);
    this.#last = undefined;
  }
}

function forget(relation: Relation): void {
  relation.cells = relation.tree = null;
  relation.table = undefined;
  relation.refused = undefined;
  relation.blockNumber = -1;
}

/** Reads the body of a Relation message (after its type byte) from `at` to the end of `bytes`. */
function readRelation(bytes: Buffer, at: number): RelationMessage {
  const oid = bytes.readUInt32BE(at);
  const schemaEnd = bytes.indexOf(0, at + 4);
  const schema = bytes.toString("utf8", at + 4, schemaEnd);
  const tableEnd = bytes.indexOf(0, schemaEnd + 1);
  const table = bytes.toString("utf8", schemaEnd + 1, tableEnd);
  const identity = String.fromCharCode(bytes[tableEnd + 1]!);
  const columns: RelationColumn[] = [];
  let next = tableEnd + 4;
  for (let left = bytes.readUInt16BE(tableEnd + 2); left > 0; left--) {
    const nameEnd = bytes.indexOf(0, next + 1);
    if (nameEnd < 0 || nameEnd + 9 > bytes.length) throw unreadable("a relation that does not fit into its frame");
    columns.push({
      inKey: (bytes[next]! & 1) === 1,
      name: bytes.toString("utf8", next + 1, nameEnd),
      type: bytes.readUInt32BE(nameEnd + 1),
      modifier: bytes.readInt32BE(nameEnd + 5),
    });
    next = nameEnd + 9;
  }
  // An empty namespace in the message means pg_catalog.
  return { oid, schema: schema === "" ? "pg_catalog" : schema, table, identity, columns };
}
