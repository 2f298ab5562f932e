import type { SinkConfig } from "../config/config.ts";
import type { SinkProgress } from "../core/batch.ts";
import type { Sink } from "../core/sink.ts";
import type { StateStore } from "../core/state-store.ts";
import type { Session } from "./session.ts";

/** For a sink to say what it holds. */
const ANSWER_MS_MAX = 60_000;

/** The number of the lease that this command holds. */
export async function leaseHeldHere({ lease }: Pick<StateStore, "lease">): Promise<number> {
  return (await lease.current())?.number ?? 0;
}

/** Opens a sink under lease number `lease`, and closes it behind `work`. `own`: the progress that it holds. */
export async function withSink<T>(
  session: Session,
  { connector }: Pick<SinkConfig, "connector">,
  lease: number,
  work: (sink: Sink, own: SinkProgress | null) => Promise<T>,
): Promise<T> {
  const sink = await connector.create(session.log);
  try {
    return await work(sink, await sink.open(lease, AbortSignal.timeout(ANSWER_MS_MAX)));
  } finally {
    await sink.close();
  }
}
