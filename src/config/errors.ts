import { MillraceError, type ErrorCode, type ErrorPages } from "../core/errors.ts";
import { pages as rulePages } from "../rules/errors.ts";

export const pages: ErrorPages = {
  MR1001: {
    title: "The config file can't be read",
    cause:
      "The file named by `-c`, by MILLRACE_CONFIG, or `millrace.yaml` in the current folder does not exist or can't be read.",
    remedy: "Name the file with `-c FILE`, or have one written: `millrace init --source URL`.",
  },
  MR1002: {
    title: "The config file is not valid YAML",
    cause: "The file can't be parsed. The message gives line and column.",
    remedy:
      "Look at indentation, unclosed quotes and brackets at that line. Values with `: `, `#`, `{` or `*` need quotes.",
  },
  MR1003: {
    title: "A key is given twice",
    cause:
      "One map of the config holds the same key, or the same sink name, twice. YAML would silently drop one of them.",
    remedy: "Remove or rename one of the two.",
  },
  MR1004: {
    title: "Unknown key",
    cause:
      "The config holds a key that does not exist there. Millrace refuses it, because a setting that does nothing is worse than none.",
    remedy:
      "Take the suggested name, or remove the key. The JSON Schema `millrace.schema.json` gives completion in editors.",
  },
  MR1005: {
    title: "Wrong value",
    cause: "A key's value has the wrong type, form or range. The message says what is expected there.",
    remedy: "Correct the value. Durations are `500ms`, `10s`, `5m`, `1h`; sizes `64MB`.",
  },
  MR1006: {
    title: "A required key is missing",
    cause: "A key that has no default is missing or empty.",
    remedy: "Add the key where the message says.",
  },
  MR1007: {
    title: "A variable or secret file is missing",
    cause:
      "A value refers to `${VAR}` or `${file:PATH}`, and the variable is unset or empty, or the file can't be read. Millrace does not start with a hole in its config.",
    remedy: "Set the variable, give a default with `${VAR:-default}`, or write `$${` where a literal `${` is meant.",
  },
  MR1008: {
    title: "Unknown kind of source or sink",
    cause: "`kind` names no connector of this version.",
    remedy:
      "Correct the value: the message names the nearest known kind, or all of them. MariaDB is `mysql`, OpenSearch is `elasticsearch`, Valkey is `redis`.",
  },
  MR1010: {
    title: "Two sinks write to the same target",
    cause:
      "Two sinks of the config lead to the same tables, indices or keys: the same Postgres database and schema, DuckDB file, index prefix or key prefix. They would overwrite each other's rows.",
    remedy:
      "Remove one of the two, or tell them apart by `schema`, `prefix`, `path` or database. One sink takes all the tables that its `tables` names.",
  },
  MR1011: {
    title: "The folder of reports can't be written to",
    cause:
      "`reconcile.reports` names a folder that can't be created, or that this user may not write to. The daemon tests this at its start, not first when a report is ready.",
    remedy: "Name another folder, or give the user who runs Millrace the right to write there.",
  },
  MR1009: {
    title: "The admin address is open to others",
    cause:
      "`admin.listen` is not a loopback address and `admin.tokens` is empty: everybody who can reach the port could read the status and the metrics.",
    remedy: "Listen on 127.0.0.1, or add `admin.tokens: [{role: operator, token: ${MILLRACE_TOKEN}}]`.",
  },
};

/** One problem in a config file, and where it is. */
export interface Problem {
  readonly code: ErrorCode;
  /** Keys from the top; empty for the whole file. */
  readonly path: readonly string[];
  readonly message: string;
  readonly line: number | null;
  readonly column: number | null;
}

/** All problems of one file; its code is that of the first problem. */
export class ConfigError extends MillraceError {
  readonly file: string;
  readonly problems: readonly Problem[];

  constructor(file: string, problems: readonly [Problem, ...Problem[]], cause?: unknown) {
    const [first] = problems;
    const known: ErrorPages = { ...pages, ...rulePages };
    const hint = known[first.code]?.remedy;
    super({
      code: first.code,
      kind: "fatal",
      message: problems.map((problem) => describe(file, problem)).join("\n"),
      hint,
      cause,
    });
    this.name = "ConfigError";
    this.file = file;
    this.problems = problems;
  }
}

function describe(file: string, { line, column, path, message }: Problem): string {
  const place = line === null ? file : `${file}:${line}:${column ?? 1}`;
  return path.length === 0 ? `${place}: ${message}` : `${place}: ${path.join(".")}: ${message}`;
}
