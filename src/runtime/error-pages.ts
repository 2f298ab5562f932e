/** What docs/errors.md says about the error codes of the runtime. */
import type { ErrorPages } from "../core/errors.ts";

export const pages = {
  MR1301: {
    title: "The sink holds less than it held before",
    cause:
      "At connect, or at a heartbeat, the progress stored in the sink was missing or behind what the state store had " +
      "recorded: its file was deleted, an index dropped, the cache flushed, or an older copy restored. The log of the " +
      "source no longer reaches back to what the sink holds, so continuing would leave a gap. Only this sink stops, and only " +
      "with `onLost: fail` (the default of warehouses), or if it keeps a history. Millrace fills other sinks again by itself; the " +
      "readers of files and topics then lack the changes in between.",
    remedy:
      "Fill it again beside the running stream: `millrace snapshot start --sink NAME`. A history, files and topics get the " +
      "present rows then; the changes in between are lost to them. If the sink was meant to be " +
      "restored from a newer copy, restore that copy and run `millrace resume --sink NAME`.",
  },
  MR1302: {
    title: "A row was refused and the sink is set to pause on such rows",
    cause:
      "The target refused a row for its content. The row is stored as a dead letter; `onPoison: pause` stops the sink.",
    remedy:
      "Look at it with `millrace dlq list` and `millrace dlq show ID`, correct the row or the target, then `millrace resume --sink NAME`.",
  },
  MR1303: {
    title: "A table is new or its shape changed, and an operator has to approve it",
    cause:
      "`schemaChange: pause`, or a change that the table's `compatibility` does not allow. Under a glob of `tables` that says " +
      "`schemaChange: pause`, a table that appears after the first start waits too, unless a key of `tables` names it. The " +
      "table is suspended: its changes are skipped, everything else continues.",
    remedy:
      "Look at it with `millrace schema show TABLE`, then `millrace schema approve TABLE`: the sinks follow the new shape, " +
      "and the table is read again beside the stream.",
  },
  MR1304: {
    title: "A failure that is not classified",
    cause:
      "A sink, the stream, or a read beside it failed with an error that Millrace does not know, and the retries failed too.",
    remedy: "The log has the error with its causes. Correct what it names and run `millrace resume --sink NAME`.",
  },
  MR1305: {
    title: "Two tables have the same target",
    cause:
      "Two captured tables have the same target name in a sink (names that differ in case or in a dot's place, or that were " +
      "cut). Of two in one daemon the later one waits. Of two in different shares the later one, or both if they came at once.",
    remedy:
      "Give the sink a `tables` list with only one of them, or put them in sinks with different `schema` or `prefix`. " +
      "If one of the two is dropped or renamed at the source, Millrace captures the other one by itself.",
  },
  MR1306: {
    title: "No such sink",
    cause: "A command named a sink that the configuration does not have.",
    remedy: "Use one of the names that the message lists; they are the keys under `sinks` in millrace.yaml.",
  },
  MR1307: {
    title: "No such table",
    cause: "A command named a table that is not captured.",
    remedy:
      "Name it as `schema.table`. `millrace status` counts the captured tables and names those that were left out.",
  },
  MR1335: {
    title: "A sink gives no answer",
    cause:
      "A write of rows, or the opening of the sink, took longer than the sink's `batch.timeout` (five minutes, if the config does not say), " +
      "or a sweep, a truncate or a change of shape, which take longer with the size of the table, twelve times as long. Its target " +
      "accepted the connection and does not answer: its process is stopped, its machine or a firewall swallows what is sent, or it is far " +
      "too slow. Millrace cuts the connection, opens the sink again, and gives the next attempt twice the time. The other sinks go on.",
    remedy:
      "Look at the target: whether its server works, waits for a lock, or lacks memory or disk. If it is healthy and only slow, " +
      "make its batches smaller (`batch.rows`, `batch.bytes`) or the time longer (`batch.timeout`).",
  },
  MR1336: {
    title: "A table is gone from the target",
    cause:
      "The sink held the table completely, and its target lacks it now: somebody dropped, renamed, replaced or emptied it while the daemon ran. " +
      "The sink is opened again, makes the table, and reads its rows again; a history stops (MR1315), because its past can't be read.",
    remedy: "Nothing, if the table was dropped by mistake or to have it filled again. Otherwise find out who drops it.",
  },
  MR1338: {
    title: "The epochs are used up",
    cause:
      "The state was lost, so that a new epoch has to begin, and a sink shows the last one that the versions of rows have room for (255).",
    remedy: "Empty the sinks, or give them empty places (another schema, prefix or path). Then the epochs begin again.",
  },
  MR1337: {
    title: "Reading tables again does not bring the sink back",
    cause:
      "`snapshot start` names a sink that has failed because its place does not go together with the log (MR1301, MR1311, MR1317, MR1318). " +
      "While it has that place it takes no rows, so reading some of them would never end. Nothing was stored.",
    remedy:
      "`millrace snapshot start --sink NAME`, without `--tables` and `--where`, fills a mirror again. For a history or a stream " +
      "that is ahead of the log (MR1311), stop the daemon and run `millrace recover`.",
  },
  MR1326: {
    title: "An operator has paused a table",
    cause:
      "`millrace pause --tables TABLE`: the sinks skip the table's changes and go on with the others. The source keeps no " +
      "log for it.",
    remedy:
      "`millrace resume --tables TABLE`. The sinks take the table again, and where changes have passed meanwhile its rows are " +
      "read again.",
  },
  MR1327: {
    title: "A table of a history can't be paused",
    cause:
      "Changes that pass while a table is paused are made up for by reading its rows. A history would never get the changes " +
      "themselves.",
    remedy:
      "Name the other sinks with `--sink`, or pause the history as a whole: then the source keeps its log for it.",
  },
  MR1308: {
    title: "Somebody replaced the sink while Millrace wrote to it",
    cause:
      "A batch failed, and when the sink was opened again for another attempt its checkpoint was missing or not what this " +
      "process had written: in between it was emptied, or replaced by a copy. Millrace starts again from what the sink " +
      "holds now, or stops the sink with MR1301 if the log no longer reaches back to there.",
    remedy:
      "Nothing, unless it ends in MR1301. If a sink is emptied again and again, find the other program that writes to it.",
  },
  MR1309: {
    title: "A captured table can't be captured any more",
    cause:
      "The table, its primary key or its replica identity was dropped; or the table became unlogged, or got a " +
      "column with a name that Millrace reserves. The message says which. The table is suspended, everything else " +
      "goes on.",
    remedy:
      "Do what the message's hint, or `millrace check`, says: for example, add the lost key again. Millrace then reads the table " +
      "again and captures it, without a command from you. You can take a table that was dropped for good out of `tables`.",
  },
  MR1310: {
    title: "A snapshot that the sink needs can't be cancelled",
    cause:
      "The sink does not hold the table completely without it (it is new there, was emptied, was reinstated, or changed " +
      "at the source in a way that the log does not show). Without the snapshot the sink would lack rows, and nothing would show it.",
    remedy:
      "Let it end; after a restart it continues where it was. To relieve the source for a while, run `millrace pause --sink NAME`. " +
      "To do without the table there, leave it out of the sink's `tables` and restart the daemon.",
  },
  MR1311: {
    title: "The sink is ahead of the source's log",
    cause:
      "The checkpoint in the sink names a position that the log does not have: the state was lost or replaced by an " +
      "older copy, or the source was exchanged or restored, while this sink did not answer. Millrace would skip everything up to that position as done, and take the " +
      "rows in the sink for newer ones. Only this sink stops.",
    remedy:
      "If the source was exchanged by mistake, put the right one back. Otherwise stop the daemon and run `millrace recover`: " +
      "it begins a new epoch, higher than any in the sinks, and compares every sink. Or fill this sink alone again, if it is a " +
      "mirror: `millrace snapshot start --sink NAME`.",
  },
  MR1312: {
    title: "A captured table waits for a privilege",
    cause:
      "The role may not read the table, or the table is not published: a privilege was revoked, or the owner dropped the table " +
      "and created it again. The table is suspended, everything else continues.",
    remedy:
      "Run what the message's hint, or `millrace check`, prints. Millrace then reads the table again and captures it, without a command " +
      "from you. MySQL and MariaDB do not tell whether a table that the user may not read was dropped since: then leave it out by `tables`.",
  },
  MR1313: {
    title: "A key that does not tell its rows apart",
    cause:
      "The rule of the table gives columns as `key` over which the source has no unique constraint, and two rows have the " +
      "same values there, or one has a null. One of them would be lost in every sink, so the table is suspended; everything " +
      "else goes on.",
    remedy:
      "Correct those rows at the source (group the table by the key's columns to find them), and preferably add a unique constraint " +
      "over not-null columns; then `millrace snapshot start --tables TABLE`. Or use other columns as the key.",
  },
  MR1314: {
    title: "A defect in Millrace affects one table",
    cause:
      "Millrace failed while it processed the rows of this table. This is a defect of Millrace, not of the rows. The table is " +
      "suspended, so that the other tables and sinks go on.",
    remedy:
      "Report it with what the log says. `millrace snapshot start --tables TABLE` reads the table " +
      "again and captures it; the changes that led to the defect are then skipped.",
  },
  MR1315: {
    title: "A history is gone from its sink",
    cause:
      "A table in which the sink keeps a history (`mode: history`) was dropped or emptied there, or the sink got another `schema`. The rows that the source has " +
      "now could be read again, but not the earlier ones. The sink stops, so that an incomplete history is not taken for a complete one.",
    remedy:
      "Put the table back from a backup, or the former `schema` into the configuration, then `millrace resume --sink NAME`. Or start a new history with the present rows: " +
      "`millrace snapshot start --sink NAME`.",
  },
  MR1317: {
    title: "The sink's checkpoint belongs to another state",
    cause:
      "The sink holds a checkpoint of the present epoch that was written with another state: the configuration names " +
      "the target of another daemon, or the target was exchanged. Its position says nothing about this log, and its rows may " +
      "have higher versions than any change of this log. Only this sink stops.",
    remedy:
      "Correct the sink's address. If the target is the right one: stop the daemon, then `millrace offsets reset --sink NAME " +
      "--to snapshot --yes`, which removes rows that this log can't have written and reads all tables again.",
  },
  MR1318: {
    title: "The sink's rows are newer than the source's log",
    cause:
      "The sink has no checkpoint, but it has rows with higher versions than anything in the log now: they come from an earlier " +
      "life of this daemon, or from another daemon. Changes would have no effect on them. Only this sink stops.",
    remedy:
      "Correct the sink's address. If the target is the right one: stop the daemon, then `millrace offsets reset --sink NAME " +
      "--to snapshot --yes`, which removes those rows and reads all tables again.",
  },
  MR1321: {
    title: "The sink can't be queried with SQL",
    cause: "`millrace query` named a sink of a kind that has no queries of its own.",
    remedy: "Name a DuckDB sink with `--sink`; other targets have clients of their own.",
  },
  MR1322: {
    title: "Too many queries at once",
    cause:
      "Each query reads a copy of the sink's file. The daemon makes a bounded number of copies at once, so that they can't take all of the disk.",
    remedy: "Ask again in a moment.",
  },
  MR1323: {
    title: "The source does not accept the condition of `snapshot start`",
    cause:
      "Millrace tested `--where` at the source with a query that reads no row, and the source refused it: the condition is not valid SQL of the source, names something that the " +
      "table does not have, or the table can't be read now. Nothing was started.",
    remedy: "Try the condition at the source: SELECT count(*) FROM the table WHERE (the condition).",
  },
  MR1324: {
    title: "A sink can't write one table",
    cause:
      "The target refuses writes to this table alone, and not because of a single row: an index is closed or blocked, or " +
      "has lost a part, a constraint fails at the commit, or there is an error that is not classified, while the sink's other tables can be " +
      "written. The message has the target's own error. The table is suspended in this sink; everything else goes on.",
    remedy:
      "Correct what the message names at the target. Millrace tries the table again by itself, at most every 30 s, and then reads it " +
      "again as a whole.",
  },
  MR1325: {
    title: "A row's key has a date that does not exist",
    cause:
      "MySQL and MariaDB can store 0000-00-00, months and days of zero and, with some settings, 02-31. Such values are null " +
      "in the sinks, or 1970-01-01 with `zeroDates: epoch`. A key can be neither, because two rows could then have the same key. Only this row is " +
      "left out: it becomes a dead letter of each sink, and the dead letter is removed together with the row.",
    remedy:
      "Correct the row at the source, or choose `zeroDates: text` for its table, which is then read again with its dates as " +
      "texts. `millrace dlq list` names the rows.",
  },
  MR1328: {
    title: "A sink refuses too many rows of a table",
    cause:
      "So many rows of the table wait as dead letters of the sink as `deadLettersMax` allows (1,000, if the config does not say), and the " +
      "target refused another one. So many rows point to the table, not to the rows: a constraint or a trigger that somebody added to the " +
      "target, or a column that is too small. The table is suspended in this sink, so that neither its letters nor the tries grow without " +
      "an end; everything else goes on. A history, which could not make up for what passes by meanwhile, stops as a whole.",
    remedy:
      "`millrace dlq list` counts the letters by cause, and `millrace dlq show ID --show-values` shows a row. Correct the target, then " +
      "`millrace snapshot start --tables TABLE --sink NAME`: the rows are read again, and their letters end. For a history: " +
      "`millrace dlq discard`, then `millrace resume --sink NAME`.",
  },
  MR1330: {
    title: "The tables were shared in another way before",
    cause:
      "`source.shares` was changed, set or removed, or a sink's `schema` was, and the states still have positions from before. " +
      "Tables would move from one share to another, and two daemons would count them as theirs.",
    remedy:
      "Take the former value back. Or stop all processes, and run `millrace recover --shares --yes` with the new one: it moves the " +
      "tables, and `millrace run` compares them or reads them again. From shares to none: `millrace teardown --sink-metadata --yes` " +
      "with the former value, then start.",
  },
} as const satisfies ErrorPages;
