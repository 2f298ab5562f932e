import type { TableWrites } from "../../../src/core/model/batch.ts";
import type { MillraceError } from "../../../src/core/errors.ts";
import { failpoint } from "../../../src/core/failpoint.ts";
import type { Outcome } from "../../../src/core/contracts/sink.ts";
import { SkippedRows } from "../../kit/skipped-rows.ts";
import { type Connection, listOf, type Reply } from "../connection.ts";
import { redisError } from "../errors.ts";
import type { TombstoneKeys } from "../keys.ts";
import { RESULT_FENCED, RESULT_INCOMPLETE, RESULT_WRONG_TYPE } from "./script.ts";
import { type Claim, FenceMismatch } from "./fence.ts";
import { type CheckpointToStore, ScriptCall } from "./script-call.ts";

/**
 * Limit of calls in flight: enough that the server never waits for us, few enough that their bytes stay at some
 * megabytes.
 */
const CALLS_IN_FLIGHT = 3;

/** A row that is too large to send; the script never sees it. */
export const RESULT_TOO_LARGE = 3;
/** A row that JSON can't hold; not sent either. */
export const RESULT_NO_UTF8 = 4;

/** Reusable calls; one pool per sink. */
export class CallPool {
  readonly #tombstones: TombstoneKeys;
  readonly #free: ScriptCall[] = [];

  constructor(tombstones: TombstoneKeys) {
    this.#tombstones = tombstones;
  }

  take({ argumentBytesMax }: Connection): ScriptCall {
    return (this.#free.pop() ?? new ScriptCall(this.#tombstones)).begin(argumentBytesMax);
  }

  /** Only for an answered call: before the answer its bytes may still be in use. */
  give(call: ScriptCall): void {
    call.reset();
    if (this.#free.length <= CALLS_IN_FLIGHT) this.#free.push(call);
  }
}

/**
 * Sends one batch as script calls. Invariants: a call that removes rows is sent after all earlier calls succeeded (a key
 * change writes the new row before it deletes the old one). The last call stores the checkpoint, after all others
 * succeeded and every skipped row was reported.
 */
export class CallStream {
  readonly #connection: Connection;
  readonly #pool: CallPool;
  readonly #claim: Claim;
  readonly #step: string;
  readonly #inFlight: Promise<void>[] = [];
  readonly #skipped = new SkippedRows();
  #call: ScriptCall;
  #sentCount = 0;

  constructor(connection: Connection, pool: CallPool, claim: Claim, step: string) {
    this.#connection = connection;
    this.#pool = pool;
    this.#claim = claim;
    this.#step = step;
    this.#call = pool.take(connection);
  }

  /** The call for the next row; sends it first if it is full. */
  async room(): Promise<ScriptCall> {
    if (this.#call.isFull) await this.flush();
    return this.#call;
  }

  get call(): ScriptCall {
    return this.#call;
  }

  leave(writes: TableWrites, entry: number, result: number): void {
    if (result === RESULT_INCOMPLETE) this.#skipped.incomplete(writes, entry);
    else this.#skipped.refused(writes, entry, poisonError(writes, result));
  }

  /** Before the first row in these slots of a cluster. */
  async enter(slots: Iterable<number>): Promise<void> {
    await this.#claim.enter(slots);
  }

  /** Sends the collected rows. In a cluster: before each key of another slot. */
  async flush(): Promise<void> {
    if (this.#call.count === 0) return;
    const call = this.#call;
    if (call.hasRemoval) await this.settle();
    else if (this.#inFlight.length >= CALLS_IN_FLIGHT) await this.#inFlight.shift();
    const sent = this.#send(call, null);
    // Awaited later; until then the handler marks a failure as handled.
    sent.catch(() => {});
    this.#inFlight.push(sent);
    this.#call = this.#pool.take(this.#connection);
  }

  async settle(): Promise<void> {
    while (this.#inFlight.length > 0) await this.#inFlight.shift();
  }

  /** After a failure waits for all calls in flight: nothing may arrive after the next attempt has begun. */
  async drain(): Promise<void> {
    await Promise.allSettled(this.#inFlight.splice(0));
  }

  /** Sends the rest and stores the checkpoint. */
  async finish(checkpoint: CheckpointToStore, outcome: Outcome): Promise<void> {
    if (this.#connection.isCluster) await this.flush();
    await this.settle();
    await this.#skipped.report(outcome);
    if (this.#sentCount > 0) failpoint("redis.rows-written");
    await this.#send(this.#call, checkpoint);
    if (this.#skipped.isEmpty) return;
    this.#call = this.#pool.take(this.#connection);
    await this.#skipped.report(outcome);
    failpoint("redis.rows-written");
    await this.#send(this.#call, checkpoint);
  }

  async #send(call: ScriptCall, checkpoint: CheckpointToStore | null): Promise<void> {
    this.#sentCount++;
    const fence = call.count === 0 ? this.#claim.whole(this.#step) : this.#claim.beside(call.firstKey, this.#step);
    const reply = await this.#connection.encoded("evalsha", call.encode(fence, checkpoint), fence.key);
    this.#take(call, reply);
    this.#pool.give(call);
  }

  #take(call: ScriptCall, reply: Reply): void {
    if (reply === RESULT_FENCED) throw new FenceMismatch("the stored progress is not the expected one");
    const list = listOf(reply);
    if (list === null) throw redisError("MR2027", "retryable", "Redis gave a script's answer in an unknown form");
    for (let i = 0; i < list.length; i += 2) {
      const row = Number(list[i]) - 1;
      const writes = call.writes[row];
      if (writes !== undefined) this.leave(writes, call.entry[row]!, Number(list[i + 1]));
    }
  }
}

function poisonError(writes: TableWrites, result: number): MillraceError {
  const { id } = writes.table;
  if (result === RESULT_WRONG_TYPE) {
    return redisError("MR3111", "poison", `a row of ${id} has a key under which Redis holds a value of another kind`);
  }
  if (result === RESULT_NO_UTF8)
    return redisError("MR3111", "poison", `a row of ${id} has no form in JSON: a text of it is no UTF-8`);
  return redisError("MR3111", "poison", `a row of ${id} is too large for Redis`);
}
