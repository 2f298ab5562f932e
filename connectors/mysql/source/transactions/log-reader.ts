/** Follows the log's transactions and files: what begins and ends where. The decoder handles rows. */
import type { Position } from "../../../../src/core/model/position.ts";
import type { OnRenamed, Rename } from "../../../../src/core/contracts/change-log.ts";
import type { TableName } from "../../../../src/core/contracts/connector.ts";
import { tableId, type TableVersion } from "../../../../src/core/model/schema.ts";
import { copiedNames } from "../../../kit/online-copies.ts";
import type { SourceTables } from "../catalog/source-tables.ts";
import type { TableNames } from "../catalog/table-names.ts";
import { damaged, sourceError } from "../errors.ts";
import { type TransactionName, type XaPrepare, ILLEGIBLE, type Statement } from "../events/log-events.ts";
import { LogInterpreter } from "../events/log-interpreter.ts";
import { type Definition, landmarkOf, walkLog } from "../events/log-walk.ts";
import { type Assembler, type HeldRows, withoutRows } from "../rows/assembler.ts";
import type { Decoder } from "../rows/decoder.ts";
import type { Uncertain } from "../statements/programs.ts";
import { mayNameMore, rowsOfAny, type RowStatement, type StatementKind } from "../statements/statements.ts";
import { type LogNames, type NextFile, unpackPosition } from "../wire/position.ts";
import type { Server } from "../wire/server.ts";
import type { Trail } from "./read-transactions.ts";
import type { StreamState } from "./stream-state.ts";

/** The limit for the rows of all transactions that are prepared. */
const PREPARED_BYTES_MAX = 32 * 1024 * 1024;
/** The overhead of a row besides its tuples. */
const ROW_BYTES = 18;
const ALL_ROWS = Number.POSITIVE_INFINITY;
const US_PER_SECOND = 1_000_000n;
const NAMELESS: TransactionName = {
  gtid: "",
  committedUs: 0n,
  originUs: 0n,
  isBegun: false,
  isPrepared: false,
  isMixed: false,
};

/** Something that an event needs and the stream must wait for. */
export type LogQuestion =
  /** The version of the table that was truncated: see `truncated`. */
  | { readonly kind: "truncate"; readonly target: TableName }
  /** Tables in which rows may have come or gone outside the log: see `defined`. */
  | {
      readonly kind: "definition";
      /** Whose rows may have changed outside the log. */
      readonly unlogged: readonly TableName[];
      readonly renames: readonly Rename[];
      /** Where the statement begins. */
      readonly at: Position;
    }
  /** The tables that a statement may have changed, of which the log has no rows: see `passed`. */
  | ({ readonly kind: "rows"; readonly empties: TableName | null; readonly position: string } & Uncertain)
  | UnreadDefinition
  /** Tables of which rows were dropped that count, or were given out that don't: see `lost`. */
  | {
      readonly kind: "lost";
      readonly tables: Iterable<string>;
      readonly what: string;
      /** Where the transaction ends; null: it goes on. */
      readonly end: bigint | null;
    }
  /** The rows of a transaction that was prepared before this stream began: see `found`. */
  | { readonly kind: "prepared"; readonly name: string };

/** Of tables that it may name it may have renamed each, changed its rows, or exchanged them with those of another one. */
export interface UnreadDefinition {
  readonly kind: "unread definition";
  /** Why it can't be read whole. */
  readonly why: string;
  readonly by: Uncertain;
  readonly at: Position;
  readonly position: string;
}

interface LogReaderParts {
  readonly assembler: Assembler;
  readonly decoder: Decoder;
  readonly from: Position;
  readonly names: LogNames;
  readonly tables: SourceTables;
  readonly state: StreamState;
  /** Only what is prepared before this position counts; null: everything counts. */
  readonly preparedBefore: bigint | null;
  /** Undefined if the earlier transactions are unknown. */
  readonly trail: Trail | undefined;
  /** True if its position counts for the source. */
  readonly isMain: boolean;
}

