import { format } from "node:util";
import type { Logger } from "../core/contracts/telemetry.ts";

const METHODS = ["debug", "log", "info", "warn", "error", "trace"] as const;

/**
 * From here on everything that libraries and Node itself would print goes into the log: what reads the daemon's lines
 * expects each of them to be an entry, and nothing but the log masks secrets.
 */
export function logBareOutput(logger: Logger): void {
  for (const method of METHODS) {
    console[method] = (...said: readonly unknown[]) => logger.warn({ by: "a library" }, format(...said).trimEnd());
  }
  // The first listener is Node's own, which prints.
  process.removeAllListeners("warning");
  process.on("warning", ({ name, message }) => logger.warn({ by: "Node", name }, message));
}
