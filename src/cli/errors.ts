import { type ErrorPages, raising } from "../core/errors.ts";

export const pages: ErrorPages = {
  MR1110: {
    title: "Wrong usage",
    remedy:
      "See `millrace help`, or `millrace COMMAND --help`. What `init` does not know by its URL is written into millrace.yaml by hand.",
    cause:
      "The command line has an unknown command or option, an option without its value, or a URL that shows no kind of source or sink.",
  },
  MR1112: {
    title: "The file exists already",
    remedy:
      "Name another file (`-c FILE`, `--out FILE`), move it away, or give `--force` where the command has it (`import`, `offsets export`).",
    cause: "Commands never overwrite a file unasked. Nothing was written.",
  },
  MR1113: {
    title: "A file can't be written",
    remedy: "Check that the folder exists and that you may write to it.",
    cause: "The file that a command was asked to write can't be created.",
  },
  MR1114: {
    title: "There is no such sink, table, snapshot, letter or report",
    remedy:
      "`millrace status` names sinks and tables; `snapshot list`, `dlq list --all`, `report list` and `schema list` show the numbers and what waits.",
    cause: "The name or number is none that the daemon has now: it was misspelt, has ended, or was never there.",
    seen: "command",
  },
  MR1116: {
    title: "The daemon does not answer",
    remedy:
      "`kill -CONT PID` lets a stopped daemon go on; kill one that hangs: nothing is lost. Then see `millrace status`, and run the command again: nothing is done twice.",
    cause:
      "A daemon holds the control socket and says nothing (it was stopped, or its machine is overloaded), or it ended or began again before it answered.",
  },
  MR1118: {
    title: "The log can't be read from this position",
    remedy:
      "Name a position in the range that the message gives, or `earliest`. To have rows as they are now, whatever the log still holds: `millrace offsets reset --to snapshot`.",
    cause: "The position is outside of what the source still keeps for this daemon.",
  },
  MR1119: {
    title: "Unexpected error",
    remedy: "Run the command again with `--log-level debug`, or look at the daemon's log, and report what it says.",
    cause: "Something failed that Millrace has no number for: a bug, or an unexpected failure of the system.",
    seen: "command",
  },
  MR1120: {
    title: "There is nothing yet",
    remedy: "Start `millrace run`, and wait until `millrace status` shows the phase `streaming`.",
    cause:
      "The daemon has not finished its first start with this state, so there is no offset to reset and nothing to compare.",
  },
  MR1122: {
    title: "The export belongs to another configuration",
    remedy: "Use the configuration that the export was made with, `name` and `source` included.",
    cause:
      "The export was made under another `name`, for another kind of source or for another server. Its positions mean nothing here. Nothing was changed.",
  },
  MR1123: {
    title: "The query took too long",
    remedy: "Ask for less, or give it more time: `--timeout 5m`.",
    cause: "`millrace query` was not answered within `--timeout` and was stopped. Nothing was changed by it.",
  },
  MR1127: {
    title: "Refused: something would be lost, or never end",
    remedy: "The hint names the command to use in its place.",
    cause:
      "A sink can't be recovered alone while all need a new position; a history can't be paused by table or moved to other shares; a snapshot that the sink needs can't be cancelled; reading some of its tables does not bring a failed sink back; a sink of documents, and the nest, has no position of its own to move. Nothing was changed.",
    seen: "command",
  },
  MR1130: {
    title: "A sink does not tell which epoch it holds",
    remedy: "Bring the sink back and run the command again, or remove it from the configuration for that time.",
    cause:
      "A new epoch must be higher than every epoch in a sink's checkpoint or rows. If that of a silent sink were higher, no change would replace its rows.",
  },
  MR1131: {
    title: "All epochs are used up",
    remedy:
      "If another program wrote these rows, `millrace offsets reset --sink NAME --to snapshot` removes them. Else empty the sinks, their rows and Millrace's own, or give them other places, move the state away and start: epochs begin at 1 again.",
    cause: "A new epoch has to begin, and the sinks already show the last of the 255 that row versions can hold.",
    seen: "command",
  },
  MR1140: {
    title: "A file is not what the command reads",
    remedy:
      "`offsets import` takes what `offsets export` wrote, whole and unchanged; `schema check --against` what `schema export` wrote. `import debezium` takes a connector of Kafka Connect for Postgres, MySQL or MariaDB (`curl http://CONNECT:8083/connectors/NAME > connector.json`), properties files, Debezium Server's and Strimzi's files (`--connector NAME` chooses one of several), `import sequin` a sequin.yaml, `import peerdb` the SQL of peers and mirrors, `import flink-cdc` a pipeline's YAML.",
    cause: "The file can't be read, is cut, changed, of a newer version, or another tool's. Nothing was changed.",
  },
  MR1141: {
    title: "The migration can't be tried",
    remedy:
      "Name a login that may make the changes, or another database with the same tables: `--on URL` (a copy by `pg_dump --schema-only` is enough). On MySQL and MariaDB run it on a copy, then `millrace schema export before.json` at the source and `millrace schema check --against before.json` with the copy's url.",
    cause:
      "`millrace schema plan` runs the migration in a transaction and rolls it back. The server refused it, it took longer than `--timeout` or waited more than 1 s for a lock, or the source can't roll a change of a table back.",
  },
  MR1142: {
    title: "The configuration is of something else",
    remedy:
      "Run `millrace up` without a URL to use the file as it is, change the file, or begin another one: `millrace -c other.yaml up URL`, or in another folder.",
    cause:
      "`millrace up` found a configuration in the folder that names another source, login, sink or selection of tables than the command line. Nothing was changed.",
    seen: "command",
  },
  MR1143: {
    title: "There is nothing to follow",
    remedy:
      "Look whether the URL names the right database, and whether `--tables` fits its tables. The message says what keeps each table out; `millrace grants --for URL` prints what the login lacks. To follow tables that come later: `millrace init`, then `millrace run`.",
    cause:
      "`millrace up` found no table that it could copy: the database has none, or none can be followed. Nothing was written.",
    seen: "command",
  },
};

export const cliError = raising(pages);