export class LogReader {
  readonly #assembler: Assembler;
  readonly #decoder: Decoder;
  readonly #log: LogInterpreter;
  readonly #names: LogNames;
  readonly #tables: SourceTables;
  readonly #state: StreamState;
  readonly #from: Position;
  readonly #preparedBefore: bigint | null;
  readonly #trail: Trail | undefined;
  readonly #isMain: boolean;
  /** True between BEGIN and its end: statements in between end nothing. */
  #isExplicit = false;
  /** True in a transaction that may be prepared at its end. */
  #isXa = false;
  readonly prepared = new PreparedTransactions();

  constructor(parts: LogReaderParts) {
    const { assembler, decoder, from, names, tables, state, preparedBefore, trail, isMain } = parts;
    this.#isMain = isMain;
    this.#preparedBefore = preparedBefore;
    this.#assembler = assembler;
    this.#decoder = decoder;
    this.#from = from;
    this.#names = names;
    this.#tables = tables;
    this.#state = state;
    this.#trail = trail;
    this.#log = new LogInterpreter(decoder.events, names, from.commit, (start, seen) => {
      trail?.note(start, seen);
      return true;
    });
  }

  /** The present event is one of the file itself, not one inside another event. */
  outer(): void {
    this.#log.outer();
  }

  /** Such an event has no rows. */
  sighted(): void {
    if (this.#isMain) this.#state.landmark = landmarkOf(this.#decoder.events, this.#start) ?? this.#state.landmark;
  }

  get #start(): bigint {
    return this.#log.start;
  }

  get #next(): bigint {
    return this.#log.next;
  }

  /** Between two transactions, everything that was read is done. */
  ended(): void {
    if (this.#assembler.inTransaction) this.cutIfLarge();
    else {
      this.#assembler.moveTo(this.#next);
      this.#trail?.moveTo(this.#next);
    }
  }

  cutIfLarge(): void {
    if (!this.#isXa) this.#assembler.cutIfLarge();
    // Its outcome is not known yet.
    else if (this.#assembler.isTooLarge) this.#assembler.dropRows();
  }

  /** Whether rows at this position may be needed. */
  get isWanted(): boolean {
    return this.#preparedBefore === null || this.#isXa;
  }

  /** Takes the event that the decoder left to this reader. */
  control(): LogQuestion | null {
    const event = this.#log.read();
    switch (event.kind) {
      case "next file":
        return this.#nextFile(event.next);
      case "file begins":
        if (this.#isMain) this.#fileBegins();
        return null;
      case "begin":
        this.#begin(event.name);
        return null;
      case "commit":
        this.#end();
        return null;
      case "prepare":
        return this.#prepare(event.xa);
      case "statement":
        return this.#statement(event.statement, event.says);
      case "incident":
        throw sourceError("MR2010", "fatal", `the server says that events are missing in its log at ${this.#position}`);
      case "before":
      case "other":
        return null;
      default:
        return event satisfies never;
    }
  }

  /** Shapes of tables may change at this position. */
  defined(): void {
    this.#decoder.maps.forgetVersions();
    this.#endAlone();
  }

  /** `table`: null if it is not captured. */
  truncated(table: TableVersion | null): void {
    if (table !== null) this.#assembler.truncate(table, this.#start);
    this.#decoder.maps.forgetVersions();
    this.#endAlone();
  }

  /** `emptied`: the table of which no row stayed, or null. */
  passed(emptied: TableVersion | null): void {
    if (emptied !== null) this.#assembler.truncate(emptied, this.#start);
    this.#endAlone();
  }

  /** The tables are suspended. */
  lost(end: bigint | null): void {
    if (end !== null) this.#end(end);
  }

  /** By now `prepared` has the requested rows, or the log no longer has them. */
  found(name: string): LogQuestion | null {
    const rows = this.prepared.take(name);
    if (rows === undefined)
      throw sourceError(
        "MR2123",
        "fatal",
        `a transaction is committed at ${this.#position} that was prepared before the log begins`,
      );
    return this.#restore(rows);
  }

  get #position(): string {
    return this.#names.format(this.#start);
  }

  #fileBegins(): void {
    const { timestamp } = this.#decoder.events.header;
    this.#state.file = { file: unpackPosition(this.#next).file, createdAt: timestamp };
  }

  #begin(name: TransactionName): void {
    const { committedUs, gtid, isBegun, isMixed, isPrepared } = name;
    // A file without an end event was not written to its end.
    if (this.#rollBack(this.#start) !== null) throw sourceError("MR2123", "fatal", this.#takenBack());
    const { header } = this.#decoder.events;
    this.#decoder.maps.begin();
    const timeUs = committedUs === 0n ? BigInt(header.timestamp) * US_PER_SECOND : committedUs;
    this.#isExplicit = isBegun;
    this.#setXa(isPrepared);
    const { commit, index } = this.#from;
    const skipBelow = this.#start > commit ? 0 : this.#start === commit ? index : ALL_ROWS;
    this.#log.named(name);
    const origin = { gtid: gtid === "" ? null : gtid, serverId: header.serverId };
    this.#assembler.begin(this.#start, timeUs, skipBelow, origin);
    if (isMixed) this.#assembler.keepTogether();
  }

  #end(end = this.#next): void {
    if (!this.#assembler.inTransaction) return;
    this.#isExplicit = false;
    this.#setXa(false);
    this.#assembler.commit(end);
  }

  /** Drops the rows of the open transaction. */
  #rollBack(end: bigint): LogQuestion | null {
    const given = this.#assembler.rollBack();
    if (given.size > 0) return { kind: "lost", tables: given, what: this.#takenBack(), end };
    this.#end(end);
    return null;
  }

  /** A transaction does not continue there: the server crashed in the middle of it. */
  #nextFile(next: NextFile): LogQuestion | null {
    const asked = this.#rollBack(this.#start);
    this.#log.rotate(next);
    return asked;
  }

  #setXa(isXa: boolean): void {
    // From here on, the decision whether a table's rows are needed may be different.
    if (isXa !== this.#isXa && this.#preparedBefore !== null) this.#decoder.maps.forgetVersions();
    this.#isXa = isXa;
  }

  /** Whether the open transaction is before the range that this stream is for, or after it. */
  get #isPassed(): boolean {
    const { commit } = this.#assembler.position;
    const isBehind = this.#preparedBefore !== null && commit >= this.#preparedBefore;
    return !this.#assembler.inTransaction || commit < this.#from.commit || isBehind;
  }

  /** The end of an XA transaction's changes. Its outcome comes later, in another transaction, unless it is here. */
  #prepare({ isCommit, name }: XaPrepare): LogQuestion | null {
    if (this.#isPassed || (isCommit && !this.#assembler.hasDropped)) {
      this.#end();
      return null;
    }
    const rows = this.#assembler.withhold();
    if (isCommit && this.#preparedBefore === null) return this.#restore(rows);
    if (!isCommit) this.prepared.add(name, rows);
    this.#end();
    return null;
  }

  /** The transaction of these rows is committed here. */
  #restore(rows: HeldRows): LogQuestion | null {
    if (rows.dropped.size > 0) {
      const what = `a prepared transaction that is committed at ${this.#position} was larger than what is kept of it`;
      return { kind: "lost", tables: rows.dropped, what, end: this.#next };
    }
    this.#assembler.restore(rows);
    this.#end();
    return null;
  }

  #commitPrepared(name: string | null): LogQuestion | null {
    if (!this.#isPassed) {
      if (name === null) throw damaged("the name of a prepared transaction can't be read");
      const rows = this.prepared.take(name);
      if (this.#preparedBefore === null) {
        return rows === undefined ? { kind: "prepared", name } : this.#restore(rows);
      }
    }
    this.#end();
    return null;
  }

  /** A statement that is a transaction by itself. */
  #endAlone(): void {
    if (!this.#isExplicit) this.#end();
  }

  #statement(statement: Statement, says: StatementKind): LogQuestion | null {
    const { isLegible, schema, sql } = statement;
    switch (says.kind) {
      case "begin":
        if (!this.#assembler.inTransaction) this.#begin(NAMELESS);
        this.#isExplicit = true;
        return null;
      case "commit":
        this.#end();
        return null;
      case "rollback":
        return this.#rollBack(this.#next);
      case "savepoint":
        this.#assembler.savepoint(says.name);
        return null;
      case "partial rollback": {
        const tables = this.#assembler.rollBackTo(says.name);
        return tables.size === 0 ? null : { kind: "lost", tables, what: this.#takenBack(), end: null };
      }
      case "xa start":
        this.#isExplicit = true;
        this.#setXa(true);
        return null;
      case "xa end":
        return null;
      case "truncate":
        if (!isLegible && isIllegible(says.target)) return this.#changed(rowsOfAny(sql, schema), statement);
        return this.#truncated(says.target);
      case "rows":
        return this.#changed(says, statement);
      case "definition": {
        const why = whyUnread(statement, says);
        return why === null || this.#isWithoutRows ? this.#defined(says) : this.#definedUnread(statement, why);
      }
      case "xa commit":
        return this.#commitPrepared(says.name);
      case "xa rollback":
        if (says.name !== null && !this.#isPassed) this.prepared.take(says.name);
        this.#end();
        return null;
      case "other":
        this.#endAlone();
        return null;
      default:
        return says satisfies never;
    }
  }

  #truncated(named: TableName): LogQuestion {
    const target = this.#tables.names.spelled(named);
    this.#tables.alterations.truncated(tableId(target.schema, target.table), this.#start);
    return { kind: "truncate", target };
  }

  #defined(statement: Definition): LogQuestion | null {
    this.#state.defined(this.#start, this.#tables);
    const { names } = this.#tables;
    // Looking back, rows of other transactions do not count.
    const isCounted = (target: TableName): boolean => this.#preparedBefore === null && names.captures(target);
    const unlogged = statement.unlogged.map((target) => names.spelled(target)).filter(isCounted);
    const renames = renamesOf(statement, names);
    const isAsked = unlogged.length > 0 || renames.length > 0;
    const at = { epoch: this.#from.epoch, commit: this.#start, index: 0 };
    if (isAsked && this.#start >= this.#from.commit) return { kind: "definition", unlogged, renames, at };
    this.defined();
    return null;
  }

  /** What statements did to rows here does not count. */
  get #isWithoutRows(): boolean {
    return this.#start < this.#from.commit || this.#preparedBefore !== null;
  }

  #definedUnread({ isLegible, isWhole, schema, sql }: Statement, why: string): UnreadDefinition {
    this.#state.defined(this.#start, this.#tables);
    const by = { isLegible, isWhole, statement: rowsOfAny(sql, schema), withRows: [] };
    const at = { epoch: this.#from.epoch, commit: this.#start, index: 0 };
    return { kind: "unread definition", why, by, at, position: this.#position };
  }

  #changed(statement: RowStatement, { isCutShort, isLegible, isWhole }: Statement): LogQuestion | null {
    if (this.#isWithoutRows) {
      this.#endAlone();
      return null;
    }
    const isNamed = statement.target !== null && (isLegible || !isIllegible(statement.target));
    const target = isNamed ? this.#tables.names.spelled(statement.target) : null;
    return {
      isLegible,
      isWhole,
      kind: "rows",
      statement: {
        ...statement,
        target,
        several: statement.several?.map((one) => this.#tables.names.spelled(one)) ?? null,
      },
      withRows: this.#decoder.maps.named,
      // What is withheld for an XA transaction's outcome are rows.
      empties: statement.isOfAll && !isCutShort && !this.#isXa ? target : null,
      position: this.#position,
    };
  }

  #takenBack(): string {
    return `a transaction is rolled back at ${this.#position} that is given out in part`;
  }
}

