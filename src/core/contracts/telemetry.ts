/** Logs for people. First structured fields, then one plain sentence; never cell values or secrets. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  child(fields: object): Logger;
}

export const LOG_LEVELS = ["debug", "info", "warn", "error", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** For commands that only look: their findings are the result. */
export const SILENT: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => SILENT,
};

/** Of what is tried again and again: a failure that says the same as the one before is only for those who look closely. */
export class Repeated {
  readonly #logger: Pick<Logger, "warn" | "debug">;
  #last: string | null = null;

  constructor(logger: Pick<Logger, "warn" | "debug">) {
    this.#logger = logger;
  }

  failed(error: unknown, message: string): void {
    const said = error instanceof Error ? error.message : String(error);
    this.#logger[said === this.#last ? "debug" : "warn"]({ error }, message);
    this.#last = said;
  }

  passed(): void {
    this.#last = null;
  }
}

export const SINK_STATES = ["starting", "snapshot", "streaming", "retrying", "paused", "failed", "stopped"] as const;
export type SinkState = (typeof SINK_STATES)[number];

export const LATENCY_PARTS = ["source", "internal", "sink"] as const;

/** Seconds: until Millrace has the transaction, until the write to the sink begins, until it has ended. */
export type LatencyParts = Readonly<Record<(typeof LATENCY_PARTS)[number], number>>;

/** What the runtime measures; ops/metrics has the names and units of the exported metrics. */
export interface Metrics {
  /** Rows that a batch made durable, by table and operation. */
  rowsApplied(sink: string, table: string, op: "put" | "patch" | "delete" | "truncate", count: number): void;
  /** Duration of one batch in the sink, retries included. */
  batchApplied(sink: string, seconds: number): void;
  /** Time from a transaction's commit until its rows were durable in the sink. Null: its rows did not come by the stream. */
  commitToApply(sink: string, seconds: number, parts: LatencyParts | null): void;
  sinkError(sink: string, kind: string): void;
}
