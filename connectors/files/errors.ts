import {
  type ErrorArea,
  type ErrorCode,
  type ErrorKind,
  type ErrorPages,
  type ErrorReason,
  isAborted,
  MillraceError,
} from "../../src/core/errors.ts";
import { roomFor } from "../../src/core/disk-room.ts";
import { fileFault } from "../kit/file-faults.ts";

export const area: ErrorArea = { from: 4200, title: "Files" };

export const pages = {
  MR4201: {
    title: "The folder can't be used",
    cause:
      "The operating system refused to read or write below the sink's `path`: a missing permission, a full disk, a file " +
      "system that is read-only or not mounted. The message has the system's code. Nothing is lost: the sink goes on by itself.",
    remedy: "Check the path, its permissions and the space on the disk.",
  },
  MR4202: {
    title: "Another process writes to the sink's path",
    cause:
      "The log below `path` was continued by another process, or holds a higher lease than ours. This process stops writing, " +
      "so that each change is in the files once.",
    remedy: "Run one daemon with this `path`, and give each sink a path of its own.",
  },
  MR4203: {
    title: "What the sink wrote is gone",
    cause:
      "The newest entry of the log below `path` is missing: the folder or the objects under the prefix were removed, or others were put in " +
      "their place.",
    remedy:
      "Nothing: Millrace reads all rows again. With `onLost: fail` the sink stops; run `millrace offsets reset --sink NAME --to snapshot`.",
  },
  MR4204: {
    title: "The log below the sink's path can't be read",
    cause:
      "An object of the log is not what Millrace wrote there: it is damaged, or a newer version of Millrace wrote it.",
    remedy:
      "Restore `_millrace/log` below the path, use the newer version, or choose an empty `path`: then Millrace reads all rows again.",
  },
  MR4205: {
    title: "A Parquet file can't be made",
    cause:
      "DuckDB, which makes the sink's Parquet files, has failed. The changes stay in the log, and the sink tries again.",
    remedy:
      "Read the cause in the daemon's log. If DuckDB needs more memory, raise `memoryLimit` or lower `roll.bytes`.",
  },
  MR4206: {
    title: "The sink is not open",
    cause: "The sink was closed, or failed and was not opened again yet.",
    remedy: "Nothing: the daemon opens it again.",
  },
  MR4219: {
    title: "A request of an earlier process came late",
    cause:
      "A write to the log below `path` that this daemon had given up, or that a killed process of it had sent, was done only now. It is whole, " +
      "and the sink goes on behind it.",
    remedy: "Nothing: the daemon opens the sink again.",
  },
  MR4220: {
    title: "The numbers of the sink's path are used up",
    cause:
      "The next number of an entry, a manifest or a change would be too large. The machine's clock, from which they come, has been wrong by " +
      "thousands of years. Nothing is lost.",
    remedy: "Set the clock, and choose an empty `path`: Millrace reads all rows again into it.",
  },
  MR4218: {
    title: "Files that the sink made are gone",
    cause:
      "Somebody removed a file of changes or a manifest, so readers that have not read it miss changes. The message says which. Files that were " +
      "moved away by their date, the oldest first, are no such thing.",
    remedy:
      "Nothing for readers that merge changes: the tables' rows are read again, into new files, and a sweep removes the others. " +
      "If every single change matters, put the files back from a backup: the manifest's `lost` lists them.",
  },
  MR4211: {
    title: "S3 refuses the credentials",
    cause:
      "The access key is unknown, its secret is wrong or has expired, or it lacks a permission. The message has S3's code. Nothing " +
      "is lost: the sink goes on when the credentials work.",
    remedy:
      "Check `s3.accessKeyId` and `s3.secretAccessKey`, or AWS' variables, profile or role where these are not set. The sink needs " +
      "s3:ListBucket and s3:ListBucketMultipartUploads on the bucket, and s3:GetObject, s3:PutObject, s3:DeleteObject and " +
      "s3:AbortMultipartUpload on the prefix.",
  },
  MR4212: {
    title: "The bucket can't be used",
    cause: "There is no bucket of that name, or it lies in another region or behind another endpoint.",
    remedy: "Make the bucket, or check `path`, `s3.region` and `s3.endpoint`. The sink goes on by itself.",
  },
  MR4213: {
    title: "The machine's clock differs from S3's",
    cause: "S3 refuses requests whose time differs from its own by more than 15 minutes.",
    remedy: "Set the machine's clock, for instance by NTP. The sink goes on by itself.",
  },
  MR4214: {
    title: "S3 can't be reached",
    cause: "The connection failed or took too long, or S3 answered that it is busy (503, SlowDown). Nothing is lost.",
    remedy: "Nothing: the sink tries again. Check the network and `s3.endpoint` if it goes on.",
  },
  MR4215: {
    title: "S3 refuses a request",
    cause: "The server answered with an error that no other number is for. The message has its code.",
    remedy: "Look the code up in the documentation of the server. The sink tries again at growing intervals.",
  },
  MR4217: {
    title: "TLS to S3 failed",
    cause:
      "The certificate of `s3.endpoint` could not be verified (authority, name or dates), or the server does not speak TLS there; or the file of " +
      "`s3.ca` can't be read, or is given for an http:// endpoint. The message says which. Nothing is lost.",
    remedy:
      "Name the PEM file of the authority that signed the server's certificate in `s3.ca`; renew a certificate that has expired; use http:// " +
      "only where the network is trusted. The sink tries again at growing intervals.",
  },
  MR4216: {
    title: "The server has no conditional writes",
    cause:
      "The sink creates an object only if its key is free (`If-None-Match: *`), so that two processes never write at once. The server " +
      "overwrote an object in spite of that.",
    remedy: "Use a server with conditional writes: AWS S3, MinIO since 2024-09, Cloudflare R2, Ceph since Tentacle.",
  },
} satisfies ErrorPages;

type Code = keyof typeof pages & ErrorCode;

export function filesError(
  code: Code,
  kind: ErrorKind,
  message: string,
  cause?: unknown,
  lostTables: readonly string[] = [],
  reason?: ErrorReason,
): MillraceError {
  return new MillraceError({ code, kind, message, hint: pages[code].remedy, cause, lostTables, reason });
}

/** Every failure of the file system ends up here. */
export function classifyFile(error: unknown, path: string): unknown {
  if (error instanceof MillraceError || isAborted(error)) return error;
  const fault = fileFault(error);
  if (fault === null) return error;
  const { code, kind, isFull, fix: hint } = fault;
  const message = isFull ? `the disk is full: ${roomFor(path)}` : `${path} can't be used: ${code}`;
  return new MillraceError({ code: "MR4201", kind, message, hint, cause: error });
}
