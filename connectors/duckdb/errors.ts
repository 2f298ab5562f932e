import { roomFor } from "../../src/core/disk-room.ts";
import {
  atServer,
  type ErrorCode,
  type ErrorPages,
  errorsOf,
  findMillraceError,
  type MillraceError,
} from "../../src/core/errors.ts";
import { shellWord } from "../../src/core/shell-word.ts";
import { lacksHandles, moreHandles } from "../../src/core/system-errors.ts";
import { pages as enginePages } from "../kit/duckdb-engine/errors.ts";
import { fileFault, FIXES_BY_TEXT } from "../kit/file-faults.ts";
import { TABLE_FAILURES } from "../warehouse/table-change.ts";
import { LAKE_RULES } from "./lake/rules.ts";
import type { Rule } from "./rule.ts";

/** What only DuckDB, as a file or a lake, can meet. */
export const pages = {
  MR3201: {
    title: "The DuckDB file is open in another process",
    remedy:
      "Close it in the process that the message names. While Millrace runs, no other program can open it: `millrace query` reads it, or stop Millrace.",
    cause: "DuckDB lets only one process open a file. A shell, a notebook or another Millrace has it open.",
  },
  MR3220: {
    title: "Another transaction wrote the same rows",
    remedy: "Nothing.",
    cause:
      "Two transactions met in the file or the lake. The batch is tried again; if that fails in the same way each time, MR3234 follows.",
  },
  MR3224: {
    title: "An extension of DuckDB is missing",
    remedy:
      "Let DuckDB fetch it once with the network, or put the file `NAME.duckdb_extension` for its version and this platform into a folder, and name that in `extensions`.",
    cause:
      "A lake needs the extension `ducklake`, and others for its catalogue and its storage. DuckDB could not fetch one, or the folder `extensions` lacks it.",
  },
  MR3226: {
    title: "A data file of a lake is missing or can't be read",
    remedy:
      "Nothing for a mirror's table. Otherwise put the files back: Millrace goes on by itself. If they are lost, drop the table in the lake: Millrace creates and fills it again. If all are lost, remove the catalogue and the folder, and run `millrace snapshot start --sink NAME`.",
    cause:
      "Somebody removed files from the folder `data`, or spoiled them, or its disk is not mounted. A mirror's table is filled again; with `deletes: soft` it is suspended. A history waits, and so does the sink if no file is there at all.",
  },
  MR3234: {
    title: "A batch fails in DuckDB in the same way each time",
    remedy:
      "If the table was changed by hand (an index or a constraint), undo that, or drop it: Millrace creates and fills it again. `millrace resume --sink NAME` tries a stopped sink again. Report it, with the table's definition.",
    cause:
      "DuckDB reported an unexplained conflict or error each time that the batch was repeated, while nobody else wrote. The table at fault is suspended in this sink (MR1324) and tried again; if no table is at fault, the sink stops.",
  },
} as const satisfies ErrorPages;

export const duckdbError = errorsOf(
  { side: "sink", kind: "duckdb" },
  {
    MR2003:
      "Name the PEM file of the authority that signed the server's certificate in `s3.ca`; renew a certificate that has expired; let it name the host of `s3.endpoint`. The sink tries again at growing intervals.",
    MR3109:
      "Make sure that one daemon runs for this configuration, and start it again. Two daemons that write other tables of one lake need other names for their sinks.",
    MR3202:
      "Move the log away (`mv PATH.wal PATH.wal.damaged`) and `millrace resume --sink NAME`: the file holds rows and progress as of the last time that the log was folded in, and Millrace continues from there if the source's log reaches back that far. Or restore a backup of both; or move both away, and `millrace snapshot start --sink NAME` fills a new file.",
    MR3203: "Its folder must exist, and the user that Millrace runs as must be able to write there.",
    MR3226: pages.MR3226.remedy,
    MR3234: pages.MR3234.remedy,
    MR3235: enginePages.MR3235.remedy,
  },
);

export function targetsMeet(tableId: string, target: string): MillraceError {
  return duckdbError(
    "MR1305",
    "fatal",
    `table ${tableId} would be written to ${target} (DuckDB ignores case in names)`,
    { hint: "leave one of them out of this sink's tables, or give another sink its own schema" },
  );
}

const STOPPED = "writing to DuckDB was stopped";

export function stopped(): MillraceError {
  return duckdbError("MR2029", "aborted", STOPPED);
}

const ENGINE_ENDED: ErrorCode = "MR3235";

/** A sink's last error, or that of a table that it could not write: the engine ended its process. */
export function endedEngine({ code, message }: { readonly code: string; readonly message: string }): boolean {
  return code === ENGINE_ENDED || message.includes(ENGINE_ENDED);
}

/** See TABLE_FAILURES; and a target that is gone, or that two tables share. */
export const OF_ONE_TABLE: ReadonlySet<string> = new Set<ErrorCode>([...TABLE_FAILURES, "MR1305", "MR3110"]);

