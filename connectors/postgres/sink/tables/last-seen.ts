/**
 * What each of a sink's tables was when the sink saw it last, in a table beside the checkpoints: so a start shows what happened to
 * a table while no daemon ran.
 */
import { groupsOf } from "../../../../src/core/each-of.ts";
import { quoteLiteral } from "../../../../src/postgres/quote.ts";
import { CHECKPOINT, HOME, MAY_USE_TARGETS, TARGETS } from "../wire/checkpoint.ts";
import type { FencedSession } from "../wire/fenced-session.ts";
import type { Session } from "../wire/session.ts";

/** A table as it was when somebody looked last. */
export interface SeenTable {
  readonly oid: string | null;
  readonly file: string | null;
  /** Of the transactions whose rows were there. */
  readonly snapshot: string;
}

/** Of one statement. */
const ROWS_MAX = 1_000;

export class LastSeen {
  readonly #sink: FencedSession;
  /** A role that an administrator gave rights on the checkpoints alone may not. */
  #mayUse = false;

  constructor(sink: FencedSession) {
    this.#sink = sink;
  }

  get mayUse(): boolean {
    return this.#mayUse;
  }

  /** By quoted name. Of a database that was put back from a dump there is nothing: all its tables are other ones. */
  async load(session: Session, signal: AbortSignal): Promise<Map<string, SeenTable>> {
    this.#mayUse = (await session.query(MAY_USE_TARGETS, signal)).rows[0]?.[0] === "t";
    if (!this.#mayUse) return new Map();
    const where = `sink = ${quoteLiteral(this.#sink.fence.name)} AND home = ${HOME}`;
    const { rows } = await session.query(
      `SELECT target, relation, file, snapshot FROM ${TARGETS} WHERE ${where}`,
      signal,
    );
    return new Map(
      rows.map(([target, oid = null, file = null, snapshot]) => [target!, { oid, file, snapshot: snapshot! }]),
    );
  }

  /** What a session that was given up sends late changes nothing. */
  async save(session: Session, seen: ReadonlyMap<string, SeenTable>, signal: AbortSignal): Promise<void> {
    if (!this.#mayUse) return;
    const { name, claim } = this.#sink.fence;
    for (const some of groupsOf([...seen], ROWS_MAX)) {
      const values = some.map(
        ([target, { oid, file, snapshot }]) =>
          `(${quoteLiteral(target)}, ${oid ?? "NULL"}::oid, ${file ?? "NULL"}::oid, ${quoteLiteral(snapshot)})`,
      );
      await session.query(
        `INSERT INTO ${TARGETS} (sink, target, relation, file, snapshot, home)
         SELECT p.name, v.*, ${HOME} FROM ${CHECKPOINT} p, (VALUES ${values.join(", ")}) AS v
         WHERE p.name = ${quoteLiteral(name)} AND p.claim = ${quoteLiteral(claim)}
         ON CONFLICT (sink, target) DO UPDATE SET relation = excluded.relation, file = excluded.file, snapshot = excluded.snapshot, home = excluded.home`,
        signal,
      );
    }
  }
}
