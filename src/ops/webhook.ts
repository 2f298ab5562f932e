import { isAborted, MillraceError } from "../core/errors.ts";
import { pages } from "./errors.ts";

const ANSWER_MS_MAX = 10_000;
/** With the waits between them about two minutes: enough for a restart of the receiver. */
const ATTEMPTS_MAX = 8;

/** Posts JSON to a URL until the receiver accepts it; after the last attempt throws. The URL is a secret. */
export function webhook(url: string): (message: object, signal: AbortSignal) => Promise<void> {
  const { address, headers } = requestOf(url);
  return async (message, signal) => {
    const body = JSON.stringify(message);
    const { ExponentialBackoff, handleWhen, retry } = await import("cockatiel");
    const passing = retry(
      handleWhen((error) => error instanceof MillraceError && error.kind === "retryable"),
      { maxAttempts: ATTEMPTS_MAX, backoff: new ExponentialBackoff({ initialDelay: 250, maxDelay: 60_000 }) },
    );
    await passing.execute(() => post(address, headers, body, signal), signal);
  };
}

async function post(address: URL, headers: Headers, body: string, signal: AbortSignal): Promise<void> {
  let status: number;
  try {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS_MAX)]);
    // A redirect could lead to another service, and the secret would go there too.
    const answer = await fetch(address, { method: "POST", headers, body, redirect: "manual", signal: limit });
    ({ status } = answer);
    await answer.body?.cancel();
  } catch (error) {
    if (signal.aborted && isAborted(error)) throw error;
    throw refused("it can't be reached", true, error);
  }
  if (status < 200 || status > 299) throw refused(`it answers with status ${status}`, isPassing(status));
}

function isPassing(status: number): boolean {
  return status === 408 || status === 429 || status >= 500;
}

/** Sends the user of a URL as a header, because `fetch` refuses it in the URL. */
function requestOf(url: string): { address: URL; headers: Headers } {
  const address = new URL(url);
  const headers = new Headers({ "content-type": "application/json" });
  if (address.username !== "") {
    const login = `${decodeURIComponent(address.username)}:${decodeURIComponent(address.password)}`;
    headers.set("authorization", `Basic ${Buffer.from(login).toString("base64")}`);
  }
  address.username = "";
  address.password = "";
  return { address, headers };
}

function refused(why: string, isPassing: boolean, cause?: unknown): MillraceError {
  return new MillraceError({
    code: "MR1158",
    kind: isPassing ? "retryable" : "fatal",
    message: `the webhook did not take the message: ${why}`,
    hint: pages.MR1158.remedy,
    cause,
  });
}
