import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  AbortMultipartUploadCommand,
  type AbortMultipartUploadCommandInput,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  type ListMultipartUploadsCommandInput,
  ListObjectsV2Command,
  PutObjectCommand,
  type S3Client,
  UploadPartCommand,
} from "@aws-sdk/client-s3";
import { serverAt, systemErrorCode } from "../../../src/core/system-errors.ts";
import { addressOf, codeOf, tlsFailure } from "../../../src/tls/failure.ts";
import { filesError, bucketError } from "../errors.ts";
import type { Finding } from "../../../src/core/contracts/connector.ts";
import type { BucketSettings } from "../../kit/bucket.ts";
import { bucketRules } from "../../kit/bucket-rules.ts";
import { bucketClient, ForeignAnswer } from "../../kit/bucket-client.ts";
import { MANIFESTS, manifestOf, numberOf } from "../names.ts";
import type { Store, ListFilter } from "./store.ts";
import type { ConnectionOptions } from "node:tls";
import { isAborted, MillraceError } from "../../../src/core/errors.ts";
import { NO_TLS_KEYS, tlsOptions, UnusableTls } from "../../../src/tls/options.ts";

/** S3 takes up to 10,000 parts of 5 MB or more. */
const PART_BYTES = 16 * 1024 * 1024;
const PROBE = "_millrace/probe";
/** Of no manifest; `settle` knows it. A policy may deny files of one format. */
const PROBE_FILE = `date=1970-01-01/${"0".repeat(19)}-${"0".repeat(19)}-0-0`;

/** Objects below a prefix of a bucket. An upload in parts becomes visible with its last request. */
export class S3Store implements Store {
  readonly location: string;
  readonly paths: readonly string[];
  readonly #client: S3Client;
  readonly #bucket: string;
  readonly #prefix: string;
  /** Host and port; undefined: AWS' own. */
  readonly #server: string | undefined;
  #scratch: string | null = null;

  constructor(settings: BucketSettings) {
    const { bucket, prefix, endpoint, ca } = settings;
    this.location = `s3://${bucket}/${prefix}`;
    this.paths = [tmpdir()];
    this.#bucket = bucket;
    if (endpoint !== undefined) {
      const { host, port } = addressOf(new URL(endpoint));
      this.#server = serverAt(host, port);
    }
    this.#prefix = prefix;
    const isEncrypted = endpoint === undefined || new URL(endpoint).protocol === "https:";
    this.#client = bucketClient(settings, ca === undefined ? undefined : trusted(ca, isEncrypted, this.location));
  }

  async list(under: string, signal: AbortSignal, after?: string): Promise<readonly string[]> {
    const keys: string[] = [];
    for await (const page of this.#pages(under, signal, after)) keys.push(...page);
    return keys.toSorted();
  }

  async find(under: string, { is, countMax }: ListFilter, signal: AbortSignal): Promise<readonly string[]> {
    const found: string[] = [];
    for await (const page of this.#pages(under, signal)) {
      found.push(...page.filter(is));
      if (found.length >= countMax) break;
    }
    return found.slice(0, countMax);
  }

  /** In the order of their keys, as S3 lists them. */
  async *#pages(under: string, signal: AbortSignal, after?: string): AsyncGenerator<readonly string[]> {
    let next: string | undefined;
    do {
      const StartAfter = after === undefined ? undefined : `${this.#prefix}${after}`;
      const page = { ...this.#in, Prefix: `${this.#prefix}${under}`, StartAfter, ContinuationToken: next };
      const { Contents = [], continues } = await this.#doing(signal, under, async () => {
        const listed = await this.#client.send(new ListObjectsV2Command(page), { abortSignal: signal });
        own(listed.Name);
        const { IsTruncated, NextContinuationToken } = listed;
        return { ...listed, continues: IsTruncated === true ? own(NextContinuationToken) : undefined };
      });
      yield Contents.flatMap(({ Key }) => (Key === undefined ? [] : [Key.slice(this.#prefix.length)]));
      next = continues;
    } while (next !== undefined);
  }

  async read(key: string, signal: AbortSignal): Promise<Buffer | null> {
    return await this.#doing(signal, key, async () => {
      try {
        const request = new GetObjectCommand(this.#at(key));
        const { Body, ETag } = await this.#client.send(request, { abortSignal: signal });
        const bytes = await Body?.transformToByteArray();
        own(ETag);
        return bytes === undefined ? null : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      } catch (error) {
        if (answerOf(error)?.name === "NoSuchKey") return null;
        throw error;
      }
    });
  }

  async has(key: string, signal: AbortSignal): Promise<boolean> {
    return await this.#doing(signal, key, async () => {
      try {
        const { ETag } = await this.#client.send(new HeadObjectCommand(this.#at(key)), { abortSignal: signal });
        own(ETag);
        return true;
      } catch (error) {
        const status = answerOf(error)?.status;
        if (status !== 404 && status !== 403) throw error;
        // An answer to HEAD has no body, which would say why: the bucket may be missing, or a proxy have answered.
        return await this.#hasFirstByte(key, signal);
      }
    });
  }

