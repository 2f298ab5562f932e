/** A Redis Cluster of a test's own. */
import { Redis } from "ioredis";
import { freePort } from "../../../scripts/services/processes/port.ts";
import { type HeldBytes, type TcpProxy, tcpProxy } from "../network/proxy.ts";
import { ownRedis } from "../run/services.ts";
import { eventually } from "../run/waiting.ts";

const SLOT_COUNT = 16_384;
const NODE_COUNT = 3;

export interface RedisCluster extends AsyncDisposable {
  /** Of its first node. */
  readonly url: string;
  readonly urls: readonly string[];
  readonly proxies: readonly TcpProxy[];
  /** Where the nodes are that clients know by their proxies. */
  readonly direct: Readonly<Record<string, { host: string; port: number }>>;
  hold(from?: string): HeldBytes;
}

/** Three Redis nodes of a test's own, joined to a cluster, and a proxy before each to which the cluster sends clients. */
export async function ownRedisCluster(): Promise<RedisCluster> {
  await using stack = new AsyncDisposableStack();
  const nodes = [];
  const proxies: TcpProxy[] = [];
  const direct: Record<string, { host: string; port: number }> = {};
  for (let n = 0; n < NODE_COUNT; n++) {
    const busPort = await freePort();
    const settings = { "cluster-enabled": "yes", "cluster-port": String(busPort), "cluster-node-timeout": "5000" };
    const service = stack.use(await ownRedis({ settings }));
    const client = stack.adopt(new Redis(service.url), (redis) => redis.disconnect());
    const proxy = stack.use(await tcpProxy(service.url));
    await client.config("SET", "cluster-announce-port", String(proxy.port));
    proxies.push(proxy);
    const { hostname, port } = new URL(service.url);
    direct[`${proxy.host}:${proxy.port}`] = { host: hostname, port: Number(port) };
    nodes.push({ service, client, busPort });
  }
  for (const [n, { client }] of nodes.entries()) {
    const from = Math.floor((n * SLOT_COUNT) / NODE_COUNT);
    const to = Math.floor(((n + 1) * SLOT_COUNT) / NODE_COUNT) - 1;
    await client.call("CLUSTER", "ADDSLOTSRANGE", from, to);
    const { hostname, port } = new URL(nodes[0]!.service.url);
    if (n > 0) await client.call("CLUSTER", "MEET", hostname, port, nodes[0]!.busPort);
  }
  for (const { client } of nodes) {
    await eventually(async () => {
      const info = String(await client.call("CLUSTER", "INFO"));
      return /cluster_state:ok/.test(info) && /cluster_known_nodes:3/.test(info);
    });
  }
  const urls = nodes.map((node) => node.service.url);
  const owned = stack.move();
  const hold = (from?: string): HeldBytes => {
    const held = proxies.map((proxy) => proxy.hold(from));
    return {
      reached: Promise.race(held.map(({ reached }) => reached)),
      release: async () => void (await Promise.all(held.map(async (each) => await each.release()))),
    };
  };
  return { url: urls[0]!, urls, proxies, direct, hold, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}
