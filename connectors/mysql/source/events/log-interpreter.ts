/**
 * Follows the events of the log: where each begins, which transaction it names, what it says. It serves the stream
 * (transactions/log-reader.ts) and walks beside it (log-walk.ts) alike; rows are the decoder's.
 */
import * as code from "../wire/event-header.ts";
import { LogCursor, type LogNames, type NextFile } from "../wire/position.ts";
import { kindOfStatement, type StatementKind, namesIn, temporaryMade } from "../statements/statements.ts";
import type { EventReader } from "./event-reader.ts";
import type { GtidSet } from "./gtid-set.ts";
import {
  readGtidList,
  readMariadbGtid,
  readMysqlGtid,
  readPreviousGtids,
  readRotate,
  readTaggedGtid,
  readXaPrepare,
  type TransactionName,
  type XaPrepare,
  readStatement,
  type Statement,
} from "./log-events.ts";
import type { TableName } from "../../../../src/core/contracts/connector.ts";

/** What an event says that has no rows. */
type LogEvent =
  | { readonly kind: "file begins" }
  /** The transactions before this file: see `before`. */
  | { readonly kind: "before" }
  | { readonly kind: "next file"; readonly next: NextFile }
  | { readonly kind: "begin"; readonly name: TransactionName }
  | { readonly kind: "statement"; readonly statement: Statement; readonly says: StatementKind }
  | { readonly kind: "prepare"; readonly xa: XaPrepare }
  | { readonly kind: "commit" }
  /** Events are missing here. */
  | { readonly kind: "incident" }
  | { readonly kind: "other" };

const BEFORE: LogEvent = { kind: "before" };
const FILE_BEGINS: LogEvent = { kind: "file begins" };
const COMMIT: LogEvent = { kind: "commit" };
const INCIDENT: LogEvent = { kind: "incident" };
const OTHER: LogEvent = { kind: "other" };

export interface SeenTransaction {
  /** Empty if it has no name. */
  readonly gtid: string;
  /** The same on every host; it distinguishes names that were given again after a reset. In the server's unit. */
  readonly time: number;
}

/** Gets each transaction of the log, and where it begins; false: no more are wanted. */
type OnSeen = (start: bigint, seen: SeenTransaction) => boolean;

/**
 * Combines names and times. MySQL sends the time with the name. MariaDB's name has the time of the commit, which differs on
 * a replica; the next event has the time of its statement, which is the same on every host.
 */
class TransactionTimes {
  readonly #onSeen: OnSeen;
  #untimed: { readonly start: bigint; readonly gtid: string } | undefined;

  constructor(onSeen: OnSeen) {
    this.#onSeen = onSeen;
  }

  /** False if `onSeen` returns false, here and below. */
  named(start: bigint, { gtid, originUs }: Pick<TransactionName, "gtid" | "originUs">): boolean {
    if (gtid === "" || originUs !== 0n) return this.#onSeen(start, { gtid, time: Number(originUs) });
    this.#untimed = { start, gtid };
    return true;
  }

  /** Every event of the file comes here before it is handled. */
  event(header: code.EventHeader): boolean {
    const untimed = this.#untimed;
    if (untimed === undefined) return true;
    this.#untimed = undefined;
    return this.#onSeen(untimed.start, { gtid: untimed.gtid, time: header.timestamp });
  }
}

export class LogInterpreter {
  readonly #events: EventReader;
  readonly #names: LogNames;
  readonly #cursor: LogCursor;
  readonly #times: TransactionTimes;
  readonly #temporary = new TemporaryTables();

  /** `from`: where the first event begins. */
  constructor(events: EventReader, names: LogNames, from: bigint, onSeen: OnSeen) {
    this.#events = events;
    this.#names = names;
    this.#cursor = new LogCursor(from);
    this.#times = new TransactionTimes(onSeen);
  }

  /** Where the present event of the file begins, and the next one. */
  get start(): bigint {
    return this.#cursor.start;
  }

  get next(): bigint {
    return this.#cursor.next;
  }

  /** Each event of the file itself, not one inside another event, comes here first. False if `onSeen` returns false. */
  outer(): boolean {
    const { header } = this.#events;
    const goesOn = this.#times.event(header);
    this.#cursor.take(header);
    return goesOn;
  }

