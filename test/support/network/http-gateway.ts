/** Stands before a server that speaks HTTP: passes requests on, or answers, changes, delays and loses them as a test says. */
import { createServer, type IncomingHttpHeaders, type OutgoingHttpHeaders, request } from "node:http";
import { buffer } from "node:stream/consumers";
import { setTimeout as delay } from "node:timers/promises";
import { listening } from "./listening.ts";

export interface Asked {
  readonly method: string;
  /** With its query, as it was sent. */
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  /** What the server answers, with another body or other headers where they are given. It may come much later. */
  readonly pass: (changed?: Partial<Pick<Asked, "body" | "headers">>) => Promise<Reply>;
}

export interface Reply {
  readonly status: number;
  readonly headers: OutgoingHttpHeaders;
  readonly body: Buffer | string;
}

export const JSON_TYPE = { "content-type": "application/json" };
/** What others answer in a server's place: a page, nothing, what nobody asked for, a proxy without a server behind it. */
export const OF_OTHERS: readonly Reply[] = [
  { status: 200, headers: { "content-type": "text/html" }, body: "<html>Welcome</html>" },
  { status: 200, headers: {}, body: "" },
  { status: 200, headers: JSON_TYPE, body: '{"message":"all is well"}' },
  { status: 404, headers: { "content-type": "text/plain" }, body: "default backend - 404" },
];

export interface HttpGateway extends AsyncDisposable {
  /** With the port. */
  readonly host: string;
  readonly url: string;
}

/** `lost`: the sender's connection ends without an answer. */
export async function httpGateway(
  target: string,
  answer: (asked: Asked) => Promise<Reply | "lost">,
): Promise<HttpGateway> {
  const { hostname, port } = new URL(target);
  const server = createServer((message, response) => {
    const answered = async (): Promise<void> => {
      const { method = "", url: path = "", headers } = message;
      const body = await buffer(message);
      const pass: Asked["pass"] = async (changed = {}) => {
        const { "transfer-encoding": _, ...sent } = changed.headers ?? headers;
        const bytes = changed.body ?? body;
        const { promise, resolve, reject } = Promise.withResolvers<Reply>();
        const length = bytes.length === 0 ? {} : { "content-length": bytes.length };
        request({ hostname, port, path, method, headers: { ...sent, ...length } }, (reply) => {
          const { statusCode: status = 500 } = reply;
          buffer(reply).then((all) => resolve({ status, headers: reply.headers, body: all }), reject);
        })
          .once("error", reject)
          .end(bytes);
        return await promise;
      };
      const reply = await answer({ method, path, headers, body, pass });
      if (reply === "lost") {
        message.socket.destroy();
        return;
      }
      const { "transfer-encoding": _, "content-length": length, ...replied } = reply.headers;
      // Of an answer to HEAD, which has a length and no body.
      const told = method === "HEAD" && length !== undefined ? { "content-length": length } : {};
      response.writeHead(reply.status, { ...replied, ...told }).end(reply.body);
    };
    answered().catch(() => response.destroy());
  });
  // A busy machine takes longer between two requests of a connection than the default allows.
  server.keepAliveTimeout = 0;
  const opened = await listening(server);
  return Object.assign(opened, { url: `http://${opened.host}` });
}

export interface LateRequest {
  /** When the gateway has the whole request, and its sender has lost the connection. */
  readonly lost: Promise<void>;
  /** Gives it to the server, and tells the answer. */
  deliver(): Promise<Reply>;
}

/** A request of a process that is stopped: it is carried out when that goes on, and then gets its answer. */
interface HeldRequest {
  readonly met: Promise<void>;
  release(): void;
  /** What the server says then, whether somebody waits for it or not. */
  readonly answered: Promise<Reply>;
}

export interface LateGateway extends HttpGateway {
  /** The next request that is so. `what`: its method, its path, and its body as latin1. */
  lose(isIt: (what: string) => boolean): LateRequest;
  hold(isIt: (what: string) => boolean): HeldRequest;
}

/** Loses a chosen request on its way: its sender gets no answer, and the server gets it later. */
export async function lateGateway(target: string): Promise<LateGateway> {
  const waiting: {
    readonly isIt: (what: string) => boolean;
    readonly take: (asked: Asked) => Promise<Reply | "lost">;
  }[] = [];
  const gateway = await httpGateway(target, async (asked) => {
    const { method, path, body, pass } = asked;
    const what = `${method} ${decodeURIComponent(path.replaceAll("+", " "))}\n${body.toString("latin1")}`;
    const at = waiting.findIndex(({ isIt }) => isIt(what));
    if (at < 0) return await pass();
    return await waiting.splice(at, 1)[0]!.take(asked);
  });
  return Object.assign(gateway, {
    lose(isIt: (what: string) => boolean) {
      const { promise, resolve } = Promise.withResolvers<Asked>();
      const take = async (asked: Asked): Promise<"lost"> => {
        resolve(asked);
        return "lost";
      };
      waiting.push({ isIt, take });
      return { lost: promise.then(() => undefined), deliver: async () => await (await promise).pass() };
    },
    hold(isIt: (what: string) => boolean) {
      const met = Promise.withResolvers<void>();
      const over = Promise.withResolvers<void>();
      const answered = Promise.withResolvers<Reply>();
      const take = async ({ pass }: Asked): Promise<Reply> => {
        met.resolve();
        await over.promise;
        const reply = await pass();
        answered.resolve(reply);
        return reply;
      };
      waiting.push({ isIt, take });
      return { met: met.promise, release: () => over.resolve(), answered: answered.promise };
    },
  });
}

export interface LoginFront extends AsyncDisposable {
  /** With the user, and no password. */
  readonly url: string;
  /** From now on this password alone is taken. */
  accept(password: string): void;
}

/** Asks for a login before a server that asks for none, as its own security would. `refusal`: the answer to a wrong one. */
export async function loginFront(target: string, refusal: Reply): Promise<LoginFront> {
  let accepted = "";
  const gateway = await httpGateway(target, async ({ headers: { authorization, ...headers }, pass }) => {
    const login = `Basic ${Buffer.from(`millrace:${accepted}`).toString("base64")}`;
    return authorization === login ? await pass({ headers }) : refusal;
  });
  return {
    url: `http://millrace@${gateway.host}`,
    accept: (password) => void (accepted = password),
    [Symbol.asyncDispose]: () => gateway[Symbol.asyncDispose](),
  };
}

const S3_REFUSALS = {
  busy: [503, "SlowDown"],
  skewed: [403, "RequestTimeTooSkewed"],
  expired: [400, "ExpiredToken"],
} as const;
const LATE_MS = 300;

export type Way = "pass" | "lose" | "late" | keyof typeof S3_REFUSALS;

/** A server of S3 that is busy, slow, loses answers or finds the client's clock wrong, whenever `decide` says so. */
export async function s3Gateway(endpoint: string, decide: (method: string, path: string) => Way): Promise<HttpGateway> {
  return await httpGateway(endpoint, async ({ method, path, pass }) => {
    const way = decide(method, path);
    if (way === "busy" || way === "skewed" || way === "expired") {
      const [status, code] = S3_REFUSALS[way];
      const body = `<Error><Code>${code}</Code><Message>as S3 says it</Message></Error>`;
      return { status, headers: { "content-type": "application/xml" }, body };
    }
    const reply = await pass();
    if (way === "late") await delay(LATE_MS);
    return way === "lose" ? "lost" : reply;
  });
}