/** A name in between may be that of a table that is not captured. */
function renamesOf({ renames }: Definition, names: TableNames): readonly Rename[] {
  const idOf = (target: TableName): string => {
    const { schema, table } = names.spelled(target);
    return tableId(schema, table);
  };
  return [...renames, ...copiesBy(renames)].map((one) => ({ ...one, from: idOf(one.from), to: idOf(one.to) }));
}

/** A tool may write out the columns of the table that it copies, where others say LIKE. */
function copiesBy([made, ...others]: Definition["renames"]): Definition["renames"] {
  if (made === undefined || others.length > 0 || !(made.how === "made" || made.how === "perhaps made")) return [];
  const { to } = made;
  const how = made.how === "made" ? "copied" : "perhaps copied";
  return copiedNames(to).map((table) => ({ from: { ...to, table }, to, columns: [], how }));
}

function namedIn(renames: Definition["renames"]): readonly TableName[] {
  return renames.flatMap(({ from, to }) => [from, to]);
}

/** Null: it names no tables but those that are known. A name that can't be read may be that of a captured table. */
function whyUnread({ isLegible, isWhole, sql }: Statement, { unlogged, renames }: Definition): string | null {
  if (!isWhole && mayNameMore(sql)) return "a statement that alters or renames tables is too long to be read whole";
  const isUnknown = !isLegible && [...unlogged, ...namedIn(renames)].some(isIllegible);
  return isUnknown ? "a statement names tables in a character set that is unknown" : null;
}

