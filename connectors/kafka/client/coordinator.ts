import type { Cluster } from "./cluster.ts";
import { failureOf } from "./failures.ts";

/** The kinds of keys of FindCoordinator: https://kafka.apache.org/protocol#The_Messages_FindCoordinator */
const KEY_TYPES = { group: 0, transaction: 1 } as const;

interface Coordinator {
  readonly nodeId: number;
  readonly errorCode: number;
}

/** The broker that decides on a group, or on a transactional id. */
export async function coordinatorOf(
  cluster: Cluster,
  type: keyof typeof KEY_TYPES,
  id: string,
  signal: AbortSignal,
): Promise<number> {
  const { coordinators } = await cluster.request<{ readonly coordinators: readonly Coordinator[] }>(
    "FindCoordinator",
    null,
    signal,
    KEY_TYPES[type],
    [id],
  );
  const [found] = coordinators;
  if (found === undefined) throw failureOf("COORDINATOR_NOT_AVAILABLE", id);
  if (found.errorCode !== 0) throw failureOf(found.errorCode, id);
  return found.nodeId;
}
