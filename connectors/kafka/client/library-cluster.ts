/**
 * A cluster through the library, which keeps the connections and speaks the protocol; what is asked, and what an answer means,
 * is decided here and in the files beside this one.
 */
import {
  addPartitionsToTxnV3,
  type API,
  Base,
  type Connection,
  kGetApi,
  kGetBootstrapConnection,
  kGetConnection,
  type SASLOptions,
} from "@platformatic/kafka";
import { isIP, type Socket } from "node:net";
import { systemClock } from "../../../src/core/clock.ts";
import { withTimeout } from "../../../src/core/waiting.ts";
import { Attachments, offsetsOf, PRODUCE, produceAnswer, produceRequest } from "./produce.ts";
import {
  type Cluster,
  type ClusterSettings,
  DENIED,
  type FoundTopic,
  type SaslSettings,
  type SendBatches,
} from "./cluster.ts";
import { answerIn, apiIdsOf, failureOf, RefusedRequest } from "./failures.ts";
import { HeldBack } from "./held-back.ts";

const CONNECT_MS_MAX = 5_000;
const REQUEST_MS_MAX = 30_000;

/** The part of a Metadata response that is read here. */
interface MetadataAnswer {
  readonly brokers: readonly { readonly nodeId: number; readonly host: string; readonly port: number }[];
  readonly controllerId: number;
  readonly topics: readonly {
    readonly name: string | null;
    readonly topicId: string;
    readonly errorCode: number;
    readonly partitions: readonly { readonly partitionIndex: number; readonly leaderId: number }[];
  }[];
}

type Callback<T> = (error: Error | null, result?: T) => void;

/** Error codes of topics that do not exist: https://kafka.apache.org/protocol#protocol_error_codes */
const UNKNOWN_TOPIC = 3;
const INVALID_TOPIC = 17;
const DENIED_TOPIC = 29;

export class LibraryCluster implements Cluster {
  readonly heldBack = new HeldBack(systemClock);
  readonly #base: Base;
  readonly #closing = new AbortController();
  #brokers = new Map<number, { readonly host: string; readonly port: number }>();
  readonly #attached = new WeakMap<Socket, Attachments>();
  #isClosed = false;

  constructor({ brokers, clientId, tls, sasl }: ClusterSettings) {
    this.#base = new Base({
      clientId,
      bootstrapBrokers: [...brokers],
      connectTimeout: CONNECT_MS_MAX,
      requestTimeout: REQUEST_MS_MAX,
      retries: 0,
      ...(tls === null ? {} : { tls, tlsServerName: tls.servername ?? brokers.some(hasName) }),
      ...(sasl === null ? {} : { sasl: this.#loginOf(sasl) }),
    });
    // An error that no request waits for must not end the process; the next request fails with it.
    this.#base.on("client:broker:failed", () => undefined);
  }

