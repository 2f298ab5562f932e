/** Somebody who listens for messages over HTTP. */
import { createServer } from "node:http";
import { listening } from "./listening.ts";

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

/** `statusOf` answers the message of that number, from 0, and with that text. */
export async function listener(statusOf: (number: number, text: string) => number = () => 200): Promise<Listener> {
  const heard: Heard[] = [];
  const server = createServer((request, response) => {
    let text = "";
    request.setEncoding("utf8").on("data", (part: string) => (text += part));
    request.on("end", () => {
      const { method = "", url: path = "", headers } = request;
      const status = statusOf(heard.length, text);
      const signed = Object.fromEntries(
        Object.entries(headers).flatMap(([name, value]) =>
          name.startsWith("webhook-") ? [[name, String(value)]] : [],
        ),
      );
      heard.push({ method, path, authorization: headers.authorization, signed, text, body: JSON.parse(text) });
      response.writeHead(status, { connection: "close", ...(status === 302 ? { location: "/elsewhere" } : {}) }).end();
    });
  });
  const opened = await listening(server);
  return Object.assign(opened, { url: `http://${opened.host}`, heard });
}
