import { fatalFrom, type MillraceError } from "../core/errors.ts";
import { controlSocketPath } from "../ops/control-socket.ts";
import type { StateAddress } from "../core/contracts/connector.ts";
import { cliError } from "./errors.ts";
import { whileOpen } from "./opened.ts";
import { userInfo } from "node:os";

/**
 * `import` reads every member of the module. One member loads Node's fetch, which took 50 of a command's 200 ms of
 * start.
 */
const { request } = process.getBuiltinModule("node:http");

/** A daemon that is alive answers in milliseconds. */
const ANSWER_MS_MAX = 10_000;

/** Talks to the running daemon of a configuration through its Unix socket. */
export class DaemonClient {
  readonly #state: StateAddress;
  readonly #path: string;

  constructor(state: StateAddress) {
    this.#state = state;
    this.#path = controlSocketPath(state.url);
  }

  /**
   * The answer, or undefined when no daemon listens. `Answer` is the type that the path answers with (src/ops/admin/admin.ts). A
   * daemon that listens but does not answer within `withinMs` is an error. A daemon that ends during a question (GET)
   * counts as not running; one that ends during an order may have carried it out.
   */
  async ask<Answer>(
    method: "GET" | "POST" | "DELETE",
    path: string,
    body?: object,
    withinMs = ANSWER_MS_MAX,
  ): Promise<Answer | undefined> {
    const answer = await this.#send(method, path, body, withinMs);
    if (answer === "silent") throw await this.#silent(withinMs);
    const value: unknown = typeof answer === "object" ? JSON.parse(answer.text) : undefined;
    // 503: one that ends, or begins again, says so if it still can.
    const isGone = answer === "gone" || (answer?.status === 503 && refusal(value, 503).code === "MR1116");
    if (isGone && method !== "GET") {
      const hint = "See what `millrace status` shows now, and run the command again: nothing is done twice.";
      throw cliError("MR1116", `the daemon ended before it had answered to ${method} ${path}`, {
        kind: "retryable",
        hint,
      });
    }
    if (answer === undefined || isGone) return undefined;
    // 504: the time that the request gave is up.
    if (answer.status >= 400 && answer.status !== 504) throw refusal(value, answer.status);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the daemon is of this package, and its own client asks
    return value as Answer;
  }

  #send(
    method: string,
    path: string,
    body: object | undefined,
    withinMs: number,
  ): Promise<{ status: number; text: string } | "silent" | "gone" | undefined> {
    return new Promise((resolve, reject) => {
      const fail = (error: Error): void => {
        const code = "code" in error ? error.code : undefined;
        if (code === "ENOENT" || code === "ECONNREFUSED") resolve(undefined);
        else if (code === "ECONNRESET" || code === "EPIPE") resolve("gone");
        else reject(error);
      };
      const payload = body === undefined ? undefined : JSON.stringify(body);
      const type = payload === undefined ? {} : { "content-type": "application/json" };
      const headers = { ...type, "user-agent": `millrace (${userName()})` };
      const sent = request({ socketPath: this.#path, method, path, headers, timeout: withinMs }, (response) => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (chunk: string) => (text += chunk));
        response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
        response.on("error", fail);
      });
      sent.on("timeout", () => {
        resolve("silent");
        sent.destroy();
      });
      sent.on("error", fail);
      sent.end(payload);
    });
  }

  /** The holder that has not released the lease is the process to look at. */
  async #silent(withinMs: number): Promise<MillraceError> {
    const { openState } = await import("../state/open.ts");
    const held = await whileOpen(openState(this.#state, { readOnly: true }), ({ lease }) => lease.unreleased());
    const who = held === null ? "the daemon" : `the daemon (${held.holder})`;
    return cliError("MR1116", `${who} did not answer for ${Math.round(withinMs / 1000)} s: it hangs, or was stopped`);
  }
}

function refusal(value: unknown, status: number): MillraceError {
  const parts = typeof value === "object" && value !== null && "error" in value ? value.error : null;
  const field = (name: string): string | null => {
    if (typeof parts !== "object" || parts === null || !(name in parts)) return null;
    const text: unknown = Reflect.get(parts, name);
    return typeof text === "string" ? text : null;
  };
  const message = field("message") ?? `the daemon answered with status ${status}`;
  const error = fatalFrom({ code: field("code") ?? "", message, hint: field("hint") });
  // 503: it has nothing to answer with yet, because it waits for a server of its own.
  return status === 503 ? error.with({ kind: "retryable" }) : error;
}

/** The user of this process. A user id without a name is shown as its number. */
export function userName(): string {
  try {
    return userInfo().username;
  } catch {
    // Many containers have no entry for the user.
    return `uid ${process.getuid?.() ?? "unknown"}`;
  }
}
