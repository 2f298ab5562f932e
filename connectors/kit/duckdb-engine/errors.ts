import { type ErrorPages, errorsOf } from "../../../src/core/errors.ts";

/** What DuckDB's engine can meet, whichever sink uses it. */
export const pages: ErrorPages = {
  MR3216: {
    title: "DuckDB closed the database after an error",
    remedy: "Nothing, if it happens once. The log names the kind of error; see whether disk or memory is short.",
    cause: "After an error DuckDB no longer trusts its memory, or its process was ended. Millrace opens it again.",
  },
  MR3235: {
    title: "DuckDB ended its process",
    remedy:
      "See what the table that the message names has that others have not (a type, an index made by hand), or leave it out of this sink's `tables`. Report it, with the table's definition.",
    cause:
      "A fault of its own ended DuckDB by a signal. A `files` sink runs it in a process of its own, and tries again at growing intervals. For `duckdb` and `ducklake` the next daemon does so: if it ends again, the table at fault is suspended in this sink (MR1324); if it is none, the sink stops. Other sinks go on.",
  },
};

export const engineError = errorsOf({ side: "sink", kind: "duckdb" }, {});
