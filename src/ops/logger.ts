import { pino, type Logger as PinoLogger } from "pino";
import { MillraceError } from "../core/errors.ts";
import type { Logger, LogLevel } from "../core/contracts/telemetry.ts";

interface LoggerOptions {
  readonly level: LogLevel;
  /** Every line, as JSON, passes through this before it is written. */
  readonly redact: (line: string) => string;
  /** Default: stderr; stdout is for results. */
  readonly output?: LogOutput;
}

interface LogOutput {
  write(text: string): unknown;
  readonly isTTY?: boolean;
}

/**
 * JSON lines for machines; one readable line per entry on a terminal. The fields `sink` and `table` name the subject.
 */
export function createLogger({ level, redact, output = process.stderr }: LoggerOptions): Logger {
  const isPretty = output.isTTY === true;
  const stream = {
    write(line: string): void {
      const shown = redact(line);
      output.write(isPretty ? prettyLine(shown) : shown);
    },
  };
  const logger = pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { error: describeError, err: describeError, cause: describeError },
    },
    stream,
  );
  return wrap(logger);
}

function wrap(logger: PinoLogger): Logger {
  return {
    debug: (fields, message) => logger.debug(fields, message),
    info: (fields, message) => logger.info(fields, message),
    warn: (fields, message) => logger.warn(fields, message),
    error: (fields, message) => logger.error(fields, message),
    child: (fields) => wrap(logger.child({ ...fields })),
  };
}

/**
 * For a numbered error: names and codes of its causes only, because a driver's text may quote cells and statements. Any
 * other error is a bug, and its stack helps.
 */
function describeError(error: unknown): unknown {
  if (error instanceof MillraceError) {
    const { code, kind, message, hint, connector } = error;
    return { code, kind, message, hint, connector, causes: causesOf(error.cause, code) };
  }
  if (!(error instanceof Error)) return error;
  return { name: error.name, message: error.message, stack: error.stack, causes: causesOf(error.cause) };
}

/** `told`: of an error that says already what a cause with the same number would. */
function causesOf(first: unknown, told?: string): string[] | undefined {
  const causes: string[] = [];
  for (let cause = first; cause instanceof Error && causes.length < 8; cause = cause.cause) {
    const code =
      "code" in cause && (typeof cause.code === "string" || typeof cause.code === "number") ? cause.code : "";
    if (cause instanceof MillraceError && code === told) continue;
    causes.push(`${cause.name} ${code}`.trimEnd());
  }
  return causes.length === 0 ? undefined : causes;
}

const COLORS: Readonly<Record<string, string>> = {
  debug: "\x1b[90m",
  info: "\x1b[36m",
  warn: "\x1b[33m",
  error: "\x1b[31m",
};
const DIM = "\x1b[90m";
const RESET = "\x1b[0m";

/** Formats one JSON log line as `09:12:33.123 WARN  warehouse public.orders: message  key=value`. */
function prettyLine(line: string): string {
  const entry: unknown = JSON.parse(line);
  if (typeof entry !== "object" || entry === null) return line;
  const all: Record<string, unknown> = { ...entry };
  const { time, level, msg, sink, table, error, ...fields } = all;
  const name = typeof level === "string" ? level : "info";
  const about = [sink, table].filter((part) => typeof part === "string").join(" ");
  const rest = Object.entries(fields).map(([key, value]) => `${key}=${show(value)}`);
  const failure = error === undefined ? "" : `\n  ${showError(error)}`;
  return [
    `${DIM}${String(time).slice(11, 23)}${RESET}`,
    `${COLORS[name] ?? ""}${name.toUpperCase().padEnd(5)}${RESET}`,
    `${about === "" ? "" : `${about}: `}${String(msg)}`,
    ...(rest.length === 0 ? [] : [`${DIM} ${rest.join(" ")}${RESET}`]),
  ]
    .join(" ")
    .concat(failure, "\n");
}

function show(value: unknown): string {
  return typeof value === "string" && !/[\s"=]/.test(value) ? value : JSON.stringify(value);
}

/** A numbered error as code, sentence and hint; a bug with its stack. */
function showError(error: unknown): string {
  if (typeof error !== "object" || error === null) return show(error);
  const { code, message, hint, stack }: Record<string, unknown> = { ...error };
  if (typeof stack === "string") return stack.replaceAll("\n", "\n  ");
  if (typeof code !== "string") return show(error);
  return `${code}: ${String(message)}${typeof hint === "string" ? `\n  ${hint}` : ""}`;
}
