import type { ErrorArea } from "../../src/core/errors.ts";

export const area: ErrorArea = { from: 4100, title: "ClickHouse" };

const DROP_AND_FILL =
  "Drop the table while Millrace is stopped (`DROP TABLE … SYNC`): Millrace creates and fills it again at the next start.";

export const pages = {
  MR4100: {
    title: "ClickHouse gave an unknown error",
    cause:
      "The server answered with a code that has no entry here. Millrace repeats the batch a limited number of times.",
    remedy:
      "The message has the server's code and its name; `system.query_log` or the server's log has the whole text. Report it if the sink does not recover.",
  },
  MR4101: {
    title: "ClickHouse can't be reached",
    cause:
      "No connection could be made, or it was lost or stopped answering. Millrace repeats the batch until the server answers.",
    remedy:
      "`url` is the address of the HTTP interface (8123, with TLS 8443), not of the native protocol (9000). ECONNREFUSED: nothing listens there. " +
      "ENOTFOUND: the name is unknown. ETIMEDOUT: no answer, check firewall and network. `millrace check` tests it from the machine on which it runs.",
  },
  MR4102: {
    title: "ClickHouse refuses the login",
    cause: "The user or password in `url` is wrong, or the user may not log in from this address.",
    remedy:
      "Correct `url` (http://user:password@host:8123). Millrace tries again at growing intervals, so a change at the server is noticed too.",
  },
  MR4103: {
    title: "The ClickHouse user lacks a grant",
    cause: "The server refused a statement because the user has no grant for it.",
    remedy:
      "`millrace grants` prints all statements that an administrator has to run; `millrace check` says which are missing.",
  },
  MR4104: {
    title: "ClickHouse can't take writes now",
    cause:
      "It has too many parts to merge, too little memory, too many statements at once, a replica that lags or a Keeper that does not answer. " +
      "Millrace repeats the batch until the server takes it.",
    remedy:
      "If it lasts, look at the server. Too many parts (code 252): a longer `batch.delay` makes fewer. Memory (241): a smaller `batch.bytes`, or a higher limit of the user.",
  },
  MR4105: {
    title: "A table was not made by Millrace",
    cause:
      "A table or view exists in ClickHouse under the name of a captured table, without Millrace's columns. Millrace leaves it alone and suspends the table in this sink; the others go on.",
    remedy: "Rename or drop it while Millrace is stopped, or give the sink another `schema`.",
  },
  MR4106: {
    title: "A column has another type than Millrace gave it",
    cause:
      "Somebody changed a column of the table in ClickHouse. Millrace suspends the table in this sink; the others go on.",
    remedy: `Change the column back while Millrace is stopped, or: ${DROP_AND_FILL}`,
  },
  MR4107: {
    title: "A table has another sorting key than the source's key",
    cause:
      "In ClickHouse the sorting key tells rows apart. Somebody made the table again with another one, or the key of a history changed at the source: rows of two keys can't be in one history. Millrace suspends the table in this sink; the others go on.",
    remedy: `For a history: rename the table, and Millrace begins a new one. Otherwise: ${DROP_AND_FILL}`,
  },
  MR4108: {
    title: "A table holds a history, and the sink is to keep a mirror (or the reverse)",
    cause: "`mode` was changed, and the tables are of the other form. Neither form can be made from the other.",
    remedy:
      "Give the sink another `schema`, or set `mode` back. If nobody needs the table any more, drop it while Millrace is stopped: Millrace creates and fills it again.",
  },
  MR4109: {
    title: "A name belongs to ClickHouse or to Millrace",
    cause:
      "The table's schema is named like one of ClickHouse's own databases (system, information_schema) or Millrace's (millrace), or a column begins with `_millrace_`.",
    remedy: "Give the sink a `schema`, rename the column (`tables: … columns: … rename:`), or leave the table out.",
  },
  MR4110: {
    title: "A value of the key does not fit ClickHouse's type",
    cause:
      "A key column holds a date or time outside of the years 1900 to 2299, or a number that is not finite. Other columns keep such values as text in `_millrace_exact`, but a key can't. The row becomes a dead letter; the others go on.",
    remedy: "`millrace dlq list --sink NAME` names the rows. Correct the values at the source, or leave the table out.",
  },
  MR4111: {
    title: "Another Millrace process has taken the sink over",
    cause:
      "The checkpoint in ClickHouse has a newer lease, or was written by another process. This process stops, so that two never write at once.",
    remedy: "Make sure that one daemon runs under this name; the newer one continues by itself.",
  },
  MR4112: {
    title: "The sink's checkpoint is gone from ClickHouse",
    cause:
      "Somebody dropped the database `millrace` or its table, or removed the sink's row. The sink stops with MR1301; with `onLost: resync` it reads everything again.",
    remedy: "`millrace recover` compares what is there with the source and goes on from it.",
  },
  MR4113: {
    title: "ClickHouse does not hold what was written",
    cause:
      "The stored checkpoint, or the definition of a table, is older than the one that this process wrote: the server was restored, or a replica answered that had not received it, for more than five seconds. The sink tries again, or goes on from there if the log reaches back that far; otherwise it stops with MR1301.",
    remedy:
      "With replicas behind one address, set `quorum`, so that a read sees what was written, or let the `url` lead to one server.",
  },
  MR4114: {
    title: "A table is gone from ClickHouse",
    cause:
      "Somebody dropped, renamed, replaced or emptied a table that Millrace writes to, dropped or detached a part of its rows, or dropped or renamed a column of it. Millrace creates what is missing and fills the table again.",
    remedy: "Nothing. A history stops instead (MR1315), because its past can't be read again.",
  },
  MR4115: {
    title: "TLS to ClickHouse failed",
    cause:
      "The server's certificate could not be verified (authority, name or dates), it refuses ours, or only one side speaks TLS on this port.",
    remedy:
      "The message says which, and its fix. Use https:// only where the port speaks TLS (8443); name an authority of your own in `ca`, a certificate of this client in `cert` and `certKey`, another name than the url's host in `serverName`.",
  },
  MR4116: {
    title: "The ClickHouse sink's TLS keys or files can't be used",
    cause:
      "A file that `ca`, `cert` or `certKey` names does not exist, may not be read or holds no PEM; certificate and key do not belong together.",
    remedy: "The message says which; correct the path, the file, its permissions or the scheme of `url`.",
  },
  MR4117: {
    title: "ClickHouse refuses a statement",
    cause:
      "The server does not know a function, type, engine or setting that the sink uses, or refuses a definition. Usually it is older than 24.8, or a profile forbids it.",
    remedy:
      "Use ClickHouse 24.8 or newer; `millrace check` tells the version. With `cluster`: the cluster must exist on the server (`system.clusters`), with the macros {shard} and {replica}.",
  },
  MR4118: {
    title: "Table taken over by another daemon",
    cause:
      "Another daemon, or another sink, has prepared the same table since. Two that write to one table hide each other's rows, so the one that came first suspends the table in this sink. The other tables go on.",
    remedy:
      "Decide who writes the table. For the other one set another `schema` in the sink, or exclude the table in the sink's `tables`; or stop that daemon. Then run `millrace snapshot start --tables TABLE --sink SINK` here: the table is read again, and is this daemon's.",
  },
  MR4119: {
    title: "A limit of the ClickHouse user ends a statement",
    cause:
      "The user's profile, or a quota, allows less than a statement of the sink needs (rows or bytes read, time, statements in an interval). Millrace lifts the profile's limits for its own statements; this one has a constraint, is one of memory, or belongs to a quota. It repeats the batch at growing intervals until the server takes it.",
    remedy:
      "The message names the setting where the server does: `ALTER USER … SETTINGS max_… = 0`, or take the constraint out of the profile. Memory (code 241): raise it above what the message says, or set a smaller `batch.bytes`. A quota (code 201): `ALTER QUOTA … FOR INTERVAL … NO LIMITS TO …`. `millrace check` names the limits that the user can't lift.",
  },
  MR4120: {
    title: "A profile keeps a setting that the sink needs otherwise",
    cause:
      "The ClickHouse user's profile sets the value and has a constraint (CONST, MIN or MAX), or lets the user only read. With that value batches would be lost, delayed or refused, or answers cut, so the sink does not begin.",
    remedy: "Millrace tries again at growing intervals; `millrace check` tells at once whether it is corrected.",
  },
  MR4121: {
    title: "A table has another engine or form than Millrace gave it",
    cause:
      "Somebody made the table again with another engine, other columns that decide which row stays, partitions that a row can change, or another type of one of Millrace's columns; or the sink has got a `cluster` and the table has no replicas. Changed and deleted rows would stay beside the present ones. Millrace suspends the table in this sink; the others go on. Of Millrace's own tables in the database `millrace`: the sink waits.",
    remedy: DROP_AND_FILL,
  },
} as const;
