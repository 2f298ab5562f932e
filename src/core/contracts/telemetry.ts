/** What modules say to people. Structured fields first, then one plain sentence; never cell values or secrets. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  child(fields: object): Logger;
}

export const LOG_LEVELS = ["debug", "info", "warn", "error", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** For who only looks: what is found is the result. */
export const SILENT: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => SILENT,
};

export const SINK_STATES = ["starting", "snapshot", "streaming", "retrying", "paused", "failed", "stopped"] as const;
export type SinkState = (typeof SINK_STATES)[number];

/** What the runtime measures; names and units of the exported metrics are in ops/metrics. */
export interface Metrics {
  /** Rows that a step made durable, by table and operation. */
  rowsApplied(sink: string, table: string, op: "put" | "patch" | "delete" | "truncate", count: number): void;
  /** Duration of one step in the sink, retries included. */
  stepApplied(sink: string, seconds: number): void;
  /** Age of a transaction's commit at the moment its rows were durable in the sink. */
  commitToApply(sink: string, seconds: number): void;
  sinkError(sink: string, kind: string): void;
}