/** DuckDB's messages contain cell values and staged rows, so only the kind of error is kept as the cause. */
class DriverError extends Error {
  constructor(kind: string) {
    super(kind);
    this.name = "DuckDBError";
  }
}

/** Errors of these kinds concern the content of a row. */
const DATA_KINDS = new Set([
  "Conversion Error",
  "Constraint Error",
  "Invalid Input Error",
  "Out of Range Error",
  "Invalid type Error",
  "Mismatch Type Error",
]);

/** Of these, those that say nothing else: DuckDB tells failures of a lake's files and catalogue as invalid input too. */
const QUOTING_KINDS: ReadonlySet<string> = DATA_KINDS.difference(new Set(["Invalid Input Error"]));

/** The driver gives no code: the kind is the text before the first colon of the message. */
export function driverKind(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  const match =
    /^(?:TransactionContext Error: Failed to commit: |Failed to extract statements: )?([A-Za-z ]{2,40}?(?: Error|Error)): /.exec(
      text,
    );
  return match?.[1] ?? "unnamed error";
}

export function isDataError(error: unknown): boolean {
  return (
    findMillraceError(error) === undefined &&
    DATA_KINDS.has(driverKind(error)) &&
    !LAKE_RULES.some((rule) => fits(rule, error))
  );
}

/** A failure of a disk, with what is known of the folders that may be meant. */
export function onDisk(error: MillraceError, ...paths: readonly string[]): MillraceError {
  return error.code === "MR3213" ? atServer(error, roomFor(...paths)) : error;
}

const OF_FILE: ReadonlySet<string> = new Set<ErrorCode>(["MR3201", "MR3202", "MR3203", "MR3216"]);

/** A failure of the file, and what to do about it, with its path. */
export function ofFile(error: MillraceError, path: string): MillraceError {
  if (!OF_FILE.has(error.code) || error.message.includes(path)) return error;
  return error.with({ message: `${path}: ${error.message}`, hint: error.hint?.replaceAll("PATH", shellWord(path)) });
}

/** True if the statement needed more than `memory_limit`. */
export function isOutOfMemory(error: unknown): boolean {
  const known = findMillraceError(error);
  return known === undefined ? fits(MEMORY, error) : known.reason === "resources";
}

/** DuckDB has given up its instance: the file must be opened again. */
export function isInvalidated(error: unknown): boolean {
  return fits(INVALIDATED, error);
}

export function rowRefused(error: unknown, table: string): MillraceError {
  return duckdbError("MR3111", "poison", `DuckDB refuses a row of ${table} (${driverKind(error)})`, {
    hint: "correct the row at the source, or change the column's type in the file",
    cause: new DriverError(driverKind(error)),
  });
}

const IO = ["IO Error"];
const CANT_OPEN = {
  kinds: IO,
  code: "MR3203",
  kind: "blocked",
  says: (doing: string, text: string) =>
    `the DuckDB file can't be opened (${/: ([A-Z][A-Za-z -]+)$/.exec(text)?.[1] ?? doing})`,
} as const;
const OBJECTS = ["Catalog Error", "Binder Error"];
const OBJECT_GONE = {
  code: "MR3110",
  says: (doing: string) => `a table or column that Millrace made is gone or changed (${doing})`,
  hint: "put it back, or fill the sink again: millrace snapshot start --sink NAME",
} as const;

/** At a commit, or in a rollback that fails for the same reason. */
const MEMORY: Rule = {
  text: /Out of Memory Error|failed to (?:allocate|pin|offload)|could not allocate block/i,
  orKinds: ["Out of Memory Error"],
  code: "MR2006",
  kind: "retryable",
  says: (doing) => `DuckDB's memory does not suffice while ${doing}`,
  hint: "raise the sink's memoryLimit",
  reason: "resources",
};
const INVALIDATED: Rule = {
  text: /database has been invalidated/i,
  orKinds: ["FATAL Error", "INTERNAL Error"],
  code: "MR3216",
  kind: "retryable",
  says: (doing) => `DuckDB closed the database while ${doing}`,
  reason: "lost",
};
const UNKNOWN: Rule = { code: "MR2027", kind: "retryable", says: (doing, _, kind) => `${kind} while ${doing}` };

const FULL: Rule = {
  // At a commit, in a checkpoint, or after a failed one; SQLite's own two sentences about the catalogue of a lake.
  text: /No space left on device|Disk quota exceeded|File too large|database or disk is full|disk I\/O error/,
  code: "MR3213",
  kind: "blocked",
  says: (doing, text) => `the disk ${text.includes("I/O") ? "fails, or is full" : "is full"} (${doing})`,
  hint: "make room there, on that which lacks it; Millrace goes on by itself",
};
const NO_HANDLES: Rule = {
  text: /Too many open files/,
  code: "MR2006",
  kind: "retryable",
  says: (doing) => `a file can't be opened while ${doing}: ${moreHandles()}`,
  hint: "The message names the limit; Millrace tries again by itself.",
};
const ANY_IO: Rule = {
  kinds: IO,
  code: "MR3213",
  kind: "blocked",
  says: (doing) => `reading or writing failed while ${doing}`,
  hint: "look at the system's log for errors of that disk; Millrace tries again by itself",
};

