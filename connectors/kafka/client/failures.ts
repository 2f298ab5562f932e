/** What went wrong between this client and the brokers, by the protocol's own names. */
import type { Clock } from "../../../src/core/clock.ts";
import { MillraceError } from "../../../src/core/errors.ts";
import { protocolErrors, protocolErrorsCodesById, TimeoutError } from "@platformatic/kafka";

/** A protocol error that this client found in an answer; the library makes its own of most. */
class KafkaFailure extends Error {
  /** As in https://kafka.apache.org/protocol#protocol_error_codes */
  readonly apiId: string;
  /** The topic, broker or group that it is about. */
  readonly about: string;

  constructor(apiId: string, about: string, cause?: unknown) {
    super(`${apiId}: ${about}`, cause === undefined ? {} : { cause });
    this.apiId = apiId;
    this.about = about;
  }
}

/** The numbered error in what the library made of it: a password that could not be had. */
export function numberedIn(error: unknown): MillraceError | undefined {
  return causesOf(error).find((one) => one instanceof MillraceError);
}

/** A broker answered with an error. */
export class RefusedRequest extends Error {
  /** As in https://kafka.apache.org/protocol#protocol_api_keys */
  readonly request: string;

  constructor(request: string, cause: unknown) {
    super(cause instanceof Error ? cause.message : request, { cause });
    this.request = request;
  }
}

/** The request that was refused; null: none was. */
export function requestOf(error: unknown): string | null {
  return causesOf(error).find((one) => one instanceof RefusedRequest)?.request ?? null;
}

export function failureOf(error: number | string, about: string): KafkaFailure {
  return new KafkaFailure(typeof error === "number" ? (protocolErrorsCodesById[error] ?? String(error)) : error, about);
}

/** Whether an answer, or a connection, did not come in time. The library gives it the code of any lost connection. */
export function isTimeout(error: unknown): boolean {
  return causesOf(error).some((one) => one instanceof TimeoutError);
}

/** All names of protocol errors in an error, outermost first. */
export function apiIdsOf(error: unknown): readonly string[] {
  return causesOf(error).flatMap((one) => ("apiId" in one && typeof one.apiId === "string" ? one.apiId : []));
}

/** The codes of the library (PLT_KFK_…) and of the operating system in an error. */
export function codesOf(error: unknown): readonly string[] {
  return causesOf(error).flatMap((one) => ("code" in one && typeof one.code === "string" ? one.code : []));
}

/** The topic, id or broker that an error says this of; null: it does not tell. */
export function aboutOf(error: unknown, apiId: string): string | null {
  for (const one of causesOf(error)) {
    if (one instanceof KafkaFailure && one.apiId === apiId) return one.about;
    const about = "response" in one ? namedIn(one.response, apiId, null, 0) : null;
    if (about !== null) return about;
  }
  return null;
}

/** The broker to which no connection could be made; null: the error is another. The library has it only in its sentence. */
export function brokerIn(error: unknown): string | null {
  for (const one of causesOf(error)) {
    if (!("message" in one) || typeof one.message !== "string") continue;
    const broker = /^Connection to (\S+:\d+) failed/.exec(one.message)?.[1];
    if (broker !== undefined) return broker;
  }
  return null;
}

/** The text in a field of an answer that was refused; null: there is none. */
export function fieldOf(error: unknown, field: string): string | null {
  for (const one of causesOf(error)) {
    if (!("response" in one)) continue;
    const value: unknown = Object.getOwnPropertyDescriptor(Object(one.response), field)?.value;
    if (typeof value === "string" && value !== "") return value;
  }
  return null;
}

/** The answer that the library took for a failure, since it says so of a part of it; null: there was none. */
export function answerIn(error: unknown): object | null {
  if (!(error instanceof RefusedRequest)) return null;
  const { cause } = error;
  const answer: unknown = typeof cause === "object" && cause !== null && "response" in cause ? cause.response : null;
  return typeof answer === "object" ? answer : null;
}

/** A failed call that is about `about`, where its answer does not say so. */
export async function about<T>(name: string, call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (error) {
    const [apiId] = apiIdsOf(error);
    throw apiId === undefined || aboutOf(error, apiId) !== null ? error : new KafkaFailure(apiId, name, error);
  }
}

/** They take two seconds. */
const TRIES_MAX = 65;
const PAUSE_MS_MAX = 50;

/** Tries again as long as brokers answer with one of these: they have to do with something else. */
export async function whileBusy<T>(
  clock: Clock,
  signal: AbortSignal,
  busy: ReadonlySet<string>,
  request: () => Promise<T>,
): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await request();
    } catch (error) {
      if (tries >= TRIES_MAX || !apiIdsOf(error).some((id) => busy.has(id))) throw error;
      await clock.sleep(Math.min(tries, PAUSE_MS_MAX), signal);
    }
  }
}

const NAMES = new Set(["name", "topicName", "resourceName", "key", "transactionalId"]);

/** An answer has the error's number in the part that it is about, or in one below that. */
function namedIn(part: unknown, apiId: string, outer: string | null, depth: number): string | null {
  if (typeof part !== "object" || part === null || depth > DEPTH_MAX) return null;
  const fields = Object.entries(part);
  const own = fields.find(([field, value]) => NAMES.has(field) && typeof value === "string" && value !== "");
  const name = own === undefined ? outer : String(own[1]);
  const hasError = fields.some(
    ([field, value]) => /errorCode$/i.test(field) && protocolErrorsCodesById[Number(value)] === apiId,
  );
  if (hasError) return name;
  for (const [, value] of fields) {
    const found = namedIn(value, apiId, name, depth + 1);
    if (found !== null) return found;
  }
  return null;
}

/** Whether the protocol says that a repeated request may succeed. */
export function mayPass(apiId: string): boolean {
  return protocolErrors[apiId]?.canRetry ?? false;
}

const DEPTH_MAX = 8;

/** An error and what it comes from: an error of the library has causes, and errors beside one another, as deep as its calls go. */
function causesOf(error: unknown, depth = 0): readonly object[] {
  if (typeof error !== "object" || error === null || depth > DEPTH_MAX) return [];
  const all: unknown[] = "cause" in error ? [error.cause] : [];
  if ("errors" in error && Array.isArray(error.errors)) all.push(...error.errors);
  return [error, ...all.flatMap((one) => causesOf(one, depth + 1))];
}
