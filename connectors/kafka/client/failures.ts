/** What went wrong between this client and the brokers, by the protocol's own names. */
import { MillraceError } from "../../../src/core/errors.ts";
import { protocolErrors, protocolErrorsCodesById } from "@platformatic/kafka";

/** A protocol error that this client found in an answer; the library makes its own of most. */
export class KafkaFailure extends Error {
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
  let found: MillraceError | undefined;
  walk(error, 0, (one) => {
    if (one instanceof MillraceError) found ??= one;
  });
  return found;
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
  let request: string | null = null;
  walk(error, 0, (one) => {
    if (one instanceof RefusedRequest) request ??= one.request;
  });
  return request;
}

export function failureOf(error: number | string, about: string): KafkaFailure {
  return new KafkaFailure(typeof error === "number" ? (protocolErrorsCodesById[error] ?? String(error)) : error, about);
}

/** All names of protocol errors in an error, outermost first. */
export function apiIdsOf(error: unknown): readonly string[] {
  const found: string[] = [];
  walk(error, 0, (one) => {
    if ("apiId" in one && typeof one.apiId === "string") found.push(one.apiId);
  });
  return found;
}

/** The topic, id or broker that an error says this of; null: it does not tell. */
export function aboutOf(error: unknown, apiId: string): string | null {
  let about: string | null = null;
  walk(error, 0, (one) => {
    if (about !== null) return;
    if (one instanceof KafkaFailure && one.apiId === apiId) about = one.about;
    else if ("response" in one) about = namedIn(one.response, apiId, null, 0);
  });
  return about;
}

/** The broker to which no connection could be made; null: the error is another. */
export function brokerIn(error: unknown): string | null {
  let broker: string | null = null;
  walk(error, 0, (one) => {
    // The library has it only in its sentence.
    if ("message" in one && typeof one.message === "string")
      broker ??= /^Connection to (\S+:\d+) failed/.exec(one.message)?.[1] ?? null;
  });
  return broker;
}

/** The text in a field of an answer that was refused; null: there is none. */
export function fieldOf(error: unknown, field: string): string | null {
  let found: string | null = null;
  walk(error, 0, (one) => {
    if (found !== null || !("response" in one)) return;
    const value: unknown = Object.getOwnPropertyDescriptor(Object(one.response), field)?.value;
    if (typeof value === "string" && value !== "") found = value;
  });
  return found;
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

/** The codes of the library (PLT_KFK_…) and of the operating system in an error. */
export function codesOf(error: unknown): readonly string[] {
  const found: string[] = [];
  walk(error, 0, (one) => {
    if ("code" in one && typeof one.code === "string") found.push(one.code);
  });
  return found;
}

const DEPTH_MAX = 8;

/** An error of the library has causes, and errors beside one another, as deep as its calls go. */
function walk(error: unknown, depth: number, visit: (one: object) => void): void {
  if (typeof error !== "object" || error === null || depth > DEPTH_MAX) return;
  visit(error);
  if ("cause" in error) walk(error.cause, depth + 1, visit);
  if ("errors" in error && Array.isArray(error.errors)) for (const one of error.errors) walk(one, depth + 1, visit);
}
