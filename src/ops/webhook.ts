import { createHmac } from "node:crypto";
import type { buildConnector, Dispatcher } from "undici";
import { isAborted, MillraceError, type RaiseDetails } from "../core/errors.ts";
import { reachAgain, serverAt, systemErrorCode } from "../core/system-errors.ts";
import { addressOf, codeOf, type TlsFailure, tlsFailure, tryHandshake } from "../tls/failure.ts";
import { NO_TLS_KEYS, tlsOptions, type TlsSettings, UnusableTls } from "../tls/options.ts";
import { loginIn } from "../tls/url-parts.ts";
import { opsError } from "./errors.ts";

const ANSWER_MS_MAX = 10_000;
/** With the waits between them about two minutes: enough for a restart of the receiver. */
const ATTEMPTS_MAX = 8;

/** The id is the same in every attempt: the receiver knows by it what it has. */
export interface Message {
  readonly event: string;
  readonly id: string;
}

interface WebhookOptions {
  readonly url: string;
  /** The bytes of the key that signs. Null: messages are not signed. */
  readonly key: Buffer | null;
  /** Of an https:// URL. The files are read for each message, so they may be replaced. */
  readonly tls?: TlsSettings;
  /** Removes secrets from the texts of a JSON document. */
  readonly redact: (json: string) => string;
}

/** `onRefused`: an attempt failed, and another one follows. */
export type Send = (message: Message, signal: AbortSignal, onRefused?: (error: unknown) => void) => Promise<void>;

/**
 * Posts JSON to a URL until the receiver accepts it; after the last attempt throws. Of the URL, which is a secret, host and
 * port are told. Id, time and signature are those of Standard Webhooks (github.com/standard-webhooks/standard-webhooks,
 * spec 1.0).
 */
export function webhook({ url, key, tls = NO_TLS_KEYS, redact }: WebhookOptions): Send {
  const { address, headers: common } = requestOf(url);
  return async (message, signal, onRefused) => {
    const body = redact(JSON.stringify(message));
    const { ExponentialBackoff, handleWhen, retry } = await import("cockatiel");
    const passing = retry(
      handleWhen((error) => error instanceof MillraceError && error.kind === "retryable"),
      { maxAttempts: ATTEMPTS_MAX, backoff: new ExponentialBackoff({ initialDelay: 250, maxDelay: 60_000 }) },
    );
    passing.onRetry((failed) => {
      if ("error" in failed) onRefused?.(failed.error);
    });
    await passing.execute(
      () => post(address, { headers: stamped(common, key, { id: message.id, body }), body, tls }, signal),
      signal,
    );
  };
}

/** With the time of this attempt: a receiver refuses what is older than some minutes. */
function stamped(
  common: Headers,
  key: Buffer | null,
  { id, body }: { readonly id: string; readonly body: string },
): Headers {
  const headers = new Headers(common);
  const time = String(Math.floor(Date.now() / 1000));
  headers.set("webhook-id", id);
  headers.set("webhook-timestamp", time);
  if (key !== null) {
    const signature = createHmac("sha256", key).update(`${id}.${time}.${body}`).digest("base64");
    headers.set("webhook-signature", `v1,${signature}`);
  }
  return headers;
}

interface Posted {
  readonly headers: Headers;
  readonly body: string;
  readonly tls: TlsSettings;
}

async function post(address: URL, { headers, body, tls }: Posted, signal: AbortSignal): Promise<void> {
  let status: number;
  const agent = await agentFor(address, tls);
  try {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS_MAX)]);
    const { request } = await import("undici");
    // Redirects are not followed: one could lead to another service, and the secret would go there too.
    const answer = await request(address, {
      method: "POST",
      headers: Object.fromEntries(headers),
      body,
      signal: limit,
      dispatcher: agent,
    });
    status = answer.statusCode;
    await answer.body.dump();
  } catch (error) {
    if (signal.aborted && isAborted(error)) throw error;
    const failure = tlsFailure(codeOf(error)) ?? (await refusedHandshake(address, tls, signal));
    if (failure !== undefined) throw untrusted(failure, address);
    throw unreached(address, error);
  } finally {
    await agent.destroy();
  }
  if (status < 200 || status > 299)
    throw refused(address, `it answers with status ${status}`, { kind: mayPass(status) ? "retryable" : "fatal" });
}

/** A refusal of the client's certificate comes after the handshake, and looks like a hang-up. */
async function refusedHandshake(url: URL, tls: TlsSettings, signal: AbortSignal) {
  if (url.protocol !== "https:") return undefined;
  const { code } = await tryHandshake(addressOf(url), tlsOptions(tls, true), signal);
  return tlsFailure(code ?? "");
}

async function agentFor(address: URL, tls: TlsSettings): Promise<Dispatcher> {
  const { Agent } = await import("undici");
  try {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- Node's options of TLS, without an address
    const connect = tlsOptions(tls, address.protocol === "https:") as buildConnector.BuildOptions;
    return new Agent({ connect });
  } catch (error) {
    throw error instanceof UnusableTls ? untrusted(error, address) : error;
  }
}

function mayPass(status: number): boolean {
  return status === 408 || status === 429 || status >= 500;
}

/** Sends the user of a URL as a header, because `fetch` refuses it in the URL. */
function requestOf(url: string): { address: URL; headers: Headers } {
  const address = new URL(url);
  const headers = new Headers({ "content-type": "application/json" });
  const { username, password } = loginIn(address);
  if (username !== "")
    headers.set("authorization", `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`);
  address.username = "";
  address.password = "";
  return { address, headers };
}

function unreached(url: URL, error: unknown): MillraceError {
  const code = systemErrorCode(error);
  const isLate = error instanceof Error && error.name === "TimeoutError";
  const why = isLate
    ? `no answer within ${ANSWER_MS_MAX / 1000} s`
    : `it can't be reached${code === undefined ? "" : `: ${code}`}`;
  return refused(url, why, {
    kind: "retryable",
    hint: reachAgain(code, serverOf(url), "notify.webhook"),
    cause: error,
  });
}

/** Retryable: another attempt may succeed. */
function refused(url: URL, why: string, details: RaiseDetails): MillraceError {
  return opsError("MR1158", `the webhook at ${serverOf(url)} did not take the message: ${why}`, details);
}

function untrusted({ what, fix }: TlsFailure, url: URL): MillraceError {
  return refused(url, `TLS failed: ${what}`, { hint: fix });
}

function serverOf(url: URL): string {
  const { host, port } = addressOf(url);
  return serverAt(host, port);
}
