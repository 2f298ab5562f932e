import { type Accord, accordOf, type Bond, type SinkSession } from "../../../core/checkpoint.ts";
import type { BondStore, SinkEntry, SinkOpening, SnapshotRequest } from "../../../core/contracts/state-store.ts";
import type { Connection } from "../connection.ts";
import { voidProofs } from "./proofs.ts";
import { integer, type Row, text } from "../row.ts";

/**
 * Counts an obligation of the sink (null: of every sink) in the transaction that stores it. A sink that was never opened
 * has no count: it holds no rows yet.
 */
export function countObligation(connection: Connection, sink: string | null): void {
  const sql = `UPDATE sink_session SET obligation = obligation + 1
    WHERE id IN (SELECT max(id) FROM sink_session WHERE :sink IS NULL OR sink = :sink GROUP BY sink)`;
  connection.run(sql, { sink });
}

/** How many sessions to keep besides the one in the sink's checkpoint. They identify older copies of the sink. */
const SESSIONS_MAX = 100;
const ID_BYTES = 8;

const STATE = "SELECT state FROM identity";
const NAME = "INSERT INTO identity (one, state) VALUES (1, :state) ON CONFLICT DO NOTHING";
const LAST = "SELECT is_left FROM sink_session WHERE sink = :sink ORDER BY id DESC LIMIT 1";
const ENTER = "INSERT INTO sink_session (sink, session, base, obligation) VALUES (:sink, :session, :base, :obligation)";
const PRUNE = `DELETE FROM sink_session WHERE sink = :sink AND session IS NOT :own AND id <= (
  SELECT id FROM sink_session WHERE sink = :sink ORDER BY id DESC LIMIT 1 OFFSET :keep)`;

/** Lists a read that is needed, in the transaction that is open. */
interface Owing {
  owe(request: SnapshotRequest): void;
}

/** Links this state with the checkpoints of its sinks. */
export class SqliteBonds implements BondStore {
  readonly #connection: Connection;
  readonly #snapshots: Owing;

  constructor(connection: Connection, snapshots: Owing) {
    this.#connection = connection;
    this.#snapshots = snapshots;
  }

  async accord(sink: string, own: Bond | undefined): Promise<Accord> {
    const state = this.#connection.get(STATE);
    const sql = "SELECT session, base, obligation FROM sink_session WHERE sink = :sink ORDER BY id";
    const sessions = this.#connection.all(sql, { sink }).map(sessionOf);
    return accordOf(own, state === undefined ? null : text(state, "state"), sessions);
  }

  async undone(sink: string, batch: number): Promise<readonly string[]> {
    const sql = "SELECT table_id FROM settled WHERE sink = :sink AND step > :batch ORDER BY table_id";
    return this.#connection.all(sql, { sink, batch }).map((row) => text(row, "table_id"));
  }

  async enter(sink: string, { own, owed, reason }: SinkOpening): Promise<SinkEntry> {
    const batch = own?.batch ?? 0;
    const session = this.#connection.clock.unique(ID_BYTES);
    return this.#connection.write(() => {
      this.#connection.run(NAME, { state: this.#connection.clock.unique(ID_BYTES) });
      for (const tableId of owed) this.#snapshots.owe({ tableId, sink, scope: { kind: "differences" }, reason });
      const obligation = this.#obligation(sink);
      const wasLeft = this.#isLeft(sink);
      this.#connection.run(ENTER, { sink, session, base: batch, obligation });
      this.#connection.run(PRUNE, { sink, own: own?.session ?? null, keep: SESSIONS_MAX });
      if (own === undefined) voidProofs(this.#connection, "sink = :sink", { sink });
      else voidProofs(this.#connection, "sink = :sink AND step > :batch", { sink, batch });
      // Invariant: everything that was settled after this copy of the sink is owed again by now, or the sink is filled.
      this.#connection.run("DELETE FROM settled WHERE sink = :sink AND step > :batch", { sink, batch });
      return { state: text(this.#connection.get(STATE)!, "state"), session, batch, wasLeft };
    });
  }

  async leave(sink: string): Promise<void> {
    const sql = `UPDATE sink_session SET is_left = 1 WHERE id = (SELECT max(id) FROM sink_session WHERE sink = :sink)`;
    this.#connection.write(() => this.#connection.run(sql, { sink }));
  }

  async isLeft(sink: string): Promise<boolean> {
    return this.#isLeft(sink);
  }

  #isLeft(sink: string): boolean {
    const last = this.#connection.get(LAST, { sink });
    return last === undefined || integer(last, "is_left") === 1;
  }

  async obligation(sink: string): Promise<number> {
    return this.#obligation(sink);
  }

  #obligation(sink: string): number {
    const sql = "SELECT coalesce(max(obligation), 0) AS obligation FROM sink_session WHERE sink = :sink";
    return integer(this.#connection.get(sql, { sink })!, "obligation");
  }
}

function sessionOf(row: Row): SinkSession {
  return { session: text(row, "session"), base: integer(row, "base"), obligation: integer(row, "obligation") };
}
