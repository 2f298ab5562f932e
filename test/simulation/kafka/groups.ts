/** The coordinator of groups, by the classic protocol: members join together, one shares out, who is silent is out. */
import { failureOf } from "../../../connectors/kafka/client/failures.ts";
import type { Due, Scheduler } from "../scheduler.ts";

interface Member {
  readonly id: string;
  metadata: Buffer;
  sessionMs: number;
  rebalanceMs: number;
  joining: PromiseWithResolvers<object> | null;
  syncing: PromiseWithResolvers<object> | null;
  silence: Due | null;
}

interface Group {
  state: "empty" | "joining" | "syncing" | "stable";
  generation: number;
  protocol: string;
  leader: string;
  /** In the order in which they came. */
  readonly members: Map<string, Member>;
  /** Ids that were given, whose members have not joined yet. */
  readonly named: Set<string>;
  assignments: ReadonlyMap<string, Buffer>;
  late: Due | null;
}

interface JoinParts {
  readonly id: string;
  readonly sessionMs: number;
  readonly rebalanceMs: number;
  readonly memberId: string;
  readonly protocol: string;
  readonly metadata: Buffer;
}

export class Groups {
  readonly #scheduler: Scheduler;
  readonly #groups = new Map<string, Group>();
  #memberCount = 0;

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  join({ id, sessionMs, rebalanceMs, memberId, protocol, metadata }: JoinParts): Promise<object> {
    const group = this.#group(id);
    if (group.members.size > 0 && group.protocol !== protocol) throw failureOf("INCONSISTENT_GROUP_PROTOCOL", id);
    if (memberId === "") {
      const named = `member-${++this.#memberCount}`;
      group.named.add(named);
      throw Object.assign(failureOf("MEMBER_ID_REQUIRED", id), { response: { memberId: named } });
    }
    if (!group.members.has(memberId) && !group.named.delete(memberId)) throw failureOf("UNKNOWN_MEMBER_ID", id);
    group.protocol = protocol;
    let member = group.members.get(memberId);
    if (member === undefined) {
      member = { id: memberId, metadata, sessionMs, rebalanceMs, joining: null, syncing: null, silence: null };
      group.members.set(memberId, member);
    }
    Object.assign(member, { metadata, sessionMs, rebalanceMs });
    // Who asks again has given up the question before.
    member.joining?.reject(failureOf("UNKNOWN_MEMBER_ID", id));
    member.joining = Promise.withResolvers();
    member.joining.promise.catch(() => undefined);
    const answer = member.joining.promise;
    this.#heard(group, member);
    if (group.state !== "joining") this.#rebalance(group);
    this.#completeIfAll(group);
    return answer;
  }

  sync(id: string, generation: number, memberId: string, given: ReadonlyMap<string, Buffer>): Promise<object> {
    const { group, member } = this.#member(id, memberId);
    if (generation !== group.generation) throw failureOf("ILLEGAL_GENERATION", id);
    if (group.state === "joining") throw failureOf("REBALANCE_IN_PROGRESS", id);
    this.#heard(group, member);
    member.syncing = Promise.withResolvers();
    member.syncing.promise.catch(() => undefined);
    const answer = member.syncing.promise;
    if (group.state === "syncing" && memberId === group.leader) {
      group.assignments = given;
      group.state = "stable";
    }
    if (group.state === "stable") {
      for (const one of group.members.values()) {
        one.syncing?.resolve({ assignment: group.assignments.get(one.id) ?? Buffer.alloc(0) });
        one.syncing = null;
      }
    }
    return answer;
  }

  heartbeat(id: string, generation: number, memberId: string): object {
    const { group, member } = this.#member(id, memberId);
    if (generation !== group.generation) throw failureOf("ILLEGAL_GENERATION", id);
    this.#heard(group, member);
    if (group.state === "joining") throw failureOf("REBALANCE_IN_PROGRESS", id);
    return {};
  }

  leave(id: string, memberId: string): object {
    const { group, member } = this.#member(id, memberId);
    this.#remove(group, member);
    return {};
  }

  #group(id: string): Group {
    let group = this.#groups.get(id);
    if (group === undefined) {
      const members = new Map<string, Member>();
      const begun = { state: "empty", generation: 0, protocol: "", leader: "" } as const;
      group = { ...begun, members, named: new Set(), assignments: new Map(), late: null };
      this.#groups.set(id, group);
    }
    return group;
  }

  #member(id: string, memberId: string): { readonly group: Group; readonly member: Member } {
    const group = this.#group(id);
    const member = group.members.get(memberId);
    if (member === undefined) throw failureOf("UNKNOWN_MEMBER_ID", id);
    return { group, member };
  }

  #heard(group: Group, member: Member): void {
    if (member.silence !== null) member.silence.work = null;
    member.silence = this.#scheduler.after(member.sessionMs, () => {
      // Who waits to be answered is not silent.
      if (member.joining === null) this.#remove(group, member);
      else this.#heard(group, member);
    });
  }

  #remove(group: Group, member: Member): void {
    if (!group.members.delete(member.id)) return;
    if (member.silence !== null) member.silence.work = null;
    for (const waiting of [member.joining, member.syncing]) waiting?.reject(failureOf("UNKNOWN_MEMBER_ID", "a group"));
    if (group.members.size === 0) {
      group.state = "empty";
      if (group.late !== null) group.late.work = null;
      return;
    }
    if (group.state !== "joining") this.#rebalance(group);
    this.#completeIfAll(group);
  }

  #rebalance(group: Group): void {
    group.state = "joining";
    for (const one of group.members.values()) {
      one.syncing?.reject(failureOf("REBALANCE_IN_PROGRESS", "a group"));
      one.syncing = null;
    }
    const longestMs = Math.max(...[...group.members.values()].map(({ rebalanceMs }) => rebalanceMs));
    if (group.late !== null) group.late.work = null;
    group.late = this.#scheduler.after(longestMs, () => {
      const absent = [...group.members.values()].filter(({ joining }) => joining === null);
      for (const one of absent) this.#remove(group, one);
      this.#completeIfAll(group);
    });
  }

  #completeIfAll(group: Group): void {
    const all = [...group.members.values()];
    if (group.state !== "joining" || all.some(({ joining }) => joining === null)) return;
    if (group.late !== null) group.late.work = null;
    group.state = "syncing";
    group.generation++;
    group.assignments = new Map();
    if (!group.members.has(group.leader)) group.leader = all[0]!.id;
    const { leader, generation: generationId } = group;
    const members = all.map(({ id, metadata }) => ({ memberId: id, metadata }));
    for (const one of all) {
      const answer = { generationId, memberId: one.id, leader, members: one.id === leader ? members : [] };
      one.joining!.resolve(answer);
      one.joining = null;
    }
  }
}
