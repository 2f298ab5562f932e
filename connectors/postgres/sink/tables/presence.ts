/**
 * Checks that written tables still are what they were, while the daemon runs and at its next start. A dropped table is missing;
 * one that was replaced has another oid; one that somebody emptied has another file, and none of the rows that were there before,
 * although we did not change them. One that another daemon prepared since has its name in the note.
 */
import type { Checkpoint } from "../../../../src/core/checkpoint.ts";
import { groupsOf } from "../../../../src/core/each-of.ts";
import { joined, type MillraceError } from "../../../../src/core/errors.ts";
import { type Batch, type TableWrites, tablesOf } from "../../../../src/core/model/batch.ts";
import { rowVersion } from "../../../../src/core/model/position.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import { decodeNote, successorOf } from "../../../warehouse/following.ts";
import { VERSION_COLUMN } from "../../../warehouse/own-columns.ts";
import { quoteLiteral } from "../../../../src/postgres/quote.ts";
import { fatal, reopening, takenOver } from "../errors.ts";
import { type FoundTable, namesIn, ofRule, rulesOf, triggersOf } from "./found-table.ts";
import type { Session } from "../wire/session.ts";
import type { LastSeen, SeenTable } from "./last-seen.ts";
import type { TargetTable } from "./target-table.ts";

interface PresentTable extends SeenTable, Pick<FoundTable, "rules" | "triggers"> {
  /** Rows that were there have no higher version. */
  readonly version: bigint;
  readonly comment: string | null;
}

interface KnownTable {
  readonly table: TargetTable;
  /** By id, all that are written there. */
  readonly sharing: ReadonlyMap<string, TargetTable>;
  seen: PresentTable;
  /** So many rows were there. */
  rowCount: number;
  /** So many of them we may have changed or deleted since. */
  changedCount: number;
  /** Rows were written since whose versions are no higher than those of rows that were there: rows that were read. */
  hasAsOld: boolean;
  /** `check` has told that it is lost. */
  isTold: boolean;
}

type LostTable = readonly [known: KnownTable, what: string];

/** A message names so many tables. */
const TOLD_COUNT_MAX = 5;

/** Until its end a query holds a lock of each table that it names, and of each of its indexes: the server has some thousands for all. */
const LOOKED_AT_ONCE = 100;

/** A table is not counted further: of a larger one the server's estimate counts, where it is higher. */
const ROW_COUNT_MAX = 1_000;

export class Presence {
  readonly #owner: string;
  readonly #lastSeen: LastSeen;
  readonly #known = new Map<string, KnownTable>();
  /** Of those that were not prepared since. */
  #stored = new Map<string, SeenTable>();
  /** What was written has no higher version. */
  #version = 0n;

  /** `owner`: see TargetNote. */
  constructor(owner: string, lastSeen: LastSeen) {
    this.#owner = owner;
    this.#lastSeen = lastSeen;
  }

  /** `isOurs`: nobody has written since, and the target was not put back to an earlier moment. */
  async open(
    session: Session,
    { checkpoint, isOurs }: { readonly checkpoint: Checkpoint | null; readonly isOurs: boolean },
    signal: AbortSignal,
  ): Promise<void> {
    if (!isOurs) this.#known.clear();
    if (checkpoint !== null) this.#written(checkpoint);
    this.#stored = await this.#lastSeen.load(session, signal);
  }