  async #hasFirstByte(key: string, signal: AbortSignal): Promise<boolean> {
    try {
      const first = new GetObjectCommand({ ...this.#at(key), Range: "bytes=0-0" });
      const { Body, ETag } = await this.#client.send(first, { abortSignal: signal });
      await Body?.transformToByteArray();
      own(ETag);
      return true;
    } catch (error) {
      if (answerOf(error)?.name === "NoSuchKey") return false;
      throw error;
    }
  }

  async create(key: string, pieces: readonly Buffer[], signal: AbortSignal): Promise<boolean> {
    return await this.#doing(signal, key, async () => {
      const request = new PutObjectCommand({ ...this.#at(key), Body: Buffer.concat(pieces), IfNoneMatch: "*" });
      try {
        own((await this.#client.send(request, { abortSignal: signal })).ETag);
        return true;
      } catch (error) {
        if (answerOf(error)?.status === 412) return false;
        throw error;
      }
    });
  }

  async put(key: string, path: string, signal: AbortSignal): Promise<void> {
    await this.#doing(signal, key, async () => {
      await using file = await open(path, "r");
      const { size } = await file.stat();
      if (size <= PART_BYTES) {
        const whole = new PutObjectCommand({ ...this.#at(key), Body: await file.readFile() });
        own((await this.#client.send(whole, { abortSignal: signal })).ETag);
      } else {
        await this.#putInParts(
          key,
          async function* parts() {
            for (let at = 0; at < size; at += PART_BYTES) {
              const part = Buffer.alloc(Math.min(PART_BYTES, size - at));
              await file.read(part, 0, part.length, at);
              yield part;
            }
          },
          signal,
        );
      }
    });
    await rm(path);
  }

  async remove(key: string, signal: AbortSignal): Promise<void> {
    await this.#doing(signal, key, () =>
      this.#client.send(new DeleteObjectCommand(this.#at(key)), { abortSignal: signal }),
    );
  }

  /** By an upload in parts that is never completed: it needs the right to put objects, and nobody sees it. */
  async probe(folder: string, extension: string, signal: AbortSignal): Promise<void> {
    await this.#doing(signal, folder, async () => {
      const at = this.#at(`${folder}/${PROBE_FILE}.${extension}`);
      await this.#aborted({ ...at, UploadId: await this.#begun(at, signal) }, signal);
    });
  }

  async scratch(): Promise<string> {
    return (this.#scratch ??= await mkdtemp(join(tmpdir(), "millrace-files-")));
  }

  async settle(signal: AbortSignal): Promise<void> {
    await this.#doing(signal, "", async () => {
      for await (const upload of this.#uploads(signal)) await this.#aborted({ ...this.#in, ...upload }, signal);
    });
    await this.create(PROBE, [Buffer.from("first")], signal);
    if (await this.create(PROBE, [Buffer.from("second")], signal)) {
      throw filesError(
        "MR2005",
        "fatal",
        `${this.location}: the server has overwritten an object that it should have kept`,
      );
    }
  }

  async rules(signal: AbortSignal): Promise<readonly Finding[]> {
    const lost =
      "readers lose files, and the sink its log with the checkpoint (MR3110); `keep` removes old files in order";
    const at = { id: "files.bucket", bucket: this.#bucket, prefix: this.#prefix, lost };
    return await bucketRules(this.#client, at, signal);
  }

  /** Those of files with names of ours: other programs may write below the prefix too. */
  async *#uploads(signal: AbortSignal): AsyncGenerator<{ readonly Key: string; readonly UploadId: string }> {
    let after: Pick<ListMultipartUploadsCommandInput, "KeyMarker" | "UploadIdMarker"> = {};
    for (let isWhole = false; !isWhole;) {
      const page = { ...this.#in, Prefix: this.#prefix, ...after };
      const {
        Uploads = [],
        Bucket,
        ...next
      } = await this.#client.send(new ListMultipartUploadsCommand(page), {
        abortSignal: signal,
      });
      own(Bucket);
      for (const { Key, UploadId } of Uploads) {
        if (Key === undefined || UploadId === undefined) continue;
        const name = Key.slice(this.#prefix.length);
        if (manifestOf(name) !== null || numberOf(name, MANIFESTS) !== null) yield { Key, UploadId };
      }
      isWhole = next.IsTruncated !== true;
      if (!isWhole) own(next.NextKeyMarker);
      after = { KeyMarker: next.NextKeyMarker, UploadIdMarker: next.NextUploadIdMarker };
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client.destroy();
    if (this.#scratch !== null) await rm(this.#scratch, { recursive: true, force: true });
    this.#scratch = null;
  }

  async #putInParts(key: string, parts: () => AsyncIterable<Buffer>, signal: AbortSignal): Promise<void> {
    const at = this.#at(key);
    const UploadId = await this.#begun(at, signal);
    try {
      const done: { readonly PartNumber: number; readonly ETag: string }[] = [];
      for await (const Body of parts()) {
        const PartNumber = done.length + 1;
        const part = new UploadPartCommand({ ...at, UploadId, PartNumber, Body });
        const { ETag } = await this.#client.send(part, { abortSignal: signal });
        done.push({ PartNumber, ETag: own(ETag) });
      }
      const whole = new CompleteMultipartUploadCommand({ ...at, UploadId, MultipartUpload: { Parts: done } });
      own((await this.#client.send(whole, { abortSignal: signal })).ETag);
    } catch (error) {
      // What stays is aborted by the next `settle`.
      await this.#client.send(new AbortMultipartUploadCommand({ ...at, UploadId })).catch(() => undefined);
      throw error;
    }
  }

  async #begun(at: ObjectPlace, signal: AbortSignal): Promise<string> {
    return own((await this.#client.send(new CreateMultipartUploadCommand(at), { abortSignal: signal })).UploadId);
  }

  /** What one folder refuses stays, and costs room: it keeps no other table's files. Another process may have ended it. */
  async #aborted(upload: AbortMultipartUploadCommandInput, signal: AbortSignal): Promise<void> {
    try {
      await this.#client.send(new AbortMultipartUploadCommand(upload), { abortSignal: signal });
    } catch (error) {
      if (!UNENDED.has(answerOf(error)?.name ?? "")) throw error;
    }
  }

  get #in(): { readonly Bucket: string } {
    return { Bucket: this.#bucket };
  }

  #at(key: string): ObjectPlace {
    return { Bucket: this.#bucket, Key: `${this.#prefix}${key}` };
  }

  /** `key`: of what is done, or of what it is below. */
  async #doing<T>(signal: AbortSignal, key: string, work: () => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    try {
      return await work();
    } catch (error) {
      throw classifyS3(error, { bucket: this.location, key, server: this.#server }, signal);
    }
  }
}

/** What S3 tells in each answer of the kind. */
function own(told: string | undefined): string {
  if (told === undefined) throw new ForeignAnswer();
  return told;
}

/** A policy may forbid a part of what is below the prefix. */
const DENIED = "AccessDenied";
const UNENDED = new Set([DENIED, "NoSuchUpload"]);
const LOGIN = new Set([
  // Versity's gateway, of an access key that it does not know.
  "XAdminUserNotFound",
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
const OK_STATUS_MAX = 299;
const FIRST_SERVER_STATUS = 500;
const TOO_MANY = 429;

/** Names of the client's own errors. */
const NO_ANSWER = new Set(["TimeoutError", "CredentialsProviderError", "NetworkingError"]);

/** Of a request. */
interface Place {
  /** With the prefix. */
  readonly bucket: string;
  readonly key: string;
  readonly server: string | undefined;
}

interface ObjectPlace {
  readonly Bucket: string;
  readonly Key: string;
}

interface Answer {
  /** Of the error, as S3 names it. */
  readonly name: string;
  /** Null: there was no answer. */
  readonly status: number | null;
}

/** Null: it is no error of the client. */
function answerOf(error: unknown): Answer | null {
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
function trusted(ca: string, isEncrypted: boolean, location: string): ConnectionOptions {
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
function classifyS3(error: unknown, { bucket, key, server }: Place, signal: AbortSignal): unknown {
  const location = server === undefined ? bucket : `${bucket} at ${server}`;
  if (error instanceof MillraceError || isAborted(error) || signal.aborted) return error;
  if (error instanceof Error && error.message === NO_REGION)
    return bucketError("MR3229", "blocked", `${bucket}: no region is known: set \`s3.region\`, or AWS_REGION`, error);
  const tls = tlsFailure(codeOf(error));
  if (tls !== undefined) return bucketError("MR2003", "blocked", `${location}: TLS to S3 failed: ${tls.what}`);
  const answer = answerOf(error);
  // The client can't read it.
  if (error instanceof ForeignAnswer || (answer?.status ?? Infinity) <= OK_STATUS_MAX) {
    const cause = new ForeignAnswer();
    const hint = "A proxy or load balancer before S3 may answer in its place: look at its log. The sink tries again.";
    return filesError("MR2001", "retryable", `${location}: what answers is not S3`, { hint, cause, part: "bucket" });
  }
  return answer === null ? error : faultOf(answer, location, key, error);
}

function faultOf({ name, status }: Answer, location: string, key: string, cause: unknown): MillraceError {
  const told = status === null ? name : `${name}, status ${status}`;
  if (SKEW.has(name))
    return bucketError("MR3230", "blocked", `${location}: the machine's clock is wrong (${told})`, cause);
  if (name === DENIED)
    return bucketError(
      "MR2008",
      "blocked",
      `${location}: S3 lacks a right on ${key === "" ? "the bucket" : key} (${told})`,
      cause,
      "privilege",
    );
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
