import { tlsKeys } from "../tls/keys.ts";
import { createHash, createPrivateKey, type KeyObject } from "node:crypto";
import * as z from "zod";
import { TABLE_GLOB } from "../core/table-selection.ts";
import { passwordKeys } from "../passwords/password.ts";
import { documentsDefinition } from "./documents.ts";
import { RULE_GLOB, tableDefinition } from "./tables.ts";
import { isTimeZone, scheduleProblem } from "./schedule.ts";
import { duration, size } from "../core/values/quantity-keys.ts";

/** The keys of millrace.yaml that all sources and all sinks have. Connectors define the keys of their own kind. */

/** 24 to 64 bytes (Standard Webhooks, spec 1.0). */
const SIGNING_SECRET = /^whsec_[A-Za-z0-9+/]{32,86}={0,2}$/;
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

const ADDRESS = /^(\[[0-9A-Fa-f:.]+\]|[^\s:/[\]]+):(\d{1,5})$/;

const HOST_NAME = /^[^\s:/@]+$/;

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** The length of what `openssl rand -hex 16` prints. */
const TOKEN_LENGTH_MIN = 32;
const TOKEN_NAME = /^[A-Za-z][A-Za-z0-9._-]{0,39}$/;

const admin = z.strictObject({
  listen: z
    .union(
      [
        z.literal(false),
        z
          .string()
          .regex(ADDRESS)
          .transform(parseAddress)
          .refine((address) => address.port <= 65_535),
      ],
      { error: "expected HOST:PORT, such as 127.0.0.1:8642, or false" },
    )
    .default({ host: "127.0.0.1", port: 8642 })
    .describe(
      "HOST:PORT of health, metrics, API and dashboard; false switches them off. Any address but loopback requires tokens. Default: 127.0.0.1:8642.",
    ),
  tokens: z
    .array(
      z
        .strictObject({
          role: z
            .enum(["viewer", "operator"])
            .describe(
              "viewer reads; operator may also pause and resume sinks, resync tables and decide on dead letters.",
            ),
          name: z
            .string()
            .regex(TOKEN_NAME, { error: "expected a letter, then at most 39 letters, digits, ., _ and -" })
            .optional()
            .describe("Whose token it is, for the audit log. Default: its place in this list."),
          token: z
            .string()
            .min(TOKEN_LENGTH_MIN, {
              error: `expected ${TOKEN_LENGTH_MIN} characters or more, such as those of: openssl rand -hex 16`,
            })
            .optional()
            .describe("The bearer token: 32 characters or more, no two alike."),
          sha256: z
            .string()
            .regex(/^[0-9a-f]{64}$/, {
              error: "expected 64 hexadecimal digits in lower case: printf %s TOKEN | sha256sum",
            })
            .optional()
            .describe("In place of token, its SHA-256 hash: then no file holds the token itself."),
        })
        .refine(({ token, sha256 }) => (token === undefined) !== (sha256 === undefined), {
          error: "expected either token or sha256",
        })
        .transform(({ role, name, token, sha256 }) => ({
          role,
          name: name ?? null,
          sha256: sha256 ?? digestOf(token ?? ""),
        })),
    )
    .superRefine((tokens, context) => {
      for (const [i, { sha256 }] of tokens.entries())
        if (tokens.findIndex((other) => other.sha256 === sha256) < i)
          context.addIssue({ code: "custom", path: [i, "token"], message: "this token is listed twice" });
    })
    .default([])
    .describe("Required for requests that change something, and if listen is not a loopback address."),
  hosts: z
    .array(z.string().regex(HOST_NAME, { error: "expected a host name without its port" }))
    .default([])
    .describe("Further host names under which a proxy or a service forwards to the address."),
});

