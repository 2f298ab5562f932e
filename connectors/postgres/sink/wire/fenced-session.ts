/**
 * The session that writes, behind the fence (invariant 6): one row per sink in the target says who may write, and how many
 * batches it has. Each batch moves that row on in its own transaction, and fails where the row is not as this process left it.
 *
 *   open              lease 7 taken, claim a          row: lease 7, steps 40, claim a, checkpoint
 *   batch             … WHERE lease = 7 AND steps = 40 AND claim = a     steps 41, with the rows, or nothing
 *   no answer         the session is given up: was it committed?
 *   another session   ends the former one's backend, enters with claim b, and reads the row:
 *                       steps 41   it was: the batch is done, and is not written again when it comes again
 *                       steps 40   it was not, and never will be: claim a is void, however late its bytes arrive
 *   another daemon    takes over a table: it voids claim a. This process enters with claim b, and first looks which tables
 *                       are still its own (`owned`)
 *   another process   has a higher lease: this one stops. A lower one, or fewer steps: the target was restored
 *
 * The lease alone would not do: two sessions of one process have the same, and what the first one sent may arrive late through
 * a pooler. Neither would the position: a part of a raw copy is a batch that leaves it as it is.
 */
import { randomUUID } from "node:crypto";
import { checkpointTexts, type Checkpoint } from "../../../../src/core/checkpoint.ts";
import { atServer, MillraceError, reasonOf } from "../../../../src/core/errors.ts";
import type { Batch } from "../../../../src/core/model/batch.ts";
import { serverAt } from "../../../../src/core/system-errors.ts";
import type { PostgresAddress } from "../../../../src/postgres/url.ts";
import { heldBy, lackingLocks, sinkError, type StepLocks, stopped, withoutRow } from "../errors.ts";
import {
  type Advance,
  countBatch,
  CREATE_METADATA,
  enterSession,
  type Fence,
  FenceBroken,
  fenceError,
  FIND_CHECKPOINT,
  FIND_METADATA,
  isDisplaced,
  LOCK_DDL,
  lockLease,
  readCheckpoint,
  replaceWriter,
  selectCheckpoint,
  selectFence,
  type StoredCheckpoint,
  takeLease,
} from "./checkpoint.ts";
import { Frames } from "./frames.ts";
import { lockRoom } from "./lock-room.ts";
import { Session } from "./session.ts";

const ROLLBACK_TIMEOUT_MS = 10_000;

/** Quoted names of the tables that a step writes or makes. */
type Targets = () => readonly string[];
const NONE: Targets = () => [];

export interface FencedSessionOptions {
  readonly name: string;
  /** Names the row: `<daemon>/<sink>`. */
  readonly checkpointName: string;
  readonly address: PostgresAddress;
  /** How long an answer may take before the server is asked over another connection. Default: 15 s. */
  readonly silenceMs?: number;
}

/** The batch whose COMMIT may have been sent without an answer. */
interface InFlight {
  readonly batch: Batch;
  readonly batches: bigint;
  readonly tables: string;
}

export class FencedSession {
  readonly #options: FencedSessionOptions;
  /** One buffer for all sessions of this sink, so that batches allocate nothing. */
  readonly #frames = new Frames();
  #session: Session | null = null;
  #closed = false;
  #lease = 0n;
  /** The target's batch count as far as this process knows. */
  #batches = 0n;
  /** Names the session. */
  #claim = "";
  /** The claim under which the tables were this sink's. */
  #ownedUnder = "";
  #inFlight: InFlight | null = null;
  /** A batch that was found done after its connection broke: when it comes again, it is not written again. */
  #done: Batch | null = null;
  /** A batch of a raw copy may have been counted without an answer. */
  #isCountInDoubt = false;
  /** The text of the complete tables, if the target certainly has it. */
  #storedTables: string | null = null;
  /** Of the largest step that had no room for its locks: smaller ones follow it. Null: there was none. */
  #lacking: StepLocks | null = null;

  constructor(options: FencedSessionOptions) {
    this.#options = options;
  }