  #written({ position: { epoch, commit } }: Checkpoint): void {
    this.#version = rowVersion(epoch, commit);
  }

  /** Stores what these tables are, in the transaction that prepares them. Once it is committed, they are to be added. */
  async see(session: Session, tables: readonly TargetTable[], signal: AbortSignal): Promise<readonly KnownTable[]> {
    const seen = await this.#look(session, quotedOf(tables), signal);
    const counts = await countsOf(session, tables, signal);
    await this.#lastSeen.save(session, new Map(tables.map(({ quoted }, i) => [quoted, seen[i]!])), signal);
    return tables.map((table, i) => ({
      table,
      sharing: new Map([[table.version.id, table]]),
      seen: seen[i]!,
      rowCount: counts[i]!,
      changedCount: 0,
      hasAsOld: false,
      isTold: false,
    }));
  }

  add(seen: readonly KnownTable[]): void {
    for (const known of seen) {
      const { quoted, version } = known.table;
      const others = version.scope === undefined ? [] : (this.#known.get(quoted)?.sharing ?? []);
      const now = { ...known, sharing: new Map([...others, ...known.sharing]) };
      this.#known.set(quoted, now);
      noteTriggers(now);
    }
  }

  /** Records what a batch did. */
  applied(batch: Batch, tableOf: (version: TableVersion) => TargetTable | undefined): void {
    this.#written(batch.checkpoint);
    if (batch.kind !== "rows") for (const table of tablesOf(batch)) this.#note(tableOf(table), undefined);
    else {
      for (const { table } of batch.truncates ?? []) this.#note(tableOf(table), undefined);
      for (const writes of batch.tables) this.#note(tableOf(writes.table), writes);
    }
  }

  /** A history keeps what it has. */
  #note(table: TargetTable | undefined, writes: TableWrites | undefined): void {
    const known = table === undefined ? undefined : this.#known.get(table.quoted);
    if (known === undefined || known.table.history !== null) return;
    known.changedCount += writes === undefined ? Infinity : writes.count - freshCountOf(writes);
    known.hasAsOld ||= writes !== undefined && hasAsOld(writes, known.seen.version);
  }

  /**
   * Throws for all known tables that another daemon writes now, or else that are lost, once. `tables`: only for these; absent: for
   * all.
   */
  async check(session: Session, signal: AbortSignal, tables?: readonly string[]): Promise<void> {
    const all = this.#those(tables).filter(({ isTold }) => !isTold);
    const { seen, lost } = await this.#compared(session, all, signal);
    // It may have made them again.
    this.#refuse(all, (known, i) => {
      const successor = successorOf(this.#owner, decodeNote(seen[i]!.comment));
      return successor === null ? null : (id) => takenOver(id, known.table.quoted, successor);
    });
    for (const [known] of lost) {
      // What becomes of a history is the operator's word.
      if (known.table.history === null) known.isTold = true;
      else this.#known.delete(known.table.quoted);
    }
    if (lost.length > 0) throw gone(lost);
    this.#refuse(all, ({ table: { quoted } }, i) => {
      const [rule] = seen[i]!.rules;
      if (rule === undefined) return null;
      const { what, fix } = ofRule(quoted, rule);
      return (id) => fatal("MR3107", what, fix).with({ table: id });
    });
    await this.#see(session, all, seen, signal);
  }

  /** `refusal`: by the id of a table that is written there; null: there is none. Those that are refused are forgotten. */
  #refuse(
    all: readonly KnownTable[],
    refusal: (known: KnownTable, i: number) => ((id: string) => MillraceError) | null,
  ): void {
    const refusals = all.flatMap((known, i) => {
      const refused = refusal(known, i);
      if (refused === null) return [];
      this.forget([known.table.quoted]);
      return [...known.sharing.keys()].map(refused);
    });
    const [first, ...further] = refusals;
    if (first !== undefined) throw joined([first, ...further]);
  }

  /** They are not what was prepared, and that is known: they do not count until they are prepared again. */
  forget(tables: readonly string[]): void {
    for (const quoted of tables) this.#known.delete(quoted);
  }

  /** Those of these mirrors that are lost, until they are prepared again. */
  async lost(session: Session, tables: readonly string[], signal: AbortSignal): Promise<ReadonlySet<string>> {
    const { lost } = await this.#compared(session, this.#those(tables), signal);
    for (const [known] of lost) known.isTold = true;
    const unknown = tables.filter((quoted) => !this.#known.has(quoted));
    return new Set([...lost.map(([{ table }]) => table.quoted), ...(await this.#lostSince(session, unknown, signal))]);
  }

  /**
   * Those of these mirrors, which were not prepared yet, that are not what was stored. One with another file counts as emptied
   * unless rows were carried over into it, as VACUUM FULL and CLUSTER do: of rows that somebody wrote there nobody knows how old
   * they are. So one that was written again by other means (ALTER TABLE, pg_repack) is read again.
   */
  async #lostSince(session: Session, tables: readonly string[], signal: AbortSignal): Promise<readonly string[]> {
    const stored = tables.filter((quoted) => this.#stored.has(quoted));
    const now = await this.#look(session, stored, signal);
    const lost: string[] = [];
    const moved: (SeenTable & { readonly quoted: string })[] = [];
    for (const [i, quoted] of stored.entries()) {
      const [before, found] = [this.#stored.get(quoted)!, now[i]!];
      if (found.oid !== before.oid) lost.push(quoted);
      else if (found.file !== before.file) moved.push({ quoted, ...found, snapshot: before.snapshot });
    }
    const emptied = await emptiedOf(session, moved, signal);
    const kept = new Map(moved.filter(({ quoted }) => !emptied.has(quoted)).map((table) => [table.quoted, table]));
    for (const [quoted, seen] of kept) this.#stored.set(quoted, seen);
    await this.#lastSeen.save(session, kept, signal);
    return [...lost, ...emptied];
  }

  #those(tables: readonly string[] = [...this.#known.keys()]): readonly KnownTable[] {
    return tables.flatMap((quoted) => this.#known.get(quoted) ?? []);
  }

  async #compared(session: Session, all: readonly KnownTable[], signal: AbortSignal) {
    const tables = all.map(({ table }) => table);
    const seen = await this.#look(session, quotedOf(tables), signal);
    const lost: LostTable[] = [];
    for (const [i, known] of all.entries()) {
      const { oid, file } = seen[i]!;
      if (oid !== known.seen.oid) lost.push([known, oid === null ? "was dropped" : "was dropped and made again"]);
      else if (
        file !== known.seen.file &&
        known.changedCount < known.rowCount &&
        !(await keeps(session, known, signal))
      )
        lost.push([known, "was emptied"]);
    }
    return { seen, lost };
  }

  /** These tables have what they had. */
  async #see(
    session: Session,
    all: readonly KnownTable[],
    seen: readonly PresentTable[],
    signal: AbortSignal,
  ): Promise<void> {
    const counted = all.filter(({ rowCount, changedCount }, i) => {
      const hasMoved = all[i]!.seen.file !== seen[i]!.file;
      return hasMoved || rowCount === 0 || changedCount > 0;
    });
    const tables = counted.map(({ table }) => table);
    const counts = await countsOf(session, tables, signal);
    const changed = new Map<string, SeenTable>();
    for (const [i, known] of all.entries()) {
      if (known.seen.file !== seen[i]!.file) changed.set(known.table.quoted, seen[i]!);
      known.seen = seen[i]!;
      known.hasAsOld = false;
      noteTriggers(known);
    }
    for (const [i, known] of counted.entries()) {
      if (known.rowCount === 0 && counts[i]! > 0) changed.set(known.table.quoted, known.seen);
      known.rowCount = counts[i]!;
      known.changedCount = 0;
    }
    await this.#lastSeen.save(session, changed, signal);
  }

  async #look(session: Session, tables: readonly string[], signal: AbortSignal): Promise<readonly PresentTable[]> {
    if (tables.length === 0) return [];
    const names = tables.map((quoted, i) => `(${i}, to_regclass(${quoteLiteral(quoted)}))`);
    const columns = `r::oid, pg_relation_filenode(r), obj_description(r, 'pg_class'), pg_current_snapshot(), ${rulesOf("r")}, ${triggersOf("r")}`;
    const sql = `SELECT ${columns} FROM (VALUES ${names.join(", ")}) AS v (i, r) ORDER BY i`;
    const { rows } = await session.query(sql, signal);
    const version = this.#version;
    return rows.map(([oid = null, file = null, comment = null, snapshot, rules, triggers]) => ({
      oid,
      file,
      comment,
      version,
      snapshot: snapshot!,
      rules: namesIn(rules),
      triggers: namesIn(triggers),
    }));
  }
}

/** Those that came while the daemon runs count from its next look on. */
function noteTriggers({ sharing, seen }: KnownTable): void {
  for (const table of sharing.values()) table.triggers = seen.triggers;
}

function quotedOf(tables: readonly TargetTable[]): readonly string[] {
  return tables.map(({ quoted }) => quoted);
}

/** Those of these tables, which have another file, in which no row is from before. Of one that we can't read nobody knows. */
async function emptiedOf(
  session: Session,
  tables: readonly (SeenTable & { readonly quoted: string })[],
  signal: AbortSignal,
): Promise<ReadonlySet<string>> {
  if (tables.length === 0) return new Set();
  const oids = tables.map(({ oid }) => oid).join(", ");
  const isReadable = "has_table_privilege(oid, 'SELECT') AND NOT row_security_active(oid)";
  const { rows } = await session.query(`SELECT oid FROM pg_class WHERE oid IN (${oids}) AND ${isReadable}`, signal);
  const readable = new Set(rows.map(([oid]) => oid));
  const emptied = new Set<string>();
  for (const some of groupsOf(
    tables.filter(({ oid }) => readable.has(oid)),
    LOOKED_AT_ONCE,
  )) {
    const looks = some.map(
      ({ quoted, snapshot }, i) =>
        `SELECT ${i} WHERE NOT EXISTS (SELECT FROM ONLY ${quoted} WHERE ${isFromBefore(snapshot)})`,
    );
    const { rows: found } = await session.query(looks.join(" UNION ALL "), signal);
    for (const [i] of found) emptied.add(some[Number(i)]!.quoted);
  }
  return emptied;
}

/**
 * Whether there are rows from before the last look. VACUUM FULL and CLUSTER write them with their transaction numbers, other
 * changes of the table's form (ALTER TABLE … SET LOGGED) with a new one: versions tell those. What was written since is newer
 * in both, but for the versions of rows that were read (`hasAsOld`).
 */
async function keeps(session: Session, { table, seen, hasAsOld }: KnownTable, signal: AbortSignal): Promise<boolean> {
  const isAsOld = `${VERSION_COLUMN} <= ${seen.version}`;
  const isThereSince = isFromBefore(seen.snapshot);
  const isOlder = table.history !== null ? isAsOld : hasAsOld ? isThereSince : `${isAsOld} OR ${isThereSince}`;
  const { rows } = await session.query(`SELECT 1 FROM ${table.rows} WHERE ${isOlder} LIMIT 1`, signal);
  return rows.length > 0;
}

/** Whether a row is of a transaction that this snapshot shows, `xmin:xmax:running,…` with epochs. */
function isFromBefore(snapshot: string): string {
  const [, end = "", running = ""] = snapshot.split(":");
  const xid = (full: string): string => `'${BigInt(full) % 2n ** 32n}'::xid`;
  const left = running === "" ? "" : ` AND xmin <> ALL (ARRAY[${running.split(",").map(xid).join(", ")}])`;
  return `(age(xmin) > age(${xid(end)})${left})`;
}

/** Whether a row has no higher version. Blocks are in the order of the log: the first transaction of each is its oldest. */
function hasAsOld({ blocks, block, row, count }: TableWrites, version: bigint): boolean {
  const mayBe = blocks.map(({ transactions: { count: some, version: of } }) => some > 0 && of[0]! <= version);
  if (!mayBe.includes(true)) return false;
  for (let i = 0; i < count; i++) {
    if (mayBe[block[i]!] !== true) continue;
    const { transactions, tx } = blocks[block[i]!]!;
    if (transactions.version[tx[row[i]!]!]! <= version) return true;
  }
  return false;
}

function freshCountOf({ fresh, count }: TableWrites): number {
  let found = 0;
  for (let i = 0; i < count; i++) found += fresh[i]!;
  return found;
}

async function countsOf(
  session: Session,
  tables: readonly TargetTable[],
  signal: AbortSignal,
): Promise<readonly number[]> {
  const counts: number[] = [];
  for (const some of groupsOf(tables, LOOKED_AT_ONCE)) {
    const looks = some.map(({ quoted, rows }) => {
      const estimate = `SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(${quoteLiteral(quoted)})`;
      const all = `CASE WHEN count(*) < ${ROW_COUNT_MAX} THEN count(*) ELSE greatest(count(*), (${estimate})) END`;
      return `SELECT ${all} FROM (SELECT FROM ${rows} LIMIT ${ROW_COUNT_MAX}) AS r`;
    });
    const { rows } = await session.query(looks.join("; "), signal);
    for (const [count] of rows) counts.push(Number(count));
  }
  return counts;
}

function gone(lost: readonly LostTable[]): MillraceError {
  const told = lost.slice(0, TOLD_COUNT_MAX).map(([{ table }, what]) => `${table.quoted} ${what}`);
  const more = lost.length > told.length ? [`${lost.length - told.length} more tables were lost`] : [];
  return reopening(
    "MR3110",
    `${[...told, ...more].join(", ")} in the target, by somebody else`,
    "Millrace creates and fills it again; if it happens again, find out who did it.",
    lost.flatMap(([{ sharing }]) => [...sharing.keys()]),
  );
}
