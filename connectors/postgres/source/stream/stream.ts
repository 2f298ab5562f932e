/** The change stream: a session, and another one in text mode after a type appears that has no binary form. */
import type { Block } from "../../../../src/core/model/block.ts";
import type { Position } from "../../../../src/core/model/position.ts";
import type { TableName } from "../../../../src/core/contracts/connector.ts";
import { tableId, type TableVersion } from "../../../../src/core/model/schema.ts";
import { isLoggedCopy } from "../../../kit/online-copies.ts";
import type { ChangeStream, StreamOptions } from "../../../../src/core/contracts/change-log.ts";
import type { LogIdentity } from "../../../../src/core/contracts/positions.ts";
import { hasBinaryForm } from "../../../../src/core/model/types.ts";
import { findMillraceError, reasonOf } from "../../../../src/core/errors.ts";
import { BEGIN_ANEW, classify, pages, refusedSecondStream, sourceError, TextModeNeeded } from "../errors.ts";
import { quoteIdentifier, quoteLiteral } from "../../../../src/postgres/quote.ts";
import type { SourceContext } from "../context.ts";
import { tableNames } from "../catalog/catalog.ts";
import { type Ahead, Lookups } from "../catalog/lookups.ts";
import { formatLsn } from "../log/lsn.ts";
import { renewPrefix } from "../log/marks.ts";
import { checkStillThere } from "../log/recovery.ts";
import type { Relation } from "./relations.ts";
import { replicationCommand } from "../log/server.ts";
import { ReplicationSession } from "./session.ts";
import { relationShape } from "../catalog/shapes.ts";
import type { ShownLeaves } from "../catalog/shown-leaves.ts";
import { checkSlotKind, checkSlotValid, readSlot, whenFree } from "../log/slot.ts";
import { Transcoder } from "./transcoder.ts";
import { connectReplication, type ReplicationConnection } from "./transport.ts";

export interface StreamParts {
  readonly context: SourceContext;
  readonly database: string;
  /** The identity of the log that was created, or compared with the stored one; absent if there was none (`tail`). */
  readonly identity?: LogIdentity | undefined;
  readonly from: Position;
  readonly options: StreamOptions;
  /** Ask for binary cells. */
  readonly binary: boolean;
  readonly leaves: ShownLeaves;
}

export class PostgresStream implements ChangeStream {
  readonly #parts: StreamParts;
  readonly #closing = new AbortController();
  #session: ReplicationSession;
  #binary: boolean;
  /** The position after the last block that was returned. */
  #at: Position;
  #acknowledged = 0n;

  private constructor(parts: StreamParts, session: ReplicationSession) {
    this.#parts = parts;
    this.#session = session;
    this.#binary = parts.binary;
    this.#at = parts.from;
  }

  static async open(parts: StreamParts, signal: AbortSignal): Promise<PostgresStream> {
    const closing = new AbortController();
    const session = await openSession(parts, parts.from, parts.binary, AbortSignal.any([signal, closing.signal]));
    return new PostgresStream(parts, session);
  }

  get binary(): boolean {
    return this.#binary;
  }

  get liveArenaCount(): number {
    return this.#session.liveArenaCount;
  }

  async next(signal: AbortSignal): Promise<Block> {
    try {
      return this.#given(await this.#session.next(signal));
    } catch (error) {
      if (!(error instanceof TextModeNeeded)) throw error;
    }
    // Everything before the row in question was returned, so the new session begins exactly there.
    await this.#session[Symbol.asyncDispose]();
    this.#binary = false;
    this.#session = await openSession(this.#parts, this.#at, false, AbortSignal.any([signal, this.#closing.signal]));
    this.#session.acknowledge(this.#acknowledged);
    return this.#given(await this.#session.next(signal));
  }

  acknowledge(commit: bigint): void {
    if (commit > this.#acknowledged) this.#acknowledged = commit;
    this.#session.acknowledge(commit);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await this.#session[Symbol.asyncDispose]();
  }

  #given(block: Block): Block {
    this.#at = block.until;
    return block;
  }
}

/** Only texts of a database in UTF8 are sent as UTF-8, others as they are: the server ends a stream at what it can't turn. */
const RAW_SQL =
  "select current_setting('server_encoding') as encoding, set_config('client_encoding', 'SQL_ASCII', false) where current_setting('server_encoding') <> 'UTF8'";

async function openSession(
  parts: StreamParts,
  from: Position,
  binary: boolean,
  signal: AbortSignal,
): Promise<ReplicationSession> {
  const { context, options } = parts;
  if (!options.temporary) await whenFree(context, "stream", signal);
  await checkSlot(parts, from, signal);
  const { connection, slot } = options.temporary
    ? await secondSlot(parts, signal)
    : { connection: await connectCompared(parts, signal), slot: context.slot };
  try {
    const doing = "looking at the database's encoding";
    const [raw] = await replicationCommand<{ encoding: string }>(connection, doing, RAW_SQL, signal);
    const isUnchecked = raw !== undefined;
    // In binary cells texts are not told from other values.
    const isBinary = binary && !isUnchecked;
    const lookups = new Lookups(context.database);
    const session = new ReplicationSession({
      connection,
      from,
      byteCountMax: options.byteCountMax,
      renewPrefix: renewPrefix(context),
      isUnchecked,
      transcoder:
        raw === undefined || raw.encoding === "SQL_ASCII" ? undefined : new Transcoder(context.database, raw.encoding),
      command: startCommand(slot, from.commit, context.publication, isBinary),
      resolve: (relation, position, ahead) => lookUp(parts, lookups, { relation, position, ahead }, isBinary),
    });
    await session.started(signal);
    return session;
  } catch (error) {
    connection.close();
    throw classify(error, "starting the stream");
  }
}

