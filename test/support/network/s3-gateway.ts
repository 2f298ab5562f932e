/** A server of S3 that is busy, slow, loses answers or finds the client's clock wrong, whenever a test says so. */
import { createServer, request as httpRequest, type Server } from "node:http";

export type Way = "pass" | "busy" | "lose" | "late" | "skewed" | "expired";

const REFUSALS = {
  busy: [503, "SlowDown"],
  skewed: [403, "RequestTimeTooSkewed"],
  expired: [400, "ExpiredToken"],
} as const;

/** Stands before a server of S3. Passes requests on; `decide` may answer in the server's place, or drop the answer. */
export async function s3Gateway(endpoint: string, decide: (method: string, path: string) => Way) {
  const target = new URL(endpoint);
  const server: Server = createServer((incoming, outgoing) => {
    const way = decide(incoming.method ?? "", incoming.url ?? "");
    if (way === "busy" || way === "skewed" || way === "expired") {
      incoming.resume();
      const [status, code] = REFUSALS[way];
      outgoing.writeHead(status, { "content-type": "application/xml" });
      outgoing.end(`<Error><Code>${code}</Code><Message>as S3 says it</Message></Error>`);
      return;
    }
    const passed = httpRequest(
      {
        host: target.hostname,
        port: target.port,
        method: incoming.method,
        path: incoming.url,
        headers: incoming.headers,
      },
      (answer) => {
        if (way === "lose") {
          answer.resume();
          answer.once("end", () => incoming.socket.destroy());
          return;
        }
        setTimeout(
          () => {
            outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
            answer.pipe(outgoing);
          },
          way === "late" ? 300 : 0,
        );
      },
    );
    passed.once("error", () => incoming.socket.destroy());
    incoming.pipe(passed);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the gateway has no port");
  return {
    // The host is a part of the signature.
    url: `http://127.0.0.1:${address.port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