  /** A transaction begins with the present event. False if `onSeen` returns false. */
  named(name: TransactionName): boolean {
    return this.#times.named(this.start, name);
  }

  /** The present event names the next file. */
  rotate(next: NextFile): void {
    this.#cursor.rotate(next, this.#names);
  }

  /** The transactions before this file, which the present event names; undefined: unknown. */
  before(): GtidSet | undefined {
    const { at, bytes, header, until } = this.#events;
    const read = header.type === code.PREVIOUS_GTIDS ? readPreviousGtids : readGtidList;
    return read(bytes, at, until);
  }

  /** Invariant: a table is not changed by what changes a temporary table with its name. */
  #saysOf(statement: Statement): StatementKind {
    const { flags, serverId } = this.#events.header;
    const says = kindOfStatement(statement.sql, statement.schema);
    const session = `${serverId} ${statement.thread}`;
    if (says.kind === "definition") this.#temporary.defined(session, statement);
    return (flags & code.FLAG_OF_SESSION) === 0 ? says : this.#temporary.meaning(session, says);
  }

  /** What the present event says, which has no rows. */
  read(): LogEvent {
    const { at, bytes, header, until } = this.#events;
    switch (header.type) {
      case code.FORMAT_DESCRIPTION:
        this.#temporary.forget();
        return FILE_BEGINS;
      case code.PREVIOUS_GTIDS:
      case code.MARIADB_GTID_LIST:
        return BEFORE;
      case code.ROTATE:
        return { kind: "next file", next: readRotate(bytes, at, until) };
      case code.GTID:
      case code.ANONYMOUS_GTID:
        return { kind: "begin", name: readMysqlGtid(bytes, at, until, header.type === code.ANONYMOUS_GTID) };
      case code.GTID_TAGGED:
        return { kind: "begin", name: readTaggedGtid(bytes, at, until) };
      case code.MARIADB_GTID:
        return { kind: "begin", name: readMariadbGtid(bytes, at, until, header.serverId) };
      case code.QUERY:
      case code.MARIADB_QUERY_COMPRESSED:
      case code.EXECUTE_LOAD_QUERY: {
        const statement = readStatement(header.type, bytes, at, until);
        return { kind: "statement", statement, says: this.#saysOf(statement) };
      }
      case code.XA_PREPARE:
        return { kind: "prepare", xa: readXaPrepare(bytes, at, until) };
      case code.XID:
        return COMMIT;
      case code.INCIDENT:
        return INCIDENT;
      default:
        return OTHER;
    }
  }
}

// Temporary tables of the sessions whose statements are in the log. What a session does to one changes no other table, though
// a captured one may have the same name.
//
// Invariant: a table is known as temporary only from its CREATE in the log until any other definition of its session names it,
// or the server begins another file. A table that is forgotten too early costs a resync; one that is forgotten too late, rows.

/** A log that has more at once is not worth the memory. */
const TABLES_MAX = 10_000;

class TemporaryTables {
  /** By their names without regard to case, which some servers ignore; as they were made. */
  readonly #known = new Map<string, string>();

  forget(): void {
    this.#known.clear();
  }

  /** Every definition of the log comes here. `session`: unique in the log. */
  defined(session: string, { isLegible, isWhole, schema, sql }: Statement): void {
    const made = temporaryMade(sql, schema);
    if (!isLegible || !isWhole) this.forget();
    else if (made === null) {
      if (this.#known.size > 0)
        for (const name of namesIn(sql, schema)) this.#known.delete(keyOf(session, name).toLowerCase());
    } else if (this.#known.size < TABLES_MAX) {
      const key = keyOf(session, made);
      this.#known.set(key.toLowerCase(), key);
    }
  }

  /** What a statement comes to for all other sessions; the server says that it depends on its own. */
  meaning(session: string, says: StatementKind): StatementKind {
    const has = (name: TableName): boolean => {
      const key = keyOf(session, name);
      return this.#known.get(key.toLowerCase()) === key;
    };
    if (says.kind === "rows") return { ...says, isTemporary: says.target !== null && has(says.target), isOfAll: false };
    if (says.kind !== "truncate") return says;
    // What was made before the log is read may be a temporary table too.
    return has(says.target) ? { kind: "other" } : { kind: "definition", unlogged: [says.target], renames: [] };
  }
}

function keyOf(session: string, { schema, table }: TableName): string {
  return JSON.stringify([session, schema, table]);
}
