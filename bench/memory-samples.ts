/**
 * Samples the memory of the daemon's process, the part that DuckDB counts as its own at the same moment (`duckdb_memory()`:
 * buffers, tables that are not folded in yet, indexes, memory of transactions), and JavaScript's heap and buffers. Memory
 * that DuckDB allocates without counting it counts as the process's.
 */
import { request } from "node:http";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { controlSocketPath } from "../src/ops/control-socket.ts";
import type { MeasuredDaemon } from "./daemon.ts";

const INTERVAL_MS = 100;
const MIB = 1024 * 1024;
export class MemorySamples {
  /** The largest of each. */
  duckdbMiB = 0;
  scriptMiB = 0;
  /** The largest difference between resident memory and DuckDB's count of the same moment. */
  withoutDuckdbMiB = 0;
  count = 0;
  readonly #daemon: MeasuredDaemon;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;

  /** `sink`: a DuckDB sink of the daemon named `bench`. */
  constructor(daemon: MeasuredDaemon, sink: string) {
    this.#daemon = daemon;
    this.#running = this.#run(sink);
    // `stop` reports its failure.
    this.#running.catch(() => undefined);
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(sink: string): Promise<void> {
    while (!this.#stop.signal.aborted) {
      const metrics = await metricsOf(this.#daemon.folder);
      const residentMiB = this.#daemon.residentMiB();
      const duckdbMiB = figure(metrics, `millrace_sink_memory_bytes\\{sink="${sink}"\\}`) / MIB;
      // The sink leaves the figure out while it can't tell it.
      if (!Number.isNaN(duckdbMiB)) {
        this.duckdbMiB = Math.max(this.duckdbMiB, duckdbMiB);
        this.withoutDuckdbMiB = Math.max(this.withoutDuckdbMiB, residentMiB - duckdbMiB);
        this.scriptMiB = Math.max(this.scriptMiB, scriptMiB(metrics));
        this.count++;
      }
      await sleep(INTERVAL_MS);
    }
  }
}

async function metricsOf(folder: string): Promise<string> {
  const socketPath = controlSocketPath(`sqlite:${join(folder, ".millrace", "bench.db")}`);
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  request({ socketPath, path: "/metrics" }, (response) => void text(response).then(resolve, reject))
    .on("error", reject)
    .end();
  return await promise;
}

function figure(metrics: string, name: string): number {
  return Number(new RegExp(`^${name} (\\S+)$`, "m").exec(metrics)?.[1] ?? Number.NaN);
}

function scriptMiB(metrics: string): number {
  return (figure(metrics, "nodejs_heap_size_total_bytes") + figure(metrics, "nodejs_external_memory_bytes")) / MIB;
}
