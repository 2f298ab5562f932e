import { MillraceError, type ErrorCode, type ErrorPages } from "../core/errors.ts";
import { pages as rulePages } from "../rules/errors.ts";

export const pages: ErrorPages = {
  MR1001: {
    title: "The config file can't be read",
    remedy: "Name the file with `-c FILE`, or have one written: `millrace init --source URL`.",
    cause:
      "The file named by `-c`, by MILLRACE_CONFIG, or `millrace.yaml` in the current folder does not exist or can't be read.",
  },
  MR1002: {
    title: "The config file is not valid YAML",
    remedy:
      "Look at indentation, unclosed quotes and brackets at that line; values with `: `, `#`, `{`, `*` or `!` need quotes. Of a key or sink that is there twice remove or rename one.",
    cause: "The file can't be parsed, or one map holds a key twice, of which YAML would silently drop one.",
  },
  MR1004: {
    title: "Unknown key",
    remedy:
      "Take the suggested name, or remove the key. The JSON Schema `millrace.schema.json` gives completion in editors.",
    cause: "The key does not exist there. It is refused, because a setting that does nothing is worse than none.",
  },
  MR1005: {
    title: "Wrong value",
    remedy:
      "Correct the value; the message says what is expected there. Durations are `500ms`, `10s`, `5m`, `1h`; sizes `64MB`. MariaDB is `mysql`, OpenSearch `elasticsearch`, Valkey `redis`. Beyond loopback `admin.listen` needs `admin.tokens: [{role: operator, token: ${MILLRACE_TOKEN}}]`; `mask: hash` needs `maskKey: ${MILLRACE_MASK_KEY}`.",
    cause:
      "A value has the wrong type, form or range, names no kind of this version or a folder that can't be written to, or does not go together with other keys.",
  },
  MR1006: {
    title: "A required key is missing",
    remedy: "Add the key where the message says.",
    cause: "A key that has no default is missing or empty.",
  },
  MR1007: {
    title: "A variable or secret file is missing",
    remedy: "Set the variable, give a default with `${VAR:-default}`, or write `$${` where a literal `${` is meant.",
    cause:
      "A value refers to `${VAR}` or `${file:PATH}`, and the variable is unset or empty, or the file can't be read. Millrace does not start with a hole in its config.",
  },
  MR1011: {
    title: "A package is not installed",
    remedy: "Run the `npm install` that the hint names, where Millrace is installed, then the command again.",
    cause:
      "Engines and clients that only some configurations need are not installed with Millrace: DuckDB for `duckdb`, `ducklake` and Parquet files, AWS' client for `s3://`, OpenTelemetry for `telemetry.otlp`. The container image has all of them.",
    seen: "start",
  },
  MR1010: {
    title: "Two sinks write to the same target",
    remedy:
      "Remove one of the two, or tell them apart by `schema`, `prefix`, `path` or database. One sink takes all the tables that its `tables` names.",
    cause: "Two sinks lead to the same tables, indices, keys or files. They would overwrite each other's rows.",
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
