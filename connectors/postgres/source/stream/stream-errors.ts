/** Errors at which the decoder stops for good. */
import { sourceError } from "../errors.ts";
import { formatLsn } from "../log/lsn.ts";

/** Rows with a version that is cut off would look older than they are. */
export function tooMany(): Error {
  return sourceError(
    "MR2035",
    "fatal",
    "a transaction has more than 4,294,967,296 changes",
    "`millrace recover` goes on behind it, compares the sinks with the source and reads only the rows that differ.",
  );
}

export function tooFar(commit: bigint): Error {
  return sourceError(
    "MR2035",
    "fatal",
    `the log has come to ${formatLsn(commit)}, beyond the last position that a row's version has room for`,
    "Restore the database into a new cluster (pg_dump), whose log begins at zero, and fill the sinks from there.",
  );
}

export function unreadable(what: string): Error {
  return sourceError("MR2023", "fatal", `the replication stream holds ${what}`, "Report it with the server's version.");
}
