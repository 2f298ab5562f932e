import { MillraceError, type ErrorCode, type ErrorPages } from "../core/errors.ts";

export const pages: ErrorPages = {
  MR1110: {
    title: "Wrong usage",
    cause: "The command line has an unknown command or option, or an option without its value.",
    remedy: "Look at `millrace help`, or at `millrace COMMAND --help`.",
  },
  MR1111: {
    title: "The kind of source or sink can't be told from the URL",
    cause: "`millrace init` takes the kind from the URL's scheme or the file's ending, and knows none for this one.",
    remedy:
      "Sources: `postgres://…`, `mysql://…`. Sinks: `postgres://…`, `redis://…`, `http://…` (a search engine) or a path that ends in `.duckdb`. Anything else is written into millrace.yaml by hand.",
  },
  MR1112: {
    title: "The config file is there already",
    cause: "`millrace init` never overwrites a file.",
    remedy: "Name another file with `-c FILE`, or move the existing one away.",
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
      "Look at the process: `kill -CONT PID` lets a stopped one go on; one that hangs may be killed, nothing is lost.",
  },
  MR1117: {
    title: "The log no longer reaches back to this position",
    cause:
      "`millrace tail --from` named a position that every sink has passed: the source may have dropped the log there.",
    remedy: "Name a later position; the message says from where on the log can be read.",
  },
  MR1118: {
    title: "The log can't be read from this position",
    cause:
      "`millrace offsets reset`, or `tail --from` with a time, named a place outside of what the source still keeps for this daemon. Before it " +
      "lies what every sink had made durable, which the source was told it may forget; behind it nothing is written yet.",
    remedy:
      "Name a place inside the range that the message gives, or `earliest`. To have rows as they are now, whatever the log " +
      "still holds: `millrace offsets reset --to snapshot`.",
  },
  MR1120: {
    title: "There is nothing to reset yet",
    cause: "The daemon has not finished its first start with this state, so no sink has an offset.",
    remedy: "Start `millrace run`; the first start fills every sink.",
  },
  MR1121: {
    title: "The file is no export of offsets",
    cause:
      "`millrace offsets import` found a file that can't be read, that is not what `offsets export` writes, whose checksum " +
      "is wrong, or of a newer format. Nothing was changed.",
    remedy: "Export again, and copy the file whole and unchanged.",
  },
  MR1122: {
    title: "The export belongs elsewhere",
    cause:
      "The export was made under another `name`, for another kind of source, or for another server than `source.url` leads " +
      "to. Its positions mean nothing here. Nothing was changed.",
    remedy: "Use the configuration that the export was made with, `name` and `source` included.",
  },
  MR1123: {
    title: "The query took too long",
    cause: "`millrace query` was not answered within `--timeout` and was stopped. Nothing was changed by it.",
    remedy: "Ask for less, or give it more time: `--timeout 5m`.",
  },
  MR1124: {
    title: "The table does not wait for approval",
    cause: "`schema approve` was given a table that is suspended nowhere: its changes flow.",
    remedy: "`millrace schema list` shows which tables wait.",
  },
  MR1127: {
    title: "One sink alone can't be recovered",
    cause: "The source's log can't be gone on in, or --anyway was given: every sink needs a new position.",
    remedy: "Run `millrace recover` without --sink.",
  },
  MR1128: {
    title: "The daemon ended over a command",
    cause: "The daemon was told to do something, and ended before it had answered: it may have done it or not.",
    remedy: "See `millrace status` for what holds now, and give the command again: nothing is done twice.",
  },
  MR1130: {
    title: "A sink can't be asked which epoch it holds",
    cause:
      "A new epoch has to be above every epoch that a sink shows, by its checkpoint or its rows. This sink does not answer; " +
      "were its epoch the higher one, its rows would stand against every change.",
    remedy: "Bring the sink back and run the command again, or take it out of the configuration for as long.",
  },
  MR1131: {
    title: "No epoch is left",
    cause: "The versions of rows tell 255 epochs apart, and the sinks show the last of them.",
    remedy:
      "Where rows were written from outside, `millrace offsets reset --sink NAME --to snapshot` removes them. Else empty the " +
      "sinks, their rows and Millrace's own, move the state away and start: epochs begin at 1 again.",
  },
  MR1132: {
    title: "The file of the export is there already",
    cause: "`millrace offsets export` does not overwrite a file: an earlier export may be the only way back.",
    remedy: "Name another file, or add `--force` to replace this one.",
  },
  MR1125: {
    title: "No such report",
    cause: "The id names no comparison whose report is kept, or none has ended yet. The newest are kept.",
    remedy: "`millrace report list` shows the ids; `millrace reconcile` makes a report.",
  },
  MR1119: {
    title: "Unexpected error",
    cause:
      "Something failed that Millrace has no number for: a defect, or a failure of the system that was not foreseen.",
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
