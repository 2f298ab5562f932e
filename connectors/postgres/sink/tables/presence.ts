/**
 * Checks that written tables still exist. A dropped table is missing; one that was dropped and created again has
 * another oid; one that somebody truncated has another file and no rows, although we deleted none. One that another daemon
 * prepared since has its name in the note.
 */
import { type Batch, type TableWrites, tablesOf } from "../../../../src/core/model/batch.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import { decodeNote, successorOf } from "../../../warehouse/following.ts";
import { quoteLiteral } from "../../../../src/postgres/quote.ts";
import { reopening, takenOver } from "../errors.ts";
import type { Session } from "../wire/session.ts";
import type { TargetTable } from "./target-table.ts";

interface PreparedTable {
  readonly table: TargetTable;
  /** Of the tables that are written there. */
  readonly ids: ReadonlySet<string>;
  readonly oid: string;
  file: string;
  /** Rows certainly exist: some were seen, and none was deleted since. */
  filled: boolean;
  /**
   * The sink was opened again since: a table that is missing now is known already, and is created at its next
   * preparation.
   */
  suspect: boolean;
}

export class Presence {
  readonly #owner: string;
  readonly #known = new Map<string, PreparedTable>();

  /** `owner`: see TargetNote. */
  constructor(owner: string) {
    this.#owner = owner;
  }

  async add(session: Session, tables: readonly TargetTable[], signal: AbortSignal): Promise<void> {
    const filled = tables.map((table) => `SELECT EXISTS (SELECT FROM ${table.rows})`);
    const { rows } = await session.query([look(tables), ...filled].join("; "), signal);
    for (const [i, table] of tables.entries()) {
      const [, oid, file] = rows[i] ?? [];
      const isFilled = rows[tables.length + i]?.[0] === "t";
      const { quoted, version } = table;
      const others = version.scope === undefined ? [] : (this.#known.get(quoted)?.ids ?? []);
      const ids = new Set([...others, version.id]);
      this.#known.set(quoted, { table, ids, oid: oid ?? "", file: file ?? "", filled: isFilled, suspect: false });
    }
  }

  /** The sink was opened again: tables that disappeared meanwhile have been reported, or will be soon. */
  reopened(): void {
    for (const known of this.#known.values()) known.suspect = true;
  }

  /** Records what a batch did. */
  applied(batch: Batch, tableOf: (version: TableVersion) => TargetTable | undefined): void {
    if (batch.kind !== "rows") for (const table of tablesOf(batch)) this.#note(tableOf(table), undefined);
    else {
      for (const { table } of batch.truncates ?? []) this.#note(tableOf(table), undefined);
      for (const writes of batch.tables) this.#note(tableOf(writes.table), writes);
    }
  }

  #note(table: TargetTable | undefined, writes: TableWrites | undefined): void {
    const known = table === undefined ? undefined : this.#known.get(table.quoted);
    if (known === undefined) return;
    // Puts prove nothing here, because a refused row does not exist; only looked-up rows count.
    if (writes === undefined || writes.deleteCount > 0) known.filled = false;
  }

  async check(session: Session, signal: AbortSignal): Promise<void> {
    if (this.#known.size === 0) return;
    const all = [...this.#known.values()];
    const { rows } = await session.query(look(all.map((known) => known.table)), signal);
    for (const [i, known] of all.entries()) {
      const [, oid, file, comment] = rows[i]!;
      const { suspect } = known;
      if (suspect && oid !== known.oid) {
        this.#known.delete(known.table.quoted);
        continue;
      }
      known.suspect = false;
      if (oid !== known.oid) throw gone(known, oid === null ? "was dropped" : "was dropped and made again");
      const successor = successorOf(this.#owner, decodeNote(comment ?? null));
      if (successor !== null) {
        this.#known.delete(known.table.quoted);
        throw takenOver(known.table.version.id, known.table.quoted, successor);
      }
      if (file === known.file && known.filled) continue;
      const found = await session.query(`SELECT 1 FROM ${known.table.rows} LIMIT 1`, signal);
      const moved = file !== known.file;
      if (moved && known.filled && !suspect && found.rows.length === 0) throw gone(known, "was emptied");
      known.file = file ?? "";
      known.filled = found.rows.length > 0;
    }
  }
}

function look(tables: readonly TargetTable[]): string {
  const names = tables.map((table, i) => `(${i}, to_regclass(${quoteLiteral(table.quoted)}))`);
  return `SELECT i, r::oid, pg_relation_filenode(r), obj_description(r, 'pg_class') FROM (VALUES ${names.join(", ")}) AS v (i, r) ORDER BY i`;
}

function gone({ table, ids }: PreparedTable, what: string) {
  return reopening(
    "MR3110",
    `${table.quoted} ${what} in the target, by somebody else`,
    "Millrace creates and fills it again; if it happens again, find out who did it.",
    [...ids],
  );
}
