/** The results of comparisons, and what the newest one has found so far. */
import { summaryOf, type ReconcileDocument, type ReportSummary } from "../../../core/contracts/reconciliation.ts";
import type { ComparisonStore, ReportStore } from "../../../core/contracts/state-store.ts";
import type { Connection } from "../connection.ts";
import { isRecord } from "../../../core/stored-json.ts";
import { isTexts, stored, text } from "../row.ts";

/** How many reports are kept: a third of a year of nights. */
const REPORT_COUNT_MAX = 120;
/** Size of all documents together: a state on a server is loaded whole. The newest report is kept whatever its size. */
const BYTE_COUNT_MAX = 16 * 1024 * 1024;

const INSERT = "INSERT INTO report (id, summary, document) VALUES (:id, :summary, :document) ON CONFLICT DO NOTHING";
const PRUNE = `DELETE FROM report WHERE number IN (
  SELECT number FROM (
    SELECT number, row_number() OVER newest AS place, sum(length(document)) OVER newest AS byte_count
    FROM report WINDOW newest AS (ORDER BY number DESC))
  WHERE place > 1 AND (place > :count OR byte_count > :bytes))`;

export class SqliteReports implements ReportStore {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  async add(found: ReconcileDocument): Promise<void> {
    const summary = JSON.stringify(summaryOf(found));
    const document = JSON.stringify(found);
    this.#connection.write(() => {
      this.#connection.run(INSERT, { id: found.id, summary, document });
      this.#connection.run(PRUNE, { count: REPORT_COUNT_MAX, bytes: BYTE_COUNT_MAX });
    });
  }

  async list(): Promise<readonly ReportSummary[]> {
    const rows = this.#connection.all("SELECT summary FROM report ORDER BY number DESC");
    return rows.map((row) => stored(row, "summary", isSummary));
  }

  async get(id: string): Promise<ReconcileDocument | null> {
    const sql = "SELECT document FROM report WHERE id = :id";
    const row = this.#connection.get(sql, { id });
    return row === undefined ? null : stored(row, "document", isDocument);
  }
}

export class SqliteComparisons implements ComparisonStore {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  async save(id: string, content: string): Promise<void> {
    const insert = `INSERT INTO comparison (id, content) VALUES (:id, :content)
      ON CONFLICT (id) DO UPDATE SET content = excluded.content`;
    this.#connection.write(() => {
      this.#connection.run("DELETE FROM comparison WHERE id <> :id", { id });
      this.#connection.run(insert, { id, content });
    });
  }

  async get(id: string): Promise<string | null> {
    const sql = "SELECT content FROM comparison WHERE id = :id";
    const row = this.#connection.get(sql, { id });
    return row === undefined ? null : text(row, "content");
  }

  async forget(id: string): Promise<void> {
    this.#connection.write(() => this.#connection.run("DELETE FROM comparison WHERE id = :id", { id }));
  }
}

function isSummary(value: unknown): value is ReportSummary {
  return isRecord(value) && isTexts([value["id"], value["startedAt"], value["finishedAt"]]);
}

function isDocument(value: unknown): value is ReconcileDocument {
  return isSummary(value) && "tables" in value && Array.isArray(value.tables);
}
