import { isRecord } from "../../../core/stored-json.ts";
import { timestamp } from "../../../core/clock.ts";
import type { AuditBeginning, AuditEnd, AuditEntry, AuditStore } from "../../../core/audit/audit-store.ts";
import type { Connection } from "../connection.ts";
import { integer, type Row, stored, storedOrNull, text, textOrNull } from "../row.ts";

/** A state on a server is loaded whole: these are about 2 MB. */
export const AUDIT_COUNT_MAX = 5_000;
export const AUDIT_DAYS_MAX = 400;
const DAY_MS = 86_400_000;

const INSERT = `INSERT INTO audit (at, who, via, action, subject, before)
  VALUES (:at, :who, :via, :action, :subject, :before) RETURNING id`;

export class SqliteAudit implements AuditStore {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  async begin({ who, via, action, subject, before }: AuditBeginning): Promise<number> {
    const { clock } = this.#connection;
    const at = timestamp(clock);
    const oldest = new Date(clock.now() - AUDIT_DAYS_MAX * DAY_MS).toISOString();
    return this.#connection.write(() => {
      const row = { at, who, via, action, subject: JSON.stringify(subject), before: jsonOrNull(before) };
      const id = integer(this.#connection.get(INSERT, row)!, "id");
      const prune = "DELETE FROM audit WHERE id <= :id OR at < :at";
      this.#connection.run(prune, { id: id - AUDIT_COUNT_MAX, at: oldest });
      return id;
    });
  }

  async end(id: number, { after, error }: AuditEnd): Promise<void> {
    const at = timestamp(this.#connection.clock);
    const sql = "UPDATE audit SET ended_at = :at, after = :after, error = :error WHERE id = :id";
    this.#connection.write(() => this.#connection.run(sql, { id, at, after: jsonOrNull(after), error }));
  }

  async list(limit: number): Promise<readonly AuditEntry[]> {
    const sql = "SELECT * FROM audit ORDER BY id DESC LIMIT :limit";
    return this.#connection.all(sql, { limit }).map(entryOf);
  }
}

function entryOf(row: Row): AuditEntry {
  return {
    id: integer(row, "id"),
    at: text(row, "at"),
    endedAt: textOrNull(row, "ended_at"),
    who: text(row, "who"),
    via: text(row, "via"),
    action: text(row, "action"),
    subject: stored(row, "subject", isRecord),
    before: storedOrNull(row, "before", isRecord),
    after: storedOrNull(row, "after", isRecord),
    error: textOrNull(row, "error"),
  };
}

function jsonOrNull(value: object | null): string | null {
  return value === null ? null : JSON.stringify(value);
}
