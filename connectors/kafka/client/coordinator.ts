import type { Cluster } from "./cluster.ts";
import { apiIdsOf, codesOf, failureOf } from "./failures.ts";

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

/** What a transaction came to. */
export type Ending = "committed" | "aborted";

const ENDINGS: Readonly<Record<string, Ending>> = { CompleteCommit: "committed", CompleteAbort: "aborted" };
/** Of a broker before Kafka 3.0, and for an id that nobody has used. */
const TELLS_NOTHING = new Set(["PLT_KFK_UNSUPPORTED_API", "UNSUPPORTED_VERSION", "TRANSACTIONAL_ID_NOT_FOUND"]);

interface Described {
  readonly transactionStates: readonly { readonly transactionState: string }[];
}

/** What the last transaction under an id came to; null: it is not over, or the coordinator does not know. */
export async function endingOf(
  cluster: Cluster,
  coordinator: number,
  id: string,
  signal: AbortSignal,
): Promise<Ending | null> {
  try {
    const { transactionStates } = await cluster.request<Described>("DescribeTransactions", coordinator, signal, [id]);
    return ENDINGS[transactionStates[0]?.transactionState ?? ""] ?? null;
  } catch (error) {
    if ([...apiIdsOf(error), ...codesOf(error)].some((one) => TELLS_NOTHING.has(one))) return null;
    throw error;
  }
}
