/** Walks through part of the log beside the stream: finds its transactions, by name and position. Rows are skipped. */
import type { SourceContext } from "../context.ts";
import { Decoder } from "../rows/decoder.ts";
import { askedOffset, otherServerId, readDump } from "./dump.ts";
import * as code from "./events.ts";
import type { GtidSet } from "../transactions/gtid-set.ts";
import { LogCursor } from "./log-cursor.ts";
import { readGtidList, readMariadbGtid, readMysqlGtid, readPreviousGtids, readRotate } from "./log-events.ts";
import type { TransactionName } from "../transactions/transaction-name.ts";
import { FILE_START, packPlace, unpackPlace } from "./position.ts";
import { TransactionTimes, type SeenTransaction } from "../transactions/read-transactions.ts";
import { readStatement } from "../statements/statement-events.ts";
import { kindOfStatement } from "../statements/statements.ts";
import { readTaggedGtid } from "../transactions/tagged-gtid.ts";

/** Each returns false to end the walk. */
export interface WalkHandlers {
  /** A file begins; the argument is what is before it, or undefined if that is unknown. */
  readonly onFile?: (before: GtidSet | undefined) => boolean;
  readonly onTransaction?: (start: bigint, transaction: SeenTransaction) => boolean;
  /** A statement that creates, alters or drops something. */
  readonly onDefinition?: (start: bigint) => void;
}

/** From the event at `from` to `until`, or to the end of the log. */
export async function walkLog(
  context: SourceContext,
  from: bigint,
  until: bigint,
  handlers: WalkHandlers,
  signal: AbortSignal,
): Promise<void> {
  const walk = new Walk(context, from, until, handlers);
  const { file, offset } = unpackPlace(from);
  const request = {
    file: context.names.file(file),
    offset: askedOffset(offset),
    serverId: otherServerId(context),
    isEndless: false,
  };
  await readDump(context, request, (...event) => walk.take(...event), "looking through the log", signal);
}

/** What is before this file; undefined if that is unknown. */
export async function setBefore(
  context: SourceContext,
  file: number,
  signal: AbortSignal,
): Promise<GtidSet | undefined> {
  let found: GtidSet | undefined;
  const onFile = (before: GtidSet | undefined): boolean => {
    found = before;
    return false;
  };
  const start = packPlace(file, FILE_START);
  await walkLog(context, start, packPlace(file + 1, FILE_START), { onFile, onTransaction: () => false }, signal);
  return found;
}

class Walk {
  readonly #context: SourceContext;
  readonly #from: bigint;
  readonly #until: bigint;
  readonly #handlers: WalkHandlers;
  readonly #cursor: LogCursor;
  readonly #times = new TransactionTimes(
    // A position that can't be requested is reached from the beginning of its file.
    (start, seen) =>
      start < this.#from || start >= this.#until || (this.#handlers.onTransaction?.(start, seen) ?? true),
  );
  readonly #decoder = Decoder.withoutRows();

  constructor(context: SourceContext, from: bigint, until: bigint, handlers: WalkHandlers) {
    this.#context = context;
    this.#from = from;
    this.#until = until;
    this.#handlers = handlers;
    this.#cursor = new LogCursor(from);
  }

  /** False: the walk ends. */
  take(bytes: Uint8Array, start: number, end: number): boolean {
    const { header } = this.#decoder;
    header.read(bytes, start);
    const kind = code.classOf(header.type, header.flags);
    const isTelling = kind === code.CLASS_CONTROL || kind === code.CLASS_FORMAT;
    const isControl = isTelling && !code.isOfRows(header.type, header.flags);
    if (isControl) this.#decoder.take(bytes, start, end);
    const isGoingOn = this.#times.event(header);
    this.#cursor.take(header);
    return isGoingOn && (!isControl || this.#control()) && this.#cursor.next < this.#until;
  }

  #control(): boolean {
    const { at, bytes, header, until } = this.#decoder;
    const { start } = this.#cursor;
    const { onDefinition, onFile } = this.#handlers;
    const named = (name: Pick<TransactionName, "gtid" | "originUs">): boolean => this.#times.named(start, name);
    switch (header.type) {
      case code.ROTATE:
        this.#cursor.rotate(readRotate(bytes, at, until), this.#context.names);
        return true;
      case code.PREVIOUS_GTIDS:
        return onFile?.(readPreviousGtids(bytes, at, until)) ?? true;
      case code.MARIADB_GTID_LIST:
        return onFile?.(readGtidList(bytes, at, until)) ?? true;
      case code.GTID:
      case code.ANONYMOUS_GTID:
        return named(readMysqlGtid(bytes, at, until, header.type === code.ANONYMOUS_GTID));
      case code.GTID_TAGGED:
        return named(readTaggedGtid(bytes, at, until));
      case code.MARIADB_GTID:
        return named(readMariadbGtid(bytes, at, until, header.serverId));
      case code.QUERY:
      case code.MARIADB_QUERY_COMPRESSED: {
        const { schema, sql } = readStatement(header.type, bytes, at, until);
        if (kindOfStatement(sql, schema).kind === "definition") onDefinition?.(start);
        return true;
      }
      default:
        return true;
    }
  }
}
