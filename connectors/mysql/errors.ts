import { MillraceError, type ErrorArea, type ErrorCode, type ErrorPages } from "../../src/core/errors.ts";

/** The way out if only an event in the log can't be read, and the log itself is not lost. */
export const PASS_BY =
  "`millrace recover --anyway --yes` begins at the log's end, compares the sinks with the source and reads only the rows " +
  "that differ.";

const UPDATE =
  "Look whether a newer Millrace reads it; its CHANGELOG names the server versions that it was tested with.";

/** The way out if only rows of one table can't be read. */
export const READ_AGAIN = "`millrace snapshot start --tables TABLE` reads the table again, and it flows.";
export const SUSPENDED = "Millrace suspends the table in all sinks; the others go on.";

export const area: ErrorArea = { from: 2100, title: "MySQL and MariaDB as sources" };

/** What docs/errors.md says of the codes of MySQL and MariaDB as sources. */
export const pages: ErrorPages = {
  MR2101: {
    title: "Log holds an event that Millrace does not know",
    cause:
      "The binary log has an event of a kind that may hold changes and that this version can't read. Nothing is skipped: " +
      "the stream stops before it.",
    remedy: `${UPDATE} If the server wrote it because of a setting that is new there, turn that off.`,
  },
  MR2102: {
    title: "Event of the log is damaged",
    cause: "The checksum of an event, or the structure inside it, is wrong: the file or the transfer is damaged.",
    remedy:
      "Check the file with mysqlbinlog --verify-binlog-checksum on the server. What a damaged file holds is lost: " +
      PASS_BY,
  },
  MR2103: {
    title: "Log names no columns",
    cause:
      "A table's rows were written while `binlog_row_metadata` was not FULL, so that the log does not tell what its " +
      `columns are called. ${SUSPENDED}`,
    remedy:
      "SET PERSIST binlog_row_metadata = FULL (MariaDB: SET GLOBAL, and the configuration file), and end sessions that were open before. Then " +
      READ_AGAIN,
  },
  MR2104: {
    title: "Row images lack columns",
    cause:
      "A session wrote rows with `binlog_row_image` other than FULL, so that values are missing in the log which nothing " +
      `can bring back. ${SUSPENDED}`,
    remedy: "Find the program that sets `binlog_row_image` in its session, and correct it. Then " + READ_AGAIN,
  },
  MR2105: {
    title: "Column type is unknown",
    cause: `A captured table has a column of a type that this version can't read from the log. ${SUSPENDED}`,
    remedy: `Leave the table out by \`tables\`, or change the column's type; then ${READ_AGAIN} ${UPDATE}`,
  },
  MR2106: {
    title: "Collation is unknown",
    cause: "A text column has a collation that this version does not know, so that its bytes can't be read as text.",
    remedy: `Give the column a collation of utf8mb4. ${UPDATE}`,
  },
};

export function fatal(code: ErrorCode, message: string, hint: string, cause?: unknown): MillraceError {
  return new MillraceError({ code, kind: "fatal", message, hint, ...(cause === undefined ? {} : { cause }) });
}

export function damaged(what: string, cause?: unknown): MillraceError {
  return fatal("MR2102", `the binary log can't be read: ${what}`, pages.MR2102?.remedy ?? "", cause);
}
