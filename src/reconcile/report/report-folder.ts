import { accessSync, constants } from "node:fs";
import { join } from "node:path";
import { makeFolder, writeWhole } from "../../core/files.ts";
import type { ReconcileDocument, ReportSummary } from "../../core/contracts/reconciliation.ts";

/** A folder of reports: for each comparison one JSON file, one Markdown file and one HTML file. */
export class ReportFolder {
  readonly #path: string;

  private constructor(path: string) {
    this.#path = path;
  }

  /** Creates and tests the folder; throws the system's error. */
  static open(path: string): ReportFolder {
    makeFolder(path);
    accessSync(path, constants.W_OK | constants.X_OK);
    return new ReportFolder(path);
  }

  /** `history`: reports of the same name, newest first. Each file is written completely or not at all. */
  async write(found: ReconcileDocument, history: readonly ReportSummary[]): Promise<void> {
    const [{ htmlReport }, { markdownReport }] = await Promise.all([import("./page.ts"), import("./text.ts")]);
    const forms = {
      json: `${JSON.stringify(found, null, 2)}\n`,
      md: markdownReport(found),
      html: htmlReport(found, history),
    };
    for (const [ending, text] of Object.entries(forms)) {
      const path = join(this.#path, `${found.name}-${found.id}.${ending}`);
      // Keys of rows are in the file.
      writeWhole(path, text, 0o600);
    }
  }
}
