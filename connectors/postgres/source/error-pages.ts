import type { ErrorArea, ErrorCode, ErrorPages } from "../../../src/core/errors.ts";

/** The way out of every gap: the sinks' rows get a new epoch, so that no row of the earlier one blocks a change. */
export const BEGIN_ANEW =
  "`millrace recover` makes a new slot first, then compares the sinks with the source and reads only the rows that differ.";

/** After these errors, only a new slot helps. */
export const LOSSES: ReadonlySet<ErrorCode> = new Set([
  "MR2010",
  "MR2011",
  "MR2013",
  "MR2014",
  "MR2015",
  "MR2016",
  "MR2017",
]);

export const area: ErrorArea = { from: 2000, title: "Postgres as a source" };

/** What docs/errors.md says of the source's codes. */
export const pages: ErrorPages = {
  MR2001: {
    title: "Source can't be reached",
    cause: "No connection to the Postgres server of `source.url`. Millrace tries again, with growing pauses.",
    remedy: "Check host and port, the firewall, and `listen_addresses` of the server.",
  },
  MR2002: {
    title: "Source refuses the login",
    cause:
      "Wrong user, password or database, or no line in pg_hba.conf that admits this role. A running daemon tries again for as long as it takes, and `status` says that somebody has to act.",
    remedy: "Try the same URL with psql from the same machine; correct `source.url` or pg_hba.conf.",
  },
  MR2003: {
    title: "TLS with the source failed",
    cause:
      "The server does not speak TLS, or its certificate fails the check that `sslmode` asks for. A running daemon tries again for as long as it takes, and `status` says that somebody has to act.",
    remedy: "Set `sslmode` and `sslrootcert` in `source.url` as for psql. `verify-full` is right over a network.",
  },
  MR2004: {
    title: "Source URL is wrong",
    cause: "`source.url` is not a postgres:// URL, or has a parameter or value that Millrace does not know.",
    remedy: "Correct the URL; the message names the part.",
  },
  MR2005: {
    title: "wal_level is not logical",
    cause: "The server's log lacks what logical decoding needs.",
    remedy: "ALTER SYSTEM SET wal_level = logical; then restart the server.",
  },
  MR2006: {
    title: "No free slot or connection",
    cause: "All replication slots, WAL senders or connections of the server are taken.",
    remedy:
      "Drop unused slots, or raise max_replication_slots, max_wal_senders or max_connections and restart the server.",
  },
  MR2007: {
    title: "Connection pooler instead of server",
    cause: "PgBouncer and similar poolers can't pass replication on.",
    remedy: "Point `source.url` at the server itself.",
  },
  MR2008: {
    title: "Privilege missing",
    cause: "The role of `source.url` may not do what capture needs.",
    remedy: "Run `millrace check`: it prints the GRANT or ALTER ROLE.",
  },
  MR2009: { title: "Server too old", cause: "Millrace needs Postgres 14 or newer.", remedy: "Upgrade the server." },
  MR2010: {
    title: "Slot is missing",
    cause:
      "The replication slot from which Millrace read was dropped, or the server was promoted without having it: it was not synchronised, or not ready yet (`millrace explain MR2031`). What was committed since the last confirmed position is no longer in its reach.",
    remedy: BEGIN_ANEW,
  },
  MR2011: {
    title: "Slot was invalidated",
    cause:
      "The server gave the slot up (max_slot_wal_keep_size, idle_replication_slot_timeout, wal_level) or no longer has the log.",
    remedy: `Drop the slot, and raise the limit that the message names. ${BEGIN_ANEW}`,
  },
  MR2012: {
    title: "Slot is in use",
    cause:
      "Another connection reads from the slot: the session of a daemon that was cut off, which the server keeps until wal_sender_timeout, or another daemon of the same name. A daemon that had the slot waits until it is free; a first start is refused (exit code 4) before it touches anything. The message says who reads.",
    remedy:
      "Stop the other daemon, or give this one another `name`. To end an unused session: SELECT pg_terminate_backend(pid) with the pid of the message.",
  },
  MR2013: {
    title: "Another server",
    cause:
      "The server's system identifier differs from the stored one: this is another cluster, or it was created again or restored by dump.",
    remedy: `Correct \`source.url\`. If the change was meant: ${BEGIN_ANEW}`,
  },
  MR2014: {
    title: "Another timeline",
    cause:
      "The server was promoted or restored, and the stored position lies after the point where the new history begins: what Millrace delivered may not exist there. A standby that the primary does not wait for (synchronized_standby_slots, `millrace explain MR2031`) may be behind Millrace when it is promoted.",
    remedy: `Restore the right server. If the change was meant: ${BEGIN_ANEW}`,
  },
  MR2015: {
    title: "Gap before the slot",
    cause:
      "The slot is confirmed beyond the stored position: changes between the two were consumed by another program or by a state that was lost.",
    remedy: BEGIN_ANEW,
  },
  MR2016: {
    title: "Position ahead of the server",
    cause: "The stored position lies beyond the end of the server's log: the server is an older copy of itself.",
    remedy: `Restore the right server. If the change was meant: ${BEGIN_ANEW}`,
  },
  MR2017: {
    title: "Publication missing or narrowed",
    cause:
      "The publication was dropped, or no longer carries tables or kinds of change that it did: changes may have passed unseen. With `snapshot: none` also: it was altered, and may have carried less for a while.",
    remedy: `Correct the publication, or drop it: Millrace creates it again. ${BEGIN_ANEW}`,
  },
  MR2018: {
    title: "Slot is of another kind",
    cause:
      "A slot of that name exists but is physical, of another database, of another output plugin, or one that sends prepared transactions before they are committed (`two_phase`).",
    remedy: "Choose another `slot` in the source's configuration, or drop the slot.",
  },
  MR2019: {
    title: "Slot is not finished",
    cause: "The slot's creation was cut off, or still waits for a transaction that was running.",
    remedy: "End the transaction that the message names, or drop the slot.",
  },
  MR2020: {
    title: "Table can't be captured",
    cause:
      "A table that `tables` names literally has no usable key, is a view, foreign or unlogged table, or hides rows from the role.",
    remedy: "The message has the reason and the fix, or take the table out of `tables`.",
  },
  MR2021: {
    title: "Connection to the source lost",
    cause:
      "The session ended: network, restart, or an administrator. Millrace connects again and continues where it was.",
    remedy: "Nothing, unless it repeats: then look in the server's log.",
  },
  MR2022: {
    title: "Source is silent",
    cause:
      "For 30 seconds the server neither sent anything nor answered a request for a reply: the connection counts as dead and is opened again.",
    remedy: "Nothing, unless it repeats: then look for a firewall that drops idle connections.",
  },
  MR2023: {
    title: "Stream can't be read",
    cause: "The replication stream held something that Millrace does not know. Millrace stops rather than guess.",
    remedy: "Report it with the server's version.",
  },
  MR2024: {
    title: "Server ended the session",
    cause:
      "The server is starting, stopping or short of resources, or an administrator ended the session. Millrace tries again.",
    remedy: "Nothing, unless it repeats.",
  },
  MR2025: {
    title: "Table changed while it was read",
    cause:
      "Columns or tables were altered between the look at the catalogue and the read. Millrace reads the table again.",
    remedy: "Nothing.",
  },
  MR2026: {
    title: "Server gave up waiting",
    cause:
      "A lock was not free in time, or an administrator cancelled the statement. Millrace tries again. Timeouts of role, database and server do not count for its sessions.",
    remedy: "Look for long transactions that hold locks: pg_stat_activity and pg_locks.",
  },
  MR2027: {
    title: "Server refused a command",
    cause:
      "An error of the server for which Millrace has no rule. Millrace retries an internal one (SQLSTATE of class XX or 58, as an internal error " +
      "of a WAL sender), at most every 30 s, for as long as it takes; after ten minutes without progress " +
      "`status` says that somebody has to act. Any other error stops the work.",
    remedy: "The SQLSTATE, the server's function in the message and the server's log say more.",
  },
  MR2028: {
    title: "Row-level security hides rows",
    cause: "A policy of the table would keep rows from the role: a copy would silently lack them.",
    remedy: "ALTER ROLE … BYPASSRLS, or take the table out of `tables`.",
  },
  MR2035: {
    title: "The log is too long for the versions of rows",
    cause:
      "A row's version has room for positions of 55 bits (32 PiB of log since the cluster was made). Beyond them newer rows " +
      "would be taken for older ones, so the daemon stops.",
    remedy:
      "Restore the database into a new cluster (pg_dump and pg_restore), whose log begins at zero, and fill the sinks from it.",
  },
  MR2036: {
    title: "A transaction is too large",
    cause:
      "A transaction has more than 4,294,967,296 changes. Further ones could not be told apart in histories and streams, so the daemon stops.",
    remedy:
      "`millrace recover` goes on behind the transaction, compares the sinks with the source and reads only the rows that differ.",
  },
  MR2029: { title: "Stopped", cause: "Millrace was asked to stop.", remedy: "Nothing." },
  MR2037: {
    title: "Text has no form in UTF-8",
    cause:
      "A database with the encoding SQL_ASCII keeps whatever bytes a client sends, and some of a row are no UTF-8; or a character of a database's encoding (WIN1252, EUC_JP, …) has no form in UTF-8. Such a change suspends its table, and a table that holds such a row can't be read; all other tables go on. A name of a table or column that has no form must be changed first: none of the database's names can be read beside it.",
    remedy:
      "Correct the rows. In a SQL_ASCII database, in a session with client_encoding SQL_ASCII, for example of bytes in LATIN1: UPDATE … SET c = convert_from(convert(convert_to(c, 'SQL_ASCII'), 'LATIN1', 'UTF8'), 'SQL_ASCII') WHERE …. In others, in a session whose client_encoding is the database's (SHOW server_encoding), for example of the byte 81 in WIN1252: UPDATE … SET c = replace(c, convert_from('\\x81', 'WIN1252'), '?') WHERE …. Or delete them, or leave the table out by `tables`. Then `millrace snapshot start --tables TABLE` reads a suspended table again; one that can't be read is tried again by itself.",
  },
  MR2030: {
    title: "No second slot for a sink that is behind",
    cause:
      "A sink that was away or too slow catches up through its own stream, for which the server has no replication slot or " +
      "WAL sender left, or which the server refuses. Millrace tries several times; then the shared stream goes back to the sink's " +
      "position, and the other sinks wait until it is back where it was: `status` shows this.",
    remedy:
      "Leave one slot and one WAL sender free: raise max_replication_slots and max_wal_senders, or drop unused " +
      "slots. The role needs EXECUTE on pg_copy_logical_replication_slot(name, name, boolean), which PUBLIC has unless it was revoked.",
  },
  MR2031: {
    title: "Source is a standby",
    cause:
      "The server replays another server's log and takes no writes. A daemon that followed this log before waits, with growing pauses of up to 30 seconds, for the promotion; a first start stops.",
    remedy:
      "Promote the server, or point `source.url` at the primary. The message says whether the slot is kept there too: without it a promotion is a gap (MR2010). From Postgres 17 on a standby keeps it with `sync_replication_slots`, `hot_standby_feedback`, `primary_slot_name` and a `dbname` in `primary_conninfo`; the primary has that physical slot in `synchronized_standby_slots`, and `millrace check` says whether Millrace's own slot is a failover slot.",
  },
  MR2032: {
    title: "Connections led to different servers",
    cause:
      "Connections that were opened one after the other ended at different servers, or the server was promoted in between. Nothing is read before all of them lead to the server whose log was compared with the stored position; it is tried again.",
    remedy:
      "Nothing during a failover. If it repeats, `source.url` leads to several servers (a load balancer, several addresses of one name): name the primary alone.",
  },
};
