import * as z from "zod";
import { TABLE_GLOB } from "../core/table-selection.ts";
import { passwordKeys } from "../passwords/password.ts";
import { RULE_GLOB, tableDefinition } from "./tables.ts";
import { duration, size } from "../core/values/quantity-keys.ts";

/**
 * The keys of millrace.yaml that all sources and all sinks have, and those that commands need beside a daemon. Connectors
 * define the keys of their own kind, daemon-definition.ts the others.
 */

const NAME = /^[a-z][a-z0-9_]{0,39}$/;
export const SINK_NAME = /^[A-Za-z][A-Za-z0-9_-]{0,39}$/;

const TABLES = "expected at least one table; leave the key out to take all";
const anyTables = z.array(
  z.string().regex(TABLE_GLOB, { error: 'expected schema.table, with * as a wildcard, such as "public.*"' }),
);
const tables = anyTables.min(1, { error: TABLES });

export const sourceDefinition = z.object({
  kind: z
    .string()
    .describe("What the source is: `postgres`, `mysql` (for MariaDB too), or `kafka`, where another daemon captures."),
  tables: tables
    .optional()
    .describe(
      "schema.table globs, ! excludes. Default: every user table with a usable key. Copies that tools for online changes make are left out unless named without a wildcard.",
    ),
  snapshot: z
    .enum(["initial", "none"])
    .default("initial")
    .describe("Without a stored position: copy the tables first, or begin with the changes from now on."),
  heartbeat: duration(100, 3_600_000)
    .default(10_000)
    .describe("How often Millrace moves the position of an idle source forward, and looks at the catalogue."),
});

export const sinkDefinition = z.object({
  kind: z
    .string()
    .describe(
      "What the sink is: `duckdb`, `ducklake`, `postgres`, `clickhouse`, `elasticsearch`, `redis`, `kafka`, `sqlite` or `files`.",
    ),
  tables: anyTables
    .optional()
    .describe("A subset of the source's tables: schema.table globs, ! excludes. Default: all."),
  documents: z
    .array(z.string().min(1), { error: "expected a list of names under `documents`" })
    .min(1)
    .refine((names) => new Set(names).size === names.length, { error: "a document is listed twice" })
    .optional()
    .describe("The sink takes these documents, and no tables."),
  onPoison: z
    .enum(["deadLetter", "pause"])
    .default("deadLetter")
    .describe("A row that the target refuses: store it as a dead letter and go on, or pause the sink."),
  deadLettersMax: z
    .int()
    .min(1)
    .max(100_000)
    .default(1_000)
    .describe(
      "Dead letters of one table. With one more, the table is suspended in this sink and the others go on; a history stops.",
    ),
  onLost: z
    .enum(["resync", "fail"])
    .optional()
    .describe(
      "If the target was emptied, dropped or restored, and the log no longer reaches back to its position. resync: read everything again; readers of files and topics lose the changes in between. fail: stop. One table that is gone is read again in both cases; a history always stops. Default: resync for redis, elasticsearch, kafka and files, else fail.",
    ),
  onForeign: z
    .enum(["refuse", "adopt"])
    .default("refuse")
    .describe(
      "If another program made a table under a target's name. refuse: the table is suspended in this sink. adopt: it is taken over with its rows, which are compared with the source; only what differs is written. Postgres alone.",
    ),
  batch: z
    .strictObject({
      rows: z
        .int()
        .min(1)
        .max(1_000_000)
        .optional()
        .describe("Most rows in one batch. Default: 50,000; DuckDB and ClickHouse 100,000, lakes 200,000."),
      bytes: size(1024, 256 * 1024 ** 2)
        .optional()
        .describe(
          "Most bytes of rows in one batch; a row is never divided. Default: 2 MB; DuckDB and ClickHouse 8 MB, files and lakes 16 MB.",
        ),
      delay: duration(0, 30_000)
        .optional()
        .describe(
          "The least time from the beginning of one batch to that of the next, unless enough waits to fill it. Default: 0s; ClickHouse 200ms, lakes 500ms.",
        ),
      timeout: duration(1_000, 86_400_000)
        .optional()
        .describe(
          "If a write, or the opening of the sink, takes longer, Millrace cuts the connection and opens the sink again. Work on a whole table (a sweep, a truncate, a change of shape) has twelve times as long; each further attempt has twice as long. Default: 5m.",
        ),
    })
    .prefault({})
    .describe("Limits of one batch. The defaults suit most targets."),
});

const stateServer = z.strictObject({
  url: z
    .string()
    .regex(/^postgres(ql)?:\/\/[^#]+$/, { error: "expected postgres://…" })
    .describe("postgres://user@host:port/database."),
  ...passwordKeys,
});

/** What a command needs beside a daemon, which has the rest. */
export const placeDefinition = z.strictObject({
  name: z
    .string()
    .regex(NAME, { error: "expected a lower-case letter, then at most 39 of a-z, 0-9 and _" })
    .describe(
      "Names the daemon, its slot, publication and state: `[a-z][a-z0-9_]{0,39}`. With another name it is another daemon, which starts from the beginning.",
    ),
  state: z
    .union([
      z.string().regex(/^(sqlite:.+|postgres(ql)?:\/\/[^#]+$)/, { error: "expected sqlite:PATH or postgres://…" }),
      stateServer,
    ])
    .optional()
    .describe(
      "Where positions, shapes, dead letters and the lease are kept: sqlite:PATH, or postgres://user:password@host:port/database (schema millrace), so that a second machine can take over; also as an object with `url`. Default: sqlite:.millrace/<name>.db beside this file.",
    ),
  tables: z
    .record(
      z.string().regex(RULE_GLOB, { error: 'expected schema.table, with * as a wildcard, such as "public.*"' }),
      tableDefinition,
    )
    .default({})
    .describe(
      "Rules per table, applied before every sink; keys are schema.table globs, of which the most exact one decides.",
    ),
});

/** What a command needs that works on source and sinks, which no daemon does for it. */
export const partDefinition = placeDefinition.extend({
  maskKey: z
    .string()
    .min(16, { error: "expected at least 16 characters" })
    .optional()
    .describe("Secret key of `mask: hash`; another key changes all hashes."),
});