  get fence(): Fence {
    return { name: this.#options.checkpointName, lease: this.#lease, batches: this.#batches, claim: this.#claim };
  }

  /** `isOurs`: the target is as this process left it. */
  async open(
    lease: bigint,
    signal: AbortSignal,
  ): Promise<{ readonly checkpoint: Checkpoint | null; readonly isOurs: boolean }> {
    const session = await this.#connect(signal);
    return this.guarded("opening the target", async () => {
      const found = await session.query(FIND_METADATA, signal);
      if (found.rows.length === 0) await session.query(CREATE_METADATA, signal);
      const { checkpointName } = this.#options;
      await session.query(replaceWriter(checkpointName, lease), signal);
      const fence = { ...this.fence, lease };
      const taken = readCheckpoint(await session.query(takeLease(fence), signal));
      if (taken === null) {
        const holder = readCheckpoint(await session.query(selectCheckpoint(checkpointName), signal));
        throw fenceError(holder, fence);
      }
      const mayBeFurther = this.#inFlight !== null || this.#isCountInDoubt;
      const isOurs = taken.batches === this.#batches || (mayBeFurther && taken.batches === this.#batches + 1n);
      this.#lease = taken.lease;
      this.#isCountInDoubt = false;
      this.#batches = taken.batches;
      this.#inFlight = null;
      this.#storedTables = null;
      return { checkpoint: taken.checkpoint, isOurs };
    });
  }

  async look(signal: AbortSignal): Promise<Checkpoint | null> {
    const session = await this.beside(signal);
    try {
      return await this.guarded("looking at the target's progress", async () => {
        const found = await session.query(FIND_CHECKPOINT, signal);
        if (found.rows.length === 0) return null;
        const stored = await session.query(selectCheckpoint(this.#options.checkpointName), signal);
        return readCheckpoint(stored)?.checkpoint ?? null;
      });
    } finally {
      session.close();
    }
  }

  /** The session, or a new one after checking that the target is as this process left it. */
  async ready(signal: AbortSignal): Promise<Session> {
    if (this.#session !== null && !this.#session.broken) return this.#session;
    const session = await this.#connect(signal);
    await this.guarded("looking at the target's progress", async () => {
      const { checkpointName } = this.#options;
      await session.query(replaceWriter(checkpointName, this.#lease), signal);
      const entered = readCheckpoint(await session.query(enterSession(this.fence), signal));
      const found = entered ?? readCheckpoint(await session.query(selectCheckpoint(checkpointName), signal));
      const inFlight = this.#inFlight;
      if (inFlight !== null && found?.lease === this.#lease && found.batches === inFlight.batches + 1n) {
        this.#batches = found.batches;
        this.#done = inFlight.batch;
        this.#inFlight = null;
        return;
      }
      if (this.#isCountInDoubt && found?.lease === this.#lease && found.batches === this.#batches + 1n) {
        this.#batches = found.batches;
      }
      this.#isCountInDoubt = false;
      this.#expect(found);
    });
    return session;
  }

  /** The session, after a look at whose the tables are: once for each claim, which whoever takes one over voids. */
  async owned(look: (session: Session) => Promise<void>, signal: AbortSignal): Promise<Session> {
    const session = await this.ready(signal);
    const claim = this.#claim;
    if (this.#ownedUnder === claim) return session;
    await this.guarded("looking at the target", () => look(session));
    this.#ownedUnder = claim;
    return session;
  }

  /** A session beside the one that applies batches. */
  async beside(signal: AbortSignal): Promise<Session> {
    const { address, silenceMs } = this.#options;
    return await Session.open(address, new Frames(), signal, silenceMs);
  }

  /** The first statement of the batch, which moves the checkpoint on; null: the batch is done already. */
  begin(batch: Batch, first: readonly string[]): Advance | null {
    if (this.#done === batch) return null;
    this.#done = null;
    const { tables, bond } = checkpointTexts(batch.checkpoint);
    const stored = this.#storedTables;
    this.#storedTables = null;
    this.#inFlight = { batch, batches: this.#batches, tables };
    const { position } = batch.checkpoint;
    return { ...this.fence, position, bond, tables: tables === stored ? null : tables, first };
  }

  /** The batch that was begun is durable. */
  applied(): void {
    this.#batches++;
    this.#storedTables = this.#inFlight?.tables ?? null;
    this.#inFlight = null;
  }

  /** Commits the transaction of a session beside as a batch of its own: it becomes visible only if this process still writes. */
  async commitCounted(session: Session, signal: AbortSignal): Promise<void> {
    try {
      await session.query(`${countBatch(this.fence)}; COMMIT`, signal);
    } catch (error) {
      // It may be counted yet: the sink enters with a new session.
      this.#isCountInDoubt = true;
      this.#session?.close();
      throw error;
    }
    this.#batches++;
  }

  async run<T>(
    doing: string,
    work: (session: Session) => Promise<T>,
    signal: AbortSignal,
    targets?: Targets,
  ): Promise<T> {
    const session = await this.ready(signal);
    return await this.guarded(doing, () => work(session), targets);
  }

  /** Work in a transaction that holds the fence. If it fails it is rolled back. */
  async fenced(
    doing: string,
    work: (session: Session) => Promise<void>,
    signal: AbortSignal,
    targets?: Targets,
  ): Promise<void> {
    const fenced = async (session: Session): Promise<void> => {
      await this.#beginChange(session, signal);
      await work(session);
    };
    await this.run(doing, fenced, signal, targets);
  }

  /** Changes tables in a transaction of its own. */
  async change(session: Session, statements: string, signal: AbortSignal): Promise<void> {
    await this.#beginChange(session, signal);
    await session.query(`${statements}; COMMIT`, signal);
  }

  /** Begins a transaction that changes tables, after the fence. */
  async #beginChange(session: Session, signal: AbortSignal): Promise<void> {
    const sql = `BEGIN; ${LOCK_DDL}; ${lockLease(this.#options.checkpointName)}`;
    this.#expect(readCheckpoint(await session.query(sql, signal)));
  }

  /** Throws unless the target is as this process left it. */
  async verify(session: Session, signal: AbortSignal): Promise<void> {
    this.#expect(readCheckpoint(await session.query(selectFence(this.#options.checkpointName), signal)));
  }

  /** Turns a failure into a numbered error. Rolls a failed transaction back; a session that can't do that is closed. */
  async guarded<T>(doing: string, work: () => Promise<T>, targets = NONE): Promise<T> {
    try {
      return await work();
    } catch (error) {
      const session = this.#session;
      const holders = session?.holders ?? null;
      const fenced = session !== null && !session.broken ? await this.#rolledBack(session, error) : null;
      if (this.#closed) throw stopped(doing);
      const { address } = this.#options;
      const { host, port } = address;
      const known = await this.#withLocks(sinkError(error, doing, address), targets);
      throw fenced ?? withoutRow(heldBy(atServer(known, serverAt(host, port)), holders));
    }
  }

  close(): void {
    this.#closed = true;
    this.#session?.close();
    this.#session = null;
  }

  async #connect(signal: AbortSignal): Promise<Session> {
    const { name, address, silenceMs } = this.#options;
    if (this.#closed) throw stopped(`sink ${name}`);
    this.#session?.close();
    const session = await Session.open(address, this.#frames, signal, silenceMs);
    // `close` may have been called meanwhile; TypeScript has narrowed the field above.
    if (this.#isClosed()) {
      session.close();
      throw stopped(`sink ${name}`);
    }
    this.#session = session;
    this.#claim = randomUUID();
    return session;
  }

  #isClosed(): boolean {
    return this.#closed;
  }

  #expect(found: StoredCheckpoint | null): void {
    const { lease, batches, claim } = this.fence;
    if (found?.lease === lease && found.batches === batches && found.claim === claim) return;
    // Whoever goes on enters again first.
    if (isDisplaced(found, this.fence)) this.#session?.close();
    throw fenceError(found, this.fence);
  }

  /** Of a target without room for a step's locks: with the room that it has, and what the largest such step needs. */
  async #withLocks(error: MillraceError, targets: Targets): Promise<MillraceError> {
    const session = this.#session;
    if (reasonOf(error) !== "tables" || session === null || session.broken) return error;
    const found = await lockRoom(session, targets(), AbortSignal.timeout(ROLLBACK_TIMEOUT_MS));
    session.lackLocks();
    if (found === null) return error;
    const { room, step } = found;
    if (step !== null && step.lockCount > (this.#lacking?.lockCount ?? 0)) this.#lacking = step;
    return lackingLocks(error, this.#lacking, room);
  }

  /** The fence's error, if the fence failed. */
  async #rolledBack(session: Session, error: unknown): Promise<MillraceError | null> {
    const signal = AbortSignal.timeout(ROLLBACK_TIMEOUT_MS);
    try {
      await session.query("ROLLBACK", signal);
      if (!(error instanceof FenceBroken)) return null;
      this.#expect(readCheckpoint(await session.query(selectCheckpoint(this.#options.checkpointName), signal)));
      return null;
    } catch (second) {
      if (second instanceof MillraceError) return second;
      session.close();
      return null;
    }
  }
}
