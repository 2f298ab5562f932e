/**
 * One member of a group of Kafka, by the classic protocol: https://kafka.apache.org/protocol, KIP-394. The group is of a type
 * of its own, as those of Kafka Connect are: its members share out something else than partitions, so it needs no topic.
 */
import type { Cluster } from "./cluster.ts";
import { coordinatorOf } from "./transactions.ts";
import { about, apiIdsOf, fieldOf } from "./failures.ts";

/** A member that is silent for so long is out. */
const SESSION_MS = 10_000;
/** How long the others wait, after one has come or gone, for a member that does not join again. */
const REBALANCE_MS_MAX = 10_000;
const TYPE = "millrace";
const JOIN_AGAIN = new Set(["REBALANCE_IN_PROGRESS", "ILLEGAL_GENERATION"]);

export interface GroupName {
  readonly id: string;
  /** Members of one group must agree on it. */
  readonly protocol: string;
}

/** What each member says when it joins, by its id in the group. */
export type MemberSubscriptions = ReadonlyMap<string, Buffer>;

interface Joined {
  readonly generationId: number;
  readonly memberId: string;
  readonly leader: string;
  readonly members: readonly { readonly memberId: string; readonly metadata: Buffer }[];
}

/** Where a member is in the group. Each call is one request or two. */
export class Membership {
  readonly #cluster: Cluster;
  readonly #group: GroupName;
  readonly #coordinator: number;
  #memberId: string;
  #generation = -1;

  private constructor(cluster: Cluster, group: GroupName, coordinator: number, memberId: string) {
    this.#cluster = cluster;
    this.#group = group;
    this.#coordinator = coordinator;
    this.#memberId = memberId;
  }

  /** `memberId`: the one that this process had over an earlier connection; empty for none. */
  static async at(cluster: Cluster, group: GroupName, memberId: string, signal: AbortSignal): Promise<Membership> {
    return new Membership(cluster, group, await coordinatorOf(cluster, "group", group.id, signal), memberId);
  }

  get memberId(): string {
    return this.#memberId;
  }

  /**
   * Joins, or joins again, as soon as all others have. The one that leads says for all what each is given; the result is what
   * this one is given. Null: another one came or went meanwhile, and all are to join again.
   */
  async join(
    told: Buffer,
    lead: (told: MemberSubscriptions) => ReadonlyMap<string, Buffer>,
    signal: AbortSignal,
  ): Promise<Buffer | null> {
    const { generationId, memberId, leader, members } = await this.#joined(told, signal);
    this.#memberId = memberId;
    this.#generation = generationId;
    const isLeader = leader === memberId;
    const given = isLeader
      ? lead(new Map(members.map((one) => [one.memberId, one.metadata])))
      : new Map<string, Buffer>();
    const assignments = [...given].map(([id, assignment]) => ({ memberId: id, assignment }));
    const parts = [this.#group.id, generationId, memberId, null, TYPE, this.#group.protocol, assignments];
    const synced = this.#unlessCalled(this.#request<{ readonly assignment: Buffer }>("SyncGroup", signal, parts));
    return (await synced)?.assignment ?? null;
  }

  async #joined(told: Buffer, signal: AbortSignal): Promise<Joined> {
    const { id, protocol } = this.#group;
    const protocols = [{ name: protocol, metadata: told }];
    const join = async (): Promise<Joined> =>
      await this.#request("JoinGroup", signal, [
        id,
        SESSION_MS,
        REBALANCE_MS_MAX,
        this.#memberId,
        null,
        TYPE,
        protocols,
      ]);
    try {
      return await join();
    } catch (error) {
      // A broker names a new member, so that one whose answer was lost does not count twice.
      const named = apiIdsOf(error).includes("MEMBER_ID_REQUIRED") ? fieldOf(error, "memberId") : null;
      if (named === null) throw error;
      this.#memberId = named;
      return await join();
    }
  }

  /** False when the members are to join again: one came or went. */
  async heartbeat(signal: AbortSignal): Promise<boolean> {
    const parts = [this.#group.id, this.#generation, this.#memberId, null];
    return (await this.#unlessCalled(this.#request<object>("Heartbeat", signal, parts))) !== null;
  }

  /** Null: the members are to join again. */
  async #unlessCalled<T>(request: Promise<T>): Promise<T | null> {
    try {
      return await request;
    } catch (error) {
      if (apiIdsOf(error).some((one) => JOIN_AGAIN.has(one))) return null;
      throw error;
    }
  }

  /** Its part is free at once. */
  async leave(signal: AbortSignal): Promise<void> {
    const member = { memberId: this.#memberId, groupInstanceId: null, reason: "the process ends" };
    await this.#request("LeaveGroup", signal, [this.#group.id, [member]]);
  }

  async #request<T>(name: string, signal: AbortSignal, parts: readonly unknown[]): Promise<T> {
    return await about(this.#group.id, this.#cluster.request<T>(name, this.#coordinator, signal, ...parts));
  }
}
