/**
 * What a start finds in the cluster before it writes, and `millrace check` too: whose the topics are, and what they hold.
 *
 * A prefix and a name together begin the names of a sink's topics, so prefix `shop` with name `eu` has those of name `shopeu`;
 * and a table's name may have dots. Each checkpoint names its sink and its topics, so such a meeting shows where both may be
 * read. Two sinks of one configuration are told apart when it is loaded.
 */
import { checkpointOf, type TopicCheckpoint, NO_CHECKPOINT, readCheckpoint } from "./checkpoint.ts";
import type { Cluster, Topic } from "../client/cluster.ts";
import { apiIdsOf } from "../client/failures.ts";
import type { MillraceError } from "../../../src/core/errors.ts";
import { inUse, tableInUse, kafkaError, newlyCompacted, sinkIn, tableError } from "../errors.ts";
import {
  callTopics,
  checkpointTopic,
  isCheckpointTopic,
  namespaceOf,
  ownTopic,
  sinkId,
  type TopicNaming,
} from "../names.ts";
import {
  isSameTopic,
  stateOf,
  hasOtherPartitions,
  isNewlyCompacted,
  otherPartitions,
  type UsableTopic,
} from "./topics.ts";

/** Of a sink with `format: log`. */
const LOG_FORM = "log";

/** A sink. */
interface Claimant {
  readonly naming: TopicNaming;
  readonly name: string;
}

interface Writing extends Claimant {
  readonly form: string;
}

interface Claim {
  /** Null: whatever topic has the name. */
  readonly state: string | null;
  /** `tableId`: null of a topic that no table has. */
  readonly refusal: (tableId: string | null, topic: string) => MillraceError | null;
}

export class Claims {
  readonly #byTopic = new Map<string, Claim>();
  /** A sink of another prefix and name whose own topics begin as ours do. */
  #meets: string | null = null;

  /** Of the checkpoints that this user may read. */
  static async of(cluster: Cluster, { naming, name, form }: Writing, signal: AbortSignal): Promise<Claims> {
    const claims = new Claims();
    const ours = ownTopic("", naming);
    for (const topic of (await cluster.names(signal)).filter(isCheckpointTopic)) {
      const { owner, topics, form: before } = await readable(cluster, topic, signal);
      const other = namespaceOf(owner);
      if (other === null || owner === sinkId({ naming, name })) continue;
      // A sink that this daemon had under another name: its topics are written on in its form.
      const isFormer = other.prefix === naming.prefix && other.daemon === naming.daemon;
      if (isFormer && (before === "" || before === form)) continue;
      if (!isFormer && topic.startsWith(ours)) claims.#meets ??= owner;
      const refusal: Claim["refusal"] = isFormer
        ? (table, claimed) =>
            table === null
              ? null
              : tableError("MR3120", table, otherForm(`topic ${claimed} of ${sinkIn(owner)} holds`, before, form))
        : (table, claimed) => (table === null ? inUse(claimed, owner) : tableInUse(table, claimed, owner));
      for (const [claimed, state] of Object.entries(topics)) claims.#byTopic.set(claimed, { state, refusal });
      // Who follows the log writes there too, and makes the topics if need be.
      if (before === LOG_FORM && !isFormer)
        for (const claimed of Object.values(callTopics(other))) claims.#byTopic.set(claimed, { state: null, refusal });
    }
    return claims;
  }

  /** Throws if Millrace's own topics of this sink are those of another one too. */
  expectOwn({ prefix, daemon }: TopicNaming): void {
    if (this.#meets !== null) throw inUse(`${prefix}${daemon}.…`, this.#meets);
  }

  /** Throws if another sink writes to the topic, or one did to a table's in another form. `topic`: null if it is not there. */
  expectFree(tableId: string | null, name: string, topic: Topic | null): void {
    const refusal = this.refusal(tableId, name, topic);
    if (refusal !== null) throw refusal;
  }

  /** What `expectFree` throws. */
  refusal(tableId: string | null, name: string, topic: Topic | null): MillraceError | null {
    const claim = this.#byTopic.get(name);
    if (claim === undefined) return null;
    const now = topic === null ? null : stateOf({ topic, isCompacted: null });
    if (claim.state !== null && (now === null || !isSameTopic(claim.state, now))) return null;
    return claim.refusal(tableId, name);
  }
}

/** Of a topic that is no checkpoint, or one that this user may not read, or whose broker is away. */
async function readable(cluster: Cluster, topic: string, signal: AbortSignal): Promise<TopicCheckpoint> {
  try {
    return await readCheckpoint(cluster, topic, signal);
  } catch (error) {
    if (apiIdsOf(error).length === 0) throw error;
    return NO_CHECKPOINT;
  }
}

export function expectOwner({ owner }: TopicCheckpoint, settings: Claimant): void {
  if (owner !== "" && owner !== sinkId(settings)) throw inUse(checkpointTopic(settings), owner);
}

/** A reader takes records of one form, and compaction keeps the newest of each key, whatever its form. */
export function expectForm({ form: before }: TopicCheckpoint, { form }: { readonly form: string }): void {
  if (before === "" || before === form) return;
  throw kafkaError("MR3120", "fatal", otherForm("the topics hold", before, form));
}

function otherForm(what: string, before: string, form: string): string {
  return `${what} \`${before}\`, and the sink is to write \`${form}\``;
}

/** Once a table is not complete in the sink, it is read into the topic as it is. */
export function expectBefore(
  last: TopicCheckpoint,
  id: string,
  usable: Pick<UsableTopic, "name" | "topic" | "isCompacted">,
  { naming }: Pick<Claimant, "naming">,
): void {
  const { name } = usable;
  const before = last.topics[name];
  const now = stateOf(usable);
  if (before === undefined || !isSameTopic(before, now)) return;
  const holdsOne = naming.single === undefined ? holds(last, id) : Object.keys(heldBy(last)).length > 0;
  if (holdsOne && isNewlyCompacted(before, now)) throw newlyCompacted(name);
  if (hasOtherPartitions(before, now) && holds(last, id))
    throw tableError("MR3107", id, otherPartitions(name, before, now));
}

export function holds(last: TopicCheckpoint, id: string): boolean {
  return heldBy(last)[id] !== undefined;
}

/** Asked for each table that is prepared. */
const held = new WeakMap<TopicCheckpoint, Readonly<Record<string, string>>>();

function heldBy(last: TopicCheckpoint): Readonly<Record<string, string>> {
  const tables = held.get(last) ?? checkpointOf(last)?.tables ?? {};
  held.set(last, tables);
  return tables;
}