const reconcile = z.strictObject({
  schedule: z
    .string()
    .superRefine((text, context) => {
      const problem = scheduleProblem(text);
      if (problem !== null) context.addIssue({ code: "custom", message: problem });
    })
    .optional()
    .describe(
      'When the daemon compares the sinks with the source: cron, such as "0 2 * * *". Default: only on demand.',
    ),
  timeZone: z
    .string()
    .refine(isTimeZone, { error: "expected a time zone such as Europe/Berlin or UTC" })
    .optional()
    .describe("The time zone of the schedule. Default: the machine's."),
  mode: z
    .enum(["full", "fast"])
    .default("full")
    .describe(
      "In scheduled comparisons, full: every value; fast: every key, and the values of another seventh each day.",
    ),
  continuous: z
    .strictObject({
      maxAge: duration(1_000, 31_536_000_000)
        .default(86_400_000)
        .describe(
          "No row's last proof is to be older than this; `status`, `notify` and the metrics tell where one is.",
        ),
      share: z
        .string()
        .regex(/^\d{1,3}(\.\d+)?%$/, { error: "expected a percentage such as 5%" })
        .transform((text) => Number(text.slice(0, -1)) / 100)
        .refine((share) => share > 0 && share <= 1, { error: "expected more than 0% and at most 100%" })
        .default(0.05)
        .describe("How much of the time of the source, and of each sink, its reads may take. Default: 5%."),
    })
    .optional()
    .describe("Compares range after range of the tables' keys all day. Default: it does not."),
  repair: z.boolean().default(false).describe("Whether scheduled and continuous comparisons repair what differs."),
  patience: duration(0, 86_400_000)
    .default(60_000)
    .describe("In scheduled comparisons: a sink that makes no progress for this long is not comparable."),
  reports: z
    .string()
    .min(1)
    .optional()
    .describe(
      "A folder to which each comparison is written as JSON, Markdown and HTML. It must be writable at the start.",
    ),
  sign: z
    .string()
    .transform((pem, context) => {
      const key = signingKey(pem);
      if (key === null) context.addIssue({ code: "custom", message: "expected a private key of Ed25519 in PEM" });
      return key;
    })
    .optional()
    .describe(
      "Signs each report: a private key of Ed25519 in PEM, such as ${file:./report.key}; `millrace report verify` checks them.",
    ),
});

const notify = z.strictObject({
  webhook: z
    .string()
    .refine(isHttpUrl, { error: "expected https://… or http://…" })
    .describe(
      "Gets JSON by POST when something begins to need a person, and when it is well again. The whole URL is a secret.",
    ),
  secret: z
    .string()
    .regex(SIGNING_SECRET, { error: "expected whsec_ and 24 to 64 bytes in base64" })
    .optional()
    .describe("Signs each message as Standard Webhooks do: whsec_ and 24 to 64 bytes in base64."),
  level: z
    .enum(["act", "watch"])
    .default("act")
    .describe(
      "act: what waits for a person, or keeps the daemon from being ready; watch: also what Millrace deals with by itself.",
    ),
  after: duration(0, 86_400_000).default(30_000).describe("What lasts shorter is not told."),
  ...tlsKeys("the webhook's"),
});

const telemetry = z.strictObject({
  otlp: z
    .strictObject({
      endpoint: z
        .string()
        .refine(isHttpUrl, { error: "expected https://… or http://…" })
        .describe("Where OTLP over HTTP is served; /v1/metrics and /v1/traces are added."),
      headers: z
        .record(z.string().regex(/^[A-Za-z0-9-]+$/, { error: "expected the name of a header" }), z.string())
        .default({})
        .describe("Sent with each request, such as authorization."),
      interval: duration(5_000, 3_600_000).default(30_000).describe("How often metrics are sent, and traces."),
      traces: z
        .strictObject({
          share: z
            .number()
            .min(0)
            .max(1)
            .default(0.01)
            .describe("Of the batches that are not slow, how many are sent: 0.01 is every hundredth."),
          slowerThan: duration(0, 3_600_000)
            .default(1_000)
            .describe("A batch whose newest row took this long from its commit to the sink is sent in any case."),
        })
        .optional()
        .describe("Traces too: one for each chosen batch of a sink."),
      ...tlsKeys("an https://"),
    })
    .describe("A receiver of what /metrics serves, and of traces."),
});

const KEPT_BYTES_MAX = 100 * 1024 ** 4;

