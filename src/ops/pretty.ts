const COLORS: Readonly<Record<string, string>> = {
  debug: "\x1b[90m",
  info: "\x1b[36m",
  warn: "\x1b[33m",
  error: "\x1b[31m",
};
const DIM = "\x1b[90m";
const RESET = "\x1b[0m";

/** Formats one JSON log line as `09:12:33.123 WARN  warehouse public.orders: message  key=value`. */
export function prettyLine(line: string): string {
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
