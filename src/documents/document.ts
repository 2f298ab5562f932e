import type { Alike } from "../core/contracts/catalog.ts";
import type { TableName } from "../core/contracts/connector.ts";
import { tableId } from "../core/model/schema.ts";
import type { ColumnType } from "../core/model/types.ts";
import type { FunctionName } from "../rules/computed/functions.ts";
import type { DeclaredType } from "../rules/computed/results.ts";
import type { Expression } from "../rules/where/syntax.ts";

/**
 * A document: one object for each row of its root table, with the rows of other tables that belong to it. To sinks it is a
 * row of the table `documents.<name>`: the root's fields are columns with their types, each relation of the root is a
 * column of type json.
 *
 * All names are those that sinks see: after the rules of the configuration.
 */
export interface Document {
  /** Unique in a configuration. */
  readonly name: string;
  /** Which rows of the root have a document, in the language of rules' filters; null: all. */
  readonly where: string | null;
  /** Its fields hold the key of its table, whose fields are the key of the document. */
  readonly root: DocumentNode;
  /** Hash of what rules hide of its tables. Absent: nothing. */
  readonly hides?: string;
  /** Hash of what the configuration says of it: the same says the same, though what joins its tables may be gone by now. */
  readonly wanted?: string;
}

/** As text, all that makes its documents what they are. */
export function definitionOf({ wanted: _wanted, ...document }: Document): string {
  return JSON.stringify(document);
}

/** A table's place in a document: each of its rows there is an object. */
export interface DocumentNode {
  readonly table: TableName;
  readonly fields: readonly DocumentField[];
  /** Its fields are all columns of its table, and follow them. */
  readonly hasAll?: true;
  readonly relations: readonly Relation[];
  /** What a function of the user's makes of each object; null: it goes out as it is. */
  readonly transform: Transform | null;
}

export interface Transform {
  /** As the configuration names it. */
  readonly function: string;
  /** Of its text and of all that it imports: another text makes other documents. */
  readonly digest: string;
  /** Of fields that it adds, and of those that it gives another type. */
  readonly fields: readonly MadeField[];
}

export interface MadeField {
  readonly name: string;
  readonly type: ColumnType;
  /** How the source would spell the type. */
  readonly native: string;
}

export interface DocumentField {
  /** In the object. */
  readonly name: string;
  readonly column: string;
}

/** The rows of a node that belong to a row of the node above it, as one field of that row's object. */
export interface Relation {
  /** The field. */
  readonly name: string;
  /** True: an array, empty without rows. False: the first row's object, or null. */
  readonly many: boolean;
  /** The table in between: its rows each join one row above with one row of `node`. Null: they join each other. */
  readonly through: Through | null;
  /** A column above, or in `through`, equals a column of `node`, for all pairs. Null equals nothing. */
  readonly on: readonly Join[];
  /** Which rows of `node` count, in the language of rules' filters; null: all. */
  readonly where: string | null;
  /** Then the key of `node`'s table, so that the order is total. */
  readonly orderBy: readonly Order[];
  /** At most so many rows, the first ones; null: all. */
  readonly limit: number | null;
  /** In place of objects, the values of this column alone; then `node` has no relations. Null: objects. */
  readonly value: string | null;
  readonly node: DocumentNode;
}

export interface Through {
  readonly table: TableName;
  /** A column above equals a column of the table in between, for all pairs. */
  readonly on: readonly Join[];
}

export interface Join {
  /** Of the row above. */
  readonly above: string;
  readonly below: string;
  /** The source takes texts for equal that are the same so. Absent: those alone that are the same. */
  readonly alike?: Alike;
}

export interface Order {
  readonly column: string;
  readonly isDescending: boolean;
}

/** The name of the nest among the sinks. */
export const NEST_SINK = "documents";

/** The schema of the tables that documents are to sinks. */
const DOCUMENTS_SCHEMA = "documents";

/** The table that a document is to sinks. */
export function documentTable(name: string): TableName {
  return { schema: DOCUMENTS_SCHEMA, table: name };
}

export function documentTableId(name: string): string {
  const { schema, table } = documentTable(name);
  return tableId(schema, table);
}

export function isDocument({ schema }: Pick<TableName, "schema">): boolean {
  return schema === DOCUMENTS_SCHEMA;
}

/** Documents as the configuration has them, before the tables are known. `place` begins messages: file, line and key. */
export interface WantedDocument {
  readonly name: string;
  readonly where: WantedCondition | null;
  readonly root: WantedNode;
}

export interface WantedNode {
  readonly place: string;
  /** `schema.table`. */
  readonly from: string;
  /** Null: all. */
  readonly columns: readonly string[] | null;
  /** Names of fields by column. */
  readonly rename: Readonly<Record<string, string>>;
  readonly relations: readonly WantedRelation[];
  readonly transform: WantedTransform | null;
}

export interface WantedTransform {
  readonly place: string;
  readonly function: FunctionName;
  /** Of fields that it adds, and of those that it gives another type. */
  readonly fields: Readonly<Record<string, DeclaredType>>;
  /** How long a call may take, on average, before `status` names it. */
  readonly budgetMs: number;
}

export interface WantedRelation extends WantedNode {
  readonly name: string;
  readonly many: boolean;
  readonly through: WantedThrough | null;
  /** Columns above, or of the table in between, by column of `from`; null: a foreign key says it. */
  readonly on: Readonly<Record<string, string>> | null;
  readonly where: WantedCondition | null;
  readonly orderBy: readonly Order[];
  readonly limit: number | null;
  readonly value: string | null;
}

interface WantedThrough {
  readonly place: string;
  readonly from: string;
  /** Columns above by column of the table in between; null: a foreign key says it. */
  readonly on: Readonly<Record<string, string>> | null;
}

export interface WantedCondition {
  readonly place: string;
  readonly text: string;
  readonly expression: Expression;
}
