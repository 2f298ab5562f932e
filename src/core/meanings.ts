export type ErrorCode = `MR${number}`;

/** The page of a code in docs/errors.md: shared meanings are here, others in the errors.ts of their folder. */
export interface ErrorPage {
  readonly title: string;
  /** What the operator can do, step by step. */
  readonly remedy: string;
  /** When this happens, and what Millrace then does. */
  readonly cause: string;
  /** Where it shows itself, where the place that raises it does not tell. */
  readonly seen?: "suspended" | "suspended in a sink" | "log" | "command" | "state" | "start";
}

export type ErrorPages = Readonly<Record<ErrorCode, ErrorPage>>;

export const RECOVER =
  "`millrace recover` begins at a new position, compares the sinks with the source and reads what differs.";
const READ_AGAIN = "`millrace snapshot start --tables TABLE --sink SINK` reads the table again.";

/**
 * What an error means, whichever connector meets it. One meaning is one number: the error says whose it is
 * (`MillraceError.connector`), and its hint says what to do there. What only one connector can meet has its page in that
 * connector's errors.ts.
 */
export const pages = {
  MR2001: {
    title: "A server can't be reached",
    remedy:
      "See whether the server runs, then look at address, firewall and network: the message names host, port and the system's reason. `millrace check` tests it from the machine on which it runs.",
    cause: "No connection could be made, or it was lost or gave no answer. Nothing is lost.",
  },
  MR2002: {
    title: "A login is refused",
    remedy:
      "Correct user, password, key or database in the configuration, or set them at the server as they were; the hint says which. `passwordFile` and `passwordCommand` are asked again at each connection, other changes in millrace.yaml need a restart.",
    cause: "The server does not take the login, or does not admit it from this address.",
  },
  MR2003: {
    title: "TLS failed",
    remedy:
      "The message says which check failed, and its fix. Ask for TLS only where the port speaks it; name an authority of your own, a certificate of this client with its key, or another server name by the connector's keys (`sslmode`, `ssl-ca`, `ca`, `tls`, `s3.ca`).",
    cause:
      "A certificate could not be verified (authority, name or dates), the server refuses ours, only one side speaks TLS, or a file of certificates or keys can't be used.",
  },
  MR2004: {
    title: "An address can't be used",
    remedy:
      "Correct the part that the message names. A source needs the server itself; a sink or a state may be behind a pooler with `pool_mode = session`.",
    cause:
      "A `url` or `path` is not of the form that its connector takes, or does not go together with another key or sink; or it leads to a connection pooler.",
  },
  MR2005: {
    title: "The server's version or settings do not fit",
    remedy: "Set what the hint says, or upgrade the server. `millrace check` finds all of it at once, before a start.",
    cause:
      "The server is too old or lacks a feature, or with one of its settings rows would be lost, missed or written wrongly.",
  },
  MR2006: {
    title: "A server is busy, or at a limit",
    remedy:
      "Nothing, if it passes. If it lasts, raise the limit that the message names (connections, slots, memory, replicas, shards, sizes, quotas), or give the server less to do: smaller `batch.bytes`, longer `batch.delay`.",
    cause: "The server is starting, stopping or overloaded, or allows no more of something.",
  },
  MR2008: {
    title: "A grant is missing",
    remedy:
      "`millrace check` says what is missing, and `millrace grants` prints all statements that an administrator has to run.",
    cause:
      "The login may not do what the message names, or row-level security hides rows from it, so that a copy would silently lack them.",
  },
  MR2010: {
    title: "The log no longer has what comes next",
    remedy: `${RECOVER} Raise what limits the log: max_slot_wal_keep_size, binlog_expire_logs_seconds, the topic's \`retention.ms\`.`,
    cause:
      "The slot was dropped, given up by the server or moved on by another program, the binary log was purged, or retention took a part of the topic. Changes can't be read any more, and Millrace does not go on over a gap.",
  },
  MR2012: {
    title: "The log, or its slot, is in use",
    remedy:
      "Stop the other reader, or give this one another `name` (and `source.serverId`). The message says who reads; end an unused session by pg_terminate_backend(pid) or KILL. If the making of a slot waits, end the transaction that the message names.",
    cause:
      "Another daemon or replica reads under our name or server id; or the server still has a session of ours that was cut off while it read the log, or while it created the slot. A daemon that had the log, or had begun to create its slot, waits; any other first start is refused.",
  },
  MR2013: {
    title: "The log is another one than before",
    remedy: `Point the source at the former server. If the change was meant: ${RECOVER}`,
    cause:
      "The server is not the one whose positions are stored, or its log was reset, restored or made again: the same positions may mean other changes.",
  },
  MR2016: {
    title: "The source lacks what was delivered",
    remedy: `Point the source at the server that has it, or restore that one. If it is lost: ${RECOVER}`,
    cause:
      "The stored position lies beyond the end of the log, or beyond the point where a promoted server's history begins; or Postgres' slot has gone back, or the log has another transaction where the last one was read. The server is an older copy, or a standby that was behind.",
  },
  MR2020: {
    title: "A table can't be captured",
    remedy: "The message has the reason and its fix, such as a primary key; or take the table out of `tables`.",
    cause:
      "A table that `tables` names literally does not exist, has no usable key, is a view, foreign or unlogged table, or hides rows from the login.",
  },
  MR2022: {
    title: "A source is silent",
    remedy:
      "Millrace connects again by itself. If it repeats, look whether the server there runs and is not overloaded, and for a firewall that drops idle connections.",
    cause: "The server sent nothing for too long, not even what keeps a connection alive.",
  },
  MR2023: {
    title: "The log can't be read",
    remedy: `A newer Millrace may read it; its CHANGELOG names the tested servers. If the log is damaged, what it held is lost: \`millrace recover --anyway --yes\` goes on behind it, compares the sinks with the source and reads what differs. Otherwise report it with the server's version.`,
    cause:
      "The log holds something that this version does not know, or that is damaged. Nothing is skipped: the stream stops before it.",
  },
  MR2025: {
    title: "A table was altered while it was read",
    remedy: "Nothing: Millrace reads it again.",
    cause: "Rows that are read beside the stream must have the shape that the stream is at.",
  },
  MR2026: {
    title: "A server gave up waiting",
    remedy:
      "Nothing, if it passes. Otherwise end the session that holds the lock: the message names it and since when, if the login may see it.",
    cause:
      "A lock was not free in time, transactions conflicted, or a statement was cancelled or took longer than it may.",
  },
  MR2027: {
    title: "A server refused, for a reason without a number of its own",
    remedy:
      "The message has the server's own code; its log, or its manual, says more. Correct that at the server. Report it if it stays.",
    cause:
      "The server answered with an error that has no entry here. What may pass is repeated; anything else stops the stream, the sink or the table.",
  },
  MR2029: {
    title: "Stopped",
    remedy: "Nothing.",
    cause: "Somebody asked Millrace to stop.",
  },
  MR2031: {
    title: "A server takes no writes",
    remedy:
      "Promote it, or point the `url` at the primary. For a source the message says whether the slot is kept there too: without it a promotion is a gap (MR2010). `millrace check` says how to keep it.",
    cause:
      "The server is a standby, or reads only. A source that was followed before, and a sink, wait; a first start stops. Of a standby that is the source: `source.primaryUrl` does not lead to its primary.",
  },
  MR2032: {
    title: "Connections led to different servers",
    remedy:
      "Nothing during a failover. If it repeats, let the `url` lead to one server at a time. A command that needs the new host: start the daemon, which goes on there if the log allows it.",
    cause:
      "Connections ended at other servers than those before: an address was switched, several servers answer under it, or one was promoted. Nothing is read until all lead to the same log.",
  },
  MR2035: {
    title: "A number has no room left",
    remedy:
      "The hint says how the numbers begin again: a new cluster, RESET BINARY LOGS AND GTIDS, an empty `path`, or `millrace recover` behind a transaction that is too large.",
    cause:
      "A position, a transaction's count of changes (4,294,967,296) or a number of the sink's files is larger than there is room for. Going on would mix up newer and older rows.",
  },
  MR3106: {
    title: "A target is not this table's",
    remedy:
      "Give the sink another `schema` or `prefix`, or the table another name by `into`. Rename or drop what is there only if nobody needs it: if the sink's database is the source's, it may be the captured table itself.",
    cause:
      "A table, view, index or file with the target's name exists, and Millrace did not make it. Or routes merge tables there (`add`) and no route adds a column to this one; or it is one table's alone, and a route would merge another into it. Millrace does not touch it.",
    seen: "suspended in a sink",
  },
  MR3107: {
    title: "Somebody changed a target",
    remedy: `Change it back to what the message names, or drop it while Millrace is stopped. Then ${READ_AGAIN}`,
    cause:
      "A type, key, engine, mapping, setting or number of partitions is not the one that Millrace gave it, so that rows would be lost or mixed up. Or the key of a history changed. The table is suspended in this sink.",
  },
  MR3109: {
    title: "Another process has taken a sink over",
    remedy:
      "Make sure that one daemon runs under this name; the newer one goes on by itself. Two daemons that share a target need other names.",
    cause:
      "The progress in the target belongs to a newer lease, or another process wrote it. This process stops, so that two never write at once.",
  },
  MR3110: {
    title: "What a sink wrote is gone",
    remedy: "Nothing: Millrace makes what is missing and fills it again. If it repeats, find who removes it.",
    cause:
      "Somebody dropped, renamed, replaced or emptied a table, index, topic or file, or the sink's progress. A history stops (MR1315). Without the progress the whole sink is filled again or, with `onLost: fail`, stops with MR1301.",
  },
  MR3111: {
    title: "A row is refused",
    remedy:
      "`millrace dlq list --sink NAME` says why and which rows. Remove the cause in the target, or correct the row at the source; then `millrace dlq replay --sink NAME --all` reads them again. Or leave the column out (`drop: true`).",
    cause:
      "The target can't take one row: a constraint or trigger, a value or key that its type can't hold, a row that is too large. It becomes a dead letter; the others are written.",
  },
  MR3117: {
    title: "A name is reserved",
    remedy: "Rename the column, by a rule or at the source, give the sink a `schema`, or leave the table out.",
    cause:
      "A column begins with `_millrace_`, or the table would lie in a schema that belongs to the target or to Millrace.",
    seen: "suspended in a sink",
  },
  MR3120: {
    title: "A target has another form",
    remedy:
      "Give the sink another `schema` or `prefix`, or set `mode` and the format back. If nobody needs what is there, remove it while Millrace is stopped: Millrace makes and fills it again.",
    cause:
      "What is there is a mirror and `mode` is history, or the reverse; or a topic's records have another `format`, `encoding` or `decimals`. One target can't have both. Nothing was changed.",
  },
  MR3121: {
    title: "A table was taken over by another sink",
    remedy: `Decide who writes it. Give the other one another \`schema\` or \`prefix\`, exclude the table in its \`tables\`, or stop that daemon. Then ${READ_AGAIN}`,
    cause:
      "Another daemon, or another sink, has prepared the same table or topic since. Two that write to one hide each other's rows. Or it is another's, and the role of this sink does not own it in Postgres. Where routes merge tables, each tenant's rows belong to the sink that had them first, until it lets go of them.",
    seen: "suspended in a sink",
  },
  MR3123: {
    title: "A target can't be taken over",
    remedy: `Do what the message says; \`millrace check\` lists all of it. Then ${READ_AGAIN} Only what differs is written.`,
    cause:
      "With `onForeign: adopt`, something at the other program's table would lose or refuse rows: a subscription that still writes, a foreign key, a column that must have a value, a publication (it may be the captured table itself).",
    seen: "suspended in a sink",
  },
  MR3202: {
    title: "A file is not one that can be read",
    remedy:
      "The hint says which file. Restore it from a backup, move it away or choose another `path`; then `millrace snapshot start --sink NAME` fills it. For DuckDB's log: `mv PATH.wal PATH.wal.damaged` and `millrace resume --sink NAME`, which goes on from what the file itself holds.",
    cause: "What is at `path`, or beside it, is something else, is damaged, or was written by a newer version.",
  },
  MR3203: {
    title: "A file or folder can't be used",
    remedy:
      "See that the folder exists and that the user of the daemon may read and write there; the message has the path and the system's code. The sink goes on by itself.",
    cause:
      "The operating system refused: a missing folder or permission, a file system that is read-only or not mounted.",
  },
  MR3213: {
    title: "A disk is full, or fails",
    remedy:
      "Make room where the message says; it has the paths and the free bytes. If there is room, look at the system's log for errors of that disk. Millrace goes on by itself.",
    cause:
      "A disk of the source's server, of the target, of the state's machine or of the folder for temporary files takes no more, or answers with an error.",
  },
  MR3229: {
    title: "A bucket can't be used",
    remedy:
      "Make the bucket, or correct its name, `s3.region` and `s3.endpoint`. If a lake's bucket is lost, remove its catalogue too and fill the lake again.",
    cause: "There is no bucket of that name, or it is in another region or at another endpoint. The work is repeated.",
  },
  MR3230: {
    title: "S3 finds the machine's clock wrong",
    remedy: "Set the machine's clock, and keep it right by NTP.",
    cause: "S3 takes no request whose time differs from its own by some minutes.",
  },
  MR3315: {
    title: "Another program has overwritten a sink's progress",
    remedy:
      "Remove what the message names and start Millrace again: the sink is filled again; with `onLost: fail` it stops with MR1301. Give the other program names of its own, or the sink a `prefix`.",
    cause:
      "The key, document or topic with the sink's progress holds something else. How far the sink has come is unknown, so it stops and writes nothing.",
  },
} as const satisfies ErrorPages;
