import type { ErrorArea, ErrorPages } from "../../src/core/errors.ts";

export const area: ErrorArea = { from: 3200, title: "DuckDB" };

export const pages = {
  MR3201: {
    title: "The DuckDB file is open in another process",
    cause:
      "DuckDB lets only one process open a file, and locks it. Another process has it open: a DuckDB shell, a notebook, or " +
      "another Millrace.",
    remedy:
      "Close the file in the process that the message names. While Millrace runs, no other program can open it: " +
      "stop Millrace to look at the data, or use a Postgres warehouse.",
  },
  MR3202: {
    title: "The file is not a DuckDB database that can be read",
    cause:
      "The file at `path` is something else, is damaged, or was written by a newer version of DuckDB. Or its log beside it, " +
      "`path` with `.wal` behind it, can't be read: it is damaged, or DuckDB ended while it wrote. This sink stops, the others go on.",
    remedy:
      "If the message names the log: move it away (`mv PATH.wal PATH.wal.damaged`) and `millrace resume --sink NAME`. The file then holds " +
      "rows and progress as of the last time that the log was folded in, and Millrace continues from there if the source's log reaches back that far " +
      "(otherwise MR1301: `millrace snapshot start --sink NAME`). Otherwise restore a backup of the file and its log, for which the same holds; " +
      "or set another `path`, or move file and log away, and `millrace snapshot start --sink NAME`: Millrace creates a new file and fills it.",
  },
  MR3203: {
    title: "The DuckDB file can't be opened",
    cause: "Its folder does not exist, or the user that Millrace runs as may not read and write there.",
    remedy: "Create the folder, or correct its permissions. Millrace creates the file, but never the folder.",
  },
  MR3204: {
    title: "Another process has taken this sink over",
    cause:
      "The progress in the file is not what this process wrote last, or carries a higher lease number: another daemon " +
      "has opened the sink since. Nothing was written.",
    remedy:
      "Nothing has to be repaired. Make sure that one daemon runs for this configuration, and start it again. Two daemons that write other tables of one lake need other names for their sinks.",
  },
  MR3205: {
    title: "Millrace did not create the table with the target's name",
    cause:
      "The file has a table or view of the target's name without the columns `_millrace_version` and " +
      "`_millrace_commit_time`. Millrace does not touch it.",
    remedy: "Rename or drop it, or give the sink another `schema`.",
  },
  MR3206: {
    title: "A target column has another type than the source's column",
    cause:
      "The table has a column with another type than Millrace gave it: somebody changed it in the file. " +
      "(Millrace follows changes at the source.)",
    remedy:
      "Change the column with ALTER TABLE … ALTER … TYPE, or drop the table, while Millrace is stopped; then " +
      "fill it again with `millrace snapshot start --sink NAME --tables TABLE`.",
  },
  MR3207: {
    title: "The target's key is not the table's key",
    cause:
      "The table has another primary key than Millrace gave it: somebody changed it in the file. Or it is a history, " +
      "and the key changed at the source, which a history can't follow.",
    remedy:
      "Drop the table in the file while Millrace is stopped, then fill it again with " +
      "`millrace snapshot start --sink NAME --tables TABLE`.",
  },
  MR3208: {
    title: "Two sinks would write to one table in DuckDB",
    cause:
      "Two sinks share a file, and both would write the same table there. For DuckDB, names are equal if they differ only in the " +
      "case of ASCII letters. With `schema` set, tables of different schemas can also have the same name.",
    remedy: "Leave the table out of the `tables` of one sink, or give one sink another `schema`.",
  },
  MR3209: {
    title: "A name is reserved",
    cause:
      "The table would lie in a schema that belongs to DuckDB or to Millrace, or a column is named like Millrace's own.",
    remedy: "Give the sink a `schema`, rename the column at the source, or leave the table out.",
  },
  MR3210: {
    title: "DuckDB refuses a row",
    cause:
      "A value could not be read as its column's type. The row is kept as a dead letter, the others are written. Values " +
      "that are known not to fit do not cause this error: they are stored in `_millrace_exact`.",
    remedy:
      "Look at the row with `millrace dlq show ID --show-values`; correct it at the source, or change the column's type in the file; then `millrace dlq replay --sink NAME --all` reads the refused rows again.",
  },
  MR3211: {
    title: "A key value does not fit into DuckDB's type",
    cause:
      "A column of the key holds a value outside of its DuckDB type: NaN in a numeric(p,s), or a timestamp after " +
      "294247-01-10 (with time zone 287396-10-12). A key can't be null, so the row is kept as a dead letter.",
    remedy: "Correct the value at the source, or leave the table out of this sink.",
  },
  MR3212: {
    title: "DuckDB does not have enough memory",
    cause:
      "A statement needed more than `memoryLimit`. Millrace repeats the batch. While a query or a comparison reads the file, DuckDB holds new rows in memory; the sink continues by itself when the read ends.",
    remedy: "Raise the sink's `memoryLimit`, or lower `batch.bytes`.",
  },
  MR3213: {
    title: "The file, or the folder for temporary files, can't be written",
    cause: "The disk is full, or it reported an error. Millrace repeats the batch.",
    remedy:
      "Make room on the disk of `path` (of `catalog` and `data` in a lake), and in the folder for temporary files.",
  },
  MR3214: {
    title: "The DuckDB file was removed or replaced",
    cause:
      "While Millrace had the file open, somebody deleted, moved or replaced it, or dropped a table of " +
      "Millrace. Millrace creates and fills a table again, while the others go on. Without the file the sink stops " +
      "with MR1301, as a disk may be missing; with `onLost: resync` Millrace creates and fills a new file.",
    remedy:
      "Nothing for a table. Put the file back and `millrace resume --sink NAME`, or let Millrace create and fill a new one: " +
      "`millrace snapshot start --sink NAME`.",
  },
  MR3215: {
    title: "Stopped",
    cause: "The work was stopped because the daemon or the sink stops.",
    remedy: "Nothing.",
  },
  MR3216: {
    title: "DuckDB closed the database after an error",
    cause: "After an error DuckDB no longer trusts its memory. Millrace opens the file again.",
    remedy:
      "Do nothing if it happens once. The log names the kind of error; check whether the disk is full or failing.",
  },
  MR3217: {
    title: "Only reading queries are allowed",
    cause:
      "Queries beside the running sink must be one reading statement: SELECT, FROM, VALUES, WITH, DESCRIBE, SHOW, EXPLAIN.",
    remedy:
      "To change the file by hand, stop Millrace and use DuckDB itself. Millrace overwrites changes in its tables.",
  },
  MR3218: {
    title: "A query failed",
    cause: "DuckDB reported an error for the SQL of a query beside the running sink.",
    remedy: "Mend the SQL.",
  },
  MR3219: {
    title: "An error of DuckDB that Millrace does not know",
    cause:
      "DuckDB reported an error of a kind that is not classified. The batch is tried again; if it fails each time in the same way, MR3234 follows.",
    remedy: "The message names the kind. If it persists, report it.",
  },
  MR3220: {
    title: "Another transaction wrote the same rows",
    cause:
      "Two transactions met in the file or the lake. The batch is tried again; if it fails each time in the same way, MR3234 follows.",
    remedy: "Nothing.",
  },
  MR3221: {
    title: "One file, two settings",
    cause: "Two sinks name the same file with different `memoryLimit` or `threads`. Millrace opens a file only once.",
    remedy: "Give both sinks the same settings.",
  },
  MR3222: {
    title: "The table keeps the other mode",
    cause:
      "The table in the file is a mirror and the sink's `mode` is history, or the other way round. One table can't be both; nothing was changed.",
    remedy:
      "Give the sink another `schema`, or set `mode` back. If nobody needs the table any more, drop it while Millrace is stopped: Millrace creates and fills it again.",
  },
  MR3223: {
    title: "A query has no copy of the DuckDB file to read",
    cause:
      "Beside a running daemon a query reads a copy of the file, in a process of its own. The disk had no room " +
      "for it, or too much was written during the copy.",
    remedy:
      "Make room beside the file, query when less is written, or stop Millrace: then the query reads the file itself.",
  },
  MR3224: {
    title: "An extension of DuckDB is missing",
    cause:
      "A lake needs DuckDB's extension `ducklake`, and others for its catalogue and its storage. DuckDB could not " +
      "fetch one from its repository, or the folder `extensions` lacks it or has it for another version of DuckDB.",
    remedy:
      "Let DuckDB fetch it once with the network, or put the file `NAME.duckdb_extension` for DuckDB 1.5.5 and this " +
      "platform into a folder, and name that folder in `extensions`.",
  },
  MR3225: {
    title: "The lake's data are in another folder",
    cause:
      "A lake's catalogue names the folder of its data files, as an absolute path, and `data` is another one: it was " +
      "changed, or the lake was moved.",
    remedy: "Set `data` to the folder with which the lake was made. To move a lake, give a new one another `catalog`.",
  },
  MR3226: {
    title: "A data file of a lake is missing or can't be read",
    cause:
      "Somebody removed files from the folder `data`, or spoiled them, or its disk is not mounted. Inserts read no file, so it shows " +
      "when rows of the table are changed, or at the maintenance. If other files of the lake are there, only the table is concerned: " +
      "a mirror's is created again and filled, while the others go on; with `deletes: soft` it is suspended in the sink. " +
      "A history waits, and so does the sink if no file is there at all.",
    remedy:
      "Nothing for a mirror's table. Otherwise put the files back: Millrace goes on by itself. If they are lost, drop the table in the lake, " +
      "and Millrace creates and fills it again. If all are lost, remove the catalogue and the folder, and fill the lake again: " +
      "`millrace snapshot start --sink NAME`.",
  },
  MR3227: {
    title: "The Postgres that holds a lake's catalogue can't be reached",
    cause: "It is down, the network is interrupted, or it refuses the login. Millrace connects again by itself.",
    remedy: "Start it, or correct the URL in `catalog`.",
  },
  MR3228: {
    title: "S3 refuses the credentials of a lake",
    cause:
      "The keys in `s3` are wrong, have ended or may not read and write there; or there are none, and AWS' variables, profile and role give none either. The batch is tried again; keys that are not in the configuration are looked for again each time.",
    remedy: "Correct the keys, or grant s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket on the bucket.",
  },
  MR3229: {
    title: "The bucket of a lake can't be used",
    cause: "It does not exist, or is in another region or at another endpoint. The batch is tried again.",
    remedy:
      "Correct `data`, `s3.region` and `s3.endpoint`. If the bucket is lost, remove the catalogue too and fill the lake again.",
  },
  MR3230: {
    title: "S3 finds the machine's clock wrong",
    cause: "S3 takes no request whose time is more than some minutes from its own. The batch is tried again.",
    remedy: "Set the machine's clock, and keep it right by NTP.",
  },
  MR3231: {
    title: "The S3 that holds a lake's data can't be reached, or is busy",
    cause:
      "It is down, the network is interrupted, it does not speak TLS at an https:// endpoint, or it asks for fewer requests. Millrace repeats the batch.",
    remedy: "Start it, or correct `s3.endpoint`.",
  },
  MR3233: {
    title: "TLS with the S3 of a lake failed",
    cause:
      "The certificate of the server in `s3.endpoint` could not be verified (authority, name or dates); or the file of `s3.ca` can't be read, or is given for an http:// endpoint. Nothing is lost.",
    remedy:
      "Name the PEM file of the authority that signed the server's certificate in `s3.ca`; renew a certificate that has expired; let it name the host of `s3.endpoint`. The sink tries again at growing intervals.",
  },
  MR3234: {
    title: "A batch fails in DuckDB in the same way each time",
    cause:
      "DuckDB reported a conflict, an error that it does not explain, or gave up its instance, and did so again each time that the batch was repeated, while nobody else wrote. " +
      "Millrace tries the batch's tables one by one: the one at fault is suspended in this sink (MR1324) and tried again by itself, the others go on. If it is none of them, the sink stops.",
    remedy:
      "The message names what DuckDB says. If the table was changed by hand (an index or a constraint), drop that; or drop the table: Millrace creates and fills it again. " +
      "A stopped sink is tried again by `millrace resume --sink NAME`. Report it, with the table's definition.",
  },
  MR3235: {
    title: "DuckDB ended its process",
    cause:
      "DuckDB met a fault of its own and ended its process, by a signal such as SIGABRT or SIGSEGV. If that was the daemon's, all sinks ended with it: " +
      "whenever a daemon was not stopped but ended, the next one runs DuckDB in processes of their own until it is stopped, so that such an end fails this sink alone. " +
      "The batch is tried again. If DuckDB ends again, Millrace tries the batch's tables one by one: the one at fault is suspended in this sink (MR1324), " +
      "and tried again by itself; if it is none of them, the sink stops. The other sinks go on.",
    remedy:
      "See what the table has that others have not (a type, an index made by hand), or leave it out of this sink's `tables`. If the file or lake itself makes DuckDB end, restore a backup, " +
      "or move it away and `millrace snapshot start --sink NAME`: Millrace creates and fills a new one. A stopped sink is tried again by `millrace resume --sink NAME`. Report it, with the table's definition.",
  },
  MR3232: {
    title: "Table of a lake taken over by another daemon",
    cause:
      "Another daemon, or another sink, has prepared the same table since. Two that write to one table remove and hide each other's rows, so the one that came first suspends the table in this sink. The other tables go on.",
    remedy:
      "Decide who writes the table. For the other one set another `schema` in the sink, or exclude the table in the sink's `tables`; or stop that daemon. Then run `millrace snapshot start --tables TABLE --sink SINK` here: the table is read again, and is this daemon's.",
  },
} as const satisfies ErrorPages;
