import type { EngineConnection } from "../engine/engine.ts";

const AGAIN_MS = 100;

/**
 * Interrupts what the connection does from the moment when the signal aborts, until it is disposed. DuckDB forgets an
 * interruption that comes while no statement runs, so one is not enough: the next statement would run to its end.
 */
export function interrupting(connection: EngineConnection, signal: AbortSignal): Disposable {
  let repeated: NodeJS.Timeout | undefined;
  const interrupt = (): void => connection.interrupt();
  const begin = (): void => {
    interrupt();
    repeated = setInterval(interrupt, AGAIN_MS);
  };
  if (signal.aborted) begin();
  else signal.addEventListener("abort", begin, { once: true });
  return {
    [Symbol.dispose]: () => {
      signal.removeEventListener("abort", begin);
      clearInterval(repeated);
    },
  };
}
