/**
 * Topics that other sinks write to. A prefix and a name together begin the names of a sink's topics, so prefix `shop` with name
 * `eu` has those of name `shopeu`; and a table's name may have dots. Each checkpoint names its sink and its topics, so such a
 * meeting shows where both may be read. Two sinks of one configuration are told apart when it is loaded.
 */
import { type TopicCheckpoint, NO_CHECKPOINT, readCheckpoint } from "./checkpoint.ts";
import type { Cluster, Topic } from "./client/cluster.ts";
import { apiIdsOf } from "./client/failures.ts";
import { inUse, tableInUse } from "./errors.ts";
import { isCheckpointTopic, namespaceOf, ownTopic, sinkId, type TopicNaming } from "./names.ts";
import { isSameTopic, placeOf } from "./topics.ts";

interface Claimant {
  readonly naming: TopicNaming;
  readonly name: string;
}

interface Claim {
  readonly place: string;
  readonly owner: string;
}

export class Claims {
  readonly #byTopic = new Map<string, Claim>();
  /** A sink of another prefix and name whose own topics begin as ours do. */
  #meets: string | null = null;

  /** Of the checkpoints that this user may read. */
  static async of(cluster: Cluster, { naming, name }: Claimant, signal: AbortSignal): Promise<Claims> {
    const claims = new Claims();
    const ours = ownTopic("", naming);
    for (const topic of (await cluster.names(signal)).filter(isCheckpointTopic)) {
      const { owner, topics } = await readable(cluster, topic, signal);
      const other = namespaceOf(owner);
      if (other === null || owner === sinkId({ naming, name })) continue;
      if (other.prefix === naming.prefix && other.daemon === naming.daemon) continue;
      if (topic.startsWith(ours)) claims.#meets ??= owner;
      for (const [claimed, place] of Object.entries(topics)) claims.#byTopic.set(claimed, { place, owner });
    }
    return claims;
  }

  /** Throws if Millrace's own topics of this sink are those of another one too. */
  expectOwn({ prefix, daemon }: TopicNaming): void {
    if (this.#meets !== null) throw inUse(`${prefix}${daemon}.…`, this.#meets);
  }

  /** Throws if another sink writes to the table's topic. */
  expectFree(tableId: string, name: string, topic: Topic): void {
    const claim = this.#byTopic.get(name);
    if (claim === undefined || !isSameTopic(claim.place, placeOf({ topic, isCompacted: null }))) return;
    throw tableInUse(tableId, name, claim.owner);
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