/** Connects to the server whose log was compared with the stored identity, and to no other. */
async function connectCompared(
  { context, identity }: StreamParts,
  signal: AbortSignal,
): Promise<ReplicationConnection> {
  const connection = await connectReplication(context.address, signal);
  try {
    await checkStillThere(connection, identity, signal);
    return connection;
  } catch (error) {
    connection.close();
    throw error;
  }
}

/**
 * If a start is before the slot's confirmed position, the server silently moves it forward to that position: the changes in
 * between would be missing.
 */
async function checkSlot(parts: StreamParts, from: Position, signal: AbortSignal): Promise<void> {
  const { context } = parts;
  const slot = await readSlot(context, signal);
  if (slot === undefined) throw slotMissing(context.slot);
  checkSlotKind(context, slot, parts.database);
  checkSlotValid(context, slot);
  checkNoGap(context.slot, slot.confirmed, from.commit);
}

export function slotMissing(slot: string): Error {
  return sourceError("MR2010", "fatal", `the slot ${slot} does not exist`, BEGIN_ANEW);
}

export function checkNoGap(slot: string, confirmed: bigint | null, from: bigint): void {
  if (confirmed === null) {
    // A position was stored, so the former slot was finished: this is another one, which is still being created.
    throw sourceError("MR2010", "fatal", `the slot ${slot} was dropped and is being made again`, BEGIN_ANEW);
  }
  if (confirmed <= from) return;
  throw sourceError(
    "MR2010",
    "fatal",
    `the slot ${slot} is confirmed up to ${formatLsn(confirmed)}, beyond the stored position ${formatLsn(from)}: changes between the two can't be had any more`,
    BEGIN_ANEW,
  );
}

interface SecondSlot {
  readonly connection: ReplicationConnection;
  readonly slot: string;
}

async function secondSlot(parts: StreamParts, signal: AbortSignal): Promise<SecondSlot> {
  const connection = await connectSecond(parts, signal);
  try {
    return { connection, slot: await copySlot(parts.context, connection, signal) };
  } catch (error) {
    throw refusedSecondStream(error);
  }
}

/** A refused login or role would also refuse the first stream when it begins again; a lack of slots would not. */
async function connectSecond(parts: StreamParts, signal: AbortSignal): Promise<ReplicationConnection> {
  try {
    return await connectCompared(parts, signal);
  } catch (error) {
    const reason = reasonOf(error);
    throw reason === "slots" || reason === "connections" ? refusedSecondStream(error) : error;
  }
}

/** A second slot at the first one's confirmed position. Only the connection that created it may read from it. */
async function copySlot(
  context: SourceContext,
  connection: ReplicationConnection,
  signal: AbortSignal,
): Promise<string> {
  const name = `${context.slot.slice(0, 48)}_${process.pid}_${Math.floor(Math.random() * 1e6)}`;
  await replicationCommand(
    connection,
    "copying the slot",
    `SELECT pg_copy_logical_replication_slot(${quoteLiteral(context.slot)}, ${quoteLiteral(name)}, true)`,
    signal,
  );
  return name;
}

function startCommand(slot: string, from: bigint, publication: string, binary: boolean): string {
  const options = [
    `proto_version '1'`,
    `publication_names ${quoteLiteral(quoteIdentifier(publication))}`,
    `messages 'true'`,
  ];
  if (binary) options.push(`binary 'true'`);
  return `START_REPLICATION SLOT ${quoteIdentifier(slot)} LOGICAL ${formatLsn(from)} (${options.join(", ")})`;
}

async function lookUp(
  parts: StreamParts,
  lookups: Lookups,
  { relation, position, ahead }: { relation: Relation; position: Position; ahead: () => Ahead },
  binary: boolean,
): Promise<TableVersion | null> {
  const { context, options, leaves } = parts;
  const { message, leaf } = relation;
  if (!context.selection.matches(message.schema, message.table)) return null;
  // The connection's own time limits end it.
  const { signal } = new AbortController();
  if (await isCopy(parts, message, signal)) return null;
  if (relation.isIllegible) {
    const id = tableId(message.schema, message.table);
    const error = sourceError(
      "MR2037",
      "fatal",
      `a change of ${id} has a text without a form in UTF-8`,
      pages.MR2037.remedy,
    );
    if (options.onUnreadableRows === undefined) throw error;
    await options.onUnreadableRows(id, error);
    return null;
  }
  const { catalog, natives, types } = await lookups.of(relation, ahead, signal);
  const table = catalog.tables.find(({ oid }) => oid === message.oid);
  const shape = relationShape(message, natives, table, types, context.chosenKey(message));
  if (binary && !shape.columns.every((column) => hasBinaryForm(column.type))) {
    throw new TextModeNeeded(`${shape.id} has a type without binary form`);
  }
  // Another role's publication may carry tables that can't be followed. When such a table gets a key, the server announces
  // it again.
  if (shape.key.length === 0 && options.isKnown?.(shape.id) === false) return null;
  try {
    if (leaf !== undefined && leaves.show(message.oid, leaf, catalog)) await options.onUnloggedRows?.(shape.id);
    return await options.resolve(leaf === undefined ? shape : { ...shape, parts: [leaf] }, position);
  } catch (error) {
    throw findMillraceError(error) ?? error;
  }
}

/** Another role's publication may carry copies by tools for online changes, which a glob leaves out. */
async function isCopy({ context, options }: StreamParts, table: TableName, signal: AbortSignal): Promise<boolean> {
  if (context.selection.isLiteral(table.schema, table.table)) return false;
  const isFollowed = (other: TableName): boolean => options.isKnown?.(tableId(other.schema, other.table)) === true;
  return await isLoggedCopy(table, isFollowed, () => tableNames(context.database, table.schema, signal));
}
