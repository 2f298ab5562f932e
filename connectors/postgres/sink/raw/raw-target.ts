/** Takes rows of a Postgres source undecoded, by several sessions at once: see core's raw copy. */
import type { RawColumn, RawWork, RawWriter, TargetRawRows } from "../../../../src/core/contracts/raw/raw-copy.ts";
import { failpoint } from "../../../../src/core/failpoint.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import { Turn } from "../../../../src/core/turn.ts";
import { RAW_FORM } from "../../raw-form.ts";
import { sinkError, withoutRow } from "../errors.ts";
import { countBatch, expectClaim, type Fence, markWriter } from "../checkpoint.ts";
import type { Session } from "../session.ts";
import type { PostgresTargets } from "../tables/warehouse.ts";
import { binaryStamp } from "../write/stamp.ts";
import { makeKey, type OwedKey, takeKey } from "./late-key.ts";
import { rawColumns } from "./raw-columns.ts";
import { StampedRows } from "./stamped-rows.ts";

/** A part's commit does not wait for the disk: while it did, its sessions did nothing. `finish` waits for all. */
const NOT_WAITING = "SET LOCAL synchronous_commit = off";

/** What the target holds if no other session has written. */
export interface CountedFence {
  now(): Fence;
  /** A batch was counted. */
  counted(): void;
  /** A batch may have been counted, or may be counted yet: the sink enters with a new session. */
  inDoubt(): void;
}

export interface RawTargetParts {
  readonly targets: PostgresTargets;
  readonly fence: CountedFence;
  open(signal: AbortSignal): Promise<Session>;
  readonly fenced: Fenced;
}

/** Work of the sink's own session in a transaction that holds the fence. If it fails it is rolled back. */
export type Fenced = (doing: string, work: (session: Session) => Promise<void>, signal: AbortSignal) => Promise<void>;

export class RawTarget implements TargetRawRows {
  readonly form = RAW_FORM;
  readonly #parts: RawTargetParts;
  /** The fence counts one batch after the other. */
  readonly #turn = new Turn();
  readonly #owed = new WeakMap<TableVersion, OwedKey>();

  constructor(parts: RawTargetParts) {
    this.#parts = parts;
  }

  columns(table: TableVersion): readonly RawColumn[] | null {
    const target = this.#parts.targets.get(table);
    return target.history === null ? rawColumns(table, target.forms) : null;
  }

  async begin(table: TableVersion, signal: AbortSignal): Promise<void> {
    const { targets, fenced } = this.#parts;
    const take = async (session: Session): Promise<void> => {
      const owed = await takeKey(session, targets.get(table), signal);
      await session.query("COMMIT", signal);
      if (owed !== null) this.#owed.set(table, owed);
    };
    await fenced(`beginning the copy of ${table.id}`, take, signal);
  }

  /** The target's log has one order: what was committed before is durable with it. If that is lost, the count is another. */
  async finish(table: TableVersion, signal: AbortSignal): Promise<void> {
    const { targets, fence, fenced } = this.#parts;
    const owed = this.#owed.get(table);
    const end = async (session: Session): Promise<void> => {
      if (owed !== undefined) await session.query(makeKey(targets.get(table), owed), signal);
      failpoint("postgres-sink.key-made");
      await counting(fence, () => session.query(`${countBatch(fence.now())}; COMMIT`, signal));
    };
    await fenced(`ending the copy of ${table.id}`, end, signal);
    this.#owed.delete(table);
  }

  async writer(signal: AbortSignal): Promise<RawWriter> {
    const session = await this.#parts.open(signal);
    try {
      await session.query(markWriter(this.#parts.fence.now().name), signal);
      return new PostgresRawWriter(session, this.#parts, this.#turn);
    } catch (error) {
      session.close();
      throw sinkError(error, "opening a session for a copy");
    }
  }
}

class PostgresRawWriter implements RawWriter {
  readonly #session: Session;
  readonly #parts: RawTargetParts;
  readonly #turn: Turn;

  constructor(session: Session, parts: RawTargetParts, turn: Turn) {
    this.#session = session;
    this.#parts = parts;
    this.#turn = turn;
  }

  async write({ table, read, version, commitTimeUs }: RawWork, signal: AbortSignal): Promise<number> {
    const { targets, fence } = this.#parts;
    const target = targets.get(table);
    const sourceStop = new AbortController();
    let failure: unknown;
    let rows: StampedRows | undefined;
    try {
      const sql = `BEGIN; ${NOT_WAITING}; ${expectClaim(fence.now())}; ${target.copyDirect(true)}`;
      const copy = await this.#session.copyIn(sql, signal);
      // The source would read on, for nothing.
      copy.ended.catch((error: unknown) => {
        failure = error;
        sourceStop.abort();
      });
      rows = new StampedRows(copy, binaryStamp(version, commitTimeUs), target.columnCount);
      await read(rows, AbortSignal.any([signal, sourceStop.signal]));
      await rows.finish();
      failpoint("postgres-sink.part-written");
      return rows.rowCount;
    } catch (error) {
      this.close();
      signal.throwIfAborted();
      throw sinkError(failure ?? rows?.failure ?? error, `copying ${table.id}`);
    }
  }

  /** Invariant 6: the part becomes visible only if this process still is the one writer. */
  async commit(signal: AbortSignal): Promise<void> {
    const { fence } = this.#parts;
    using _ = await this.#turn.take(signal);
    try {
      await counting(fence, () => this.#session.query(`${countBatch(fence.now())}; COMMIT`, signal));
    } catch (error) {
      this.close();
      throw withoutRow(sinkError(error, "committing a part of a copy"));
    }
    failpoint("postgres-sink.part-committed");
  }

  close(): void {
    this.#session.close();
  }
}

async function counting(fence: CountedFence, commit: () => Promise<unknown>): Promise<void> {
  try {
    await commit();
  } catch (error) {
    fence.inDoubt();
    throw error;
  }
  fence.counted();
}
