/** The words of a report besides its verdict (core/comparison-verdict), and what to do next: the same in every form. */
import { leftIn } from "../../core/comparison-verdict.ts";
import type { DriftCause, ReconcileDocument, TableReconciliation } from "../../core/contracts/reconciliation.ts";

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

/** How far the walk through a table came; null: the report is of an earlier version, and does not say. */
export function reachText({ coverage }: Pick<TableReconciliation, "coverage">): string | null {
  const last = coverage?.at(-1);
  if (coverage === undefined) return null;
  if (last === undefined) return "no row was reached";
  return last.upTo === null ? null : `the rows after ${keyText(last.upTo)} were not reached`;
}

/** A key that is not shown has no columns. */
export function keyText(key: Readonly<Record<string, string>>): string {
  const parts = Object.entries(key).map(([name, text]) => `${name} ${JSON.stringify(text)}`);
  return parts.length === 0 ? "a key that is not shown" : parts.join(", ");
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
  if (notComparable.some(({ isExpected }) => isExpected !== true) && found.kind === "proof") {
    add("The continuous comparison proves the rest in its turn, unless it waits for something.", "millrace status");
  } else if (notComparable.length > 0 && found.kind !== "proof") {
    add("Bring the sinks that could not be compared to the source's position, then compare again.", "millrace status");
  }
  return steps;
}
