/** One connection to the target, and the wait for its answers. */
import type { Client } from "pg";
import { serverAt } from "../../../../src/core/system-errors.ts";
import { connect } from "../../../../src/postgres/connect.ts";
import type { LockHolders } from "../../../kit/lock-holders.ts";
import { inFrontOf, lockHolders } from "../../blocking-transactions.ts";
import type { PostgresAddress } from "../../../../src/postgres/url.ts";
import { gaveNoAnswer, sinkError, stopped } from "../errors.ts";
import { CopyIn } from "../../../../src/postgres/copy-in.ts";
import { type Answer, exchange, type Hooks } from "../../../../src/postgres/exchange.ts";
import { queryFrame } from "../../../../src/postgres/frames.ts";
import type { Frames } from "./frames.ts";

/**
 * Settings of batches, besides those of all our sessions. Joins by nested loop only: a batch's keys are few and found by
 * index, while a temporary table without statistics may make a hash join look cheap. money is read in the C locale. The server
 * notices within a minute that our machine is gone, and lets go of what the session has locked.
 */
const SETTINGS = `SET tcp_keepalives_idle = 20; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3; SET synchronous_commit = on; SET lock_timeout = '30s'; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off; SET lc_monetary = 'C'; SET client_min_messages = error`;

/** After this long without an answer the sink asks the server whether it still works for us. */
const SILENCE_MS = 15_000;
const PROBE_TIMEOUT_MS = 10_000;

/** As many as a batch may have tables. */
export const STAGES_MAX = 250;

interface Streams extends Hooks {
  /** The frames of all COPY FROM STDIN of the statements. */
  readonly rows?: Uint8Array;
}

export class Session {
  readonly frames: Frames;
  readonly address: PostgresAddress;
  readonly #client: Client;
  readonly #silenceMs: number;
  #holders: LockHolders | null = null;
  #pid = "0";
  #broken = false;
  /** Bytes that had not left this process at the last check. */
  #unsent = -1;
  /** Ordinals of the tables whose staging table this session has created, the one used last at the end. */
  readonly staged = new Set<number>();
  stageCountMax: number = STAGES_MAX;
  readonly statements = new PreparedStatements();

  private constructor(address: PostgresAddress, client: Client, frames: Frames, silenceMs: number) {
    this.#silenceMs = silenceMs;
    this.address = address;
    this.#client = client;
    this.frames = frames;
    const breakDown = (): void => {
      this.#broken = true;
    };
    client.on("error", breakDown);
    client.on("end", breakDown);
  }

  static async open(
    address: PostgresAddress,
    frames: Frames,
    signal: AbortSignal,
    silenceMs = SILENCE_MS,
  ): Promise<Session> {
    let session: Session | undefined;
    try {
      const { client } = await connect(address, { signal });
      session = new Session(address, client, frames, silenceMs);
      const { rows } = await session.query(`${SETTINGS}; SELECT pg_backend_pid()`, signal);
      session.#pid = rows[0]?.[0] ?? "0";
      return session;
    } catch (error) {
      session?.close();
      throw sinkError(error, "connecting to the target");
    }
  }

  /** Who held the lock that the statement in flight, or the last one, waits for; asked while it gives no answer. */
  get holders(): LockHolders | null {
    return this.#holders;
  }

  get broken(): boolean {
    return this.#broken;
  }

  query(sql: string, signal: AbortSignal, streams: Streams = {}): Promise<Answer> {
    this.frames.reset();
    this.frames.query(sql);
    return this.send(signal, streams);
  }

