/** Asks for a login before a server that asks for none, as its own security would. */
import { createServer, request } from "node:http";

export interface LoginFront extends AsyncDisposable {
  /** With the user, and no password. */
  readonly url: string;
  /** From now on this password alone is taken. */
  accept(password: string): void;
}

/** `refusal`: the answer to a wrong login. */
export async function loginFront(
  target: string,
  refusal: { readonly status: number; readonly headers: Readonly<Record<string, string>>; readonly body: string },
): Promise<LoginFront> {
  const { hostname, port } = new URL(target);
  let accepted = "";
  const server = createServer((asked, answer) => {
    const login = `Basic ${Buffer.from(`millrace:${accepted}`).toString("base64")}`;
    if (asked.headers.authorization !== login) {
      asked.resume();
      answer.writeHead(refusal.status, refusal.headers).end(refusal.body);
      return;
    }
    const { authorization: _, ...headers } = asked.headers;
    const inner = request({ hostname, port, method: asked.method, path: asked.url, headers }, (found) => {
      answer.writeHead(found.statusCode ?? 502, found.headers);
      found.pipe(answer);
    });
    inner.on("error", () => answer.destroy());
    asked.pipe(inner);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the front has no port");
  return {
    url: `http://millrace@127.0.0.1:${address.port}`,
    accept(password) {
      accepted = password;
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
