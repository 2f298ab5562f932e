/** Follows the log's transactions and files: what begins and ends where. The decoder handles rows. */
import type { Position } from "../../../../src/core/model/position.ts";
import type { Rename } from "../../../../src/core/contracts/change-log.ts";
import type { TableName } from "../../../../src/core/contracts/connector.ts";
import { tableId, type TableVersion } from "../../../../src/core/model/schema.ts";
import { copiedNames } from "../../../kit/online-copies.ts";
import type { SourceTables } from "../catalog/source-tables.ts";
import type { TableNames } from "../catalog/table-names.ts";
import { damaged, sourceError } from "../errors.ts";
import { type TransactionName, type XaPrepare, ILLEGIBLE, type Statement } from "../events/log-events.ts";
import { LogInterpreter } from "../events/log-interpreter.ts";
import { type Definition, landmarkOf, walkLog } from "../events/log-walk.ts";
import type { Assembler, HeldRows } from "../rows/assembler.ts";
import type { Decoder } from "../rows/decoder.ts";
import type { Uncertain } from "../statements/programs.ts";
import { mayNameMore, rowsOfAny, type RowStatement, type StatementKind } from "../statements/statements.ts";
import type { LogFiles } from "../wire/log-files.ts";
import { type LogNames, unpackPosition } from "../wire/position.ts";
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
  /** The rows of a transaction that was prepared before this stream began: see `found`. */
  | { readonly kind: "prepared"; readonly name: string };

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
    else if (this.#assembler.isTooLarge) throw tooLarge(this.#position);
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
        // The transaction does not continue in the next file: the server crashed in the middle of it.
        this.#rollBack(this.#start);
        this.#log.rotate(event.next);
        return null;
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
        this.#prepare(event.xa);
        return null;
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

  /** By now `prepared` has the requested rows, or the log no longer has them. */
  found(name: string): void {
    const rows = this.prepared.take(name);
    if (rows === undefined)
      throw sourceError(
        "MR2123",
        "fatal",
        `a transaction is committed at ${this.#position} that was prepared before the log begins`,
      );
    this.#assembler.restore(rows);
    this.#end();
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
    this.#rollBack(this.#start);
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
  #rollBack(end: bigint): void {
    if (!this.#assembler.rollBack()) throw this.#refuseRollback();
    this.#end(end);
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
  #prepare({ isCommit, name }: XaPrepare): void {
    if (!isCommit && !this.#isPassed && !this.prepared.add(name, this.#assembler.withhold()))
      throw tooLarge(this.#position);
    this.#end();
  }

  #commitPrepared(name: string | null): LogQuestion | null {
    if (!this.#isPassed) {
      if (name === null) throw damaged("the name of a prepared transaction can't be read");
      const rows = this.prepared.take(name);
      if (this.#preparedBefore === null) {
        if (rows === undefined) return { kind: "prepared", name };
        this.#assembler.restore(rows);
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
        this.#rollBack(this.#next);
        return null;
      case "savepoint":
        this.#assembler.savepoint(says.name);
        return null;
      case "partial rollback":
        if (!this.#assembler.rollBackTo(says.name)) throw this.#refuseRollback();
        return null;
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
      case "definition":
        this.#refuseUnread(statement, says);
        return this.#defined(says);
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

  #changed(statement: RowStatement, { isCutShort, isLegible, isWhole }: Statement): LogQuestion | null {
    if (this.#start < this.#from.commit || this.#preparedBefore !== null) {
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

  #refuseUnread(statement: Statement, { unlogged, renames }: Definition): void {
    if (this.#start < this.#from.commit || this.#preparedBefore !== null) return;
    refuseUnread(statement, [...unlogged, ...namedIn(renames)], this.#position);
  }

  #refuseRollback(): Error {
    return sourceError(
      "MR2123",
      "fatal",
      `a transaction is rolled back at ${this.#position} that is given out in part`,
    );
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

/** A name that can't be read may be that of a captured table. */
function refuseUnread({ isLegible, isWhole, sql }: Statement, named: readonly TableName[], position: string): void {
  const why =
    !isWhole && mayNameMore(sql)
      ? "a statement that alters or renames tables is too long to be read whole"
      : !isLegible && named.some(isIllegible)
        ? "a statement names tables in a character set that is unknown"
        : null;
  if (why !== null) throw sourceError("MR2120", "fatal", `${why}, at ${position}`);
}

/** See `ChangeLog`. */
export async function walkRenames(
  server: Server,
  { files, names }: { readonly files: LogFiles; readonly names: TableNames },
  from: Position,
  onRenamed: (renames: readonly Rename[], position: Position) => void,
  signal: AbortSignal,
): Promise<bigint> {
  const until = await files.tip(signal);
  const onDefinition = (start: bigint, says: Definition, statement: Statement): void => {
    refuseUnread(statement, namedIn(says.renames), server.names.format(start));
    const renames = renamesOf(says, names);
    if (renames.length > 0) onRenamed(renames, { epoch: from.epoch, commit: start, index: 0 });
  };
  if (from.commit < until) await walkLog(server, from.commit, until, { onDefinition }, signal);
  return until;
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

  /** False: there is no room. */
  add(name: string, rows: HeldRows): boolean {
    this.take(name);
    this.#byteCount += byteCountOf(rows);
    this.#rows.set(name, rows);
    return this.#byteCount <= PREPARED_BYTES_MAX;
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

  /** Moves entries that only the other one has to this one. False: there is no room. */
  takeAll(others: PreparedTransactions): boolean {
    let hasRoom = true;
    for (const [name, rows] of others.#rows) if (!this.has(name)) hasRoom = this.add(name, rows) && hasRoom;
    return hasRoom;
  }
}

function byteCountOf({ bytes, count }: HeldRows): number {
  return bytes.length + count * ROW_BYTES;
}

export function tooLarge(position: string): Error {
  return sourceError("MR2123", "fatal", `prepared transactions are larger than what is kept of them, at ${position}`);
}
