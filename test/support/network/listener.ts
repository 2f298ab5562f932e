/** Somebody who listens for messages over HTTP. */
import { once } from "node:events";
import { createServer } from "node:http";

export interface Listener extends AsyncDisposable {
  readonly url: string;
  readonly heard: readonly Heard[];
}

export interface Heard {
  readonly method: string;
  readonly path: string;
  readonly authorization: string | undefined;
  /** Of Standard Webhooks. */
  readonly signed: Readonly<Record<string, string>>;
  readonly text: string;
  readonly body: unknown;
}

/** `statusOf` answers the message of that number, from 0. */
export async function listener(statusOf: (number: number) => number = () => 200): Promise<Listener> {
  const heard: Heard[] = [];
  const server = createServer((request, response) => {
    let text = "";
    request.setEncoding("utf8").on("data", (part: string) => (text += part));
    request.on("end", () => {
      const { method = "", url: path = "", headers } = request;
      const status = statusOf(heard.length);
      const signed = Object.fromEntries(
        Object.entries(headers).flatMap(([name, value]) =>
          name.startsWith("webhook-") ? [[name, String(value)]] : [],
        ),
      );
      heard.push({ method, path, authorization: headers.authorization, signed, text, body: JSON.parse(text) });
      response.writeHead(status, { connection: "close", ...(status === 302 ? { location: "/elsewhere" } : {}) }).end();
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const port = typeof address === "object" ? address?.port : undefined;
  return {
    url: `http://127.0.0.1:${port}`,
    heard,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
