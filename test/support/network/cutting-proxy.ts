/** A TCP proxy that ends each connection behind the message that it is told to: a server that goes down in a handshake. */
import { createConnection, createServer, type Socket } from "node:net";
import { reset } from "./proxy-flow.ts";

/** `farewell`: closed; these bytes come in one piece with the last ones of the server. */
export type Cut = "close" | "reset" | { readonly farewell: Buffer };

export interface CuttingProxy extends AsyncDisposable {
  readonly port: number;
  /** New connections end behind this many messages of both sides together. */
  cutAfter(messageCount: number, how: Cut): void;
}

/** What comes in one piece counts as a message. */
export async function cuttingProxy(target: string): Promise<CuttingProxy> {
  const { hostname, port } = new URL(target);
  let rule: { readonly messageCount: number; readonly how: Cut } = { messageCount: 0, how: "close" };
  const open = new Set<Socket>();
  const listener = createServer((client) => {
    const { how, messageCount } = rule;
    const server = createConnection({ host: hostname, port: Number(port) });
    let left = messageCount;
    const end = (): void => {
      server.destroy();
      if (how === "reset") reset(client);
      else client.end();
    };
    const forward = (to: Socket) => (bytes: Buffer) => {
      if (left <= 0) return;
      left--;
      const isFarewell = left === 0 && to === client && typeof how === "object";
      to.write(isFarewell ? Buffer.concat([bytes, how.farewell]) : bytes, left === 0 ? end : undefined);
    };
    for (const socket of [client, server]) {
      open.add(socket);
      socket.on("error", () => socket.destroy());
      socket.on("close", () => open.delete(socket));
    }
    client.on("data", forward(server));
    server.on("data", forward(client));
    client.on("close", () => server.destroy());
    server.on("close", () => client.end());
    if (messageCount === 0) end();
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const address = listener.address();
  if (address === null || typeof address === "string") throw new Error("the proxy has no port");
  return {
    port: address.port,
    cutAfter(messageCount, how) {
      rule = { messageCount, how };
    },
    async [Symbol.asyncDispose]() {
      for (const socket of open) socket.destroy();
      await new Promise<void>((resolve) => listener.close(() => resolve()));
    },
  };
}
