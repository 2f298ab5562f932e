/** A whole terminal for one command: its other screen, its keys, and everything put back at the end. */
import { printable } from "../printable.ts";
import type { Room } from "./frame.ts";

export interface Screen extends Disposable {
  readonly room: Room;
  /** Aborted when somebody quits: q, Escape, Ctrl-C, or a signal. */
  readonly quit: AbortSignal;
  /** Replaces what is shown. `foot` is the last line. */
  show(lines: readonly string[], foot: string): void;
  onResize(draw: () => void): void;
}

/** The other screen keeps what was on the terminal; the cursor would blink in the text. */
const BEGIN = "\u001b[?1049h\u001b[?25l";
const END = "\u001b[?25h\u001b[?1049l";
const HOME = "\u001b[H";
const REST_OF_LINE = "\u001b[K";
const REST_OF_SCREEN = "\u001b[J";
const QUIT = new Set(["q", "Q", "\u0003", "\u001b"]);
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

export function terminal(): Screen {
  const { stdin: input, stdout: output } = process;
  const stop = new AbortController();
  const quit = (): void => stop.abort();
  const onKey = (keys: Buffer): void => {
    // An arrow comes as Escape and more.
    if (QUIT.has(keys.toString("utf8"))) quit();
  };
  const onResize: (() => void)[] = [];
  const resized = (): void => onResize.forEach((draw) => draw());
  const isRaw = input.isTTY;
  if (isRaw) input.setRawMode(true);
  input.on("data", onKey);
  input.resume();
  output.on("resize", resized);
  for (const signal of SIGNALS) process.on(signal, quit);
  output.write(BEGIN);
  return {
    get room() {
      return { columns: output.columns, rows: output.rows };
    },
    quit: stop.signal,
    show(lines, foot) {
      const rows = output.rows;
      const all = [...lines.slice(0, rows - 1), ...Array<string>(Math.max(0, rows - 1 - lines.length)).fill(""), foot];
      const text = all.map((line) => cut(line, output.columns) + REST_OF_LINE).join("\r\n");
      output.write(HOME + text + REST_OF_SCREEN);
    },
    onResize: (draw) => void onResize.push(draw),
    [Symbol.dispose]() {
      input.off("data", onKey);
      input.pause();
      if (isRaw) input.setRawMode(false);
      output.off("resize", resized);
      for (const signal of SIGNALS) process.off(signal, quit);
      output.write(END);
    },
  };
}

function cut(line: string, columns: number): string {
  return Array.from(printable(line)).slice(0, columns).join("");
}
