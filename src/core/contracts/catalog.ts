import type { ErrorCode } from "../errors.ts";
import type { TableVersion } from "../model/schema.ts";
import type { LogIdentity } from "./positions.ts";

/**
 * The tables that are captured. It tells of the present, at no place of the log: what it said before a mark was written
 * (`Watermarks.renew`), and still says when the stream has passed that, is in force there. A table that can't be captured is
 * named with the reason, never left out in silence.
 */
export interface Catalog {
  /** The captured tables as the catalogue has them now, and those that cannot be captured with the reason. */
  readonly tables: (signal: AbortSignal) => Promise<CapturedTables>;
  /**
   * Brings what the source publishes in step with the wanted tables. Who reads a table that was added waits with `settle`
   * first. `onChange` is given the identity to store from now on, as soon as it is another, and awaited.
   */
  readonly publish: (onChange: (identity: LogIdentity) => Promise<void>, signal: AbortSignal) => Promise<void>;
}

export type TableShape = Omit<TableVersion, "version" | "since">;

export interface CapturedTables {
  readonly tables: readonly TableShape[];
  readonly refused: readonly RefusedTable[];
  readonly generations: TableGenerations;
  /** By table id. Without them no row that did not move is certain after a change of shape. */
  readonly columns?: ReadonlyMap<string, ColumnFacts>;
}

export interface RefusedTable {
  readonly id: string;
  readonly reason: string;
  readonly fix: string;
  /** True where nothing but a privilege of our role is missing: once it is there the table is captured. */
  readonly byPrivilege?: boolean;
  /** True where it is captured by itself in a while, as when somebody has locked it: who waits, waits for it. */
  readonly isPassing?: boolean;
  /** Where the reason has a number of its own. */
  readonly code?: ErrorCode;
  /** Where nothing but the key that the configuration chooses is wrong: a column is unknown, or it can't be the key. */
  readonly chosenKey?: "unknown" | "unfit";
}

/** What the catalogue says of a table's columns beside their shape: for core/targets/carrying. */
export interface ColumnFacts {
  /** Identities of columns that were added while this process looked, and are null in the rows that were there before. */
  readonly nullBefore: ReadonlySet<number>;
  /** Identities of columns that were dropped, whenever that was. */
  readonly dropped: readonly number[];
}

/**
 * By table id, what the name stands for. Another value than before says that rows came or went without a word in the log:
 * the table was made anew or rewritten, swapped by renames, left out of what is published for a while, or a partition was
 * attached, detached or truncated by its own name. A table that is not published yet has none.
 */
export type TableGenerations = ReadonlyMap<string, string>;
