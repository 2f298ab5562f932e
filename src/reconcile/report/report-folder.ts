import { accessSync, constants, existsSync } from "node:fs";
import { join } from "node:path";
import { makeFolder, writeWhole } from "../../core/files.ts";
import type { ReconcileDocument, ReportSummary } from "../../core/contracts/reconciliation.ts";
import type { KeyObject } from "node:crypto";
import type { ReportStore } from "../../core/contracts/state-store.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { withoutValues } from "../rows/findings.ts";
import { signedReport } from "./signature.ts";

/** A folder of reports: for each comparison one JSON file, one Markdown file and one HTML file. */
export class ReportFolder {
  readonly #path: string;
  /** Ids of reports that could not be written; null: what an earlier process left out is not known yet. */
  #unwritten: Set<string> | null = null;

  private constructor(path: string) {
    this.#path = path;
  }

  /** Creates and tests the folder; throws the system's error. */
  static open(path: string): ReportFolder {
    makeFolder(path);
    accessSync(path, constants.W_OK | constants.X_OK);
    return new ReportFolder(path);
  }

  /**
   * `history`: reports of the same name, newest first. Each file is written completely or not at all. False: the report is there
   * already, and stays: it may be signed.
   */
  async write(found: ReconcileDocument, history: readonly ReportSummary[]): Promise<boolean> {
    const [{ htmlReport }, { markdownReport }] = await Promise.all([import("./page.ts"), import("./text.ts")]);
    const forms = {
      md: markdownReport(found),
      html: htmlReport(found, history),
      json: `${JSON.stringify(found, null, 2)}\n`,
    };
    const path = join(this.#path, `${found.name}-${found.id}`);
    if (existsSync(`${path}.json`)) return false;
    // Keys of rows are in the files.
    for (const [ending, text] of Object.entries(forms)) writeWhole(`${path}.${ending}`, text, 0o600);
    return true;
  }

  /**
   * Writes the newest of these reports, and the signed ones before it that the folder lacks since a process ended, or the folder
   * was full: later ones name them. Those that somebody has taken away stay away, but for the one before the newest, which the
   * process before may not have written.
   */
  async follow(reports: ReportStore): Promise<void> {
    const history = await reports.list();
    const [newest, before] = history;
    if (newest === undefined) return;
    const unwritten = (this.#unwritten ??= new Set(before === undefined ? [] : [before.id]));
    const owed = history.filter(({ id }) => unwritten.has(id)).toReversed();
    unwritten.clear();
    for (const { id } of [...owed, newest]) unwritten.add(id);
    for (const { id } of [...owed, newest]) {
      const found = await reports.get(id);
      const isLink = found?.signature !== undefined;
      if (found !== null && (isLink || id === newest.id)) await this.write(found, history);
      unwritten.delete(id);
    }
  }
}

export interface ReportingParts {
  readonly reports: ReportStore;
  /** Null: none is configured. */
  readonly folder: ReportFolder | null;
  /** Signs reports; null: none is signed. */
  readonly sign: KeyObject | null;
  /** Removes secrets from the texts of a JSON document. */
  readonly redact: (json: string) => string;
  readonly logger: Logger;
}

const SAMPLE_MAX = 100;

/** Stores the result of a comparison in the state and in the folder of reports. A failure is logged; the comparison does not fail. */
export async function keepReport(
  { reports, folder, sign, redact, logger }: ReportingParts,
  found: ReconcileDocument,
): Promise<void> {
  let kept = short(redacted(found, redact));
  const tried = async (what: string, work: () => Promise<void>): Promise<boolean> => {
    try {
      await work();
      return true;
    } catch (error) {
      logger.error({ error, id: kept.id }, `the report of the comparison could not be ${what}`);
      return false;
    }
  };
  if (sign !== null) await tried("signed", async () => void (kept = signedReport(kept, sign, await newestOf(reports))));
  const isKept = await tried("kept in the state", () => reports.add(kept));
  if (folder === null) return;
  await tried("written into the folder of reports", async () => {
    // The next one names the newest that the state has: a signed one that the state lacks would be a gap.
    if (isKept || sign !== null) await folder.follow(reports);
    else await folder.write(kept, await reports.list());
  });
}

async function newestOf(reports: ReportStore): Promise<ReconcileDocument | null> {
  const [newest] = await reports.list();
  return newest === undefined ? null : await reports.get(newest.id);
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
