import { once } from "node:events";
import type { Server } from "node:net";

/** Listens on a free port of this machine until it is released. `host`: with the port. */
export async function listening(server: Server): Promise<AsyncDisposable & { readonly host: string }> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the server has no port");
  return {
    host: `127.0.0.1:${address.port}`,
    async [Symbol.asyncDispose]() {
      // Of HTTP.
      if ("closeAllConnections" in server && typeof server.closeAllConnections === "function")
        server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