/** The first that fits counts. Lock, missing file, foreign file and full disk are all an "IO Error". */
const RULES: readonly Rule[] = [
  FULL,
  ...LAKE_RULES,
  MEMORY,
  {
    // Whatever the reason: the log belongs to no process that could still write it.
    text: /while replaying WAL/i,
    code: "MR3202",
    kind: "fatal",
    says: (doing) => `the log of the DuckDB file can't be read (${doing})`,
  },
  INVALIDATED,
  { kinds: ["INTERRUPT Error"], code: "MR2029", kind: "aborted", says: () => STOPPED },
  {
    kinds: IO,
    text: /Could not set lock|Conflicting lock/i,
    code: "MR3201",
    kind: "blocked",
    says: (_, text) => {
      const pid = /PID (\d+)/.exec(text)?.[1];
      return `the DuckDB file is open in another process${pid === undefined ? "" : ` (pid ${pid})`}`;
    },
    hint: "close it there; while Millrace runs, nobody else can read it",
  },
  {
    kinds: IO,
    text: /not a valid DuckDB database|version number|Could not read enough bytes|[Cc]orrupt|checksum/,
    code: "MR3202",
    kind: "fatal",
    says: (doing) => `the file is not a DuckDB database that this version can read (${doing})`,
    hint: "Restore it from a backup, and `millrace resume --sink NAME`. Or move it and its log away (`mv PATH PATH.damaged`, and PATH.wal if it is there): `millrace snapshot start --sink NAME` fills a new one. If it is another program's, give the sink another `path`.",
  },
  NO_HANDLES,
  ...Object.entries(FIXES_BY_TEXT).map(([text, hint]): Rule => ({
    ...CANT_OPEN,
    text: new RegExp(`: ${text}$`),
    hint,
  })),
  {
    ...CANT_OPEN,
    text: /Cannot open|No such file|Is a directory|Permission denied|Read-only file system/,
    hint: "its folder must exist, and the user that Millrace runs as must be able to write there",
  },
  ANY_IO,
  { kinds: ["Permission Error"], code: "MR3203", kind: "blocked", says: (doing) => `no permission while ${doing}` },
  {
    kinds: ["TransactionContext Error"],
    code: "MR3220",
    kind: "retryable",
    says: (doing) => `transactions met while ${doing}`,
  },
  {
    kinds: ["Serialization Error"],
    code: "MR3202",
    kind: "fatal",
    says: (doing) => `the file can't be read while ${doing}`,
  },
  {
    kinds: OBJECTS,
    text: /^Catalog Error: (?:Table|Schema) with name |recent snapshot for DuckLake/,
    kind: "reopen",
    ...OBJECT_GONE,
  },
  { kinds: OBJECTS, kind: "fatal", ...OBJECT_GONE },
];

function fits({ kinds, text, orKinds }: Rule, error: unknown): boolean {
  const kind = kindOf(error);
  if (orKinds?.includes(kind) === true) return true;
  if (kinds?.includes(kind) === false) return false;
  // What is quoted may say anything.
  if (QUOTING_KINDS.has(kind) && text?.source.startsWith("^") === false) return false;
  return text === undefined || text.test(error instanceof Error ? error.message : "");
}

/** Node spells the system's errors otherwise than DuckDB. */
function ruleOfNode(error: Error): Rule {
  const fault = fileFault(error);
  if (fault === null) return ANY_IO;
  if (fault.isFull) return FULL;
  return lacksHandles(fault.code) ? NO_HANDLES : { ...ANY_IO, hint: fault.fix };
}

/** A failure of Node's own work on the files is told as DuckDB's. */
function kindOf(error: unknown): string {
  return isOfNode(error) ? "IO Error" : driverKind(error);
}

function isOfNode(error: unknown): error is Error {
  return error instanceof Error && "syscall" in error;
}

/** Turns a failure while `doing` something into a numbered error. */
export function classify(error: unknown, doing: string): MillraceError {
  const known = findMillraceError(error);
  if (known !== undefined) return known;
  const { code, kind, says, hint, reason, part } = isOfNode(error)
    ? ruleOfNode(error)
    : (RULES.find((rule) => fits(rule, error)) ?? UNKNOWN);
  const ofDriver = kindOf(error);
  const message = says(doing, error instanceof Error ? error.message : "", ofDriver);
  const cause = isOfNode(error) ? error : new DriverError(ofDriver);
  return duckdbError(code, kind, message, { hint, reason, cause, part });
}

/** Runs work on one table. A data file of a lake that can't be read concerns the table whose file it is. */
export async function overFiles<T>(table: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const known = classify(error, `working on ${table}`);
    if (known.code !== "MR3226" || known.table !== undefined) throw error;
    throw known.with({ table });
  }
}
