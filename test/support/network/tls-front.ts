/** Speaks TLS before a server that does not: what a load balancer does. */
import { readFile } from "node:fs/promises";
import { createConnection } from "node:net";
import { createServer, type TLSSocket } from "node:tls";
import type { Certificate } from "./certificate.ts";
import { listening } from "./listening.ts";

export interface TlsFront extends AsyncDisposable {
  readonly url: string;
  /** To those that connect from now on; the others are disconnected. */
  present(certificate: Certificate): Promise<void>;
}

/** With `clients` it wants a certificate that this authority has signed. */
export async function tlsFront(target: string, certificate: Certificate, clients?: Certificate): Promise<TlsFront> {
  const { hostname, port } = new URL(target);
  const open = new Set<TLSSocket>();
  const key = await readFile(certificate.keyPath);
  const wanted = clients && { requestCert: true, rejectUnauthorized: true, ca: clients.certificate };
  const server = createServer({ key, cert: certificate.certificate, ...wanted }, (client) => {
    const inner = createConnection({ host: hostname, port: Number(port) });
    open.add(client);
    client.pipe(inner).pipe(client);
    const end = (): void => {
      client.destroy();
      inner.destroy();
      open.delete(client);
    };
    for (const socket of [client, inner]) socket.on("error", end).on("close", end);
  });
  // Clients that do not trust the certificate hang up in the middle of the handshake.
  server.on("tlsClientError", () => {});
  const opened = await listening(server);
  const disconnect = (): void => {
    for (const client of open) client.destroy();
  };
  return {
    present: async (other) => {
      server.setSecureContext({ key: await readFile(other.keyPath), cert: other.certificate });
      disconnect();
    },
    url: `https://${opened.host.replace("127.0.0.1", "localhost")}`,
    async [Symbol.asyncDispose]() {
      disconnect();
      await opened[Symbol.asyncDispose]();
    },
  };
}