/** Of tables whose names, or rows, a statement may have exchanged, each with each other. */
export function perhapsExchanged([hub, ...others]: readonly TableName[]): readonly Rename[] {
  if (hub === undefined) return [];
  const id = tableId(hub.schema, hub.table);
  const once = others.map(({ schema, table }) => ({
    from: id,
    to: tableId(schema, table),
    columns: [],
    how: "exchanged" as const,
  }));
  // By the second round the first table has what all others had.
  return [...once, ...once.map(({ from, to, ...rest }) => ({ from: to, to: from, ...rest }))];
}

/** See `ChangeLog`. */
export async function walkRenames(
  server: Server,
  names: TableNames,
  { from, until }: { readonly from: Position; readonly until: bigint },
  onRenamed: OnRenamed,
  signal: AbortSignal,
): Promise<void> {
  const onDefinition = (start: bigint, says: Definition, statement: Statement): void => {
    const renames = whyUnread(statement, { ...says, unlogged: [] }) === null ? renamesOf(says, names) : null;
    if (renames?.length !== 0) onRenamed(renames, { epoch: from.epoch, commit: start, index: 0 });
  };
  if (from.commit < until) await walkLog(server, from.commit, until, { onDefinition }, signal);
}

function isIllegible({ schema, table }: TableName): boolean {
  return `${schema}${table}`.includes(ILLEGIBLE);
}

