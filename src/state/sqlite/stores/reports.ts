/** The results of comparisons, and what the newest one has found so far. */
import { summaryOf } from "../../../core/comparison-verdict.ts";
import {
  type ReconcileDocument,
  type ReportSummary,
  type TableReconciliation,
  withoutKeysOf,
} from "../../../core/contracts/reconciliation.ts";
import type { ComparisonStore, ReportStore } from "../../../core/contracts/state-store.ts";
import type { Connection } from "../connection.ts";
import { isRecord } from "../../../core/stored-json.ts";
import { isTexts, stored, text } from "../row.ts";

/** How many reports are kept: a third of a year of nights. */
const REPORT_COUNT_MAX = 120;
/** Size of all documents together: a state on a server is loaded whole. The newest report is kept whatever its size. */
const BYTE_COUNT_MAX = 16 * 1024 * 1024;

/** As long as settled dead letters. */
const UNFINISHED_MS_MAX = 30 * 86_400_000;
const BEGUN = "json_extract(content, '$.startedAt')";

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
      this.#connection.run("DELETE FROM comparison WHERE id = :id", { id: found.id });
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

  async forgetKeys(tableId: string): Promise<void> {
    const naming = "SELECT id, document FROM report WHERE instr(document, :name) > 0";
    this.#connection.write(() => {
      for (const row of this.#connection.all(naming, { name: JSON.stringify(tableId) })) {
        const found = stored(row, "document", isDocument);
        if (!found.tables.some((one) => one.table === tableId && hasKeys(one))) continue;
        const document = JSON.stringify(withoutKeysOf(tableId, found));
        this.#connection.run("UPDATE report SET document = :document WHERE id = :id", { id: found.id, document });
      }
    });
  }
}

function hasKeys({ sample, movingSample = [], coverage = [] }: TableReconciliation): boolean {
  const isEnded = coverage.some(({ upTo }) => upTo !== null && Object.keys(upTo).length > 0);
  return sample.length + movingSample.length > 0 || isEnded;
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
    const sql = `SELECT content FROM comparison WHERE id = :id AND ${BEGUN} >= :since`;
    const row = this.#connection.get(sql, { id, since: this.#since });
    return row === undefined ? null : text(row, "content");
  }

  async forgetTable(tableId: string): Promise<void> {
    this.#connection.write(() => {
      for (const row of this.#connection.all("SELECT id, content FROM comparison")) {
        const before = text(row, "content");
        const content = withoutTable(tableId, before);
        const update = "UPDATE comparison SET content = :content WHERE id = :id";
        if (content !== before) this.#connection.run(update, { id: text(row, "id"), content });
      }
    });
  }

  async prune(): Promise<void> {
    const sql = `DELETE FROM comparison WHERE ${BEGUN} < :since`;
    this.#connection.write(() => this.#connection.run(sql, { since: this.#since }));
  }

  get #since(): string {
    return new Date(this.#connection.clock.now() - UNFINISHED_MS_MAX).toISOString();
  }
}

function withoutTable(tableId: string, content: string): string {
  const isOfTable = (item: unknown): boolean =>
    (Array.isArray(item) ? item[0] : isRecord(item) ? item["table"] : null) === tableId;
  const field = (_name: string, value: unknown): unknown =>
    Array.isArray(value) && value.some(isOfTable) ? value.filter((item) => !isOfTable(item)) : value;
  return JSON.stringify(JSON.parse(content, field));
}

function isSummary(value: unknown): value is ReportSummary {
  return isRecord(value) && isTexts([value["id"], value["startedAt"], value["finishedAt"]]);
}

function isDocument(value: unknown): value is ReconcileDocument {
  return isSummary(value) && "tables" in value && Array.isArray(value.tables);
}
