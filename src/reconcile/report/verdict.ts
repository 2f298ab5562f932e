/** Sums up a comparison's result and says what to do about it, in the same words for every form of a report. */
import type { DriftCause, ReconcileDocument, TableReconciliation } from "../../core/contracts/reconciliation.ts";
import { asDeadLetters, count, digits, verb } from "../../core/figures.ts";

export interface Verdict {
  readonly kind: "equal" | "incomplete" | "repaired" | "tolerated" | "differs";
  readonly text: string;
}

/** `equal` is only for all rows of all tables in all sinks. */
export function verdictOf(found: ReconcileDocument): Verdict {
  const { drift, alarm, tables } = found;
  if (drift) {
    const left = tables.reduce((sum, row) => sum + leftIn(row), 0);
    if (left === 0) return { kind: "repaired", text: "differed, and is repaired" };
    const text = `${count(left, "row")} ${verb(left, "differ")}`;
    return alarm ? { kind: "differs", text } : { kind: "tolerated", text: `${text}, within the thresholds` };
  }
  if (gapsOf(found).length === 0) return { kind: "equal", text: "equal" };
  return { kind: "incomplete", text: "what was compared is equal" };
}

/** Why a comparison does not prove that every sink equals the source, in words. */
export function gapsOf({ tables, notComparable, suspended, part, whole }: ReconcileDocument): readonly string[] {
  const gaps: string[] = [];
  const sum = (of: (row: TableReconciliation) => number): number => tables.reduce((total, row) => total + of(row), 0);
  const rows = (number: number): string => count(number, "row");
  const [compared, met] = [sum((row) => row.compared), sum((row) => row.sourceRows)];
  if (part === null && compared < met)
    gaps.push(`${digits(compared)} of ${rows(met)} ${verb(compared, "were")} compared`);
  if (part !== null) gaps.push(`of the values part ${part.number} of ${part.of} was compared`);
  if (!whole) gaps.push("only some tables or sinks were asked for");
  const moving = sum((row) => row.moving ?? 0);
  if (moving > 0) gaps.push(`${rows(moving)} never rested, and ${verb(moving, "were")} as the log says`);
  const letters = sum((row) => row.deadLetters);
  if (letters > 0)
    gaps.push(`${rows(letters)} ${verb(letters, "differ")} and ${verb(letters, "wait")} ${asDeadLetters(letters)}`);
  if (suspended.length > 0) gaps.push(`${count(suspended.length, "table")} ${verb(suspended.length, "are")} suspended`);
  if (notComparable.length > 0) gaps.push("what is named as not comparable was not compared");
  return gaps;
}

export function driftIn({ missing, extra, different }: TableReconciliation): number {
  return missing + extra + different;
}

/** Rows that still differ. */
function leftIn(row: TableReconciliation): number {
  return Math.max(0, driftIn(row) - row.repaired);
}

export function secondsOf({ startedAt, finishedAt }: Pick<ReconcileDocument, "startedAt" | "finishedAt">): number {
  return (Date.parse(finishedAt) - Date.parse(startedAt)) / 1000;
}

export function duration(seconds: number): string {
  if (seconds < 60) return `${Number(seconds.toFixed(1))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Null: every row was compared in full. */
export function partText({ part }: ReconcileDocument): string | null {
  if (part === null) return null;
  return `Every key was compared, and the values of part ${part.number} of ${part.of} of the rows.`;
}

export const CAUSES: Readonly<Record<DriftCause, string>> = {
  "written-outside": "written by somebody else",
  "beyond-log": "its version lies beyond the log",
  "beyond-epochs": "its version lies beyond every epoch",
  unknown: "",
};

/** About rows that no change of the present epoch replaces. */
function beyondText(sinks: readonly string[]): string {
  return `Rows of ${sinks.join(", ")} have a version beyond the log, which keeps every later change out (MR1405)`;
}

export function valueText(value: string | null): string {
  return value === null ? "NULL" : JSON.stringify(value);
}

/** One thing to do, and its command if there is one. */
export interface Step {
  readonly text: string;
  readonly command: string | null;
}

export function stepsOf(found: ReconcileDocument): readonly Step[] {
  const steps: Step[] = [];
  const { tables, notComparable, suspended } = found;
  const left = tables.filter((row) => leftIn(row) > 0);
  const add = (text: string, command: string | null = null): void => void steps.push({ text, command });
  const sinksOf = (rows: readonly { readonly sink: string }[]): string[] => [...new Set(rows.map(({ sink }) => sink))];
  const because = (why: DriftCause): string[] =>
    sinksOf(left.filter(({ sample }) => sample.some((row) => row.why === why)));
  const beyond = sinksOf(left.filter(({ beyondLog }) => beyondLog > 0));
  if (beyond.length > 0) add(`${beyondText(beyond)}: begin another epoch.`, "millrace recover --anyway");
  for (const sink of because("beyond-epochs")) {
    const text = `Rows of ${sink} have a version beyond every epoch, which keeps all changes out: fill the sink again.`;
    add(text, `millrace offsets reset --sink ${sink} --to snapshot`);
  }
  for (const sink of because("written-outside")) {
    add(`Something else writes into ${sink}: find out what. What lies under the id of no row is removed by hand.`);
  }
  const repairable = left.filter((row) => leftIn(row) > row.unrepairable);
  for (const sink of sinksOf(repairable)) {
    add(`Read the rows that differ in ${sink} again from the source.`, `millrace reconcile --sink ${sink} --repair`);
  }
  if (because("unknown").length > 0) {
    add("If no other program writes into the sinks, and nothing was evicted, report the rows that differ as a bug.");
  }
  for (const sink of sinksOf(tables.filter(({ deadLetters }) => deadLetters > 0))) {
    add(`Rows that ${sink} refused wait as dead letters; each says why.`, `millrace dlq list --sink ${sink}`);
  }
  if (suspended.length > 0) add("Reinstate the suspended tables; each error says how.", "millrace status");
  if (notComparable.length > 0) {
    add("Bring the sinks that could not be compared to the source's position, then compare again.", "millrace status");
  }
  return steps;
}
