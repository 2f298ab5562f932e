import type { StatementSync } from "node:sqlite";
import { summaryOf, type ReconcileDocument, type ReportSummary } from "../../../core/contracts/reconciliation.ts";
import type { ReportStore } from "../../../core/contracts/state-store.ts";
import type { Connection } from "../connection.ts";
import { isRecord } from "../../../core/checkpoint/stored-json.ts";
import { isTexts, stored } from "../row.ts";

/** How many reports are kept: a third of a year of nights. */
export const REPORT_COUNT_MAX = 120;
/** Size of all documents together: a state on a server is loaded whole. The newest report is kept whatever its size. */
const BYTE_COUNT_MAX = 16 * 1024 * 1024;

export class SqliteReports implements ReportStore {
  readonly #connection: Connection;
  readonly #insert: StatementSync;
  readonly #prune: StatementSync;
  readonly #list: StatementSync;
  readonly #get: StatementSync;

  constructor(connection: Connection) {
    this.#connection = connection;
    this.#insert = connection.prepare(
      "INSERT INTO report (id, summary, document) VALUES (:id, :summary, :document) ON CONFLICT DO NOTHING",
    );
    this.#prune = connection.prepare(
      `DELETE FROM report WHERE number IN (
         SELECT number FROM (
           SELECT number, row_number() OVER newest AS place, sum(length(document)) OVER newest AS byte_count
           FROM report WINDOW newest AS (ORDER BY number DESC))
         WHERE place > 1 AND (place > :count OR byte_count > :bytes))`,
    );
    this.#list = connection.prepare("SELECT summary FROM report ORDER BY number DESC");
    this.#get = connection.prepare("SELECT document FROM report WHERE id = :id");
  }

  async add(found: ReconcileDocument): Promise<void> {
    const summary = JSON.stringify(summaryOf(found));
    const document = JSON.stringify(found);
    this.#connection.write(() => {
      this.#insert.run({ id: found.id, summary, document });
      this.#prune.run({ count: REPORT_COUNT_MAX, bytes: BYTE_COUNT_MAX });
    });
  }

  async list(): Promise<readonly ReportSummary[]> {
    return this.#connection.read(() => this.#list.all().map((row) => stored(row, "summary", isSummary)));
  }

  async get(id: string): Promise<ReconcileDocument | null> {
    const row = this.#connection.read(() => this.#get.get({ id }));
    return row === undefined ? null : stored(row, "document", isDocument);
  }
}

function isSummary(value: unknown): value is ReportSummary {
  return isRecord(value) && isTexts([value["id"], value["startedAt"], value["finishedAt"]]);
}

function isDocument(value: unknown): value is ReconcileDocument {
  return isSummary(value) && "tables" in value && Array.isArray(value.tables);
}
