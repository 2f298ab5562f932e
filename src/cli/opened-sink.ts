import type { SinkConfig } from "../config/config.ts";
import type { Checkpoint } from "../core/model/batch.ts";
import type { Sink } from "../core/contracts/sink.ts";
import type { StateStore } from "../core/contracts/state-store.ts";
import type { Logger } from "../core/contracts/telemetry.ts";

/** How long a sink may take to answer. */
const ANSWER_MS_MAX = 60_000;

/** Asks a sink for its checkpoint, without taking the sink over. */
export async function askSink(log: Logger, sink: SinkConfig): Promise<Checkpoint | null> {
  return await withSink(log, sink, (made) => made.look(AbortSignal.timeout(ANSWER_MS_MAX)));
}

/**
 * Opens a sink under the lease that this command holds, and closes it after `work`. `own` is the checkpoint that the
 * sink holds.
 */
export async function withOpenSink<T>(
  log: Logger,
  sink: SinkConfig,
  { lease }: Pick<StateStore, "lease">,
  work: (sink: Sink, own: Checkpoint | null) => Promise<T>,
): Promise<T> {
  const number = (await lease.current())?.number ?? 0;
  return await withSink(log, sink, async (made) =>
    work(made, await made.open(number, AbortSignal.timeout(ANSWER_MS_MAX))),
  );
}

/** The same, without opening the sink. */
export async function withSink<T>(
  log: Logger,
  { connector }: SinkConfig,
  work: (sink: Sink) => Promise<T>,
): Promise<T> {
  const sink = await connector.create(log);
  try {
    return await work(sink);
  } finally {
    await sink.close();
  }
}
