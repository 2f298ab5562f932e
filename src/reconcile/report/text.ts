/** The result of a comparison as text for people: what the terminal prints, and what the Markdown file holds. */
import Table from "cli-table3";
import { gapsOf, verdictOf } from "../../core/comparison-verdict.ts";
import { asDeadLetters, count, digits, verb } from "../../core/figures.ts";
import type { DriftSample, ReconcileDocument, TableReconciliation } from "../../core/contracts/reconciliation.ts";
import { CAUSES, keyText, partText, reachText, secondsOf, stepsOf, valueText } from "./wording.ts";

/** As code, which can't hold markup: the fence is longer than any row of backticks in a name or key of the source. */
export function markdownReport(found: ReconcileDocument): string {
  const { kind, name, id, startedAt, finishedAt } = found;
  const steps = stepsOf(found).map(({ text, command }) => (command === null ? text : `${text}\n  ${command}`));
  const text = [reportText(found), ...steps].join("\n").replaceAll(/[^\P{Cc}\n]/gu, " ");
  const fence = "`".repeat(Math.max(3, 1 + Math.max(0, ...(text.match(/`+/g) ?? []).map((run) => run.length))));
  const took =
    kind === "proof"
      ? `Report ${id} of what is proven at ${finishedAt}, by comparisons since ${startedAt}`
      : `Comparison ${id}, from ${startedAt} to ${finishedAt} (${secondsOf(found).toFixed(1)} s)`;
  return `# ${name}: ${verdictOf(found).text}\n\n${took}.\n\n${fence}text\n${text}\n${fence}\n`;
}

/** `isPlan`: describes a repair that is not carried out. */
export function reportText(found: ReconcileDocument, isPlan = false): string {
  const { tables, notComparable, suspended, besides } = found;
  const style = { head: [], border: [], compact: true };
  const head = ["table", "sink", "source", "sink rows", "compared", "missing", "extra", "different", "repaired"];
  const summary = new Table({ head, style });
  for (const row of tables) {
    const { table, sink, sourceRows, sinkRows, compared, missing, extra, different, repaired } = row;
    summary.push([table, sink, sourceRows, sinkRows, compared, missing, extra, different, repaired]);
  }
  const lines = tables.length === 0 ? [] : [summary.toString()];
  for (const row of tables) lines.push(...samplesOf(row));
  if (isPlan) lines.push(...tables.flatMap(planOf));
  for (const { table, sink, deadLetters } of tables) {
    if (deadLetters === 0) continue;
    const wait = `${verb(deadLetters, "wait")} ${asDeadLetters(deadLetters)}`;
    lines.push(`known: ${count(deadLetters, "row")} of ${table} ${wait} of ${sink}`);
  }
  for (const { table, sink, moving = 0, movingSample: [first] = [] } of tables) {
    if (moving === 0) continue;
    const place = first === undefined ? "" : `, the first one last at ${first.equalAt}`;
    lines.push(
      `moving: ${count(moving, "row")} of ${table} changed at each reading; ${sink} had what the log says${place}`,
    );
  }
  lines.push(...coverageOf(tables));
  for (const { table, code, message } of suspended) lines.push(`known: ${table} is suspended: ${code} ${message}`);
  for (const { table, what } of besides) lines.push(`known: ${table}: ${what}`);
  for (const { sink, table, reason } of notComparable) {
    lines.push(`not comparable: ${sink}${table === null ? "" : ` ${table}`}: ${reason}`);
  }
  for (const { table, sink, beyondLog = 0 } of tables) {
    if (beyondLog === 0) continue;
    const why =
      "no change of this epoch replaces what lies beyond it; stop the daemon, then run millrace recover --anyway";
    lines.push(`MR1405 beyond the log: ${count(beyondLog, "row")} of ${table} in ${sink}: ${why}`);
  }
  const part = partText(found);
  if (part !== null) lines.push(part);
  const { kind, sentence } = verdictOf(found);
  const gaps = kind === "incomplete" ? gapsOf(found) : [];
  lines.push([sentence, ...(gaps.length === 0 ? [] : [gaps.join("; ")])].join(": "));
  return lines.join("\n");
}

function coverageOf(tables: readonly TableReconciliation[]): string[] {
  const ranges = tables.reduce((sum, { coverage = [] }) => sum + coverage.length, 0);
  const lines = ranges === 0 ? [] : [`covered: ${count(ranges, "range")} of keys; --json and the files name each`];
  for (const row of tables) {
    const reach = reachText(row);
    if (reach !== null) lines.push(`covered in part: ${row.table} in ${row.sink}: ${reach}`);
  }
  return lines;
}

function samplesOf({ table, sink, sample, missing, extra, different }: TableReconciliation): string[] {
  const more = missing + extra + different - sample.length;
  const lines = sample.map((row) => `  ${describeRow(row)}`);
  if (more > 0) lines.push(`  and ${more} more`);
  return lines.length === 0 ? [] : [`${table} in ${sink}:`, ...lines];
}

function describeRow({ kind, key, columns, why, values = {} }: DriftSample): string {
  const cells = columns.map((column) => {
    const pair = values[column];
    return pair === undefined ? column : `${column} ${valueText(pair.found)} in place of ${valueText(pair.expected)}`;
  });
  return `${kind} ${keyText(key)}${cells.length === 0 ? "" : `: ${cells.join(", ")}`}${why === "unknown" ? "" : ` (${CAUSES[why]})`}`;
}

/** What a repair would do. */
function planOf({ table, sink, missing, extra, different, unrepairable }: TableReconciliation): string[] {
  const all = missing + extra + different;
  if (all === 0) return [];
  const again = `${count(all - unrepairable, "row")} would be read again from the source`;
  const kept =
    unrepairable === 0
      ? ""
      : `, ${digits(unrepairable)} be left: no repair changes ${unrepairable === 1 ? "it" : "them"}`;
  return [`a repair of ${table} in ${sink}: ${again}${kept}`];
}
