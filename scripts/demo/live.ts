/** Rates and lag while the demo runs: on a terminal a few lines that are redrawn, otherwise plain lines. */
import { grouped } from "./results.ts";
import { sample, type SinkSample } from "./sample.ts";
import type { Writer, WriterCounts } from "./writer.ts";

export interface LiveOptions {
  /** Of all daemons. */
  readonly urls: readonly string[];
  readonly writer: Writer;
  readonly sinks: readonly string[];
  readonly seconds: number;
}

const PLAIN_EVERY_S = 3;
const COLUMN_WIDTH = 14;

export class Live {
  readonly #options: LiveOptions;
  readonly #startedAt = performance.now();
  readonly #isTerminal = process.stdout.isTTY;
  #drawnLines = 0;
  #printedAt = 0;
  #last: { readonly at: number; readonly writer: WriterCounts; readonly sinks: readonly SinkSample[] };

  constructor(options: LiveOptions) {
    this.#options = options;
    this.#last = { at: this.#startedAt, writer: { ...options.writer.counts }, sinks: [] };
  }

  get elapsedSeconds(): number {
    return (performance.now() - this.#startedAt) / 1_000;
  }

  /** Prints a permanent line above the redrawn ones. */
  say(text: string): void {
    this.#erase();
    process.stdout.write(`${text}\n`);
  }

  /** Call this about once a second. */
  async refresh(): Promise<void> {
    const samples = await Promise.all(this.#options.urls.map((url) => sample(url)));
    const now = samples.flatMap((one) => one?.sinks ?? []);
    const at = performance.now();
    const seconds = (at - this.#last.at) / 1_000;
    const isDue = this.elapsedSeconds - this.#printedAt >= PLAIN_EVERY_S;
    if (!this.#isTerminal && !isDue) return;
    const writer = { ...this.#options.writer.counts };
    const rate = (after: number, before: number): number => Math.max(0, Math.round((after - before) / seconds));
    const columns = this.#options.sinks.map((name) => {
      const sink = now.find((each) => each.name === name);
      const before = this.#last.sinks.find((each) => each.name === name);
      return { name, ...describeSink(sink, before, rate) };
    });
    const written = `${grouped(rate(writer.rows, this.#last.writer.rows))} rows/s`;
    this.#last = { at, writer, sinks: now };
    this.#printedAt = this.elapsedSeconds;
    if (this.#isTerminal) this.#draw(columns, written);
    else {
      const parts = columns.map(({ name, rows, summary }) => `${name} ${rows}, ${summary}`);
      process.stdout.write(
        `${this.elapsedSeconds.toFixed(0).padStart(4)} s | writer ${written} | ${parts.join(" | ")}\n`,
      );
    }
  }

  end(): void {
    this.#drawnLines = 0;
  }

  #draw(columns: readonly (Described & { readonly name: string })[], written: string): void {
    const line = (head: string, cells: readonly string[]): string =>
      `  ${head.padEnd(16)}${cells.map((cell) => cell.padStart(COLUMN_WIDTH)).join("")}`;
    const lines = [
      line(`${this.elapsedSeconds.toFixed(0)} s of ${this.#options.seconds}`, [
        "writer",
        ...columns.map(({ name }) => name),
      ]),
      line("state", ["", ...columns.map(({ state }) => state)]),
      line("rows", [written, ...columns.map(({ rows }) => rows)]),
      line("lag", ["", ...columns.map(({ lag }) => lag)]),
      line("commit to sink", ["", ...columns.map(({ delay }) => delay)]),
    ];
    this.#erase();
    process.stdout.write(lines.map((text) => `${text}\n`).join(""));
    this.#drawnLines = lines.length;
  }

  #erase(): void {
    if (this.#drawnLines > 0) process.stdout.write(`\u001b[${this.#drawnLines}A\u001b[J`);
    this.#drawnLines = 0;
  }
}

interface Described {
  readonly state: string;
  readonly rows: string;
  readonly lag: string;
  /** Mean time from commit to durable, over the transactions since the last sample. */
  readonly delay: string;
  /** The most telling of them. */
  readonly summary: string;
}

const LAG_WORTH_SAYING_S = 1;

function describeSink(
  now: SinkSample | undefined,
  before: SinkSample | undefined,
  rate: (after: number, before: number) => number,
): Described {
  if (now === undefined) return { state: "no daemon", rows: "-", lag: "-", delay: "-", summary: "no daemon" };
  // After a restart the daemon counts from zero.
  const base = before !== undefined && before.rows <= now.rows ? before : undefined;
  const count = now.commitToApplyCount - (base?.commitToApplyCount ?? 0);
  const spent = now.commitToApplySeconds - (base?.commitToApplySeconds ?? 0);
  const lag = now.lagSeconds === null ? "-" : `${now.lagSeconds.toFixed(1)} s`;
  const delay = count > 0 ? `${((spent / count) * 1_000).toFixed(1)} ms` : "-";
  const isBehind = now.lagSeconds === null || now.lagSeconds >= LAG_WORTH_SAYING_S;
  const summary = now.state !== "streaming" ? now.state : isBehind ? `lag ${lag}` : `${delay} from commit`;
  return { state: now.state, rows: `${grouped(rate(now.rows, base?.rows ?? 0))} rows/s`, lag, delay, summary };
}
