import { timestamp } from "../../../core/clock.ts";
import type {
  ProofFacts,
  ProofLedger,
  ProofMark,
  ProofPlace,
  ProofRecord,
  ProofStore,
} from "../../../core/contracts/state-store.ts";
import type { Connection } from "../connection.ts";
import { integer, type Row, text, textOrNull } from "../row.ts";

const ADD = `INSERT INTO proof (sink, table_id, since) SELECT value ->> 0, value ->> 1, :at FROM json_each(:places) WHERE true
  ON CONFLICT DO NOTHING`;
const FORGET = `DELETE FROM proof WHERE (sink, table_id) NOT IN (SELECT value ->> 0, value ->> 1 FROM json_each(:places))
  AND table_id NOT IN (SELECT value FROM json_each(:kept))`;
const NEXT = `SELECT sink, table_id FROM proof
  WHERE sink IN (SELECT value FROM json_each(:sinks)) AND iif(:before IS NULL, looked_at IS NULL, looked_at < :before)
  ORDER BY looked_at, ranges LIMIT :limit`;
/** Of openings the oldest are forgotten first: those after a known one are all known. */
const STANDS = `sink = :sink AND table_id = :table AND since = :since AND voided = :voided
    AND (:opening = 0 OR EXISTS (SELECT 1 FROM sink_session WHERE id = :opening))
    AND NOT EXISTS (SELECT 1 FROM sink_session AS s WHERE s.sink = :sink AND s.id > :opening AND s.base < :step)`;
const SAVE = `UPDATE proof SET step = max(step, :step), looked_at = :looked, proven_at = :proven, position = :position,
    ranges = :ranges, missing = :missing, extra = :extra, different = :different, content = :content
  WHERE ${STANDS} AND content IS :was`;
const OF_TABLE = `SELECT sink, table_id, since, voided, content,
    ifnull((SELECT max(s.id) FROM sink_session AS s WHERE s.sink = proof.sink), 0) AS opening
  FROM proof WHERE table_id = :table ORDER BY sink`;

/**
 * What was proven of these counts no more: in the transaction that stores why. A proof that is under way then is not
 * stored.
 */
export function voidProofs(
  connection: Connection,
  condition: string,
  parameters: Record<string, string | number>,
): void {
  connection.run(
    `UPDATE proof SET voided = voided + 1, step = 0, looked_at = NULL, proven_at = NULL, position = NULL, ranges = 0,
      missing = 0, extra = 0, different = 0, content = NULL WHERE ${condition}`,
    parameters,
  );
}

export class SqliteProofs implements ProofStore {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  async know(places: readonly ProofPlace[], kept: readonly string[]): Promise<void> {
    const list = JSON.stringify(places.map(({ sink, table }) => [sink, table]));
    const at = timestamp(this.#connection.clock);
    this.#connection.write(() => {
      this.#connection.run(FORGET, { places: list, kept: JSON.stringify(kept) });
      this.#connection.run(ADD, { places: list, at });
    });
  }

  async list(): Promise<readonly ProofRecord[]> {
    const sql = `SELECT sink, table_id, since, looked_at, proven_at, position, ranges, missing, extra, different
      FROM proof ORDER BY table_id, sink`;
    return this.#connection.all(sql).map((row) => ({
      ...placeOf(row),
      since: text(row, "since"),
      lookedAt: textOrNull(row, "looked_at"),
      provenAt: textOrNull(row, "proven_at"),
      position: textOrNull(row, "position"),
      ranges: integer(row, "ranges"),
      missing: integer(row, "missing"),
      extra: integer(row, "extra"),
      different: integer(row, "different"),
    }));
  }

  async next(sinks: readonly string[], before: string | null, limit: number): Promise<readonly ProofPlace[]> {
    return this.#connection.all(NEXT, { sinks: JSON.stringify(sinks), before, limit }).map(placeOf);
  }

  async ofTable(tableId: string): Promise<readonly ProofLedger[]> {
    return this.#connection.all(OF_TABLE, { table: tableId }).map((row) => ({
      ...placeOf(row),
      since: text(row, "since"),
      voided: integer(row, "voided"),
      opening: integer(row, "opening"),
      content: textOrNull(row, "content"),
    }));
  }

  async stands({ sink, table }: ProofPlace, { since, voided, opening, step }: ProofMark): Promise<boolean> {
    const row = { sink, table, since, voided, opening, step };
    return this.#connection.get(`SELECT 1 FROM proof WHERE ${STANDS}`, row) !== undefined;
  }

  async save(
    { sink, table, since, voided, opening, content: was }: ProofLedger,
    record: ProofFacts,
    step: number,
    content: string,
  ): Promise<boolean> {
    const { lookedAt: looked, provenAt: proven, position, ranges, missing, extra, different } = record;
    const row = {
      sink,
      table,
      since,
      voided,
      opening,
      was,
      step,
      looked,
      proven,
      position,
      ranges,
      missing,
      extra,
      different,
      content,
    };
    return this.#connection.write(() => this.#connection.run(SAVE, row)) === 1;
  }
}

function placeOf(row: Row): ProofPlace {
  return { sink: text(row, "sink"), table: text(row, "table_id") };
}
