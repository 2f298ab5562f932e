import type { Logger } from "../../../src/core/contracts/telemetry.ts";

/** A logger that says nothing: for tests that look at what happens, not at what is told. */
export const quietLog: Logger = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => quietLog,
};
