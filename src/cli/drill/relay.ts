/**
 * Local proxies between the daemon of a drill and everything that it connects to: one for each address, made when the daemon
 * asks for it (through.ts). They know nothing of protocols.
 */
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";

const HOST = "127.0.0.1";

interface Way {
  readonly listener: Server;
  readonly pairs: Set<readonly [client: Socket, server: Socket]>;
  does: "forward" | "stall" | "refuse";
}

export class Relay implements AsyncDisposable {
  readonly #ways = new Map<string, Way>();
  readonly #asked: Server;

  private constructor(asked: Server) {
    this.#asked = asked;
  }

  /** `path`: of the socket at which the daemon asks. It answers `host:port` with the port of the proxy to it. */
  static async open(path: string): Promise<Relay> {
    const asked = createServer();
    const relay = new Relay(asked);
    asked.on("connection", (socket) => {
      socket.setEncoding("utf8");
      socket.on("error", () => undefined);
      socket.on("data", (address) => {
        relay.#portTo(String(address)).then(
          (port) => socket.write(String(port)),
          // The daemon has no other way, and ends.
          () => socket.destroy(),
        );
      });
    });
    asked.listen(path);
    await once(asked, "listening");
    return relay;
  }

  /** As the daemon named them, `host:port`. */
  get addresses(): readonly string[] {
    return [...this.#ways.keys()];
  }

  /** Resets what is open now. Returns how many connections that were, as the others do. */
  cut(address: string): number {
    const { pairs } = this.#way(address);
    const count = pairs.size;
    for (const pair of pairs) for (const socket of pair) socket.resetAndDestroy();
    return count;
  }

  /** Forwards nothing, and tells nobody; new connections are accepted and lead nowhere. */
  stall(address: string): number {
    const way = this.#way(address);
    way.does = "stall";
    for (const pair of way.pairs) for (const socket of pair) socket.unpipe().pause();
    return way.pairs.size;
  }

  /** New connections are reset; open ones too. */
  refuse(address: string): number {
    this.#way(address).does = "refuse";
    return this.cut(address);
  }

  forward(address: string): void {
    const way = this.#way(address);
    const wasStalled = way.does === "stall";
    way.does = "forward";
    // A socket that is piped twice sends everything twice.
    if (wasStalled) for (const [client, server] of way.pairs) join(client, server);
  }

  #way(address: string): Way {
    return this.#ways.get(address)!;
  }

  async #portTo(address: string): Promise<number> {
    const known = this.#ways.get(address);
    const listener = known?.listener ?? createServer({ allowHalfOpen: true });
    if (known === undefined) {
      const way: Way = { listener, pairs: new Set(), does: "forward" };
      this.#ways.set(address, way);
      listener.on("connection", (client: Socket) => lead(client, address, way));
      listener.listen(0, HOST);
    }
    if (!listener.listening) await once(listener, "listening");
    const bound = listener.address();
    return typeof bound === "object" && bound !== null ? bound.port : 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#asked.close();
    for (const { listener, pairs } of this.#ways.values()) {
      listener.close();
      for (const pair of pairs) for (const socket of pair) socket.destroy();
    }
  }
}

function lead(client: Socket, address: string, way: Way): void {
  if (way.does === "refuse") {
    client.resetAndDestroy();
    return;
  }
  const end = address.lastIndexOf(":");
  const server = connect({ host: address.slice(0, end), port: Number(address.slice(end + 1)), allowHalfOpen: true });
  const pair = [client, server] as const;
  way.pairs.add(pair);
  for (const socket of pair) {
    socket.on("error", () => undefined);
    socket.on("close", () => {
      way.pairs.delete(pair);
      for (const each of pair) each.destroy();
    });
  }
  if (way.does === "forward") join(client, server);
}

/** Also the end of what one side sends, while the other goes on. */
function join(client: Socket, server: Socket): void {
  client.pipe(server);
  server.pipe(client);
}
