/** What this client asks of the brokers of one Kafka cluster. */
import type { ConnectionOptions } from "node:tls";
import type { FreshPassword } from "../../../src/core/contracts/connector.ts";
import { failureOf, RefusedRequest } from "./failures.ts";
import type { HeldBack } from "./held-back.ts";

export interface ClusterSettings {
  /** host:port of some brokers; they name the others. */
  readonly brokers: readonly string[];
  /** What the brokers' logs call this client. */
  readonly clientId: string;
  /** Null: the connection is not encrypted. */
  readonly tls: ConnectionOptions | null;
  readonly sasl: SaslSettings | null;
}

export interface SaslSettings {
  readonly mechanism: "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512";
  readonly username: string;
  /** A function tells it for each connection. */
  readonly password: string | FreshPassword;
}

export interface Topic {
  /** Changes when the topic is deleted and created again. */
  readonly id: string;
  /** By partition, the broker that leads it. */
  readonly leaders: readonly number[];
}

/** Of a topic that this user may not look at: nobody tells whether it is there. */
export const DENIED = "denied";
/** Null: there is none with this name. */
export type FoundTopic = Topic | typeof DENIED | null;

/** What a transaction came to. */
export const ENDINGS = ["committed", "aborted"] as const;
export type Ending = (typeof ENDINGS)[number];

/** The batches of one request, each of another partition. */
export interface SentBatch {
  readonly name: string;
  readonly topic: Topic;
  readonly partition: number;
  readonly bytes: Buffer;
}

/**
 * Requests leave in the order of the calls; resolves when the broker has stored the batches, to the first offset of each, in
 * their order.
 */
export type SendBatches = (transactionalId: string, batches: readonly SentBatch[]) => Promise<readonly bigint[]>;

export interface Cluster extends AsyncDisposable {
  readonly heldBack: HeldBack;
  /** The topics with these names. */
  topics(names: readonly string[], signal: AbortSignal): Promise<ReadonlyMap<string, FoundTopic>>;
  /** Of all topics that this user may look at. */
  names(signal: AbortSignal): Promise<readonly string[]>;
  /** The broker that decides on topics and their settings. */
  controller(signal: AbortSignal): Promise<number>;
  brokers(signal: AbortSignal): Promise<readonly number[]>;
  /** The newest version of a request that both sides speak. */
  version(name: string, signal: AbortSignal): Promise<number>;
  /** One request in that version. `node`: null for any broker. */
  request<T>(name: string, node: number | null, signal: AbortSignal, ...parts: readonly unknown[]): Promise<T>;
  /** The connection to a broker: another object once it was lost and made again. */
  linkTo(node: number, signal: AbortSignal): Promise<object>;
  /** For the batches of one transaction, to one broker. */
  sender(node: number, signal: AbortSignal): Promise<SendBatches>;
}

/** How a cluster is reached. */
export interface ClusterAccess {
  /** Made when they are needed: a file for TLS may have changed. */
  readonly settings: () => ClusterSettings;
  readonly connect: (signal: AbortSignal) => Promise<Cluster>;
}

/** As `Cluster.topics`, of topics that this user has to be allowed to look at. */
export async function topicsOf(
  cluster: Pick<Cluster, "topics">,
  names: readonly string[],
  signal: AbortSignal,
): Promise<ReadonlyMap<string, Topic | null>> {
  const found = await cluster.topics(names, signal);
  return new Map(Array.from(found, ([name, topic]) => [name, expectVisible(name, topic)]));
}

function expectVisible(name: string, topic: FoundTopic): Topic | null {
  if (topic === DENIED) throw deniedTopic(name);
  return topic;
}

/** As the brokers say it. */
export function deniedTopic(name: string): RefusedRequest {
  return new RefusedRequest("Metadata", failureOf("TOPIC_AUTHORIZATION_FAILED", name));
}
