import type { FunctionName } from "../rules/computed/functions.ts";
import type { DeclaredType } from "../rules/computed/results.ts";
import type { Expression } from "../rules/where/syntax.ts";
import type { Order } from "./document.ts";

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
