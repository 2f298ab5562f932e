import type { ErrorArea, ErrorPages } from "../../../src/core/errors.ts";

/** The most likely mistake is a sink in the source's own database: no hint may lead to dropping those tables. */
export const FOREIGN_TABLE_FIX =
  "Set the sink's `schema` to put Millrace's tables elsewhere. Rename or drop the table only if nobody needs it: if the sink's database is the source's, it may be the captured table itself.";

export const area: ErrorArea = { from: 3100, title: "Postgres as a sink" };

export const pages: ErrorPages = {
  MR3101: {
    title: "Target URL is wrong",
    cause:
      "The sink's `url` is not a postgres:// URL, or has a parameter that Millrace does not know; or it leads to a pooler that gives one session of the server to several clients (`pool_mode = transaction`), so that the sink's settings, prepared statements and temporary tables would be lost, or left to others.",
    remedy:
      "Correct the URL; the message names the part. Behind a pooler use `pool_mode = session`, or name the server itself.",
  },
  MR3102: {
    title: "Target can't be reached",
    cause:
      "No connection to the target, or it broke or stopped answering. Millrace connects again and repeats the batch.",
    remedy: "Check host, port, firewall and the target's log, if it lasts.",
  },
  MR3103: {
    title: "Target refuses the login",
    cause: "Wrong user, password or database, or pg_hba.conf has no line that admits the role.",
    remedy: "Try the same URL with psql from the same machine; correct the sink's `url` or pg_hba.conf.",
  },
  MR3104: {
    title: "TLS with the target failed",
    cause: "The server does not speak TLS, or its certificate fails the check of `sslmode`.",
    remedy: "Set `sslmode` and `sslrootcert` in the sink's `url` as for psql.",
  },
  MR3105: {
    title: "Privilege missing in the target",
    cause: "The role may not create schemas or tables, use temporary tables, or write to a table.",
    remedy: "Run `millrace check`: it prints the GRANT.",
  },
  MR3106: {
    title: "Millrace did not create the target table",
    cause:
      "A table of that name exists and lacks `_millrace_version` or `_millrace_commit_time`. Millrace does not touch it.",
    remedy: FOREIGN_TABLE_FIX,
  },
  MR3107: {
    title: "Somebody changed the target",
    cause:
      "A column's type or the key is not the one that Millrace created; or the table is UNLOGGED, has a rule, or a column that the target writes by itself, so that rows would be lost. Millrace follows changes at the " +
      "source, except a new key of a table with a history.",
    remedy:
      "Run the statement beside the message, or change the target by hand to the type or key that it names, or drop the target table and fill it again with `millrace snapshot start`.",
  },
  MR3108: {
    title: "Two tables have one target",
    cause: "Under the sink's `schema`, or after a long name was cut, two tables of the source get one name.",
    remedy: "Exclude one of them in the sink's `tables`, or give it its own sink.",
  },
  MR3109: {
    title: "Another process writes to this sink",
    cause:
      "The progress in the target is not what this process wrote last, or belongs to a higher lease. Nothing was changed. " +
      "If it is older, the target was restored from an older copy: the sink continues from there if the log reaches back.",
    remedy: "Stop the other daemon of this name.",
  },
  MR3110: {
    title: "Target was emptied or replaced",
    cause:
      "Millrace's progress, a table or a column that it wrote is no longer in the target. Millrace creates what is missing and fills " +
      "the table again while the others go on; a history stops with MR1315. Without the progress the sink stops with " +
      "MR1301, or is filled again (`onLost: resync`).",
    remedy: "Nothing for a table or a column.",
  },
  MR3111: {
    title: "Row refused",
    cause:
      "The target can't take one row: a constraint or trigger that was added there, a value out of its range or encoding, an index entry too large. The row becomes a dead letter, the others are applied.",
    remedy:
      "`millrace dlq list --sink NAME` says why; remove the cause in the target, then `millrace dlq replay --sink NAME --all` reads the refused rows again.",
  },
  MR3112: {
    title: "Target lacks a resource",
    cause: "Disk, memory or connections have run out, or the server is starting or stopping. Millrace tries again.",
    remedy: "See the server's log, if it lasts.",
  },
  MR3113: {
    title: "Target gave up waiting",
    cause: "A lock was not granted in time, or transactions conflicted. Millrace tries again.",
    remedy: "Look for long transactions in the target (pg_stat_activity, pg_locks), if it lasts.",
  },
  MR3114: {
    title: "Too many rows refused",
    cause: "The target refused more rows of one batch than Millrace stores as dead letters.",
    remedy:
      "The table is at fault rather than its rows: see the last SQLSTATE in the message, and constraints and triggers in the target.",
  },
  MR3115: {
    title: "Target refused a statement",
    cause: "An error of the server that Millrace has no rule for.",
    remedy: "The SQLSTATE and the server's log say more.",
  },
  MR3116: { title: "Stopped", cause: "Somebody asked Millrace to stop.", remedy: "Nothing." },
  MR3117: {
    title: "Reserved name",
    cause:
      "A column of the source begins with `_millrace_`, which is reserved for Millrace's own columns; or the table would lie in a schema that is Postgres' own (`pg_…`, `information_schema`) or Millrace's (`_millrace`). The table is suspended in this sink; the others go on.",
    remedy: "Rename the column, give the sink a `schema`, or exclude the table.",
  },
  MR3118: {
    title: "Target takes no writes",
    cause: "The server is a standby, or its transactions are read-only.",
    remedy: "Point the sink's `url` at the primary server.",
  },
  MR3119: {
    title: "Function in the target failed",
    cause:
      "A trigger, default or constraint of the target called a function that failed, often because it names a table without its schema: Millrace's session has an empty search path.",
    remedy: "Qualify the names in the function, or give it its own path: ALTER FUNCTION … SET search_path = ….",
  },
  MR3120: {
    title: "Target keeps the other mode",
    cause:
      "The table in the target is a mirror and the sink's `mode` is history, or the other way round. One table can't be both; nothing was changed.",
    remedy:
      "Give the sink another `schema`, or set `mode` back. If nobody needs the table any more, drop it while Millrace is stopped: Millrace creates and fills it again.",
  },
  MR3121: {
    title: "Target taken over by another daemon",
    cause:
      "Another daemon, or another sink, has prepared the same table of the target since. Two that write to one table remove and hide each other's rows, so the one that came first suspends the table in this sink. The other tables go on.",
    remedy:
      "Decide who writes the table. For the other one set another `schema` in the sink, or exclude the table in the sink's `tables`; or stop that daemon. Then run `millrace snapshot start --tables TABLE --sink SINK` here: the table is read again, and is this daemon's.",
  },
  MR3122: {
    title: "Views or other objects use the target",
    cause:
      "A change of the source needs another type of a column of the target, or removes the column, and Postgres allows neither while a view, a rule, a policy or another object uses the column. Millrace removes nothing that it did not make: it suspends the table in this sink, and the other tables go on.",
    remedy:
      "Drop the objects that the message names, run `millrace snapshot start --tables TABLE --sink SINK`, and create them again.",
  },
  MR3123: {
    title: "Target's lock table is full",
    cause:
      "A transaction in Postgres holds a lock for each table and index that it touches, and all sessions share room for max_locks_per_transaction × (max_connections + max_prepared_transactions) of them. A step of this sink touched more tables than there is room for, or other sessions hold most of it (a dump, a DROP SCHEMA). Millrace writes and prepares fewer tables at once until it fits.",
    remedy:
      "If it lasts, double max_locks_per_transaction on the target (`ALTER SYSTEM SET max_locks_per_transaction = 128;`) and restart that server; `SELECT pid, count(*) FROM pg_locks GROUP BY pid ORDER BY 2 DESC` shows who holds them.",
  },
};
