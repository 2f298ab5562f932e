/** The change stream: a session, and another one in text mode after a type appears that has no binary form. */
import type { Block } from "../../../../src/core/model/block.ts";
import type { Position } from "../../../../src/core/model/position.ts";
import type { ChangeStream, StreamOptions } from "../../../../src/core/contracts/change-log.ts";
import type { LogIdentity } from "../../../../src/core/contracts/positions.ts";
import { reasonOf } from "../../../../src/core/errors.ts";
import { classify, refusedSecondStream, TextModeNeeded } from "../errors.ts";
import { quoteIdentifier, quoteLiteral } from "../../../../src/postgres/quote.ts";
import type { SourceContext } from "../wire/context.ts";
import { TableLookups } from "./table-lookups.ts";
import { formatLsn } from "../wire/lsn.ts";
import { renewPrefix } from "../log/watermarks.ts";
import { type AnnouncedSchemas, ExpectedMarks, type MarkedStream, type PlacedMark } from "../wire/placed-marks.ts";
import { ReplicationSession } from "./replication-session.ts";
import { copySlot, expectNoGap, whenFree } from "../log/slot.ts";
import { Transcoder } from "./transcoder.ts";
import { connectReplication, type ReplicationConnection, replicationCommand } from "../wire/replication-connection.ts";
import { type Landmark, landmarkMissing } from "../log/landmark.ts";
import { checkStillThere, SameTimeline } from "../log/timeline.ts";
import type { ShownLeaves } from "../catalog/unlogged-changes.ts";

export interface StreamParts {
  readonly context: SourceContext;
  /** The identity of the log that was created, or compared with the stored one; absent if there was none (`tail`). */
  readonly identity?: LogIdentity | undefined;
  readonly from: Position;
  readonly options: StreamOptions;
  /** Ask for binary cells. */
  readonly binary: boolean;
  /** server_version_num */
  readonly version: number;
  readonly leaves: ShownLeaves;
}

export class PostgresStream implements ChangeStream, MarkedStream {
  readonly #parts: StreamParts;
  readonly #closing = new AbortController();
  #session: ReplicationSession;
  #binary: boolean;
  /** The position after the last block that was returned. */
  #at: Position;
  #acknowledged = 0n;
  readonly #timeline: SameTimeline | null;
  /** A block whose timeline is asked for. */
  #received: Block | undefined;
  readonly #marks = new ExpectedMarks();
  /** Ends a wait for the next block. */
  #wait = new AbortController();

  private constructor(parts: StreamParts, session: ReplicationSession, timeline: SameTimeline | null) {
    this.#parts = parts;
    this.#session = session;
    this.#timeline = timeline;
    parts.context.marks.attach(this);
    this.#binary = parts.binary;
    this.#at = parts.from;
  }

  static async open(parts: StreamParts, signal: AbortSignal): Promise<PostgresStream> {
    const closing = new AbortController();
    const until = AbortSignal.any([signal, closing.signal]);
    const timeline = await SameTimeline.at(parts, until);
    try {
      const session = await openSession(parts, timeline, parts.from, parts.binary, until);
      return new PostgresStream(parts, session, timeline);
    } catch (error) {
      timeline?.[Symbol.dispose]();
      throw error;
    }
  }

  get binary(): boolean {
    return this.#binary;
  }

  get liveArenaCount(): number {
    return this.#session.liveArenaCount;
  }

  /** The last transaction that was decoded; null: there was none yet. */
  get last(): Landmark | null {
    return this.#session.last;
  }

