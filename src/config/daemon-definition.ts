/** The whole of millrace.yaml, as a daemon takes it. Commands beside it load the definition of their part alone. */
import { createHash, createPrivateKey, type KeyObject } from "node:crypto";
import * as z from "zod";
import { duration, size } from "../core/values/quantity-keys.ts";
import { idleTlsKeys, tlsKeys } from "../tls/keys.ts";
import { urlKey } from "../tls/url-parts.ts";
import { refusing } from "../core/idle-keys.ts";
import type { IdleKey } from "../core/contracts/connector.ts";
import { partDefinition } from "./definition.ts";
import { documentsDefinition } from "./documents.ts";
import { Cron } from "croner";

/** 24 to 64 bytes (Standard Webhooks, spec 1.0). */
const SIGNING_SECRET = /^whsec_[A-Za-z0-9+/]{32,86}={0,2}$/;

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

function* idleAdmin({ listen, tokens, hosts }: z.output<typeof admin>): Generator<IdleKey> {
  if (listen !== false) return;
  const why = "has no use with `listen: false`: the socket beside the state needs none";
  if (tokens.length > 0) yield ["tokens", why];
  if (hosts.length > 0) yield ["hosts", why];
}

const PATIENCE_MS = 60_000;

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
    .default(PATIENCE_MS)
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

/** What an operator writes for comparisons that never come. Without a schedule, `millrace reconcile` has options of its own. */
function* idleComparing(given: z.output<typeof reconcile>): Generator<IdleKey> {
  const { schedule, continuous, timeZone, mode, patience, repair } = given;
  if (schedule !== undefined) return;
  const why = "has no use without `schedule`";
  if (timeZone !== undefined) yield ["timeZone", why];
  if (mode !== "full") yield ["mode", `${why}; on demand: millrace reconcile --mode ${mode}`];
  if (patience !== PATIENCE_MS) yield ["patience", why];
  if (repair && continuous === undefined)
    yield ["repair", `${why} or \`continuous\`; on demand: millrace reconcile --repair`];
}

const httpUrl = urlKey(/^https?:\/\//, "expected https://… or http://…");

const notify = z
  .strictObject({
    webhook: httpUrl.describe(
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
  })
  .superRefine(refusing((keys) => idleTlsKeys(keys, keys.webhook)));

const telemetry = z.strictObject({
  otlp: z
    .strictObject({
      endpoint: httpUrl.describe("Where OTLP over HTTP is served; /v1/metrics and /v1/traces are added."),
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
    .superRefine(refusing((keys) => idleTlsKeys(keys, keys.endpoint)))
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

const keys = partDefinition.shape;

/** `source` and `sinks` are parsed one by one, by kind. */
export const topDefinition = z.strictObject({
  name: keys.name,
  source: z.record(z.string(), z.unknown()).describe("The database whose changes are followed."),
  state: keys.state,
  sinks: z.record(z.string(), z.unknown()).describe("The targets; each key is a sink's name."),
  tables: keys.tables,
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
  maskKey: keys.maskKey,
  reconcile: reconcile
    .superRefine(refusing(idleComparing))
    .prefault({})
    .describe("Comparing the sinks with the source."),
  retention: retention.optional().describe("The log that the source keeps while a sink does not take rows."),
  notify: notify.optional().describe("Telling a webhook what is not well."),
  telemetry: telemetry.optional().describe("Sending metrics and traces to an OpenTelemetry receiver."),
  admin: admin.superRefine(refusing(idleAdmin)).prefault({}).describe("Health, metrics, API and dashboard over HTTP."),
});

function signingKey(pem: string): KeyObject | null {
  try {
    const key = createPrivateKey(pem);
    return key.asymmetricKeyType === "ed25519" ? key : null;
  } catch {
    return null;
  }
}

/** Only the hash of a token is kept after the file was read. */
function digestOf(token: string): string {
  return createHash("sha256").update(token).digest("hex");
}

function parseAddress(text: string): Address {
  const match = ADDRESS.exec(text);
  return { host: (match?.[1] ?? "").replace(/^\[|\]$/g, ""), port: Number(match?.[2]) };
}

/** Five fields, six with seconds first, or a name such as @daily. A plain date is excluded: it would run only once. */
const FORM = /^(@[a-z]+|\S+( +\S+){4,5})$/i;

export function scheduleProblem(text: string): string | null {
  if (!FORM.test(text)) return 'expected five fields of cron, such as "0 2 * * *" for every night at two';
  try {
    const cron = new Cron(text, { paused: true, mode: "5-or-6-parts" });
    return cron.nextRun() === null ? "this time never comes" : null;
  } catch (error) {
    const reason = error instanceof Error ? error.message.replace(/^CronPattern: /, "") : String(error);
    return `this is no time of cron: ${reason}`;
  }
}

export function isTimeZone(text: string): boolean {
  try {
    return new Intl.DateTimeFormat("en", { timeZone: text }).resolvedOptions().timeZone !== "";
  } catch {
    return false;
  }
}
