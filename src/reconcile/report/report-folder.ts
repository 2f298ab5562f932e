import { accessSync, constants, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { makeFolder } from "../../core/folder.ts";
import type { ReconcileDocument, ReportSummary } from "../../core/contracts/reconciliation.ts";
import { markdownReport } from "./markdown.ts";

/** A folder of reports as files: of each comparison one as JSON, one to read as it is, one for browsers. */
export class ReportFolder {
  readonly #path: string;

  private constructor(path: string) {
    this.#path = path;
  }

  /** Made, and tried; throws what the system says. */
  static open(path: string): ReportFolder {
    makeFolder(path);
    accessSync(path, constants.W_OK | constants.X_OK);
    return new ReportFolder(path);
  }

  /** `history`: reports of the same name, newest first. A file is there whole or not at all. */
  async write(found: ReconcileDocument, history: readonly ReportSummary[]): Promise<void> {
    const { htmlReport } = await import("./page.ts");
    const forms = {
      json: `${JSON.stringify(found, null, 2)}\n`,
      md: markdownReport(found),
      html: htmlReport(found, history),
    };
    for (const [ending, text] of Object.entries(forms)) {
      const path = join(this.#path, `${found.name}-${found.id}.${ending}`);
      // Rows' keys are in it.
      writeFileSync(`${path}~`, text, { mode: 0o600 });
      renameSync(`${path}~`, path);
    }
  }
}
