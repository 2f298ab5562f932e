/** A gateway over HTTP that loses a chosen request on its way: its sender gets no answer, and the server gets it later. */
import { request, createServer, type IncomingMessage } from "node:http";
import { buffer } from "node:stream/consumers";

export interface LateRequest {
  /** When the gateway has the whole request, and its sender has lost the connection. */
  readonly lost: Promise<void>;
  /** Gives it to the server, and tells the answer. */
  deliver(): Promise<{ readonly status: number; readonly text: string }>;
}

export interface LateGateway extends AsyncDisposable {
  url(original: string): string;
  /** The next request that is so. `what`: its method, its path, and its body as latin1. */
  lose(isIt: (what: string) => boolean): LateRequest;
}

interface Lost {
  readonly isIt: (what: string) => boolean;
  readonly take: (message: IncomingMessage, body: Buffer) => void;
}

export async function lateGateway(target: string): Promise<LateGateway> {
  const { hostname, port } = new URL(target);
  const waiting: Lost[] = [];
  const forward = (message: IncomingMessage, body: Buffer): Promise<IncomingMessage> =>
    new Promise((resolve, reject) => {
      const { "transfer-encoding": _, ...headers } = message.headers;
      const options = { hostname, port, path: message.url, method: message.method };
      request({ ...options, headers: { ...headers, "content-length": body.length } }, resolve)
        .once("error", reject)
        .end(body);
    });
  const server = createServer((message, response) => {
    const answer = async (): Promise<void> => {
      const body = await buffer(message);
      const what = `${message.method} ${decodeURIComponent((message.url ?? "").replaceAll("+", " "))}\n${body.toString("latin1")}`;
      const at = waiting.findIndex(({ isIt }) => isIt(what));
      if (at >= 0) {
        const [lost] = waiting.splice(at, 1);
        message.socket.destroy();
        lost!.take(message, body);
        return;
      }
      const reply = await forward(message, body);
      response.writeHead(reply.statusCode ?? 500, reply.headers);
      reply.pipe(response);
    };
    answer().catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the gateway has no port");
  return {
    url(original) {
      const changed = new URL(original);
      changed.host = `127.0.0.1:${address.port}`;
      return changed.href;
    },
    lose(isIt) {
      const { promise, resolve } = Promise.withResolvers<readonly [IncomingMessage, Buffer]>();
      waiting.push({ isIt, take: (message, body) => resolve([message, body]) });
      return {
        lost: promise.then(() => undefined),
        async deliver() {
          const reply = await forward(...(await promise));
          return { status: reply.statusCode ?? 0, text: (await buffer(reply)).toString() };
        },
      };
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
