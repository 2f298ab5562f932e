import type { TableName } from "../../src/core/contracts/connector.ts";
import type { CompleteTables } from "../../src/core/checkpoint.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { baseVersion } from "../../src/core/model/position.ts";
import type { SqliteFile } from "./file.ts";
import type { SqliteLayout } from "./tables/layout.ts";
import type { Slices } from "./write/slices.ts";

/**
 * Beside a companion a row's version is stored as the distance from here: that of a row of the first copy takes no bytes, and
 * later ones few. 0 is of no row.
 */
const VERSION_ORIGIN = baseVersion(1) - 1n;

/** Keeps something of its own in a sink's file, in the transactions of the rows. The rows' commit times are not stored then. */
export interface Companion {
  /** The columns of a table that are stored besides the key. */
  columns(table: TableName): ReadonlySet<string>;
  /** Those of them that take ASCII alone: of other texts it is not known which ones the source takes for equal. */
  folded(table: TableName): ReadonlySet<string>;
  /** Those of them that an index of the companion may have. */
  indexed(table: TableName): ReadonlySet<string>;
  /** One at a time has the connection: the sink in each of its methods, or the companion. */
  turn(signal: AbortSignal): Promise<Disposable>;
  /** The file is open; `fence`: begins a transaction; `complete`: of which tables it has a complete copy, as of its last commit. */
  opened(file: SqliteFile, fence: () => void, complete: () => CompleteTables, signal: AbortSignal): Promise<void>;
  closing(): Promise<void>;
  /** Tables may change their shapes until `prepared`. */
  preparing(): void;
  /** A target is made, or its rows are changed with it, in the transaction that is open. */
  changing(layout: SqliteLayout): void;
  /** They have these shapes now. Called for each `preparing`, also if not all tables could be prepared. */
  prepared(layouts: readonly SqliteLayout[], signal: AbortSignal): Promise<void>;
  /** Rows will be written, in a transaction that is not open yet. */
  writing(signal: AbortSignal): Promise<void>;
  /** Rows were written or removed, in the transaction that is open. `complete`: what the checkpoint says that it stores. */
  written(slices: Slices, complete?: CompleteTables): Promise<void>;
  /** `filled`: how much of what a batch may have this one had, from 0 to 1. */
  committed(filled: number): void;
}

const NONE: ReadonlySet<string> = new Set();

/** The tables with the columns alone that a companion keeps. Without one they stay as they are. */
export class KeptColumns {
  readonly #companion: Companion | undefined;
  readonly #kept = new WeakMap<TableVersion, TableVersion>();
  readonly #ordinals = new WeakMap<TableVersion, readonly number[]>();

  constructor(companion: Companion | undefined) {
    this.#companion = companion;
  }

  of(table: TableVersion): TableVersion {
    if (this.#companion === undefined) return table;
    let kept = this.#kept.get(table);
    if (kept === undefined) {
      const wanted = this.#companion.columns(table);
      const ordinals = table.columns.flatMap(({ name }, i) => (wanted.has(name) || table.key.includes(i) ? [i] : []));
      const columns = ordinals.map((ordinal) => table.columns[ordinal]!);
      kept = { ...table, columns, key: table.key.map((ordinal) => ordinals.indexOf(ordinal)) };
      this.#kept.set(table, kept);
      this.#ordinals.set(kept, ordinals);
    }
    return kept;
  }

  folded(table: TableVersion): ReadonlySet<string> {
    return this.#companion?.folded(table) ?? NONE;
  }

  indexed(table: TableVersion): ReadonlySet<string> {
    return this.#companion?.indexed(table) ?? NONE;
  }

  /** Of the columns of such a table, in the table as it came; undefined: it is that. */
  ordinals(kept: TableVersion): readonly number[] | undefined {
    return this.#ordinals.get(kept);
  }

  /** Whether rows may have values that are kept of `to`, and were not of `from`: a column got a name that is wanted. */
  takesMore(from: TableVersion, to: TableVersion): boolean {
    const [before, after] = [this.of(from), this.of(to)].map(identitiesOf);
    return [...after!.difference(before!)].some((identity) => identitiesOf(from).has(identity));
  }

  /** Values and versions are stored in few bytes. */
  get isPacked(): boolean {
    return this.#companion !== undefined;
  }

  /** How a version is stored, and what it was. */
  stored(version: bigint): bigint {
    return this.isPacked ? version - VERSION_ORIGIN : version;
  }

  versionOf(stored: bigint): bigint {
    return this.isPacked && stored !== 0n ? nestVersion(stored) : stored;
  }

  has(table: TableVersion, ordinal: number): boolean {
    return this.#companion === undefined || this.of(table).columns.includes(table.columns[ordinal]!);
  }
}

/** Of a row that is stored beside a companion. */
export function nestVersion(stored: bigint): bigint {
  return stored + VERSION_ORIGIN;
}

function identitiesOf({ columns }: TableVersion): ReadonlySet<number> {
  return new Set(columns.map(({ identity }) => identity));
}
