/** What a comparison says of the sinks, in the same words on every surface. */
import type { DriftKind, ReportSummary, ReportView } from "./contracts/reconciliation.ts";
import { count, digits, verb } from "./figures.ts";

export interface Verdict {
  readonly kind: "equal" | "incomplete" | "repaired" | "tolerated" | "differs";
  /** For a title or a label: "3 rows differ". */
  readonly text: string;
  /** By itself, without a full stop: "the sinks differ from the source". */
  readonly sentence: string;
}

type Row = ReportView["tables"][number];

/** `equal` is only for all rows of all tables in all sinks. */
export function verdictOf(found: ReportView): Verdict {
  const { drift, alarm, tables } = found;
  if (drift) {
    const left = tables.reduce((sum, row) => sum + leftIn(row), 0);
    if (left === 0) {
      const sentence = "the sinks differed from the source; everything is repaired";
      return { kind: "repaired", text: "differed, and is repaired", sentence };
    }
    const text = `${count(left, "row")} ${verb(left, "differ")}`;
    if (alarm) return { kind: "differs", text, sentence: "the sinks differ from the source" };
    const sentence = "the sinks differ from the source, by no more rows than the configuration allows";
    return { kind: "tolerated", text: `${text}, within the thresholds`, sentence };
  }
  const isAll = isComplete(found);
  const letters = tables.reduce((sum, row) => sum + row.deadLetters, 0);
  const text = equalText(isAll, letters);
  const sentence = isAll ? `the sinks are equal to the source${exceptFor(letters)}` : text;
  return { kind: isAll && letters === 0 ? "equal" : "incomplete", text, sentence };
}

/** Of a comparison without drift. `isAll`: of all rows of all tables in all sinks. A row that a sink refused differs. */
function equalText(isAll: boolean, deadLetters: number): string {
  return `${isAll ? "equal" : "what was compared is equal"}${exceptFor(deadLetters)}`;
}

/** The same in a list of comparisons. */
export function equalIn({ complete, deadLetters }: ReportSummary): string {
  return equalText(complete, deadLetters);
}

/** The same of one table in one sink. What is named of the whole sink may be of it too: the sink was given up in the middle of a table. */
export function equalOf(row: Row, { part, notComparable }: ReportView): string {
  const { table, sink, compared, sourceRows, moving = 0, deadLetters } = row;
  const isNamed = notComparable.some((one) => one.sink === sink && (one.table === null || one.table === table));
  return equalText(part === null && compared >= sourceRows && moving === 0 && !isNamed, deadLetters);
}

function exceptFor(deadLetters: number): string {
  return deadLetters === 0 ? "" : ` except for ${count(deadLetters, "dead letter")}`;
}

export function summaryOf(found: ReportView): ReportSummary {
  const { kind, id, name, startedAt, finishedAt, drift, alarm, whole, part, tables, notComparable, suspended } = found;
  const sum = (of: "compared" | "repaired" | "deadLetters" | DriftKind): number =>
    tables.reduce((total, row) => total + row[of], 0);
  return {
    ...(kind === undefined ? {} : { kind }),
    id,
    name,
    startedAt,
    finishedAt,
    drift,
    alarm,
    tables: tables.length,
    notComparable: notComparable.filter(({ isExpected }) => isExpected !== true).length,
    compared: sum("compared"),
    whole,
    complete: isComplete(found),
    part,
    suspended: suspended.length,
    deadLetters: sum("deadLetters"),
    missing: sum("missing"),
    extra: sum("extra"),
    different: sum("different"),
    repaired: sum("repaired"),
  };
}

/**
 * Whether everything that can be compared was requested and compared; of `fast` ones in its part. Neither a sink that only passes
 * changes on nor a row that changed at each look keeps a comparison from that, as either may be so each time.
 */
export function isOfAll({ whole, suspended, notComparable }: ReportSummary): boolean {
  return whole && notComparable + suspended === 0;
}

function isComplete(found: ReportView): boolean {
  return gapsOf(found).length === 0;
}

/** What of the rows of all tables in all sinks was not compared, in words. */
export function gapsOf({ tables, notComparable, suspended, part, whole }: ReportView): readonly string[] {
  const gaps: string[] = [];
  const sum = (of: (row: Row) => number): number => tables.reduce((total, row) => total + of(row), 0);
  const rows = (number: number): string => count(number, "row");
  const [compared, met] = [sum((row) => row.compared), sum((row) => row.sourceRows)];
  if (part === null && compared < met)
    gaps.push(`${digits(compared)} of ${rows(met)} ${verb(compared, "were")} compared`);
  if (part !== null) gaps.push(`of the values part ${part.number} of ${part.of} was compared`);
  if (!whole) gaps.push("only some tables or sinks were asked for");
  const moving = sum((row) => row.moving ?? 0);
  if (moving > 0) gaps.push(`${rows(moving)} never rested, and ${verb(moving, "were")} as the log says`);
  if (suspended.length > 0) gaps.push(`${count(suspended.length, "table")} ${verb(suspended.length, "are")} suspended`);
  if (notComparable.length > 0) gaps.push("what is named as not comparable was not compared");
  return gaps;
}

export function driftIn({ missing, extra, different }: Readonly<Record<DriftKind, number>>): number {
  return missing + extra + different;
}

/** Rows that still differ. */
export function leftIn(row: Row): number {
  return Math.max(0, driftIn(row) - row.repaired);
}
