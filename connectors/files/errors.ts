import {
  type ErrorCode,
  type ErrorKind,
  type ErrorPages,
  type ErrorReason,
  errorsOf,
  findMillraceError,
  isAborted,
  MillraceError,
} from "../../src/core/errors.ts";
import { roomFor } from "../../src/core/disk-room.ts";
import { lacksHandles, systemErrorCode } from "../../src/core/system-errors.ts";
import { fileFault } from "../kit/file-faults.ts";

/** What only files can meet. */
export const pages: ErrorPages = {
  MR4219: {
    title: "A request of an earlier process came late",
    remedy: "Nothing: the daemon opens the sink again.",
    cause:
      "A write to the log below `path` that this daemon had given up, or that a killed process of it had sent, was done only now. It is whole, and the sink goes on behind it.",
  },
};

/** Of files that were removed; also what `check` says. */
export const READ_AGAIN =
  "Nothing for readers that merge changes: the tables' rows are read again, into new files, and a sweep removes the others. If every single change matters, put the files back from a backup: the manifest's `lost` lists them.";

export const filesError = errorsOf(
  { side: "sink", kind: "files" },
  {
    MR2001: "Nothing: the sink tries again. Check the network and `s3.endpoint` if it goes on.",
    MR2002:
      "Check `s3.accessKeyId` and `s3.secretAccessKey`, or AWS' variables, profile or role where these are not set. A policy of the bucket may also refuse the login.",
    MR2003:
      "Name the PEM file of the authority that signed the server's certificate in `s3.ca`; renew a certificate that has expired; use http:// only where the network is trusted. The sink tries again at growing intervals.",
    MR2005: "Use a server with conditional writes: AWS S3, MinIO since 2024-09, Cloudflare R2, Ceph since Tentacle.",
    MR2008:
      "Give the login s3:ListBucket and s3:ListBucketMultipartUploads on the bucket, and s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload on all that is below `path`; see that no policy denies a part of it.",
    MR2027: "Look the code up in the documentation of the server. The sink tries again at growing intervals.",
    MR2035: "Set the machine's clock, and choose an empty `path`: Millrace reads all rows again into it.",
    MR3109: "Run one daemon with this configuration; the newer one goes on by itself.",
    MR3110:
      "Nothing: Millrace reads all rows again. With `onLost: fail` the sink stops; run `millrace offsets reset --sink NAME --to snapshot`.",
    MR3111: "`millrace dlq list --sink NAME` names the rows. Correct the texts at the source.",
    MR3121:
      "Give this sink a `path` of its own. If the other one is gone for good, remove `_millrace/log` below the path: all rows are then read into new files.",
    MR3202:
      "Restore `_millrace/log` below the path, use the newer version that wrote it, or choose an empty `path`: then Millrace reads all rows again.",
    MR3235:
      "The sink tries again at growing intervals. If it goes on, choose an empty `path` and `format: ndjson`, or leave the table out of the sink's `tables` there: Millrace reads all rows again into it. Report it, with the table's definition.",
  },
);

/** Of the S3 in which the files are. */
export function bucketError(
  code: ErrorCode,
  kind: ErrorKind,
  message: string,
  cause?: unknown,
  reason?: ErrorReason,
): MillraceError {
  return filesError(code, kind, message, { cause, reason, part: "bucket" });
}

const OF_A_PLACE = new Set(["MR2008", "MR2027", "MR3203"]);

/** The error, if it may be of the place alone where something was done: other folders may take what this one refuses. */
export function refusalThere(error: unknown): MillraceError | null {
  const known = findMillraceError(error);
  if (known === undefined || !OF_A_PLACE.has(known.code) || lacksHandles(systemErrorCode(known.cause) ?? ""))
    return null;
  return known.with({ kind: "blocked" });
}

const DENIALS = new Set(["MR2008", "MR3203"]);

/** The same where nothing is tried again: what may pass, as a bucket that is full, is none. */
export function denialThere(error: unknown): MillraceError | null {
  const known = findMillraceError(error);
  return known?.kind === "blocked" && DENIALS.has(known.code) ? known : null;
}

/** Every failure of the file system ends up here. */
export function classifyFile(error: unknown, path: string, root: string): unknown {
  if (error instanceof MillraceError || isAborted(error)) return error;
  const fault = fileFault(error);
  if (fault === null) return error;
  const { code, kind, isFull, fix } = fault;
  const details = { cause: error, hint: fix };
  if (isFull) return filesError("MR3213", kind, `the disk is full: ${roomFor(root)}`, details);
  return filesError("MR3203", kind, `${path} can't be used: ${code}`, details);
}
