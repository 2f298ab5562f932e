/**
 * Brokers that count a transaction as ended and never tell some of its partitions. Kafka 4 does so with partitions that have
 * no leader when the transaction ends. Here the coordinator does not get to know these partitions. The broker must not ask it
 * about them: see `FORGETFUL`.
 */
import type { HeldBack } from "../../../connectors/kafka/client/held-back.ts";
import type { Cluster, ClusterAccess, FoundTopic, SendBatches } from "../../../connectors/kafka/client/cluster.ts";

/** Settings of a broker. */
export const FORGETFUL = { "transaction.partition.verification.enable": "false" };

/** What happens to transactions from now on. */
export interface Weakness {
  /** Partitions of these topics are not told. */
  topics: ReadonlySet<string>;
  /** Whether the transaction is aborted, and the writer does not hear of it. */
  aborts: boolean;
  /** By a request's name, what happens before it, once. */
  readonly before: Map<string, () => Promise<void>>;
  /** The same, when it was answered. */
  readonly after: Map<string, () => Promise<void>>;
  /** By a request's name, what is heard of its answer. */
  readonly answers: Map<string, (answer: unknown, parts: readonly unknown[]) => unknown>;
  /** Requests with this name fail. */
  fails: string | null;
  /** What stands for all connections instead of themselves: another object, and they were lost. */
  link: object | null;
}

interface Added {
  readonly topics: readonly { readonly name: string; readonly partitions: readonly number[] }[];
}

/** `spare`: a topic that may be in a transaction in the place of others. */
export function forgetfulAccess(access: ClusterAccess, weakness: Weakness, spare: string): ClusterAccess {
  return {
    settings: access.settings,
    connect: async (signal) => new ForgetfulCluster(await access.connect(signal), weakness, spare),
  };
}

class ForgetfulCluster implements Cluster {
  readonly #cluster: Cluster;
  readonly #weakness: Weakness;
  readonly #spare: string;

  constructor(cluster: Cluster, weakness: Weakness, spare: string) {
    this.#cluster = cluster;
    this.#weakness = weakness;
    this.#spare = spare;
  }

  get heldBack(): HeldBack {
    return this.#cluster.heldBack;
  }

  async topics(names: readonly string[], signal: AbortSignal): Promise<ReadonlyMap<string, FoundTopic>> {
    return await this.#cluster.topics(names, signal);
  }

  async names(signal: AbortSignal): Promise<readonly string[]> {
    return await this.#cluster.names(signal);
  }

  async controller(signal: AbortSignal): Promise<number> {
    return await this.#cluster.controller(signal);
  }

  async brokers(signal: AbortSignal): Promise<readonly number[]> {
    return await this.#cluster.brokers(signal);
  }

  async version(name: string, signal: AbortSignal): Promise<number> {
    return await this.#cluster.version(name, signal);
  }

  async linkTo(node: number, signal: AbortSignal): Promise<object> {
    return this.#weakness.link ?? (await this.#cluster.linkTo(node, signal));
  }

  async request<T>(name: string, node: number | null, signal: AbortSignal, ...parts: readonly unknown[]): Promise<T> {
    const { fails } = this.#weakness;
    if (name === fails) throw broken();
    await happens(this.#weakness.before, name);
    const answer = await this.#answered<T>(name, node, signal, parts);
    await happens(this.#weakness.after, name);
    const altered = this.#weakness.answers.get(name);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the test knows the answer's form
    return altered === undefined ? answer : (altered(answer, parts) as T);
  }

  async #answered<T>(name: string, node: number | null, signal: AbortSignal, parts: readonly unknown[]): Promise<T> {
    const { topics, aborts } = this.#weakness;
    if (name === "AddPartitionsToTxn" && topics.size > 0) {
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- as the writer gives it
      const [asked] = parts[0] as readonly [Added];
      const told = asked.topics.filter((one) => !topics.has(one.name));
      const left = told.length > 0 ? told : [{ name: this.#spare, partitions: [0] }];
      return await this.#cluster.request<T>(name, node, signal, [{ ...asked, topics: left }]);
    }
    if (name !== "EndTxn" || !aborts) return await this.#cluster.request<T>(name, node, signal, ...parts);
    await this.#cluster.request<T>(name, node, signal, ...parts.slice(0, 3), false);
    throw broken();
  }

  async sender(node: number, signal: AbortSignal): Promise<SendBatches> {
    return await this.#cluster.sender(node, signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#cluster[Symbol.asyncDispose]();
  }
}

async function happens(by: Map<string, () => Promise<void>>, name: string): Promise<void> {
  const work = by.get(name);
  by.delete(name);
  await work?.();
}

function broken(): Error {
  return Object.assign(new Error("the connection broke"), { code: "ECONNRESET" });
}
