import type { ConnectionOptions } from "node:tls";
import { isAborted, type MillraceError } from "../../../src/core/errors.ts";
import { systemErrorCode } from "../../../src/core/system-errors.ts";
import { codeOf, tlsFailure } from "../../../src/tls/failure.ts";
import { NO_TLS_KEYS, tlsOptions, UnusableTls } from "../../../src/tls/options.ts";
import { bucketError } from "../errors.ts";

const LOGIN = new Set([
  // Versity's gateway, of an access key that it does not know.
  "XAdminUserNotFound",
  "AccessDenied",
  "CredentialsProviderError",
  "ExpiredToken",
  "ExpiredTokenException",
  "InvalidAccessKeyId",
  "InvalidToken",
  "SignatureDoesNotMatch",
  "TokenRefreshRequired",
]);
const BUCKET = new Set([
  "NoSuchBucket",
  "PermanentRedirect",
  "AuthorizationHeaderMalformed",
  "IllegalLocationConstraintException",
]);
const SKEW = new Set(["RequestTimeTooSkewed", "RequestExpired"]);
const FIRST_SERVER_STATUS = 500;
const TOO_MANY = 429;

/** Names of the client's own errors. */
const NO_ANSWER = new Set(["TimeoutError", "CredentialsProviderError", "NetworkingError"]);

interface Answer {
  /** Of the error, as S3 names it. */
  readonly name: string;
  /** Null: there was no answer. */
  readonly status: number | null;
}

/** Null: it is no error of the client. */
export function answerOf(error: unknown): Answer | null {
  if (!(error instanceof Error)) return null;
  const metadata: unknown = "$metadata" in error ? error.$metadata : null;
  const isRecord = typeof metadata === "object" && metadata !== null;
  const status = isRecord && "httpStatusCode" in metadata ? metadata.httpStatusCode : null;
  if (typeof status === "number") return { name: error.name, status };
  const code = systemErrorCode(error);
  if (code !== undefined) return { name: code, status: null };
  return isRecord || NO_ANSWER.has(error.name) ? { name: error.name, status: null } : null;
}

/** The authorities of `s3.ca`. */
export function trusted(ca: string, isEncrypted: boolean, location: string): ConnectionOptions {
  try {
    return tlsOptions({ ...NO_TLS_KEYS, ca }, isEncrypted);
  } catch (error) {
    if (!(error instanceof UnusableTls)) throw error;
    throw bucketError("MR2003", "blocked", `${location}: ${error.what}`, error.cause);
  }
}

/** The client's own error, before it sends anything, has neither a name nor a code. */
const NO_REGION = "Region is missing";

/** By the code of the answer, never by its text. */
export function classifyS3(error: unknown, bucket: string, signal: AbortSignal, server?: string): unknown {
  const location = server === undefined ? bucket : `${bucket} at ${server}`;
  if (isAborted(error) || signal.aborted) return error;
  if (error instanceof Error && error.message === NO_REGION)
    return bucketError("MR3229", "blocked", `${bucket}: no region is known: set \`s3.region\`, or AWS_REGION`, error);
  const tls = tlsFailure(codeOf(error));
  if (tls !== undefined) return bucketError("MR2003", "blocked", `${location}: TLS to S3 failed: ${tls.what}`);
  const answer = answerOf(error);
  return answer === null ? error : faultOf(answer, location, error);
}

function faultOf({ name, status }: Answer, location: string, cause: unknown): MillraceError {
  const told = status === null ? name : `${name}, status ${status}`;
  if (SKEW.has(name))
    return bucketError("MR3230", "blocked", `${location}: the machine's clock is wrong (${told})`, cause);
  if (LOGIN.has(name) || status === 401 || status === 403)
    return bucketError("MR2002", "blocked", `${location}: S3 refuses the credentials (${told})`, cause, "login");
  if (BUCKET.has(name) || status === 301)
    return bucketError("MR3229", "blocked", `${location}: the bucket can't be used (${told})`, cause);
  if (
    status === null ||
    status >= FIRST_SERVER_STATUS ||
    status === TOO_MANY ||
    name === "RequestTimeout" ||
    status === 409
  )
    return bucketError("MR2001", "retryable", `${location}: S3 can't be reached, or is busy (${told})`, cause);
  return bucketError("MR2027", "blocked", `${location}: S3 refuses a request (${told})`, cause);
}
