import { Readable } from "node:stream";
import type { ConnectionOptions } from "node:tls";
import { S3Client } from "@aws-sdk/client-s3";
import type { BucketSettings } from "./bucket.ts";
import { lookForLogin } from "./bucket-login.ts";

const ATTEMPTS_MAX = 4;
const CONNECT_MS_MAX = 10_000;
const REQUEST_MS_MAX = 60_000;
const OK_STATUS_MAX = 299;
/** Such an answer has no body, and no length: its type says nothing. */
const NO_CONTENT = 204;

/** Something answered, but not as S3 does: a proxy, or another service. */
export class ForeignAnswer extends Error {
  override readonly name = "ForeignAnswer";
}

/** `tls`: undefined where no authority is named. */
export function bucketClient(settings: BucketSettings, tls: ConnectionOptions | undefined): S3Client {
  const { region, endpoint, accessKeyId, secretAccessKey, pathStyle } = settings;
  const isKeyGiven = accessKeyId !== undefined && secretAccessKey !== undefined;
  const client = new S3Client({
    ...(region === undefined ? {} : { region }),
    ...(endpoint === undefined ? {} : { endpoint }),
    credentials: isKeyGiven ? { accessKeyId, secretAccessKey } : lookForLogin,
    forcePathStyle: pathStyle,
    maxAttempts: ATTEMPTS_MAX,
    // Servers other than AWS' may not know the newer checksums.
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    requestHandler: {
      ...(tls === undefined ? {} : { httpsAgent: { ...tls, keepAlive: true } }),
      connectionTimeout: CONNECT_MS_MAX,
      requestTimeout: REQUEST_MS_MAX,
      throwOnRequestTimeout: true,
    },
  });
  // Next to the answer itself, before anything is read out of it.
  const place = { step: "deserialize", priority: "low" } as const;
  client.middlewareStack.add(
    (next) => async (asked) => {
      const answered = await next(asked);
      if (isPage(answered.response)) throw new ForeignAnswer();
      return answered;
    },
    place,
  );
  return client;
}

/** Objects of ours have no such type, and S3 tells everything else in XML or headers. */
function isPage(response: unknown): boolean {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the client's own, of which it exports no type
  const { statusCode, headers, body } = response as Response;
  if (statusCode > OK_STATUS_MAX || statusCode === NO_CONTENT || headers["content-length"] === "0") return false;
  if (headers["content-type"]?.startsWith("text/html") !== true) return false;
  if (body instanceof Readable) body.destroy();
  return true;
}

interface Response {
  readonly statusCode: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: unknown;
}
