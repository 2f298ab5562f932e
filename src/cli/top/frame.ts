/** One screen of `millrace top`: what `status` says, cut to the terminal, with the course of each sink's lag. */
import type { SinkStatus, StatusDocument } from "../../core/contracts/status.ts";
import { printable } from "../printable.ts";
import { bytes, seconds } from "../../core/figures.ts";
import { sinkState, statusParts } from "../status/status-text.ts";

export interface Room {
  /** In characters. */
  readonly columns: number;
  readonly rows: number;
}

/** The narrowest terminal that the lines are made for; a narrower one cuts them. */
const COLUMNS_MIN = 40;
const BARS = "▁▂▃▄▅▆▇█";
/** Above this lag a bar is at its top. */
const LAG_SECONDS_TOP = 60;
const BESIDE_NAME = 46;
const NAME_MAX = 24;

/** The lags of each sink in seconds, oldest first; null: not known. */
export class LagHistory {
  readonly #lags = new Map<string, (number | null)[]>();

  add(sinks: readonly SinkStatus[]): void {
    for (const { name, lagSeconds } of sinks) {
      const lags = this.#lags.get(name) ?? [];
      lags.push(lagSeconds);
      // Wider than any terminal.
      if (lags.length > 500) lags.shift();
      this.#lags.set(name, lags);
    }
  }

  /** The newest on the right. A bar grows with the logarithm of the lag. */
  bars(sink: string, width: number): string {
    if (width <= 0) return "";
    return (this.#lags.get(sink) ?? [])
      .slice(-width)
      .map((lag) => (lag === null ? " " : barOf(lag)))
      .join("");
  }
}

function barOf(lag: number): string {
  const share = Math.log1p(Math.max(0, lag)) / Math.log1p(LAG_SECONDS_TOP);
  return BARS[Math.min(BARS.length - 1, Math.floor(share * BARS.length))] ?? "";
}

/** No line is longer than the terminal is wide, and there are no more lines than it has. */
export function frameOf(status: StatusDocument, history: LagHistory, nowMs: number, room: Room): readonly string[] {
  const columns = Math.max(COLUMNS_MIN, room.columns);
  const { head, conditions, source, rest } = statusParts(status, nowMs);
  const wrapped = (lines: readonly string[]) => lines.flatMap((line) => wrap(printable(line), columns));
  const sinks = sinkLines(status.sinks, history, columns);
  const fixed = [...wrapped(head), ...wrapped(source), "", ...sinks, ""];
  const left = Math.max(1, room.rows - fixed.length);
  const shown = wrapped(conditions);
  const cut = shown.length > left ? [...shown.slice(0, left - 1), "  … more: millrace status"] : shown;
  const lines = [
    ...wrapped(head),
    ...cut,
    ...(cut.length === 0 ? [] : [""]),
    ...wrapped(source),
    "",
    ...sinks,
    "",
    ...wrapped(rest),
  ];
  return lines.slice(0, room.rows);
}

function sinkLines(sinks: readonly SinkStatus[], history: LagHistory, columns: number): readonly string[] {
  const longest = Math.max(4, ...sinks.map(({ name, kind }) => lengthOf(`${name} (${kind})`)));
  const width = Math.min(longest, NAME_MAX, columns - BESIDE_NAME + 12);
  const line = (name: string, cells: readonly string[], end: string): string => {
    const [state = "", lag = "", log = "", letters = ""] = cells;
    const text = `${fit(name, width)} ${fit(state, 16)} ${lag.padStart(9)} ${log.padStart(9)} ${letters.padStart(7)}`;
    return fit(`${text} ${end}`, columns).trimEnd();
  };
  return [
    line("sink", ["state", "behind", "log", "letters"], "lag, newest right"),
    ...sinks.map((sink) => {
      const { name, kind, lagSeconds, lagBytes, deadLetters } = sink;
      const cells = [printable(sinkState(sink)), seconds(lagSeconds), bytes(lagBytes), String(deadLetters)];
      return line(printable(`${name} (${kind})`), cells, history.bars(name, columns - width - BESIDE_NAME));
    }),
  ];
}

function fit(text: string, width: number): string {
  const characters = Array.from(text);
  return characters.length > width ? `${characters.slice(0, width - 1).join("")}…` : text.padEnd(width);
}

function lengthOf(text: string): number {
  return Array.from(text).length;
}

/** At spaces where there are some; later lines begin under the text of the first one. */
function wrap(text: string, columns: number): readonly string[] {
  const [margin = ""] = /^ *(?:(?:!|->) )?/.exec(text) ?? [];
  const indent = " ".repeat(margin.length);
  const lines: string[] = [];
  let rest = Array.from(text);
  while (rest.length > columns) {
    const space = rest.lastIndexOf(" ", columns);
    const at = space > indent.length ? space : columns;
    lines.push(rest.slice(0, at).join(""));
    rest = [...Array.from(indent), ...rest.slice(space > indent.length ? at + 1 : at)];
  }
  return [...lines, rest.join("")];
}