  #loginOf({ password, ...login }: SaslSettings): SASLOptions {
    if (typeof password === "string") return { ...login, password };
    return { ...login, password: () => password(this.#closing.signal) };
  }

  async topics(names: readonly string[], signal: AbortSignal): Promise<ReadonlyMap<string, FoundTopic>> {
    const found = new Map<string, FoundTopic>(names.map((name) => [name, null]));
    const { topics } = await this.#metadata(names, signal);
    for (const { name, topicId, errorCode, partitions } of topics) {
      if (name === null || errorCode === UNKNOWN_TOPIC || errorCode === INVALID_TOPIC) continue;
      if (errorCode === DENIED_TOPIC) {
        found.set(name, DENIED);
        continue;
      }
      if (errorCode !== 0 && errorCode !== 5) throw new RefusedRequest("Metadata", failureOf(errorCode, name));
      const leaders = Array.from(partitions, () => -1);
      for (const { partitionIndex, leaderId } of partitions) leaders[partitionIndex] = leaderId;
      found.set(name, { id: topicId, leaders });
    }
    return found;
  }

  async names(signal: AbortSignal): Promise<readonly string[]> {
    const { topics } = await this.#metadata(null, signal);
    return topics.flatMap(({ name }) => name ?? []);
  }

  async controller(signal: AbortSignal): Promise<number> {
    return (await this.#metadata([], signal)).controllerId;
  }

  async brokers(signal: AbortSignal): Promise<readonly number[]> {
    await this.#metadata([], signal);
    return [...this.#brokers.keys()];
  }

  /** `names`: null for all. */
  async #metadata(names: readonly string[] | null, signal: AbortSignal): Promise<MetadataAnswer> {
    let answer: MetadataAnswer;
    try {
      answer = await this.request<MetadataAnswer>("Metadata", null, signal, names, false, false);
    } catch (error) {
      // The library makes an error of an answer that says it of one topic; the others are in it as well.
      const response = answerIn(error);
      if (!isMetadata(response)) throw error;
      answer = response;
    }
    this.#brokers = new Map(answer.brokers.map(({ nodeId, host, port }) => [nodeId, { host, port }]));
    return answer;
  }

  async request<T>(name: string, node: number | null, signal: AbortSignal, ...parts: readonly unknown[]): Promise<T> {
    const api = await this.#api(name, signal);
    const connection = await this.#connection(node, signal);
    try {
      return await this.#answered<T>((done) => api(connection, ...parts, done), signal);
    } catch (error) {
      throw apiIdsOf(error).length === 0 ? error : new RefusedRequest(name, error);
    }
  }

  async version(name: string, signal: AbortSignal): Promise<number> {
    return (await this.#api(name, signal)).version;
  }

  async linkTo(node: number, signal: AbortSignal): Promise<object> {
    return (await this.#connection(node, signal)).socket;
  }

  async sender(node: number, signal: AbortSignal): Promise<SendBatches> {
    const { version } = await this.#api("Produce", signal);
    const parse = produceAnswer(version);
    const connection = await this.#connection(node, signal);
    const attached = this.#attachedTo(connection.socket);
    return async (transactionalId, batches) => {
      const request = () => attached.add(produceRequest(transactionalId, batches).buffers);
      const { responses } = await this.#answered<ReturnType<typeof parse>>(
        (done) => connection.send(PRODUCE, version, request, parse, true, true, done),
        signal,
      );
      return offsetsOf(batches, responses);
    };
  }

  #attachedTo(socket: Socket): Attachments {
    let known = this.#attached.get(socket);
    if (known === undefined) this.#attached.set(socket, (known = new Attachments(socket)));
    return known;
  }

  async #api(name: string, signal: AbortSignal): Promise<API<unknown[], unknown>> {
    const api = await this.#answered<API<unknown[], unknown>>((done) => this.#base[kGetApi](name, done), signal);
    // Later versions are what brokers say to one another, and want an ACL that only brokers have.
    const last = addPartitionsToTxnV3.api;
    if (name !== "AddPartitionsToTxn" || api.version <= last.version) return api;
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- all requests are called by their parts: see `request`
    return last as unknown as API<unknown[], unknown>;
  }

  async #connection(node: number | null, signal: AbortSignal): Promise<Connection> {
    if (node === null) return await this.#answered((done) => this.#base[kGetBootstrapConnection](done), signal);
    let broker = this.#brokers.get(node);
    if (broker === undefined) {
      await this.#metadata([], signal);
      broker = this.#brokers.get(node);
    }
    if (broker === undefined) throw failureOf("BROKER_NOT_AVAILABLE", `broker ${node}`);
    return await this.#answered((done) => this.#base[kGetConnection](broker, done), signal);
  }

  /** The answer of a call of the library. It does not stop the call: a broker may carry a request out all the same. */
  async #answered<T>(call: (done: Callback<T>) => void, signal: AbortSignal): Promise<T> {
    const stopped = (): Error => new DOMException("the request was stopped", "AbortError");
    const work = new Promise<T>((resolve, reject) => {
      if (this.#isClosed) throw stopped();
      call((error, result) => {
        if (error === null || error === undefined) {
          this.heldBack.note(result);
          resolve(result!);
        } else reject(error);
      });
    });
    const late = (): never => {
      throw failureOf("REQUEST_TIMED_OUT", "the brokers");
    };
    return await withTimeout(work, {
      clock: systemClock,
      signal,
      timeoutMs: REQUEST_MS_MAX + CONNECT_MS_MAX,
      stopped,
      late,
    });
  }

  /** Requests that wait for an answer fail. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    this.#closing.abort();
    await this.#base.close().catch(() => undefined);
  }
}

/** An address is no name that a server could be asked for. */
function hasName(broker: string): boolean {
  return isIP(broker.slice(0, broker.lastIndexOf(":")).replaceAll(/[[\]]/g, "")) === 0;
}

function isMetadata(answer: object | null): answer is MetadataAnswer {
  return answer !== null && "topics" in answer && "brokers" in answer;
}