  /** Sends what the frames hold. Throws a StatementFailure, also if the connection fails. */
  async send(signal: AbortSignal, { rows, ...hooks }: Streams = {}): Promise<Answer> {
    this.#unsent = -1;
    this.#holders = null;
    const buffers = rows === undefined ? [this.frames.out.view()] : [this.frames.out.view(), rows];
    const watch = setInterval(() => void this.#probe(), this.#silenceMs);
    try {
      return await withSignal(this.#client, signal, () => exchange(this.#client, buffers, hooks));
    } finally {
      clearInterval(watch);
    }
  }

  /** A COPY FROM STDIN whose rows come bit by bit. While it waits for rows, a silent server is no sign of a loss. */
  async copyIn(sql: string, signal: AbortSignal): Promise<CopyIn> {
    if (signal.aborted) throw stopped("a copy");
    const onAbort = (): void => this.close();
    signal.addEventListener("abort", onAbort, { once: true });
    let copy: CopyIn | undefined;
    const watch = setInterval(() => {
      if (copy?.isServerBusy !== false) void this.#probe();
      else this.#unsent = -1;
    }, this.#silenceMs);
    const leave = (): void => {
      clearInterval(watch);
      signal.removeEventListener("abort", onAbort);
    };
    try {
      copy = await CopyIn.begin(this.#client, sql);
      void copy.ended.then(leave, leave);
      return copy;
    } catch (error) {
      leave();
      throw signal.aborted ? stopped("a copy") : error;
    }
  }

  /** The target had no room for the locks of a transaction, which may have been those of the staging tables. */
  lackLocks(): void {
    this.stageCountMax = Math.floor(Math.min(this.stageCountMax, this.staged.size) / 4);
  }

  async forgetStatements(signal: AbortSignal): Promise<void> {
    this.statements.clear();
    // Those of a statement that has just failed are still to be told.
    const holders = this.#holders;
    await this.query("DEALLOCATE ALL", signal);
    this.#holders ??= holders;
  }

  close(): void {
    this.#broken = true;
    this.#client.connection.stream.destroy();
  }

  /** Ends the session regularly, when nothing is in flight. */
  async end(): Promise<void> {
    this.#broken = true;
    await this.#client.end();
  }

  /**
   * Ends the session unless the server says, over another connection, that it works on our statement. A session that
   * waits for our data counts as working only while our unsent data shrinks.
   */
  async #probe(): Promise<void> {
    const unsent = this.#client.connection.stream.writableLength;
    const stuck = unsent === this.#unsent;
    this.#unsent = unsent;
    const signal = AbortSignal.timeout(Math.min(PROBE_TIMEOUT_MS, this.#silenceMs * 10));
    try {
      const { client } = await connect(this.address, { signal });
      try {
        // A server that is too busy to tell, or a wait that has just ended, takes back nothing.
        this.#holders = (await lockHolders(this.address, inFrontOf(this.#pid), signal)) ?? this.#holders;
        const sql = `SELECT 1 FROM pg_stat_activity WHERE pid = ${this.#pid} AND state <> 'idle' AND application_name = current_setting('application_name')${stuck ? " AND wait_event IS DISTINCT FROM 'ClientRead'" : ""}`;
        const { rows } = await withSignal(client, signal, () => exchange(client, [queryFrame(sql)]));
        if (rows.length > 0) return;
      } finally {
        client.connection.stream.destroy();
      }
    } catch {
      // A server that can't be asked counts as silent, like the session.
    }
    const { host, port } = this.address;
    this.#broken = true;
    this.#client.connection.stream.destroy(gaveNoAnswer(serverAt(host, port)));
  }
}

/** An abort destroys the connection: what was sent is then committed completely or not at all. */
async function withSignal(client: Client, signal: AbortSignal, work: () => Promise<Answer>): Promise<Answer> {
  if (signal.aborted) throw stopped("the batch");
  const onAbort = (): void => void client.connection.stream.destroy();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await work();
  } catch (error) {
    if (signal.aborted) throw stopped("the batch");
    throw error;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/**
 * Each table and set of unchanged columns needs a statement; beyond this number all are forgotten and prepared again.
 */
const STATEMENTS_MAX = 1000;

export class PreparedStatements {
  readonly #names = new Map<string, string>();
  #added: string[] = [];
  #counter = 0;

  /** True if DEALLOCATE ALL should precede the next message. */
  get full(): boolean {
    return this.#names.size > STATEMENTS_MAX;
  }

  /** The name of the statement; parses it in this message if the session does not have it yet. */
  use(frames: Frames, purpose: string, sql: () => string): string {
    const known = this.#names.get(purpose);
    if (known !== undefined) return known;
    const name = `s${this.#counter++}`;
    frames.parse(name, sql());
    this.#names.set(purpose, name);
    this.#added.push(purpose);
    return name;
  }

  /** The message was answered without an error. */
  confirm(): void {
    this.#added = [];
  }

  /** True where statements of the failed message may or may not be there. */
  get uncertain(): boolean {
    return this.#added.length > 0;
  }

  clear(): void {
    this.#names.clear();
    this.#added = [];
  }
}
