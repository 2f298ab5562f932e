/** The brokers, as a client of one process sees them. */
import type {
  Cluster,
  ClusterAccess,
  SendBatches,
  FoundTopic,
  SentBatch,
} from "../../../connectors/kafka/client/cluster.ts";
import { failureOf, RefusedRequest } from "../../../connectors/kafka/client/failures.ts";
import { HeldBack } from "../../../connectors/kafka/client/held-back.ts";
import { type Scope, scopeOf, systemClock } from "../../../src/core/clock.ts";
import { SILENCE_MS } from "../network.ts";
import { aborted, never, type SimulatedProcess } from "../scheduler.ts";
import type { Broker } from "./broker.ts";

const PRODUCE_VERSION = 11;
/** Requests that write: one without an answer may arrive long after its sender has given it up, or is dead. */
const WRITES = new Set(["Produce", "InitProducerId", "AddPartitionsToTxn", "EndTxn", "CreateTopics"]);
const LATE_MS_MAX = 6 * SILENCE_MS;

/** As `connect` of the product: it has spoken to a broker before anybody uses it. */
export function accessTo(process: SimulatedProcess, broker: Broker): ClusterAccess {
  return {
    settings: () => ({ brokers: ["broker:9092"], clientId: process.name, tls: null, sasl: null }),
    connect: async (signal) => {
      const cluster = new SimulatedCluster(process, broker);
      await cluster.brokers(signal);
      return cluster;
    },
  };
}

class SimulatedCluster implements Cluster {
  readonly heldBack = new HeldBack(systemClock);
  readonly #process: SimulatedProcess;
  readonly #broker: Broker;
  readonly #over: Scope = scopeOf();

  constructor(process: SimulatedProcess, broker: Broker) {
    this.#process = process;
    this.#broker = broker;
  }

  async topics(names: readonly string[], signal: AbortSignal): Promise<ReadonlyMap<string, FoundTopic>> {
    return await this.#call("Metadata", () => new Map(names.map((name) => [name, this.#broker.topic(name)])), signal);
  }

  async names(signal: AbortSignal): Promise<readonly string[]> {
    return await this.#call("Metadata", () => this.#broker.names, signal);
  }

  async controller(signal: AbortSignal): Promise<number> {
    return await this.#call("Metadata", () => 1, signal);
  }

  async brokers(signal: AbortSignal): Promise<readonly number[]> {
    return await this.#call("Metadata", () => this.#broker.brokers, signal);
  }

  async version(): Promise<number> {
    return PRODUCE_VERSION;
  }

  async request<T>(name: string, _node: number | null, signal: AbortSignal, ...parts: readonly unknown[]): Promise<T> {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- whoever asks knows the answer's form
    return await this.#call(name, () => this.#broker.answer(name, parts) as T | Promise<T>, signal);
  }

  async linkTo(): Promise<object> {
    return this.#broker.link;
  }

  /** On one connection: what follows on a failure is lost too. */
  async sender(_node: number, signal: AbortSignal): Promise<SendBatches> {
    let before: Promise<unknown> = Promise.resolve();
    return async (id: string, batches: readonly SentBatch[]) => {
      const sent = before.then(() => this.#call("Produce", () => this.#broker.produce(id, batches), signal));
      before = sent;
      return await sent;
    };
  }

  /** `effect` happens at the broker, at one moment; it may answer later. */
  async #call<T>(name: string, effect: () => T | Promise<T>, signal: AbortSignal): Promise<T> {
    const process = this.#process;
    const over = this.#over.signal;
    const { link } = this.#broker;
    if (!process.passes()) return await never();
    const { random } = process.scheduler;
    const { failures, hanging, isDown, lostAnswers, slowestMs } = this.#broker.weather;
    const chance = failures + hanging + lostAnswers > 0 ? random.next() : 1;
    await process.sleep(random.next() * slowestMs, signal, over);
    if (isDown || this.#broker.link !== link || chance < failures) throw broken(name);
    if (chance < failures + hanging) {
      const share = (chance - failures) / hanging;
      if (WRITES.has(name) && share > 0.5) this.#late(effect, SILENCE_MS + (2 * share - 1) * LATE_MS_MAX);
      await process.sleep(SILENCE_MS, signal, over);
      throw failureOf("REQUEST_TIMED_OUT", name);
    }
    let answer: T | Promise<T>;
    try {
      answer = effect();
      if (answer instanceof Promise) {
        answer = await untilAborted(answer, signal, over);
        await process.sleep(random.next(), signal, over);
      }
    } catch (error) {
      throw error instanceof Error && "apiId" in error ? new RefusedRequest(name, error) : error;
    }
    if (!process.passes()) return await never();
    if (this.#broker.weather.isDown || this.#broker.link !== link || chance < failures + hanging + lostAnswers)
      throw broken(name);
    return answer;
  }

  /** What the broker answers then, nobody hears. */
  #late(effect: () => unknown, afterMs: number): void {
    const { link } = this.#broker;
    this.#process.scheduler.after(afterMs, () => {
      if (this.#broker.link !== link) return;
      try {
        effect();
      } catch (error) {
        if (!(error instanceof Error) || !("apiId" in error)) throw error;
      }
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.end();
  }
}

function broken(name: string): Error {
  return Object.assign(new Error(`${name}: the connection broke`), { code: "ECONNRESET" });
}

async function untilAborted<T>(work: Promise<T>, ...signals: readonly AbortSignal[]): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(aborted(signals.find((one) => one.aborted)!));
  for (const one of signals) one.addEventListener("abort", onAbort);
  if (signals.some((one) => one.aborted)) onAbort();
  work.catch(() => undefined);
  promise.catch(() => undefined);
  try {
    return await Promise.race([work, promise]);
  } finally {
    for (const one of signals) one.removeEventListener("abort", onAbort);
  }
}
