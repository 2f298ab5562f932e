/** Follows the log's transactions and files: what begins and ends where. The decoder handles rows. */
import type { Position } from "../../../../src/core/model/position.ts";
import type { Rename } from "../../../../src/core/contracts/change-log.ts";
import { tableId, type TableVersion } from "../../../../src/core/model/schema.ts";
import { damaged } from "../../errors.ts";
import type { Assembler } from "../rows/assemble.ts";
import type { SourceContext } from "../context.ts";
import type { Decoder } from "../rows/decoder.ts";
import { sourceError } from "../errors.ts";
import * as code from "./events.ts";
import {
  readMariadbGtid,
  readMysqlGtid,
  readRotate,
  readXaPrepare,
  type RotateEvent,
  type XaPrepare,
} from "./log-events.ts";
import type { TransactionName } from "../transactions/transaction-name.ts";
import { LogCursor } from "./log-cursor.ts";
import { landmarkOf } from "./landmark.ts";
import { unpackPlace } from "./position.ts";
import { PreparedTransactions, tooLarge } from "../transactions/prepared.ts";
import { type Trail, TransactionTimes } from "../transactions/read-transactions.ts";
import { ILLEGIBLE, readStatement } from "../statements/statement-events.ts";
import {
  kindOfStatement,
  rowsOfAny,
  type RowStatement,
  type StatementKind,
  type StatementTarget,
} from "../statements/statements.ts";
import type { Uncertain } from "../statements/programs.ts";
import { readTaggedGtid } from "../transactions/tagged-gtid.ts";

const ALL_ROWS = Number.POSITIVE_INFINITY;
const US_PER_SECOND = 1_000_000n;
const NAMELESS: TransactionName = {
  gtid: "",
  committedUs: 0n,
  originUs: 0n,
  isAlone: false,
  isPrepared: false,
  isMixed: false,
};

/** Something that an event needs and the stream must wait for. */
export type LogQuestion =
  /** The version of the table that was truncated: see `truncated`. */
  | { readonly kind: "truncate"; readonly target: StatementTarget }
  /** Tables in which rows may have come or gone outside the log: see `defined`. */
  | {
      readonly kind: "definition";
      /** Whose rows may have changed outside the log. */
      readonly unlogged: readonly StatementTarget[];
      readonly renames: readonly Rename[];
      /** Where the statement begins. */
      readonly at: Position;
    }
  /** The tables that a statement may have changed, of which the log has no rows: see `passed`. */
  | ({ readonly kind: "rows"; readonly empties: StatementTarget | null; readonly place: string } & Uncertain)
  /** The rows of a transaction that was prepared before this stream began: see `found`. */
  | { readonly kind: "prepared"; readonly name: string };

