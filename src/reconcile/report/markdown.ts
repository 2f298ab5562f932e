/** The result of a comparison as a Markdown page. */
import type { DriftSample, ReconcileDocument, TableReconciliation } from "../../core/contracts/reconciliation.ts";
import { CAUSES, gapsOf, partText, secondsOf, stepsOf, valueText, verdictOf } from "./verdict.ts";

export function markdownReport(found: ReconcileDocument): string {
  const { name, id, startedAt, finishedAt, tables, notComparable, aside, besides = [] } = found;
  const seconds = secondsOf(found).toFixed(1);
  const sections = [
    `# ${plain(name)}: ${verdictOf(found).text}`,
    `Comparison ${id}, from ${startedAt} to ${finishedAt} (${seconds} s).`,
    ...[partText(found)].filter((text) => text !== null),
    ...gapsText(found),
    tableOf(
      [
        "table",
        "sink",
        "source rows",
        "sink rows",
        "compared",
        "source bytes",
        "sink bytes",
        "missing",
        "extra",
        "different",
        "repaired",
        "moving",
        "dead letters",
      ],
      tables.map((row) => [
        ...[row.table, row.sink].map(plain),
        ...[row.sourceRows, row.sinkRows, row.compared].map(String),
        ...[row.sourceBytes, row.sinkBytes].map((byteCount) => (byteCount === undefined ? "" : String(byteCount))),
        ...[row.missing, row.extra, row.different, row.repaired].map(String),
        String(row.moving ?? 0),
        String(row.deadLetters),
      ]),
    ),
    ...list(
      "What to do",
      stepsOf(found).map(({ text, command }) => (command === null ? plain(text) : `${plain(text)} \`${command}\``)),
    ),
    ...tables.filter(({ sample }) => sample.length > 0).flatMap(driftOf),
    ...list(
      "Not comparable",
      notComparable.map(
        ({ sink, table, reason }) => `${plain(sink)}${table === null ? "" : ` ${plain(table)}`}: ${plain(reason)}`,
      ),
    ),
    ...list(
      "Suspended",
      aside.map(({ table, code, message }) => `${plain(table)}: ${code} ${plain(message)}`),
    ),
    ...list(
      "Shown besides",
      besides.map(({ table, what }) => `${plain(table)}: ${plain(what)}`),
    ),
  ];
  return `${sections.join("\n\n")}\n`;
}

function gapsText(found: ReconcileDocument): string[] {
  const gaps = gapsOf(found);
  return gaps.length === 0 ? [] : [`Not all of it: ${gaps.join("; ")}.`];
}

function driftOf({ table, sink, sample, missing, extra, different }: TableReconciliation): string[] {
  const count = missing + extra + different;
  const shown = sample.length < count ? `The first ${sample.length} of ${count} rows:` : "All of them:";
  return [`## ${plain(table)} in ${plain(sink)}`, shown, tableOf(["kind", "key", "columns", "why"], sample.map(rowOf))];
}

function rowOf({ kind, key, columns, why, values = {} }: DriftSample): string[] {
  const parts = Object.entries(key).map(([name, text]) => `${name} ${JSON.stringify(text)}`);
  const cells = columns.map((column) => {
    const pair = values[column];
    return pair === undefined ? column : `${column} ${valueText(pair.found)} in place of ${valueText(pair.expected)}`;
  });
  return [kind, plain(parts.join(", ")), cells.map(plain).join(", "), CAUSES[why]];
}

function list(title: string, items: readonly string[]): string[] {
  return items.length === 0 ? [] : [`## ${title}`, items.map((item) => `- ${item}`).join("\n")];
}

function tableOf(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

/** A name or key of the source as plain text: no markup, one line. */
function plain(text: string): string {
  return text
    .replaceAll(/\p{Cc}+/gu, " ")
    .replaceAll(/[\\`*_{}[\]<>()#+!|&~-]/g, (character) => `&#${character.codePointAt(0)};`);
}
