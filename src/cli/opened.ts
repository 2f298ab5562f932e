/** Sources, sinks and states that are open for as long as a command works on them. */
import type { SinkConfig } from "../config/config.ts";
import type { Clock } from "../core/clock.ts";
import type { Sink } from "../core/contracts/sink.ts";
import type { StateStore } from "../core/contracts/state-store.ts";
import type { Checkpoint } from "../core/checkpoint.ts";
import type { Session } from "./session.ts";

/** How long a sink may take to answer. */
const SINK_ANSWER_MS_MAX = 60_000;

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

/** The sink's answer, if it gives one within some attempts. */
export async function answered<T>(clock: Clock, ask: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const { retryInPlace } = await import("../runtime/retry.ts");
  const signal = AbortSignal.timeout(SINK_ANSWER_MS_MAX);
  return await retryInPlace(
    clock,
    () => ask(signal),
    () => {},
    signal,
  );
}

/**
 * Opens a sink under the lease that this command holds, and closes it after `work`. `own` is the checkpoint that the
 * sink holds.
 */
export async function withOpenSink<T>(
  { clock, log }: Pick<Session, "clock" | "log">,
  { connector }: { readonly connector: Pick<SinkConfig["connector"], "create"> },
  { lease, numbers }: { readonly lease: Pick<StateStore["lease"], "current">; readonly numbers: StateStore["numbers"] },
  work: (sink: Sink, own: Checkpoint | null) => Promise<T>,
): Promise<T> {
  const number = (await lease.current())?.number ?? 0;
  return await whileOpen(connector.create(log), async (sink) => {
    sink.numbers?.keepIn(numbers);
    return await work(sink, await answered(clock, (signal) => sink.open(number, signal)));
  });
}
