/** A gateway before ClickHouse: answers statements as a test says, and passes all others on. */
import { createServer, request } from "node:http";
import { buffer } from "node:stream/consumers";

export interface Statement {
  /** With the rows of an insert, as latin1. */
  readonly sql: string;
  /** As the address has them. */
  readonly settings: URLSearchParams;
  /** What the server says. */
  readonly pass: () => Promise<Reply>;
}

export interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
}

export function refusal(code: number, text: string): Reply {
  const body = Buffer.from(`Code: ${code}. DB::Exception: ${text}\n`);
  return { status: 500, headers: { "x-clickhouse-exception-code": String(code) }, body };
}

export async function clickhouseGateway(target: string, answer: (statement: Statement) => Promise<Reply>) {
  const { hostname, port } = new URL(target);
  const server = createServer((message, response) => {
    const answered = async (): Promise<void> => {
      const body = await buffer(message);
      const { "transfer-encoding": _, ...headers } = message.headers;
      const pass = async (): Promise<Reply> =>
        await new Promise<Reply>((resolve, reject) => {
          const options = { hostname, port, path: message.url, method: message.method };
          const forwarded = request({ ...options, headers: { ...headers, "content-length": body.length } }, (reply) => {
            void buffer(reply).then(
              (bytes) => resolve({ status: reply.statusCode ?? 500, headers: reply.headers, body: bytes }),
              reject,
            );
          });
          forwarded.once("error", reject).end(body);
        });
      const settings = new URL(message.url ?? "/", "http://gateway").searchParams;
      const reply = await answer({ sql: body.toString("latin1"), settings, pass });
      const { "transfer-encoding": __, "content-length": ___, ...replied } = reply.headers;
      response.writeHead(reply.status, replied).end(reply.body);
    };
    answered().catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the gateway has no port");
  return {
    url: `http://127.0.0.1:${address.port}`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
