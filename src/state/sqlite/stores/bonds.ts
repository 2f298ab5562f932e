import { type Accord, accordOf, type Bond, type SinkSession } from "../../../core/checkpoint/bond.ts";
import type { BondStore, SinkEntry, SinkOpening } from "../../../core/contracts/state-store.ts";
import type { Connection } from "../connection.ts";
import type { SqliteSnapshots } from "./snapshots.ts";
import { integer, text, type Row } from "../row.ts";

/** How many sessions to keep besides the one in the sink's checkpoint. They identify older copies of the sink. */
const SESSIONS_MAX = 100;
const ID_BYTES = 8;

/** Links this state with the checkpoints of its sinks. */
export class SqliteBonds implements BondStore {
  readonly #connection: Connection;
  readonly #snapshots: Pick<SqliteSnapshots, "owe">;
  readonly #statements: ReturnType<typeof prepare>;

  constructor(connection: Connection, snapshots: Pick<SqliteSnapshots, "owe">) {
    this.#connection = connection;
    this.#snapshots = snapshots;
    this.#statements = prepare(connection);
  }

  async accord(sink: string, own: Bond | undefined): Promise<Accord> {
    return this.#connection.read(() => {
      const state = this.#statements.state.get();
      const sessions = this.#statements.sessions.all({ sink }).map(sessionOf);
      return accordOf(own, state === undefined ? null : text(state, "state"), sessions);
    });
  }

  async undone(sink: string, batch: number): Promise<readonly string[]> {
    return this.#connection.read(() =>
      this.#statements.undone.all({ sink, batch }).map((row) => text(row, "table_id")),
    );
  }

  async enter(sink: string, { own, owed, reason }: SinkOpening): Promise<SinkEntry> {
    const batch = own?.batch ?? 0;
    const session = this.#connection.clock.unique(ID_BYTES);
    return this.#connection.write(() => {
      this.#statements.name.run({ state: this.#connection.clock.unique(ID_BYTES) });
      for (const tableId of owed) this.#snapshots.owe({ tableId, sink, scope: { kind: "differences" }, reason });
      const obligation = this.#obligation(sink);
      const last = this.#statements.last.get({ sink });
      const wasLeft = last === undefined || integer(last, "is_left") === 1;
      this.#statements.enter.run({ sink, session, base: batch, obligation });
      this.#statements.prune.run({ sink, own: own?.session ?? null, keep: SESSIONS_MAX });
      // Invariant: everything that was settled after this copy of the sink is owed again by now, or the sink is filled.
      this.#statements.unsettle.run({ sink, batch });
      return { state: text(this.#statements.state.get()!, "state"), session, batch, wasLeft };
    });
  }

  async leave(sink: string): Promise<void> {
    this.#connection.write(() => this.#statements.leave.run({ sink }));
  }

  async obligation(sink: string): Promise<number> {
    return this.#connection.read(() => this.#obligation(sink));
  }

  #obligation(sink: string): number {
    return integer(this.#statements.obligation.get({ sink })!, "obligation");
  }
}

function prepare(connection: Connection) {
  return {
    state: connection.prepare("SELECT state FROM identity"),
    name: connection.prepare("INSERT INTO identity (one, state) VALUES (1, :state) ON CONFLICT DO NOTHING"),
    sessions: connection.prepare("SELECT session, base, obligation FROM sink_session WHERE sink = :sink ORDER BY id"),
    undone: connection.prepare("SELECT table_id FROM settled WHERE sink = :sink AND step > :batch ORDER BY table_id"),
    unsettle: connection.prepare("DELETE FROM settled WHERE sink = :sink AND step > :batch"),
    enter: connection.prepare(
      `INSERT INTO sink_session (sink, session, base, obligation) VALUES (:sink, :session, :base, :obligation)`,
    ),
    last: connection.prepare("SELECT is_left FROM sink_session WHERE sink = :sink ORDER BY id DESC LIMIT 1"),
    leave: connection.prepare(
      "UPDATE sink_session SET is_left = 1 WHERE id = (SELECT max(id) FROM sink_session WHERE sink = :sink)",
    ),
    prune: connection.prepare(
      `DELETE FROM sink_session WHERE sink = :sink AND session IS NOT :own AND id <= (
         SELECT id FROM sink_session WHERE sink = :sink ORDER BY id DESC LIMIT 1 OFFSET :keep)`,
    ),
    obligation: connection.prepare(
      "SELECT coalesce(max(obligation), 0) AS obligation FROM sink_session WHERE sink = :sink",
    ),
  };
}

function sessionOf(row: Row): SinkSession {
  return { session: text(row, "session"), base: integer(row, "base"), obligation: integer(row, "obligation") };
}
