import type { TableVersion } from "../../../../src/core/model/schema.ts";

/** What a Relation message says: the shape of a table's tuples from here on. */
export interface RelationMessage {
  readonly oid: number;
  readonly schema: string;
  readonly table: string;
  /** pg_class.relreplident: d default, n nothing, f full, i index. */
  readonly identity: string;
  readonly columns: readonly RelationColumn[];
}

export interface RelationColumn {
  readonly name: string;
  readonly inKey: boolean;
  readonly type: number;
  readonly modifier: number;
}

/**
 * A relation as the decoder knows it. Relation messages come for tables too whose rows come under another name (leaves
 * of a partitioned table), so a table is looked up when the first row refers to it.
 */
export interface Relation {
  readonly message: RelationMessage;
  /** Oid of the leaf that the row at which it is looked up lies in, where that is another table. */
  leaf: number | undefined;
  /** null: not captured, its rows are counted and passed over. undefined: not looked up yet. */
  table: TableVersion | null | undefined;
  /** Ordinal in the tables of the block numbered `blockNumber`. */
  ordinal: number;
  blockNumber: number;
}

/** Reads the body of a Relation message (behind its type byte) at `at`. */
export function readRelation(bytes: Buffer, at: number): RelationMessage {
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
