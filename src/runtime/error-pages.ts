/** What docs/errors.md says of the numbers that the runtime raises. */
import type { ErrorPages } from "../core/errors.ts";

export const pages = {
  MR1301: {
    title: "The sink holds less than it held before",
    cause:
      "At connect, or at a heartbeat, the progress stored in the sink was missing or behind what the state store had " +
      "recorded: its file was deleted, an index dropped, the cache flushed, or an older copy restored. The log of the " +
      "source no longer reaches back to what the sink holds, so going on would leave a gap. Only this sink stops, and only " +
      "with `onLost: fail`, the default of warehouses, and where it keeps a history: others are filled again by themselves.",
    remedy:
      "Fill it again beside the running stream: `millrace snapshot start --sink NAME`. If the sink was meant to be " +
      "restored from a newer copy, restore that copy and run `millrace resume --sink NAME`.",
  },
  MR1302: {
    title: "A row was refused and the sink is set to pause on such rows",
    cause:
      "The target refused a row for its content. The row is stored as a dead letter; `onPoison: pause` stops the sink.",
    remedy:
      "Look at it with `millrace dlq list` and `millrace dlq show ID`, mend the row or the target, then `millrace resume --sink NAME`.",
  },
  MR1303: {
    title: "A table's shape changed, and its rules want that approved",
    cause:
      "`schemaChange: pause`, or a change that the table's `compatibility` does not allow. The table is set aside: its " +
      "changes are passed over, everything else goes on.",
    remedy:
      "Look at it with `millrace schema show TABLE`, then `millrace schema approve TABLE`: the sinks follow the new shape, " +
      "and the table is read again beside the stream.",
  },
  MR1304: {
    title: "A failure that is not classified",
    cause:
      "A sink, the stream, or a read beside it failed with an error that Millrace does not know, through the bounded retries too.",
    remedy: "The log has the error with its causes. Mend what it names and run `millrace resume --sink NAME`.",
  },
  MR1305: {
    title: "Two tables meet in one target",
    cause: "Two captured tables have the same target name in a sink (names that differ in case, or that were cut).",
    remedy:
      "Give the sink a `tables` list with only one of them, or put them in sinks with different `schema` or `prefix`. " +
      "Where one of the two is dropped or renamed at the source, the other is taken in by itself.",
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
  MR1308: {
    title: "The sink lost what it held while it was written to",
    cause:
      "A step failed, and when the sink was opened again for another attempt its progress was missing or behind what this " +
      "process had written: it was emptied, or set back to an older copy, in between. The sink is begun anew from what it " +
      "holds now, or stops with MR1301 where the log no longer reaches back to there.",
    remedy: "Nothing, unless it ends in MR1301. A sink that is emptied again and again has another writer: find it.",
  },
  MR1309: {
    title: "A captured table can't be captured any more",
    cause:
      "The table's primary key or replica identity was dropped, or the table itself was; or it became unlogged, got a " +
      "column with a name that Millrace keeps for itself. The message says which. The table is set aside, everything else " +
      "goes on.",
    remedy:
      "Do what the message's hint, or `millrace check`, says: a lost key is given back, for example. The table is then " +
      "read again and flows, without a word to Millrace. One that was dropped for good may be taken out of `tables`.",
  },
  MR1310: {
    title: "A snapshot that the sink needs can't be cancelled",
    cause:
      "The sink does not hold the table completely without it (it is new there, was emptied, was let in again, or changed " +
      "at the source without a word in the log). Given up, the sink would be short of rows and say nothing of it.",
    remedy:
      "Let it end; it goes on where it was over a restart. To spare the source for a while, `millrace pause --sink NAME`. " +
      "To do without the table there, leave it out of the sink's `tables` and restart the daemon.",
  },
  MR1311: {
    title: "The sink is ahead of the source's log",
    cause:
      "The progress stored in the sink names a place that the log does not have: the state was lost or restored to an " +
      "earlier one, or the source was exchanged or restored, while this sink could not be asked. Everything up to that place would be passed over as done, and the " +
      "rows that the sink holds would be taken for newer. Only this sink stops.",
    remedy:
      "Where the source was exchanged by mistake, put the right one back. Else stop the daemon and run `millrace recover`: " +
      "another epoch begins, which is above all that the sinks show, and every sink is compared. Or empty this sink alone " +
      "(drop its tables and Millrace's own, delete the file, flush its keys) and run `millrace snapshot start --sink NAME`.",
  },
  MR1312: {
    title: "A captured table waits for a privilege",
    cause:
      "The role may not read the table, or nobody has published it for the role: a privilege was taken away, or the table " +
      "was dropped and made again by its owner. It is set aside, everything else goes on.",
    remedy:
      "Run what the message's hint, or `millrace check`, prints. The table is then read again and flows, without a word " +
      "to Millrace.",
  },
  MR1313: {
    title: "A key that its rows can't be told apart by",
    cause:
      "The rule of the table gives columns as `key` over which the source has no unique constraint, and two rows have the " +
      "same values there, or one has a null. One of them would be lost in every sink, so the table is set aside; everything " +
      "else goes on.",
    remedy:
      "Correct those rows at the source (group the table by the key's columns to find them), best with a unique constraint " +
      "over not-null columns; then `millrace snapshot start --tables TABLE`. Or take other columns as the key.",
  },
  MR1314: {
    title: "A defect met one table",
    cause:
      "Millrace failed in its own work on the rows of this table: a defect of Millrace, not of the rows. The table is " +
      "suspended, so that the other tables and sinks go on.",
    remedy:
      "Report it with what the log says. `millrace snapshot start --tables TABLE` reads the table " +
      "again and lets it flow; the changes that led to the defect are then passed over.",
  },
  MR1315: {
    title: "A history is gone from its sink",
    cause:
      "A table in which the sink keeps a history (`mode: history`) was dropped or emptied there. The rows that the source has " +
      "now could be read again, what was before them could not: the sink stops, so that nobody takes the one for the other.",
    remedy:
      "Put the table back from a backup, then `millrace resume --sink NAME`. Or begin anew with the rows of now: " +
      "`millrace snapshot start --sink NAME`.",
  },
  MR1317: {
    title: "The sink's checkpoint is of another state",
    cause:
      "The sink holds a checkpoint in the present epoch that was written under another state: the configuration leads to " +
      "the target of another daemon, or the target was exchanged. Its position says nothing of this log, and its rows may " +
      "have versions that no change of this log is above. Only this sink stops.",
    remedy:
      "Correct the sink's address. If the target is the right one: stop the daemon, then `millrace offsets reset --sink NAME " +
      "--to snapshot --yes`, which removes rows that this log can't have written and reads all tables again.",
  },
  MR1318: {
    title: "The sink's rows are newer than the source's log",
    cause:
      "The sink has no checkpoint, and rows whose versions lie above everything that the log has now: they are of an earlier " +
      "life of this daemon, or of another one. Changes would have no effect on them. Only this sink stops.",
    remedy:
      "Correct the sink's address. If the target is the right one: stop the daemon, then `millrace offsets reset --sink NAME " +
      "--to snapshot --yes`, which removes those rows and reads all tables again.",
  },
  MR1321: {
    title: "The sink can't be asked by SQL",
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
    title: "The source does not take the condition of `snapshot start`",
    cause:
      "The source was asked for no row under `--where`, and refused: the condition is not SQL of the source, names what the " +
      "table does not have, or the table can't be read now. Nothing was begun.",
    remedy: "Try the condition at the source: SELECT count(*) FROM the table WHERE (the condition).",
  },
  MR1324: {
    title: "A sink can't write one table",
    cause:
      "What the target refuses concerns this table alone, and no single row of it: an index that is closed or blocked, or " +
      "has lost a part, a constraint that fails at the commit, or an error that is not classified, while the sink's other tables can be " +
      "written. The message has the target's own error. The table is suspended in this sink; everything else goes on.",
    remedy:
      "Mend what the message names at the target. The table is tried again by itself, at most every 30 s, and then read " +
      "again as a whole.",
  },
  MR1325: {
    title: "A row's key has a date that does not exist",
    cause:
      "MySQL and MariaDB keep 0000-00-00, months and days of zero and, where they are told to, 02-31. Such values are null " +
      "in the sinks, or 1970-01-01 with `zeroDates: epoch`; a key can be neither: two rows would have it. The row alone is " +
      "left out: it is a dead letter of each sink, which goes when the row does.",
    remedy:
      "Correct the row at the source, or choose `zeroDates: text` for its table, which is then read again with its dates as " +
      "texts. `millrace dlq list` names the rows.",
  },
} as const satisfies ErrorPages;