  /** Once received, a block is returned by this call or by a later one. */
  async next(signal: AbortSignal): Promise<Block> {
    const block = (this.#received ??= await this.#receive(signal));
    await this.#timeline?.expect(this.#closing.signal);
    this.#received = undefined;
    this.#at = block.until;
    return block;
  }

  expect(mark: PlacedMark): void {
    this.#marks.add(mark);
    this.#wait.abort();
  }

  renew(): void {
    this.#session.renew();
  }

  get announced(): AnnouncedSchemas {
    return { commit: this.#at.commit, ofTables: this.#session.schemas };
  }

  async #receive(signal: AbortSignal): Promise<Block> {
    // A server that takes writes has its marks in the log.
    if (this.#timeline === null) return await this.#next(signal, signal);
    for (;;) {
      const due = this.#marks.due(this.#at);
      if (due !== undefined) return due;
      this.#wait = new AbortController();
      try {
        const block = await this.#next(AbortSignal.any([signal, this.#wait.signal]), signal);
        this.#marks.place(block, this.#at);
        return block;
      } catch (error) {
        if (signal.aborted || !this.#wait.signal.aborted) throw error;
      }
    }
  }

  /** `until` ends the wait for a block, and `signal` everything. */
  async #next(until: AbortSignal, signal: AbortSignal): Promise<Block> {
    for (;;) {
      try {
        return await this.#session.next(until);
      } catch (error) {
        if (!(error instanceof TextModeNeeded)) throw error;
        this.#binary = false;
      }
      // Everything before the row in question was returned, so the new session begins exactly there.
      await this.#session[Symbol.asyncDispose]();
      const open = AbortSignal.any([signal, this.#closing.signal]);
      this.#session = await openSession(this.#parts, this.#timeline, this.#at, this.#binary, open);
      this.#session.acknowledge(this.#acknowledged);
    }
  }

  acknowledge(commit: bigint): void {
    if (commit > this.#acknowledged) this.#acknowledged = commit;
    this.#session.acknowledge(commit);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    this.#parts.context.marks.detach(this);
    this.#timeline?.[Symbol.dispose]();
    this.#received?.release();
    this.#received = undefined;
    await this.#session[Symbol.asyncDispose]();
  }
}

/** Only texts of a database in UTF8 are sent as UTF-8, others as they are: the server ends a stream at what it can't turn. */
const RAW_SQL =
  "select current_setting('server_encoding') as encoding, set_config('client_encoding', 'SQL_ASCII', false) where current_setting('server_encoding') <> 'UTF8'";

/** Undefined: the server sends UTF-8. */
async function rawEncoding(connection: ReplicationConnection, signal: AbortSignal): Promise<string | undefined> {
  const doing = "looking at the database's encoding";
  return (await replicationCommand<{ encoding: string }>(connection, doing, RAW_SQL, signal))[0]?.encoding;
}

async function openSession(
  parts: StreamParts,
  timeline: SameTimeline | null,
  from: Position,
  binary: boolean,
  signal: AbortSignal,
): Promise<ReplicationSession> {
  const { context, options } = parts;
  if (!options.temporary) await whenFree(context, "stream", signal);
  await expectNoGap(context, from.commit, signal);
  const { connection, slot } = options.temporary
    ? await secondSlot(parts, signal)
    : { connection: await connectCompared(parts, signal), slot: context.slot };
  try {
    await timeline?.expectServer(connection, signal);
    const raw = await rawEncoding(connection, signal);
    const isUnchecked = raw !== undefined;
    // In binary cells texts are not told from other values.
    const isBinary = binary && !isUnchecked;
    const session = new ReplicationSession({
      connection,
      address: context.address,
      from,
      byteCountMax: options.byteCountMax,
      renewPrefix: renewPrefix(context),
      isUnchecked,
      hasNumbers: timeline === null,
      isFlowing: options.isFlowing,
      transcoder: raw === undefined || raw === "SQL_ASCII" ? undefined : new Transcoder(context.database, raw),
      command: startCommand(slot, from.commit, context.publication, isBinary),
      tables: new TableLookups(parts, isBinary),
    });
    await session.started(signal);
    return session;
  } catch (error) {
    connection.close();
    throw classify(error, "starting the stream");
  }
}

/** Throws unless a stream that begins at the landmark brings it first. Its rows are passed over; the slot stays where it is. */
export async function expectLandmark(context: SourceContext, landmark: Landmark, signal: AbortSignal): Promise<void> {
  await whenFree(context, "stream", signal);
  const connection = await connectReplication(context.address, signal);
  await rawEncoding(connection, signal);
  await using session = new ReplicationSession({
    connection,
    address: context.address,
    from: { epoch: 1, commit: landmark.commit, index: 0 },
    byteCountMax: undefined,
    renewPrefix: renewPrefix(context),
    transcoder: undefined,
    command: startCommand(context.slot, landmark.commit, context.publication, false),
    tables: { table: async () => null },
  });
  const block = await session.next(signal);
  block.release();
  if (!session.beginsWith(landmark)) throw landmarkMissing(landmark);
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

function startCommand(slot: string, from: bigint, publication: string, binary: boolean): string {
  const options = [
    `proto_version '1'`,
    `publication_names ${quoteLiteral(quoteIdentifier(publication))}`,
    `messages 'true'`,
  ];
  if (binary) options.push(`binary 'true'`);
  return `START_REPLICATION SLOT ${quoteIdentifier(slot)} LOGICAL ${formatLsn(from)} (${options.join(", ")})`;
}
