import { MillraceError, type ErrorCode, type ErrorPages } from "../core/errors.ts";

export const pages: ErrorPages = {
  MR1110: {
    title: "Wrong usage",
    cause: "The command line has an unknown command or option, or an option without its value.",
    remedy: "Look at `millrace help`, or at `millrace COMMAND --help`.",
  },
  MR1111: {
    title: "The URL does not show the kind of source or sink",
    cause: "`millrace init` takes the kind from the URL's scheme or the file's ending, and does not know this one.",
    remedy:
      "Sources: `postgres://…`, `mysql://…`. Sinks: `postgres://…`, `redis://…`, `http://…` (a search engine) or a path that ends in `.duckdb`. Anything else is written into millrace.yaml by hand.",
  },
  MR1112: {
    title: "The config file exists already",
    cause: "`millrace init` never overwrites a file, and `millrace import` only with `--force`.",
    remedy: "Name another file (`-c FILE`, or `--out FILE` for `import`), or move the existing one away.",
  },
  MR1113: {
    title: "A file can't be written",
    cause: "The file that a command was asked to write can't be created.",
    remedy: "Check that the folder exists and that you may write to it.",
  },
  MR1114: {
    title: "No such snapshot",
    cause: "The number names no snapshot, or one that has ended.",
    remedy: "`millrace snapshot list` shows the numbers.",
  },
  MR1115: {
    title: "No such dead letter",
    cause: "The number names no dead letter.",
    remedy: "`millrace dlq list --all` shows the numbers.",
  },
  MR1116: {
    title: "The daemon does not answer",
    cause:
      "A daemon holds the control socket and says nothing: it was stopped (SIGSTOP), or its machine is overloaded.",
    remedy:
      "Look at the process: `kill -CONT PID` lets a stopped daemon go on. A daemon that hangs may be killed: nothing is lost.",
  },
  MR1117: {
    title: "The log no longer reaches back to this position",
    cause:
      "`millrace tail --from` named a position that every sink has passed: the source may have dropped the log there.",
    remedy: "Name a later position; the message names the first position that can be read.",
  },
  MR1118: {
    title: "The log can't be read from this position",
    cause:
      "`millrace offsets reset`, or `tail --from` with a time, named a position outside the range that the source still keeps for this daemon. The log before the range " +
      "is durable in every sink, so the source was told that it may drop it. After the range nothing is written yet.",
    remedy:
      "Name a position in the range that the message gives, or `earliest`. To have rows as they are now, whatever the log " +
      "still holds: `millrace offsets reset --to snapshot`.",
  },
  MR1120: {
    title: "There is nothing to reset yet",
    cause: "The daemon has not finished its first start with this state, so no sink has an offset.",
    remedy: "Start `millrace run`; the first start fills every sink.",
  },
  MR1121: {
    title: "The file is not an export of offsets",
    cause:
      "`millrace offsets import` found a file that can't be read, was not written by `offsets export`, has a wrong checksum, " +
      "or has a newer format. Nothing was changed.",
    remedy: "Export again, and copy the complete file without changing it.",
  },
  MR1122: {
    title: "The export belongs to another configuration",
    cause:
      "The export was made under another `name`, for another kind of source, or for another server than the one that `source.url` " +
      "names. Its positions mean nothing here. Nothing was changed.",
    remedy: "Use the configuration that the export was made with, `name` and `source` included.",
  },
  MR1123: {
    title: "The query took too long",
    cause: "`millrace query` was not answered within `--timeout` and was stopped. Nothing was changed by it.",
    remedy: "Ask for less, or give it more time: `--timeout 5m`.",
  },
  MR1124: {
    title: "The table does not wait for approval",
    cause: "`schema approve` was given a table that is not suspended: its changes flow.",
    remedy: "`millrace schema list` shows which tables wait for approval.",
  },
  MR1127: {
    title: "One sink alone can't be recovered",
    cause: "The stream can't continue in the source's log, or --anyway was given: every sink needs a new position.",
    remedy: "Run `millrace recover` without --sink.",
  },
  MR1128: {
    title: "The daemon ended during a command",
    cause: "The daemon got a command and ended before it answered. It may or may not have carried it out.",
    remedy: "See what `millrace status` shows now, and run the command again: nothing is done twice.",
  },
  MR1130: {
    title: "A sink does not tell which epoch it holds",
    cause:
      "A new epoch must be higher than every epoch in a sink's checkpoint or rows. This sink does not answer. " +
      "If its epoch were higher, no change would replace its rows.",
    remedy: "Bring the sink back and run the command again, or remove it from the configuration for that time.",
  },
  MR1131: {
    title: "All epochs are used up",
    cause: "Row versions can hold 255 epochs, and the sinks already show the last one.",
    remedy:
      "If another program wrote these rows, `millrace offsets reset --sink NAME --to snapshot` removes them. Else empty the " +
      "sinks, their rows and Millrace's own, move the state away and start: epochs begin at 1 again.",
  },
  MR1132: {
    title: "The export file exists already",
    cause: "`millrace offsets export` does not overwrite a file: an earlier export may be the only way back.",
    remedy: "Name another file, or add `--force` to replace this one.",
  },
  MR1141: {
    title: "The migration can't be tried",
    cause:
      "`millrace schema plan` runs the migration in a transaction and takes it back. The server refused it, or it took longer than " +
      "`--timeout`, or it had to wait for a lock for more than 1 s, or the source is one that can't take a change of a table back (MySQL, MariaDB). Nothing was changed.",
    remedy:
      "Name a login that may make the changes, or better another database with the same tables: `--on URL` (a copy by " +
      "`pg_dump --schema-only` is enough). On MySQL and MariaDB run the migration on a copy, then " +
      "`millrace schema export before.json` at the source and `millrace schema check --against before.json` with the copy's url.",
  },
  MR1142: {
    title: "The file holds no shapes of tables",
    cause:
      "`millrace schema check --against` was given a file that can't be read, or that `millrace schema export` did not write.",
    remedy: "Write it again: `millrace schema export FILE`, with the config of the source to compare with.",
  },
  MR1143: {
    title: "A history does not go over to other shares",
    cause:
      "`millrace recover --shares` puts every share to the end of the log and compares the sinks with the source. A history can't " +
      "be compared: it would lack the changes before that place.",
    remedy:
      "Keep the number of shares. Or put the history into a configuration of its own, without shares; or take the sink out of " +
      "this one, and accept that its history ends here.",
  },
  MR1140: {
    title: "The file can't be imported",
    cause:
      "`millrace import debezium` was given a file that can't be read, has no connector, is another tool's, or is of a " +
      "connector for another database or of a sink. Or it has several connectors. Nothing was written.",
    remedy:
      "Give it what Kafka Connect holds: `curl http://CONNECT:8083/connectors/NAME > connector.json`. " +
      "Its `connector.class` must be Debezium's for Postgres, MySQL or MariaDB. `--connector NAME` chooses one of several. " +
      "Properties files, Debezium Server's files and Strimzi's KafkaConnector will do too.",
  },
  MR1125: {
    title: "No such report",
    cause: "No report is stored under this id, or no comparison has ended yet. Only the newest reports are kept.",
    remedy: "`millrace report list` shows the ids; `millrace reconcile` makes a report.",
  },
  MR1119: {
    title: "Unexpected error",
    cause: "Something failed that Millrace has no number for: a bug, or an unexpected failure of the system.",
    remedy: "Run the command again with `--log-level debug` and report what it prints.",
  },
};

export function cliError(
  code: ErrorCode,
  message: string,
  parts: { hint?: string; cause?: unknown } = {},
): MillraceError {
  const hint = parts.hint ?? pages[code]?.remedy;
  return new MillraceError({
    code,
    kind: "fatal",
    message,
    hint,
    ...(parts.cause === undefined ? {} : { cause: parts.cause }),
  });
}
