import type { TableName } from "../../../../src/core/contracts/connector.ts";
import { aboutTable } from "../../../../src/core/errors.ts";
import { invariant } from "../../../../src/core/invariant.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import { decodeNote, lostColumns, successorOf, type TargetNote } from "../../../../src/core/targets/following.ts";
import { quoteTable } from "../../../../src/postgres/quote.ts";
import { OF_ONE_TABLE, sinkError, targetsMeet, withoutRow } from "../errors.ts";
import type { Session } from "../session.ts";
import { carriesTable, prepareTable, type WantedTarget } from "./ddl.ts";
import {
  columnsIn,
  conversion,
  DELETED_COLUMN,
  lookAtForms,
  OP_COLUMN,
  type TargetForm,
  VERSION_COLUMN,
} from "./form.ts";
import { fitted, type TargetName, targetName } from "./names.ts";
import type { TargetTable } from "./target-table.ts";

export interface TargetsOptions {
  /** See TargetNote. */
  readonly owner: string;
  /** Puts all tables in this schema. */
  readonly schema: string | undefined;
  readonly form: TargetForm;
  /** See SinkContext. */
  readonly dropsColumns: ((table: TableName) => boolean) | undefined;
}

/** The targets of one sink's tables: prepares them, and knows how to write their rows. */
export class Targets {
  readonly #options: TargetsOptions;
  readonly #prepared = new WeakMap<TableVersion, TargetTable>();
  /** Which table of the source owns a target name. */
  readonly #owners = new Map<string, string>();
  #ordinal = 0;

  constructor(options: TargetsOptions) {
    this.#options = options;
  }

  nameOf(table: TableName): TargetName {
    return targetName(table, this.#options.schema);
  }

  quoted(table: TableName): string {
    const { schema, table: name } = this.nameOf(table);
    return quoteTable(schema, name);
  }

  find(table: TableVersion): TargetTable | undefined {
    return this.#prepared.get(table);
  }

  get(table: TableVersion): TargetTable {
    const found = this.#prepared.get(table);
    invariant(found !== undefined, `${table.id} was prepared before its rows`);
    return found;
  }

  /** Throws if another table of the source owns the target. */
  expectOwn(table: TableVersion): void {
    const quoted = this.quoted(table);
    const owner = this.#owners.get(quoted);
    if (owner !== undefined && owner !== table.id) throw targetsMeet(table.id, owner, quoted);
  }

  /** Inside a transaction; the result counts once it is committed: see `note`. */
  async make(session: Session, table: TableVersion, signal: AbortSignal): Promise<TargetTable> {
    const known = (error: unknown) => withoutRow(sinkError(error, `preparing ${table.id}`));
    return await aboutTable(table.id, OF_ONE_TABLE, known, () =>
      prepareTable(session, this.#wanted(table), this.#ordinal++, signal),
    );
  }

  note(target: TargetTable): void {
    this.#owners.set(target.quoted, target.version.id);
    this.#prepared.set(target.version, target);
  }

  async carries(session: Session, from: TableVersion, to: TableVersion, signal: AbortSignal): Promise<boolean> {
    return await carriesTable(session, from, this.#wanted(to), signal);
  }

  /**
   * Which of these tables are missing, lost columns, or were taken over by another daemon. `convert` gives the others the form that the options request now,
   * even if no rows arrive.
   */
  async missing(
    session: Session,
    tables: readonly TableVersion[],
    convert: (statements: readonly string[]) => Promise<void>,
    signal: AbortSignal,
  ): Promise<readonly TableVersion[]> {
    const quoted = tables.map((table) => this.quoted(table));
    const { rows } = await session.query(lookAtForms(quoted), signal);
    const there = new Set<number>();
    for (const [i, names, comment] of rows) {
      const columns = columnsIn(names);
      const ordinal = Number(i);
      const isOurs = columns.has(VERSION_COLUMN);
      const note = decodeNote(comment ?? null);
      const isAsLeft = successorOf(this.#options.owner, note) === null;
      if (!isOurs || (isAsLeft && !isRobbed(columns, note, tables[ordinal]!))) there.add(ordinal);
      if (!isOurs || !isAsLeft) continue;
      const found = { hasDeleted: columns.has(DELETED_COLUMN), hasOp: columns.has(OP_COLUMN) };
      const converting = conversion(quoted[ordinal]!, this.#options.form, found);
      if (converting.length > 0) await convert(converting);
    }
    return tables.filter((_, i) => !there.has(i));
  }

  /** See TargetPresence. */
  async foreign(
    session: Session,
    tables: readonly TableVersion[],
    signal: AbortSignal,
  ): Promise<readonly TableVersion[]> {
    const { rows } = await session.query(lookAtForms(tables.map((table) => this.quoted(table))), signal);
    const notes = new Map(rows.map(([i, , comment]) => [Number(i), decodeNote(comment ?? null)]));
    return tables.filter((_, i) => successorOf(this.#options.owner, notes.get(i) ?? null) !== null);
  }

  #wanted(version: TableVersion): WantedTarget {
    const { form, owner, dropsColumns } = this.#options;
    return { version, name: this.nameOf(version), form, owner, dropsColumns: dropsColumns?.(version) ?? false };
  }
}

function isRobbed(found: ReadonlySet<string>, note: TargetNote | null, table: TableVersion): boolean {
  const names = table.columns.map(({ name }) => fitted(name));
  return lostColumns([...found], note, table, names).length > 0;
}
