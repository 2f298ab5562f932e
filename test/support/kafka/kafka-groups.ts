/** Groups, as their broker tells of them. */
import { coordinatorOf } from "../../../connectors/kafka/client/transactions.ts";
import { accessTo } from "../../../connectors/kafka/connection.ts";

interface Described {
  readonly groups: readonly { readonly groupState: string; readonly members: readonly object[] }[];
}

/** Also of types that the library can't read. */
export async function groupAt(
  broker: string,
  id: string,
): Promise<{ readonly state: string; readonly memberCount: number } | undefined> {
  const { signal } = new AbortController();
  const access = accessTo(() => ({ brokers: [broker], clientId: "test", tls: null, sasl: null }));
  await using cluster = await access.connect(signal);
  const coordinator = await coordinatorOf(cluster, "group", id, signal);
  const { groups } = await cluster.request<Described>("DescribeGroups", coordinator, signal, [id], false);
  const [group] = groups;
  return group === undefined ? undefined : { state: group.groupState, memberCount: group.members.length };
}
