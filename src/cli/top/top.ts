import { setTimeout as sleep } from "node:timers/promises";
import type { StatusDocument } from "../../core/contracts/status.ts";
import type { CommandLine } from "../command-line.ts";
import { EXIT } from "../exit-codes.ts";
import { failureOf } from "../failure.ts";
import { statusOf } from "../status/status.ts";
import type { Session } from "../session.ts";
import { frameOf, LagHistory, type Room } from "./frame.ts";
import { printable } from "../printable.ts";

/** Where no terminal says its size. */
const PLAIN: Room = { columns: 80, rows: 200 };

export function addTop({ program, action }: CommandLine): void {
  program
    .command("top")
    .description("status, live in the terminal; q quits")
    .option("--every <duration>", "how often it asks", "1s")
    .option("--once", "print it once, for scripts; so it is if the output is no terminal")
    .action(
      action("one", async (session, options) => {
        const everyMs = options.durationMs("--every");
        if (session.json || options.has("--once") || !process.stdout.isTTY) {
          const status = await redacted(session);
          const history = new LagHistory();
          history.add(status.sinks);
          session.print(status, frameOf(status, history, Date.now(), PLAIN).join("\n"));
          return EXIT.done;
        }
        using screen = terminal();
        await follow(() => redacted(session), everyMs, screen);
        return EXIT.done;
      }),
    );
}

/** Before lines are broken: a secret on two lines would not be found. */
async function redacted(session: Session): Promise<StatusDocument> {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the same document, with other texts
  return JSON.parse(session.secrets.redactJson(JSON.stringify(await statusOf(session)))) as StatusDocument;
}

/** Draws until somebody quits. */
async function follow(ask: () => Promise<StatusDocument>, everyMs: number, screen: Screen): Promise<void> {
  const history = new LagHistory();
  const { quit } = screen;
  let shown: StatusDocument | null = null;
  let trouble: string | null = null;
  const draw = (): void => {
    const room = { ...screen.room, rows: screen.room.rows - 1 };
    const lines = shown === null ? [] : frameOf(shown, history, Date.now(), room);
    const asked = `asks every ${everyMs / 1000} s; q quits`;
    screen.show(trouble === null ? lines : [...lines.slice(0, room.rows - 2), "", trouble], asked);
  };
  screen.onResize(draw);
  while (!quit.aborted) {
    try {
      shown = await ask();
      history.add(shown.sinks);
      trouble = null;
    } catch (error) {
      const { code, message } = failureOf(error);
      trouble = `${code} ${message}`;
    }
    if (quit.aborted) return;
    draw();
    await sleep(everyMs, undefined, { signal: quit }).catch(() => undefined);
  }
}

/** A whole terminal for one command: its other screen, its keys, and everything put back at the end. */
interface Screen extends Disposable {
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

function terminal(): Screen {
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
