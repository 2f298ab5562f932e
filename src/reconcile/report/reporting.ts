import { type ReconcileDocument, type ReportSummary, summaryOf } from "../../core/contracts/reconciliation.ts";
import type { ReportStore } from "../../core/contracts/state-store.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { withoutValues } from "../rows/kept-table.ts";
import type { ReportFolder } from "./report-folder.ts";
import { driftIn } from "./verdict.ts";

export interface ReportingParts {
  readonly reports: ReportStore;
  /** Null: none is configured. */
  readonly folder: ReportFolder | null;
  /** Sends an alarm until it is accepted or given up, and logs that itself. Null: none is configured. */
  readonly tell: ((alarm: Alarm, signal: AbortSignal) => Promise<void>) | null;
  /** Removes secrets from the texts of a JSON document. */
  readonly redact: (json: string) => string;
  readonly logger: Logger;
}

/** What leaves the machine: counts and names, no keys. */
export interface Alarm extends ReportSummary {
  readonly event: "drift";
  /** The tables with the most differing rows. */
  readonly drifted: readonly {
    readonly table: string;
    readonly sink: string;
    readonly missing: number;
    readonly extra: number;
    readonly different: number;
    readonly repaired: number;
  }[];
}

const DRIFTED_MAX = 20;
const SAMPLE_MAX = 100;

/** Stores and sends the results of comparisons. A failure here does not make the comparison fail. */
export class Reporting {
  readonly #parts: ReportingParts;
  /** Stops pending work when there is no more time for it. */
  readonly #signal: AbortSignal;
  readonly #telling = new Set<Promise<void>>();

  constructor(parts: ReportingParts, signal: AbortSignal) {
    this.#parts = parts;
    this.#signal = signal;
  }

  /** Resolves when the result is stored; does not wait for alarms to arrive. */
  async keep(found: ReconcileDocument): Promise<void> {
    const { reports, folder, tell, redact } = this.#parts;
    const kept = short(redacted(found, redact));
    await this.#tried(kept, "kept in the state", () => reports.add(kept));
    if (folder !== null) {
      await this.#tried(
        kept,
        "written into the folder of reports",
        async () => await folder.write(kept, await reports.list()),
      );
    }
    if (tell === null || !kept.alarm) return;
    const told: Promise<void> = this.#tried(kept, "sent to the webhook", () =>
      tell(alarmOf(kept), this.#signal),
    ).finally(() => this.#telling.delete(told));
    this.#telling.add(told);
  }

  /** Resolves when all alarms have been sent or given up. */
  async settled(): Promise<void> {
    await Promise.all(this.#telling);
  }

  async #tried({ id }: ReconcileDocument, what: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!this.#signal.aborted)
        this.#parts.logger.error({ error, id }, `the report of the comparison could not be ${what}`);
    }
  }
}

export function redacted(found: ReconcileDocument, redact: (json: string) => string): ReconcileDocument {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the same document, with other texts
  return JSON.parse(redact(JSON.stringify(found))) as ReconcileDocument;
}

/** The stored form: without values of rows, and with a limited sample, whatever the request asked for. */
function short(found: ReconcileDocument): ReconcileDocument {
  const tables = found.tables.map((row) => {
    const sample = row.sample.slice(0, SAMPLE_MAX).map(withoutValues);
    return { ...row, sample };
  });
  return { ...found, tables };
}

function alarmOf(found: ReconcileDocument): Alarm {
  const drifted = found.tables
    .filter((row) => driftIn(row) > 0)
    .toSorted((a, b) => driftIn(b) - driftIn(a))
    .slice(0, DRIFTED_MAX)
    .map(({ table, sink, missing, extra, different, repaired }) => ({
      table,
      sink,
      missing,
      extra,
      different,
      repaired,
    }));
  return { event: "drift", ...summaryOf(found), drifted };
}
