import { format } from "node:util";
import type { Logger } from "../core/contracts/telemetry.ts";

const METHODS = ["debug", "log", "info", "warn", "error", "trace"] as const;

/**
 * From here on, everything that libraries and Node print goes into the log: readers of the daemon's output expect log
 * entries only, and only the log masks secrets.
 */
export function logBareOutput(logger: Logger): void {
  for (const method of METHODS) {
    console[method] = (...said: readonly unknown[]) => logger.warn({ by: "a library" }, format(...said).trimEnd());
  }
  // Node's own listener, which prints, is the first.
  process.removeAllListeners("warning");
  process.on("warning", ({ name, message }) => logger.warn({ by: "Node", name }, message));
}
