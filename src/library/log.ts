import { MillraceError } from "../core/errors.ts";
import { type Logger, SILENT } from "../core/contracts/telemetry.ts";
import type { Log, LogEntry } from "./api.ts";

/** `redact`: every entry, as JSON, passes through it. */
export function loggerTo(log: Log | undefined, redact: (json: string) => string, fixed: object = {}): Logger {
  if (log === undefined) return SILENT;
  const at = (level: LogEntry["level"]) => (fields: object, message: string) => {
    const entry: LogEntry = { ...fixed, ...fields, level, message };
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the same entry with other texts
    log(JSON.parse(redact(JSON.stringify(entry, plain))) as LogEntry);
  };
  return {
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    child: (fields) => loggerTo(log, redact, { ...fixed, ...fields }),
  };
}

/** Of an error only what holds no values: a driver's text may quote cells and statements. */
function plain(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return String(value);
  if (value instanceof MillraceError) {
    const { code, kind, message, hint } = value;
    return { code, kind, message, hint };
  }
  return value instanceof Error ? { name: value.name, stack: value.stack } : value;
}