const retention = z.strictObject({
  bytes: size(1024 ** 2, KEPT_BYTES_MAX).describe("How much log the source may keep for this daemon."),
  policy: z
    .enum(["alarm", "pauseSource", "dropSink"])
    .default("alarm")
    .describe(
      "Beyond that: alarm tells it; pauseSource also pauses what reads tables of the source beside the stream, until less is kept; dropSink also gives up the position of each mirror that is so far behind, which is filled again later. A history, a stream (files, topics) and a log keep theirs: the changes that they lack can't be read again.",
    ),
});

const stateServer = z.strictObject({
  url: z
    .string()
    .regex(/^postgres(ql)?:\/\/[^#]+$/, { error: "expected postgres://…" })
    .describe("postgres://user@host:port/database."),
  ...passwordKeys,
});

/** `source` and `sinks` are parsed one by one, by kind. */
export const topDefinition = z.strictObject({
  name: z
    .string()
    .regex(NAME, { error: "expected a lower-case letter, then at most 39 of a-z, 0-9 and _" })
    .describe(
      "Names the daemon, its slot, publication and state: `[a-z][a-z0-9_]{0,39}`. With another name it is another daemon, which starts from the beginning.",
    ),
  source: z.record(z.string(), z.unknown()).describe("The database whose changes are followed."),
  state: z
    .union([
      z.string().regex(/^(sqlite:.+|postgres(ql)?:\/\/[^#]+$)/, { error: "expected sqlite:PATH or postgres://…" }),
      stateServer,
    ])
    .optional()
    .describe(
      "Where positions, shapes, dead letters and the lease are kept: sqlite:PATH, or postgres://user:password@host:port/database (schema millrace), so that a second machine can take over; also as an object with `url`. Default: sqlite:.millrace/<name>.db beside this file.",
    ),
  sinks: z.record(z.string(), z.unknown()).describe("The targets; each key is a sink's name."),
  tables: z
    .record(
      z.string().regex(RULE_GLOB, { error: 'expected schema.table, with * as a wildcard, such as "public.*"' }),
      tableDefinition,
    )
    .default({})
    .describe(
      "Rules per table, applied before every sink; keys are schema.table globs, of which the most exact one decides.",
    ),
  documents: documentsDefinition
    .default({})
    .describe("Objects made of rows of several tables, kept right from the stream; each key is a document's name."),
  nest: z
    .string()
    .min(1)
    .optional()
    .describe(
      "A file for the rows that documents are made of. Default: `.millrace/<name>-documents.db` beside this file, or beside the state's file.",
    ),
  maskKey: z
    .string()
    .min(16, { error: "expected at least 16 characters" })
    .optional()
    .describe("Secret key of `mask: hash`; another key changes all hashes."),
  reconcile: reconcile.prefault({}).describe("Comparing the sinks with the source."),
  retention: retention.optional().describe("The log that the source keeps while a sink does not take rows."),
  notify: notify.optional().describe("Telling a webhook what is not well."),
  telemetry: telemetry.optional().describe("Sending metrics and traces to an OpenTelemetry receiver."),
  admin: admin.prefault({}).describe("Health, metrics, API and dashboard over HTTP."),
});

/** What commands beside a daemon need, which has the rest. */
export const placeDefinition = topDefinition.pick({ name: true, state: true, tables: true });

/** What commands on source and sinks need, which no daemon does for them. */
export const partDefinition = topDefinition.pick({ name: true, state: true, tables: true, maskKey: true });

function isHttpUrl(text: string): boolean {
  return /^https?:\/\//.test(text) && URL.canParse(text);
}

/** Only the hash of a token is kept after the file was read. */
function signingKey(pem: string): KeyObject | null {
  try {
    const key = createPrivateKey(pem);
    return key.asymmetricKeyType === "ed25519" ? key : null;
  } catch {
    return null;
  }
}

function digestOf(token: string): string {
  return createHash("sha256").update(token).digest("hex");
}

function parseAddress(text: string): Address {
  const match = ADDRESS.exec(text);
  return { host: (match?.[1] ?? "").replace(/^\[|\]$/g, ""), port: Number(match?.[2]) };
}
