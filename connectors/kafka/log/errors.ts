import type { ErrorPages } from "../../../src/core/errors.ts";

/** Of a log, for those that follow it. */
export const pages = {
  MR3520: {
    title: "The log in Kafka no longer has what this daemon needs",
    cause:
      "Retention has deleted a part of the log's topic that this daemon had not read, or the capturing daemon's sink went on " +
      "elsewhere: it lost its checkpoint, or its offset was moved. The changes in between are not in the log, and the daemon " +
      "does not go on over the gap.",
    remedy:
      "`millrace recover` on this daemon: it goes on at the log's present end, compares its sinks with the source and reads what " +
      "differs. Raise `retention.ms` of the topic above the longest time that a daemon may be down.",
  },
  MR3521: {
    title: "The log in Kafka is another one",
    cause:
      "The log's topic was deleted and made again; or the capturing daemon began a new epoch (`recover`, a failover, a new start), " +
      "whose positions have no meaning in the former one.",
    remedy:
      "A new epoch: let this daemon run. As soon as the capturing daemon answers, it goes on there by itself, compares its sinks " +
      "with the source and reads what differs. A topic that is another one: `millrace recover` on this daemon does the same.",
  },
  MR3522: {
    title: "The capturing daemon does not answer, or can't do what was asked",
    cause:
      "A daemon whose source is `kind: kafka` asks the capturing daemon for rows, marks and tables. That one does not run, has no " +
      "sink with `format: log`, or failed; then the message says with which error. Changes are applied meanwhile; " +
      "a first start waits until it answers.",
    remedy:
      "Start the daemon that `source.from` names, and look at its `millrace status`. `source.from`, `source.prefix` and " +
      "`source.brokers` must be those of its sink.",
  },
  MR3523: {
    title: "A record of the log in Kafka can't be read",
    cause:
      "It was written as the capturing daemon writes the log, in a transaction, and is no frame of this version: a later version of " +
      "Millrace wrote it, its content is damaged, or another program's transaction did. The daemon stops before it, for changes may be " +
      "in it. Records that are evidently another program's (with a key, or without a transaction) do not stop it, however many there " +
      "are: it passes over them, since each frame says where the one before ended, and `millrace status` says so.",
    remedy:
      "If the capturing daemon has a later version, update this one. Otherwise `millrace recover` on this daemon: it goes on behind all " +
      "such records, at the log's present end, compares its sinks with the source and reads what differs. Let only the capturing daemon " +
      "write to the topic.",
  },
  MR3524: {
    title: "The capturing daemon takes no conditions",
    cause:
      "A daemon behind Kafka asks for rows with a condition (`snapshot start --where`), and the capturing daemon does not run it. A " +
      "condition is SQL, and whoever may write to the topic of requests could run expressions in the database, so it has to be allowed there.",
    remedy:
      "Set `conditions: true` for the sink with `format: log` of the capturing daemon, if only its own daemons may write to its " +
      "topic of requests. Or read the whole table: `millrace snapshot start --tables TABLE`.",
  },
} satisfies ErrorPages;
