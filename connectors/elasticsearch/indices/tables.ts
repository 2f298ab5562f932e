import { BaseFloors, type ShapeNote } from "../../../src/core/targets/base-rows.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { DocumentWriter } from "../write/document.ts";

/** An index, and the alias that leads to it: the table's own, or that of an index that is being filled. */
export interface IndexIdentity {
  readonly alias: string;
  readonly index: string;
  /** See `uuidIn`. */
  readonly uuid: string;
}

/** The index with a table's documents; stored with the checkpoint, to be found again after a restart. */
export interface TableIndex extends IndexIdentity {
  /**
   * The index that is being filled to replace it: it gets all writes. The alias moves to it when the table is complete.
   */
  readonly next?: IndexIdentity | undefined;
  /** Where routes merge tables: the alias that readers use, which leads to the visible index of each. */
  readonly shared?: string | undefined;
}

/** An index that takes rows of a table version. */
export interface PreparedIndex {
  readonly index: IndexIdentity;
  readonly note: ShapeNote;
}

/** One table version that is ready to be written. */
export interface SearchTable {
  readonly table: TableVersion;
  /** The alias under which its index is written and read for writing: see WriteFence. */
  readonly alias: string;
  readonly documents: DocumentWriter;
  /** Documents with a lower version may have other columns, or be other rows, than in this table version. */
  readonly floors: BaseFloors;
}

export function searchTable(table: TableVersion, note: ShapeNote, alias: string): SearchTable {
  return { table, alias, documents: new DocumentWriter(table, alias), floors: new BaseFloors(note) };
}

/** The index to which the table's rows are written. */
export function writtenIndex({ alias, index, uuid, next }: TableIndex): IndexIdentity {
  return next ?? { alias, index, uuid };
}

/** No table's name has a percent sign before `ne`. */
export function nextAliasOf(alias: string): string {
  return `${alias}%next`;
}

/** The first index behind an alias, or the next one after the existing ones. `dropped`: see TableIndices. */
export function indexAfter(alias: string, present: readonly (IndexIdentity | null)[] = [], dropped = 0): string {
  const numbers = present.map((found) => (found === null ? 0 : numberOf(found)));
  return `${alias}-${String(Math.max(...numbers, dropped) + 1).padStart(6, "0")}`;
}

export function numberOf({ index }: Pick<IndexIdentity, "index">): number {
  return Number(/-(\d+)$/.exec(index)?.[1] ?? 0);
}
