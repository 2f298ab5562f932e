/** What the product logs, as lines of the trace. */
import type { Logger } from "../../src/core/contracts/telemetry.ts";

export function tracing(name: string, say: (text: string) => void): Logger {
  const told =
    (level: string) =>
    (fields: object, message: string): void => {
      const { error, ...rest } = fields as { readonly error?: unknown };
      const what = error === undefined ? "" : ` (${briefly(error)})`;
      say(`${name} ${level}: ${message}${what} ${JSON.stringify(rest, bigints)}`);
    };
  const logger: Logger = {
    debug: told("debug"),
    info: told("info"),
    warn: told("warn"),
    error: told("error"),
    child: () => logger,
  };
  return logger;
}

/** In a word. */
export function briefly(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : JSON.stringify(error);
}

/** With the place where it was thrown. */
export function wholly(error: unknown): string {
  return error instanceof Error ? `${briefly(error)} ${error.stack ?? ""}` : briefly(error);
}

function bigints(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? String(value) : value;
}