/**
 * Transactions that are prepared (XA PREPARE) and wait for their outcome. Their rows are kept here by the transaction's name
 * until XA COMMIT gives them their position in the log, or XA ROLLBACK drops them.
 */
class PreparedTransactions {
  readonly #rows = new Map<string, HeldRows>();
  #byteCount = 0;

  /** Where there is no room, only its tables are kept. */
  add(name: string, rows: HeldRows): void {
    this.take(name);
    const kept = this.#byteCount + byteCountOf(rows) > PREPARED_BYTES_MAX ? withoutRows(rows) : rows;
    this.#byteCount += byteCountOf(kept);
    this.#rows.set(name, kept);
  }

  has(name: string): boolean {
    return this.#rows.has(name);
  }

  take(name: string): HeldRows | undefined {
    const rows = this.#rows.get(name);
    if (rows === undefined) return undefined;
    this.#rows.delete(name);
    this.#byteCount -= byteCountOf(rows);
    return rows;
  }

  /** Moves entries that only the other one has to this one. */
  takeAll(others: PreparedTransactions): void {
    for (const [name, rows] of others.#rows) if (!this.has(name)) this.add(name, rows);
  }
}

function byteCountOf({ bytes, count }: HeldRows): number {
  return bytes.length + count * ROW_BYTES;
}
