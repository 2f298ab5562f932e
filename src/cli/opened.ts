/** Sources, sinks and states that are open for as long as a command works on them. */
import type { SinkConfig } from "../config/config.ts";
import type { Sink } from "../core/contracts/sink.ts";
import type { StateStore } from "../core/contracts/state-store.ts";
import type { Logger } from "../core/contracts/telemetry.ts";
import type { Checkpoint } from "../core/checkpoint.ts";

/** How long a sink may take to answer. */
export const SINK_ANSWER_MS_MAX = 60_000;

interface Closable {
  readonly close: () => Promise<void>;
}

/** Closes what `opening` opens after `work`. */
export async function whileOpen<Opened extends Closable, T>(
  opening: Promise<Opened>,
  work: (opened: Opened) => T | Promise<T>,
): Promise<T> {
  const opened = await opening;
  try {
    return await work(opened);
  } finally {
    await opened.close();
  }
}

/**
 * Opens a sink under the lease that this command holds, and closes it after `work`. `own` is the checkpoint that the
 * sink holds.
 */
export async function withOpenSink<T>(
  log: Logger,
  { connector }: SinkConfig,
  { lease }: Pick<StateStore, "lease">,
  work: (sink: Sink, own: Checkpoint | null) => Promise<T>,
): Promise<T> {
  const number = (await lease.current())?.number ?? 0;
  return await whileOpen(connector.create(log), async (sink) =>
    work(sink, await sink.open(number, AbortSignal.timeout(SINK_ANSWER_MS_MAX))),
  );
}
