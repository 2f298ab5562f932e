/** What a first copy shows while it runs: a bar at the foot of a terminal, and now and then a line elsewhere. */
import type { WriteStream } from "node:tty";
import { isRunning, type StatusDocument } from "../../core/contracts/status.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { count, digits, span } from "../../core/figures.ts";
import { printable } from "../printable.ts";

const BAR_WIDTH = 24;
/** Elsewhere than on a terminal. */
const LINES_EVERY_MS = 2_000;
const CLEAR = "\r\u001b[K";

export class Progress implements Disposable {
  readonly #terminal: WriteStream | null;
  readonly #line: (text: string) => void;
  #shown = "";
  #lastMs = -Infinity;

  /** `terminal`: null where there is none; then `line` gets the lines. */
  constructor(terminal: WriteStream | null, line: (text: string) => void) {
    this.#terminal = terminal;
    this.#line = line;
  }

  show(status: StatusDocument | undefined): void {
    const { share, text } = progressOf(status);
    if (this.#terminal !== null) {
      const bar = share === null ? "" : `${barOf(share)} `;
      this.#shown = printable(`${bar}${text}`).slice(0, this.#terminal.columns - 1);
      this.#draw();
      return;
    }
    const nowMs = performance.now();
    if (text === this.#shown || nowMs < this.#lastMs + LINES_EVERY_MS) return;
    this.#shown = text;
    this.#lastMs = nowMs;
    this.#line(text);
  }

  #draw(): void {
    this.#terminal?.write(CLEAR + this.#shown);
  }

  /**
   * A log that keeps the bar below its entries. On a terminal it holds back what is only information: the bar says it better.
   */
  over(log: Logger): Logger {
    if (this.#terminal === null) return log;
    const above = (write: () => void): void => {
      if (this.#shown === "") return write();
      this.#terminal?.write(CLEAR);
      write();
      this.#draw();
    };
    return {
      debug: (fields, message) => above(() => log.debug(fields, message)),
      info: (fields, message) => {
        if (this.#shown === "") log.info(fields, message);
      },
      warn: (fields, message) => above(() => log.warn(fields, message)),
      error: (fields, message) => above(() => log.error(fields, message)),
      child: (fields) => this.over(log.child(fields)),
    };
  }

  [Symbol.dispose](): void {
    if (this.#terminal !== null && this.#shown !== "") this.#terminal.write(CLEAR);
    this.#shown = "";
  }
}

function barOf(share: number): string {
  const filled = Math.round(Math.min(1, Math.max(0, share)) * BAR_WIDTH);
  return "█".repeat(filled) + "░".repeat(BAR_WIDTH - filled);
}

/** `share`: null if it is not known. */
export function progressOf(status: StatusDocument | undefined): {
  readonly share: number | null;
  readonly text: string;
} {
  if (status === undefined || status.phase === "starting") return { share: null, text: "starting" };
  const { copy } = status.source;
  if (copy === null) {
    const reads = status.snapshots.filter(isRunning);
    const rowsDone = reads.reduce((sum, { rowsDone: of }) => sum + of, 0);
    if (reads.length > 0)
      return { share: null, text: `reading ${count(reads.length, "table")}, ${count(rowsDone, "row")} so far` };
    const waiting = status.sinks.filter(({ state }) => state !== "streaming").map(({ name }) => name);
    if (waiting.length === 0) return { share: 1, text: "bringing the sinks up to date" };
    return { share: null, text: `waiting for ${waiting.join(", ")}` };
  }
  const { share, rowsRead, rowsEstimated, tableCount, tablesDone, secondsLeft } = copy;
  const rows = `${digits(rowsRead)}${rowsEstimated === null ? "" : ` of about ${digits(rowsEstimated)}`} rows`;
  const parts = [
    `copying${share === null ? "" : ` ${Math.floor(share * 100)} %`}`,
    rows,
    `${tablesDone} of ${count(tableCount, "table")}`,
    ...(secondsLeft === null ? [] : [`${span(secondsLeft * 1000)} left`]),
  ];
  return { share, text: parts.join(", ") };
}
