/** Which rows a comparison has been through: ranges of the source's keys, in the order of the walk. */
import type { CoveredRange, TableReconciliation } from "../../core/contracts/reconciliation.ts";

/** With more ranges of one table than this, neighbours become one. */
const RANGES_MAX = 64;
/** Of all tables of a report together. Each has one at least. */
const REPORT_RANGES_MAX = 1_024;

/** The ranges with one more at their end. */
export function withCovered(ranges: readonly CoveredRange[], next: CoveredRange): readonly CoveredRange[] {
  return fewer([...ranges, next], RANGES_MAX);
}

/** The tables of a report, with no more ranges than it may have. */
export function withinReport(tables: readonly TableReconciliation[]): readonly TableReconciliation[] {
  const count = tables.reduce((sum, { coverage = [] }) => sum + coverage.length, 0);
  if (count <= REPORT_RANGES_MAX) return tables;
  const each = Math.max(1, Math.floor(REPORT_RANGES_MAX / tables.length));
  return tables.map((row) => (row.coverage === undefined ? row : { ...row, coverage: fewer(row.coverage, each) }));
}

/** Those with the fewest rows become one with a neighbour, at the older position of the two. */
function fewer(ranges: readonly CoveredRange[], most: number): readonly CoveredRange[] {
  const left = [...ranges];
  const rows = (i: number): number => (left[i]!.rows ?? 0) + (left[i + 1]!.rows ?? 0);
  while (left.length > most) {
    let at = 0;
    for (let i = 1; i + 1 < left.length; i++) if (rows(i) < rows(at)) at = i;
    left.splice(at, 2, joined(left[at]!, left[at + 1]!));
  }
  return left;
}

function joined(a: CoveredRange, b: CoveredRange): CoveredRange {
  const rows = a.rows === null || b.rows === null ? null : a.rows + b.rows;
  return { upTo: b.upTo, rows, ...older(a, b) };
}

/** Of a range without rows no position is known; of one that was never found equal, no time. */
function older(a: CoveredRange, b: CoveredRange): Pick<CoveredRange, "at" | "position"> {
  if (a.at === null || b.at === null) return { at: null, position: null };
  const [first, second] = a.at <= b.at ? [a, b] : [b, a];
  return { at: first.at, position: first.position ?? second.position };
}