export interface LogReaderParts {
  readonly assembler: Assembler;
  readonly decoder: Decoder;
  readonly from: Position;
  readonly context: SourceContext;
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
  readonly #context: SourceContext;
  readonly #from: Position;
  readonly #preparedBefore: bigint | null;
  readonly #cursor: LogCursor;
  readonly #trail: Trail | undefined;
  readonly #isMain: boolean;
  readonly #times = new TransactionTimes((start, seen) => {
    this.#trail?.note(start, seen);
    return true;
  });
  /** True between BEGIN and its end: statements in between end nothing. */
  #isExplicit = false;
  /** True in a transaction that may be prepared at its end. */
  #isXa = false;
  readonly prepared = new PreparedTransactions();

  constructor({ assembler, decoder, from, context, preparedBefore, trail, isMain }: LogReaderParts) {
    this.#isMain = isMain;
    this.#preparedBefore = preparedBefore;
    this.#assembler = assembler;
    this.#decoder = decoder;
    this.#from = from;
    this.#context = context;
    this.#cursor = new LogCursor(from.commit);
    this.#trail = trail;
  }

  /** An event of the file itself, not one inside another event. */
  outer(header: code.EventHeader): void {
    this.#times.event(header);
    this.#cursor.take(header);
  }

  /** The event that the decoder left to this reader is one of the file itself. */
  sighted(): void {
    if (this.#isMain) this.#context.landmark = landmarkOf(this.#decoder, this.#start) ?? this.#context.landmark;
  }

  get #start(): bigint {
    return this.#cursor.start;
  }

  get #next(): bigint {
    return this.#cursor.next;
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
    else if (this.#assembler.isTooLarge) throw tooLarge(this.#place);
  }

  /** Whether rows at this position may be needed. */
  get isWanted(): boolean {
    return this.#preparedBefore === null || this.#isXa;
  }

  /** Takes the event that the decoder left to this reader. */
  control(): LogQuestion | null {
    const { header, bytes, at, until } = this.#decoder;
    switch (header.type) {
      case code.ROTATE:
        this.#rotate(readRotate(bytes, at, until));
        return null;
      case code.FORMAT_DESCRIPTION:
        if (this.#isMain) this.#context.log = { file: unpackPlace(this.#next).file, createdAt: header.timestamp };
        return null;
      case code.GTID:
      case code.ANONYMOUS_GTID:
        this.#begin(readMysqlGtid(bytes, at, until, header.type === code.ANONYMOUS_GTID));
        return null;
      case code.GTID_TAGGED:
        this.#begin(readTaggedGtid(bytes, at, until));
        return null;
      case code.MARIADB_GTID: {
        const name = readMariadbGtid(bytes, at, until, header.serverId);
        this.#begin(name);
        this.#isExplicit = !name.isAlone;
        return null;
      }
      case code.XID:
        this.#end();
        return null;
      case code.XA_PREPARE:
        this.#prepare(readXaPrepare(bytes, at, until));
        return null;
      case code.QUERY:
      case code.MARIADB_QUERY_COMPRESSED:
      case code.EXECUTE_LOAD_QUERY:
        return this.#statement();
      case code.INCIDENT:
        throw sourceError("MR2116", "fatal", `the server says that events are missing in its log at ${this.#place}`);
      case code.HEARTBEAT:
      case code.HEARTBEAT_V2:
      default:
        return null;
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
        `a transaction is committed at ${this.#place} that was prepared before the log begins`,
      );
    this.#assembler.restore(rows);
    this.#end();
  }

  get #place(): string {
    return this.#context.names.format(this.#start);
  }

  #rotate(next: RotateEvent): void {
    // The transaction does not continue in the next file: the server crashed in the middle of it.
    this.#rollBack(this.#start);
    this.#cursor.rotate(next, this.#context.names);
  }

  #begin(name: TransactionName): void {
    const { committedUs, gtid, isMixed, isPrepared } = name;
    // A file without an end event was not written to its end.
    this.#rollBack(this.#start);
    const { header, maps } = this.#decoder;
    maps.begin();
    const timeUs = committedUs === 0n ? BigInt(header.timestamp) * US_PER_SECOND : committedUs;
    this.#isExplicit = false;
    this.#setXa(isPrepared);
    const { commit, index } = this.#from;
    const skipBelow = this.#start > commit ? 0 : this.#start === commit ? index : ALL_ROWS;
    this.#times.named(this.#start, name);
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
      throw tooLarge(this.#place);
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

  #statement(): LogQuestion | null {
    const { bytes, at, header, until } = this.#decoder;
    const { isLegible, isWhole, schema, sql } = readStatement(header.type, bytes, at, until);
    const statement = kindOfStatement(sql, schema);
    switch (statement.kind) {
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
        this.#assembler.savepoint(statement.name);
        return null;
      case "partial rollback":
        if (!this.#assembler.rollBackTo(statement.name)) throw this.#refuseRollback();
        return null;
      case "xa start":
        this.#isExplicit = true;
        this.#setXa(true);
        return null;
      case "xa end":
        return null;
      case "truncate":
        if (!isLegible && isIllegible(statement.target))
          return this.#changed(rowsOfAny(sql, schema), { isLegible, isWhole });
        return { kind: "truncate", target: this.#context.spelling.of(statement.target) };
      case "rows":
        return this.#changed(statement, { isLegible, isWhole });
      case "definition":
        if (!isLegible) this.#refuseIllegible(statement);
        return this.#defined(statement);
      case "xa commit":
        return this.#commitPrepared(statement.name);
      case "xa rollback":
        if (statement.name !== null && !this.#isPassed) this.prepared.take(statement.name);
        this.#end();
        return null;
      case "other":
        this.#endAlone();
        return null;
      default:
        return statement satisfies never;
    }
  }

  #defined(statement: Extract<StatementKind, { readonly kind: "definition" }>): LogQuestion | null {
    this.#context.read.defined(this.#start);
    this.#context.shapes.defined(this.#start);
    this.#context.alterations.defined(this.#start);
    this.#context.programs.forget();
    const { captures, spelling } = this.#context;
    const unlogged = statement.unlogged
      .map((target) => spelling.of(target))
      .filter(({ schema, table }) => captures(schema, table));
    // A name in between may be that of a table that is not captured.
    const idOf = (target: StatementTarget): string => {
      const { schema, table } = spelling.of(target);
      return tableId(schema, table);
    };
    const renames = statement.renames.map((one) => ({ ...one, from: idOf(one.from), to: idOf(one.to) }));
    const isAsked = unlogged.length > 0 || renames.length > 0;
    const at = { epoch: this.#from.epoch, commit: this.#start, index: 0 };
    if (isAsked && this.#start >= this.#from.commit) return { kind: "definition", unlogged, renames, at };
    this.defined();
    return null;
  }

  #changed(statement: RowStatement, known: Pick<Uncertain, "isLegible" | "isWhole">): LogQuestion | null {
    if (this.#start < this.#from.commit || this.#preparedBefore !== null) {
      this.#endAlone();
      return null;
    }
    const isNamed = statement.target !== null && (known.isLegible || !isIllegible(statement.target));
    const target = isNamed ? this.#context.spelling.of(statement.target) : null;
    return {
      ...known,
      kind: "rows",
      statement: {
        ...statement,
        target,
        several: statement.several?.map((one) => this.#context.spelling.of(one)) ?? null,
      },
      withRows: this.#decoder.maps.named,
      // What is withheld for an XA transaction's outcome are rows.
      empties: statement.isOfAll && !this.#isXa ? target : null,
      place: this.#place,
    };
  }

  /** A name that can't be read may be that of a captured table. */
  #refuseIllegible({ unlogged, renames }: Extract<StatementKind, { readonly kind: "definition" }>): void {
    if (this.#start < this.#from.commit || this.#preparedBefore !== null) return;
    if (![...unlogged, ...renames.flatMap(({ from, to }) => [from, to])].some(isIllegible)) return;
    const what = `a statement names tables in a character set that is unknown, at ${this.#place}`;
    throw sourceError("MR2120", "fatal", what);
  }

  #refuseRollback(): Error {
    return sourceError("MR2123", "fatal", `a transaction is rolled back at ${this.#place} that is given out in part`);
  }
}

function isIllegible({ schema, table }: StatementTarget): boolean {
  return `${schema}${table}`.includes(ILLEGIBLE);
}
