/** What past comparisons, newest first, say of now. */
import type { ReportSummary } from "../../core/contracts/reconciliation.ts";
import type { ComparisonStatus } from "../../core/contracts/status.ts";
import { PART_COUNT } from "../rows/rotation.ts";

/**
 * When it was found last that all sinks are equal to the source: by a comparison of everything, or by the last of fast ones
 * that make a whole together, with none in between that found something else. Null: never, as far as is kept.
 */
export function lastEqual(reports: readonly ReportSummary[]): Date | null {
  const parts = new Set<number>();
  let newest: ReportSummary | null = null;
  for (const report of reports) {
    if (report.drift) {
      parts.clear();
      newest = null;
    } else if (isClean(report)) {
      if (report.part == null) return new Date(report.finishedAt);
      newest ??= report;
      parts.add(report.part.number);
      if (parts.size === PART_COUNT) return new Date(newest.finishedAt);
    }
  }
  return null;
}

/** What `status` says of them. */
export function pastOf(reports: readonly ReportSummary[]): Pick<ComparisonStatus, "last" | "drift"> {
  return { last: reports[0] ?? null, drift: openDrift(reports) };
}

/**
 * Drift beyond what is allowed, where no comparison of everything has found none since: the newest that left rows as they
 * were, unless a later one of everything has found all there is; else the newest.
 */
export function openDrift(reports: readonly ReportSummary[]): ReportSummary | null {
  let newest: ReportSummary | null = null;
  for (const [at, report] of reports.entries()) {
    if (!report.alarm) continue;
    if (lastEqual(reports.slice(0, at)) !== null) break;
    newest ??= report;
    if (hasLeft(report)) return report;
    if (isOfAll(report)) break;
  }
  return newest;
}

/** Whether rows that differed were left as they were. */
export function hasLeft({ missing, extra, different, repaired }: ReportSummary): boolean {
  return missing + extra + different > repaired;
}

/** Everything was asked for and compared, and nothing differs. */
function isClean(report: ReportSummary): boolean {
  return isOfAll(report) && !report.drift && (report.deadLetters ?? 0) === 0;
}

function isOfAll({ whole, part, aside, notComparable }: ReportSummary): boolean {
  return whole === true && part !== undefined && notComparable + (aside ?? 0) === 0;
}
