/** Conclusions from past comparisons, newest first. */
import { isOfAll } from "../../core/comparison-verdict.ts";
import { hasLeft, type ReportSummary } from "../../core/contracts/reconciliation.ts";
import type { ComparisonStatus } from "../../core/contracts/status.ts";
import { PART_COUNT } from "../rows/rotation.ts";

/**
 * When the last comparison began that found all rows of all sinks equal to the source: a full one, or the last of fast ones
 * that together cover all rows, if none in between found a difference. The rows of the other fast ones were compared before,
 * each in its turn. Null: never, as far as reports are kept.
 */
export function lastEqual(reports: readonly ReportSummary[]): Date | null {
  const parts = new Set<number>();
  let newest: ReportSummary | null = null;
  for (const report of comparisonsIn(reports)) {
    if (report.drift) {
      parts.clear();
      newest = null;
    } else if (isClean(report)) {
      if (report.part == null) return new Date(report.startedAt);
      newest ??= report;
      parts.add(report.part.number);
      if (parts.size === PART_COUNT) return new Date(newest.startedAt);
    }
  }
  return null;
}

/** Without reports of proofs: those tell what comparisons found before. */
export function comparisonsIn(reports: readonly ReportSummary[]): readonly ReportSummary[] {
  return reports.filter(({ kind }) => kind !== "proof");
}

/** The fields of `status` about past comparisons. */
export function pastOf(reports: readonly ReportSummary[]): Pick<ComparisonStatus, "last" | "drift"> {
  const comparisons = comparisonsIn(reports);
  return { last: comparisons[0] ?? null, drift: openDrift(comparisons) };
}

/**
 * Drift beyond the allowed, unless a later full comparison found none. Of several reports: the newest that left rows
 * unrepaired, unless a later full comparison found everything; else the newest.
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

/** Whether everything was requested and compared, and nothing differs. */
function isClean(report: ReportSummary): boolean {
  return isOfAll(report) && !report.drift && report.deadLetters === 0;
}
