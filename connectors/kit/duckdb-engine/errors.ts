import { type ErrorPages, errorsOf } from "../../../src/core/errors.ts";

/** What DuckDB's engine can meet, whichever sink uses it. */
export const pages = {
  MR3216: {
    title: "DuckDB closed the database after an error",
    remedy: "Nothing, if it happens once. The log names the kind of error; see whether disk or memory is short.",
    cause: "After an error DuckDB no longer trusts its memory, or its process was ended. Millrace opens it again.",
  },
  MR3235: {
    title: "DuckDB ended its process",
    remedy:
      "Look for what only this table has (a type, an index made by hand), or leave it out of this sink's `tables`. If the file of a `duckdb` sink makes DuckDB end, restore it, or move it away and `millrace snapshot start --sink NAME`. `millrace resume --sink NAME` tries a stopped sink again. Report it, with the table's definition.",
    cause:
      "A fault ended DuckDB by a signal. A `files` sink runs it in a process of its own, and tries again at growing intervals. For `duckdb` and `ducklake` the next daemon does so: if it ends again, the table at fault is suspended in this sink (MR1324); if no table is at fault, the sink stops. Other sinks go on.",
  },
} as const satisfies ErrorPages;

export const engineError = errorsOf({ side: "sink", kind: "duckdb" }, {});
