import { S3Client } from "@aws-sdk/client-s3";
import type { ConnectionOptions } from "node:tls";
import type { BucketSettings } from "./bucket.ts";
import { lookForLogin } from "./bucket-login.ts";

const ATTEMPTS_MAX = 4;
const CONNECT_MS_MAX = 10_000;
const REQUEST_MS_MAX = 60_000;

/** `tls`: undefined where no authority is named. */
export function bucketClient(settings: BucketSettings, tls: ConnectionOptions | undefined): S3Client {
  const { region, endpoint, accessKeyId, secretAccessKey, pathStyle } = settings;
  const isKeyGiven = accessKeyId !== undefined && secretAccessKey !== undefined;
  return new S3Client({
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
}
