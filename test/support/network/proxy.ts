/** A TCP proxy that a test puts between the product and a server, to break the network by name. */
import { once } from "node:events";
import { createConnection, createServer, type Server, type Socket } from "node:net";
import { freePort } from "../../../scripts/services/processes/port.ts";
import { Flow, reset, type FlowRules } from "./proxy-flow.ts";

export type Direction = "toServer" | "toClient" | "both";

export interface ProxyCounters {
  /** Connections that were accepted since the start, and those that are open. */
  readonly accepted: number;
  readonly open: number;
  readonly bytesToServer: number;
  readonly bytesToClient: number;
}

export interface TcpProxy extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  readonly counters: ProxyCounters;
  /** The server's URL with the proxy's address in place of the server's. */
  url(original: string): string;
  /** Resets all connections (RST), on both sides. New ones are accepted. */
  cut(): void;
  /**
   * Forwards nothing more, and tells nobody: connections stay open, new ones are accepted and lead nowhere, a side that
   * closes is not noticed by the other. `toClient` alone lets requests arrive and swallows the answers. What was held
   * is delivered late, after `resume`.
   */
  stall(direction?: Direction): void;
  /**
   * Keeps what the clients of the present connections send, from the first bytes on that contain the text, also when the
   * clients have given them up: it arrives late. Later connections pass. `after`: what a connection has to send before.
   */
  hold(from?: string, after?: string): HeldBytes;
  /** Keeps what one connection sends, present or to come, from the bytes on that are the so-manyth from now, of all. */
  holdAt(count: number): HeldBytes;
  /** Tells one side that the other has finished (FIN), while what it sends itself still arrives. */
  halfClose(side: "client" | "server"): void;
  /** Refuses new connections; open ones go on. */
  refuse(): Promise<void>;
  /** Each byte arrives that much later. */
  delay(delayMs: number): void;
  /** Per connection and direction. */
  limit(bytesPerSecond: number): void;
  /** New connections lead there; open ones stay where they are. */
  redirect(target: string | ProxyTarget): void;
  /** Takes back stall, refuse, delay and limit. */
  resume(): Promise<void>;
}

export interface HeldBytes {
  /** Resolves when the first bytes are held. */
  readonly reached: Promise<void>;
  /** Forwards them. Resolves when the server has taken them and closed the connections that were given up. */
  release(): Promise<void>;
}

export interface ProxyTarget {
  readonly host: string;
  readonly port: number;
}

interface Pair {
  readonly client: Socket;
  readonly server: Socket;
  readonly flows: readonly [Flow, Flow];
}

const HOST = "127.0.0.1";
const DEFAULT_PORTS: Readonly<Record<string, number>> = {
  "postgres:": 5432,
  "postgresql:": 5432,
  "redis:": 6379,
  "http:": 80,
  "https:": 443,
};

export async function tcpProxy(target: string | ProxyTarget): Promise<TcpProxy> {
  let address = addressOf(target);
  const rules = { toServer: newRules(), toClient: newRules() };
  const pairs = new Set<Pair>();
  let accepted = 0;

  const listener = createServer({ allowHalfOpen: true }, (client) => {
    accepted += 1;
    const server = createConnection({ ...address, allowHalfOpen: true });
    const pair: Pair = {
      client,
      server,
      flows: [new Flow(client, server, rules.toServer), new Flow(server, client, rules.toClient)],
    };
    pairs.add(pair);
    const forget = (): void => {
      if (client.destroyed && server.destroyed) pairs.delete(pair);
    };
    client.once("close", forget);
    server.once("close", forget);
  });
  const ownPort = await freePort();
  await listen(listener, ownPort);

  const advanceAll = (): void => {
    for (const { flows } of pairs) for (const flow of flows) flow.advance();
  };
  return {
    host: HOST,
    port: ownPort,
    get counters() {
      const { toServer, toClient } = rules;
      return {
        accepted,
        open: pairs.size,
        bytesToServer: toServer.byteCount,
        bytesToClient: toClient.byteCount,
      };
    },
    url(original) {
      const changed = new URL(original);
      changed.host = `${HOST}:${ownPort}`;
      return changed.href;
    },
    cut() {
      for (const { client, server } of pairs) {
        reset(client);
        reset(server);
      }
    },
    stall(direction = "both") {
      rules.toServer.isStalled ||= direction !== "toClient";
      rules.toClient.isStalled ||= direction !== "toServer";
    },
    hold(from = "", after) {
      const held = [...pairs];
      return {
        reached: Promise.race(held.map(({ flows }) => flows[0].hold(from, after ?? null))),
        async release() {
          for (const { flows } of held) flows[0].release();
          const givenUp = held.filter(
            ({ client, server }) => (client.readableEnded || client.destroyed) && !server.destroyed,
          );
          await Promise.all(givenUp.map(({ server }) => once(server, "close")));
        },
      };
    },
    holdAt(count) {
      const { promise, resolve } = Promise.withResolvers<void>();
      let left = count;
      let held: Flow | null = null;
      rules.toServer.holds = (flow) => {
        if (--left > 0) return false;
        rules.toServer.holds = null;
        held = flow;
        resolve();
        return true;
      };
      return {
        reached: promise,
        async release() {
          rules.toServer.holds = null;
          const pair = [...pairs].find(({ flows }) => flows[0] === held);
          held?.release();
          if (pair === undefined || pair.server.destroyed) return;
          const { client, server } = pair;
          if (client.readableEnded || client.destroyed) await once(server, "close");
        },
      };
    },
    halfClose(side) {
      for (const pair of pairs) pair[side].end();
    },
    async refuse() {
      if (listener.listening) listener.close();
    },
    delay(delayMs) {
      rules.toServer.delayMs = delayMs;
      rules.toClient.delayMs = delayMs;
    },
    limit(bytesPerSecond) {
      rules.toServer.bytesPerSecond = bytesPerSecond;
      rules.toClient.bytesPerSecond = bytesPerSecond;
    },
    redirect(next) {
      address = addressOf(next);
    },
    async resume() {
      for (const each of Object.values(rules)) Object.assign(each, { ...newRules(), byteCount: each.byteCount });
      advanceAll();
      if (!listener.listening) await listen(listener, ownPort);
    },
    async [Symbol.asyncDispose]() {
      listener.close();
      for (const { client, server } of pairs) {
        client.destroy();
        server.destroy();
      }
    },
  };
}

function newRules(): FlowRules {
  return { isStalled: false, delayMs: 0, bytesPerSecond: Number.POSITIVE_INFINITY, byteCount: 0, holds: null };
}

function addressOf(target: string | ProxyTarget): ProxyTarget {
  if (typeof target !== "string") return { host: target.host, port: target.port };
  const { hostname, port, protocol } = new URL(target);
  const number = port === "" ? DEFAULT_PORTS[protocol] : Number(port);
  if (number === undefined) throw new Error(`no port in a ${protocol} URL`);
  return { host: hostname, port: number };
}

function listen(listener: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    listener.once("error", reject);
    listener.listen({ port, host: HOST }, () => {
      listener.off("error", reject);
      resolve();
    });
  });
}
