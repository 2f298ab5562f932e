/** One list of conditions: whatever shows it says the same, and is green only when it is true. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { errorPages } from "../../src/ops/error-pages.ts";
import { exitCodeOf } from "../../src/cli/status/status.ts";
import { statusText } from "../../src/cli/status/status-text.ts";
import { systemClock } from "../../src/core/clock.ts";
import { type Block, FirstSeen, isToBeTold } from "../../src/core/conditions/condition.ts";
import { pipelineConditions } from "../../src/core/conditions/conditions.ts";
import type { ReportSummary } from "../../src/core/contracts/reconciliation.ts";
import { type DocumentStatus, NO_PROGRESS } from "../../src/core/contracts/status.ts";
import type { StoredError } from "../../src/core/contracts/state-store.ts";
import { SILENT } from "../../src/core/contracts/telemetry.ts";
import { LastAnswer } from "../../src/core/waiting.ts";
import * as suspensions from "../../src/runtime/errors.ts";
import { createWaitingAdmin } from "../../src/ops/admin/admin.ts";
import { PrometheusMetrics } from "../../src/ops/metrics.ts";
import { Notifier, ToldConditions } from "../../src/ops/notifier.ts";
import { scrapedWith, sinkStatus, type StatusChange, statusDocument } from "../support/daemon/status-document.ts";

const AT = "2026-11-20T03:00:00Z";
const NOW_MS = Date.parse("2026-11-20T03:12:00Z");

const failed = (code: string, hint: string | null = "do this"): StoredError => ({
  code,
  message: "it fails",
  hint,
  at: AT,
});

const DRIFT: ReportSummary = {
  id: "r1",
  name: "shop",
  startedAt: AT,
  finishedAt: AT,
  drift: true,
  alarm: true,
  tables: 1,
  notComparable: 0,
  compared: 10,
  whole: true,
  complete: true,
  part: null,
  suspended: 0,
  deadLetters: 0,
  missing: 2,
  extra: 0,
  different: 1,
  repaired: 0,
};
const PROOF = {
  table: "public.t",
  sink: "pg",
  since: AT,
  lookedAt: AT,
  provenAt: AT,
  position: "0/1",
  ranges: 1,
  missing: 2,
  extra: 1,
  different: 0,
};
const PROVEN = { maxAgeSeconds: 60, waits: null, places: 3, neverProven: 0, late: 0, oldest: PROOF, drift: null };
const COMPARED = { next: null, last: null, drift: null, failure: null };

const documentStatus = (change: Partial<DocumentStatus>): DocumentStatus => ({
  name: "orders",
  table: "documents.orders",
  sinks: ["cache"],
  isFilled: true,
  lagSeconds: 0,
  waiting: 0,
  isMore: false,
  waitingSince: null,
  ...change,
});

interface Case {
  readonly kind: string;
  readonly change: StatusChange;
  /** How `status` begins to tell of it. */
  readonly what: string;
  readonly level: "act" | "watch";
  readonly blocks: readonly Block[];
}

const ofSink = (change: Parameters<typeof sinkStatus>[1]): StatusChange => ({
  sinks: [sinkStatus("warehouse"), sinkStatus("cache", change)],
});
const FREE: readonly Block[] = [];
const UNREADY: readonly Block[] = ["ready", "wait"];
const STOPPED: readonly Block[] = ["ready", "wait", "once"];

/** Each kind, and what else leads to it. The order is that of `status`. */
const CASES: readonly Case[] = [
  {
    kind: "daemon.elsewhere",
    change: { daemon: null, phase: "stopped", heldBy: "db2 pid 7" },
    what: "the lease is held by db2 pid 7",
    level: "watch",
    blocks: ["wait", "once"],
  },
  {
    kind: "daemon.ended",
    change: { daemon: null, phase: "stopped", ended: failed("MR2004") },
    what: "nothing is copied, because the daemon has ended: MR2004 it fails",
    level: "act",
    blocks: UNREADY,
  },
  {
    kind: "daemon.absent",
    change: { daemon: null, phase: "stopped" },
    what: "nothing is copied while no daemon runs",
    level: "act",
    blocks: UNREADY,
  },
  {
    kind: "daemon.absent",
    change: { daemon: null, phase: "stopped", lastSeenAt: AT },
    what: "nothing is copied while no daemon runs",
    level: "act",
    blocks: UNREADY,
  },
  {
    kind: "daemon.copying",
    change: {
      phase: "snapshot",
      source: { copy: { tableCount: 3, tablesDone: 1, rowsRead: 1200, ...NO_PROGRESS, share: 0.37 } },
    },
    what: "first copy: 1 of 3 tables done, 1,200 rows read, about 37%",
    level: "watch",
    blocks: UNREADY,
  },
  {
    kind: "daemon.copying",
    // The copy is why it is behind: nobody has to look for another load.
    change: { phase: "snapshot", source: { copy: null, activity: "slow", lagSeconds: 97, lagBytes: 4096 } },
    what: "first copy: it begins",
    level: "watch",
    blocks: UNREADY,
  },
  {
    kind: "daemon.starting",
    change: { phase: "starting" },
    what: "the daemon is starting",
    level: "watch",
    blocks: UNREADY,
  },
  {
    kind: "state.unwritable",
    change: { state: { error: failed("MR1209") } },
    what: "the state can't be written, and nothing is acknowledged: MR1209 it fails",
    level: "act",
    blocks: ["ready"],
  },
  {
    kind: "state.silent",
    change: { state: { error: failed("MR1215"), isSilent: true } },
    what: "the state does not answer, and nothing is acknowledged: MR1215 it fails",
    level: "watch",
    blocks: ["ready"],
  },
  {
    kind: "state.nearly-full",
    change: { state: { error: null, rooms: [{ where: "/var/lib/state.db", freeBytes: 1024, lowBytes: 4096 }] } },
    what: "the disk of the state is nearly full: /var/lib/state.db has 1.0 KB free",
    level: "act",
    blocks: FREE,
  },
  {
    kind: "source.failing",
    change: { source: { up: false, error: failed("MR2001"), unanswered: failed("MR2001"), answeredAt: AT } },
    what: "no connection to the source, connected until 2026-11-20 03:00:00 UTC: MR2001 it fails",
    level: "watch",
    blocks: UNREADY,
  },
  {
    kind: "source.failing",
    change: { source: { up: false, error: failed("MR2002"), needsPerson: true } },
    what: "the stream from the source is broken: MR2002 it fails",
    level: "act",
    blocks: UNREADY,
  },
  {
    kind: "source.failing",
    change: { source: { needsPerson: true } },
    what: "the source waits for you",
    level: "act",
    blocks: ["ready"],
  },
  {
    kind: "source.silent",
    change: { source: { up: false, unanswered: failed("MR2001"), answeredAt: AT } },
    what: "the source does not tell its position, connected until 2026-11-20 03:00:00 UTC",
    level: "watch",
    blocks: UNREADY,
  },
  {
    kind: "source.silent",
    change: { source: { up: false, unanswered: failed("MR2002"), needsPerson: true } },
    what: "the source does not tell its position, not since the daemon's start",
    level: "act",
    blocks: UNREADY,
  },
  {
    kind: "source.silent",
    change: { source: { up: false, answeredAt: AT } },
    what: "the source does not tell its position, connected until 2026-11-20 03:00:00 UTC",
    level: "watch",
    blocks: UNREADY,
  },
  // What another session holds is told alike, wherever that is.
  {
    kind: "source.failing",
    change: { source: { up: false, error: failed("MR2026") } },
    what: "the stream from the source is broken: MR2026 it fails",
    level: "act",
    blocks: UNREADY,
  },
  {
    kind: "source.silent",
    change: { source: { up: false, unanswered: failed("MR2026") } },
    what: "the source does not tell its position, not since the daemon's start",
    level: "act",
    blocks: UNREADY,
  },
  {
    kind: "document.behind",
    change: { documents: [documentStatus({ lagSeconds: 90, waiting: 1200, waitingSince: AT })] },
    what: "1,200 changed documents orders wait for cache",
    level: "watch",
    blocks: FREE,
  },
  {
    kind: "sink.paused",
    change: {
      sinks: [sinkStatus("cache", { state: "paused" })],
      documents: [documentStatus({ lagSeconds: 90, waiting: 7, waitingSince: AT })],
    },
    what: "sink cache is paused; changed documents wait for it (7 by now)",
    level: "watch",
    blocks: ["wait", "once"],
  },
  {
    kind: "document.filling",
    change: { documents: [documentStatus({ isFilled: false })] },
    what: "document orders is not sent yet: its nest does not have all rows of its tables",
    level: "watch",
    blocks: ["wait"],
  },
  {
    kind: "source.behind",
    change: { source: { activity: "slow", lagSeconds: 90, lagBytes: 2048 } },
    what: "the stream is 90 s and 2.0 KB behind the log, and no sink holds it up",
    level: "watch",
    blocks: FREE,
  },
  {
    kind: "source.keeps-too-much",
    change: { source: { retainedBytes: 4096, retainedBytesMax: 1024 } },
    what: "the source keeps 4.0 KB of log for Millrace; retention.bytes is 1.0 KB",
    level: "act",
    blocks: FREE,
  },
  {
    kind: "source.reads-paused",
    change: { source: { readsPaused: true } },
    what: "reads beside the stream are paused",
    level: "watch",
    blocks: FREE,
  },
  {
    kind: "source.went-back",
    change: { source: { goneBack: { sinks: ["cache"], until: "0/2", error: failed("MR2006") } } },
    what: "the stream went back for cache; the other sinks wait until it is at 0/2 again: MR2006 it fails",
    level: "watch",
    blocks: FREE,
  },
  {
    kind: "source.not-looked-at",
    change: { tables: { areKnown: false } },
    what: "the source's tables have not been looked at yet",
    level: "watch",
    blocks: ["wait"],
  },
  {
    kind: "source.not-looked-at",
    change: { tables: { areKnown: false, notLooked: failed("MR2008") } },
    what: "the source's tables have not been looked at yet: MR2008 it fails",
    level: "watch",
    blocks: ["wait"],
  },
  {
    kind: "source.log-at-risk",
    change: { source: { warnings: ["the slot s is lost: the server has removed log that it needs"] } },
    what: "source: the slot s is lost",
    level: "act",
    blocks: FREE,
  },
  {
    kind: "source.hint",
    change: { source: { hints: ["its oldest transaction is pid 7: select pg_terminate_backend(7)"] } },
    what: "source: its oldest transaction is pid 7: select pg_terminate_backend(7)",
    level: "watch",
    blocks: FREE,
  },
  {
    kind: "table.slow-function",
    change: {
      source: {
        slowFunctions: [
          { table: "public.users", column: "name", function: "./rules.ts#name", averageMs: 3.14159, budgetMs: 1 },
        ],
      },
    },
    what: "function ./rules.ts#name takes 3.1 ms for a row of public.users (column name); its budget is 1 ms",
    level: "watch",
    blocks: FREE,
  },
  {
    kind: "sink.paused",
    change: ofSink({ state: "paused" }),
    what: "sink cache is paused; the source keeps its log for it",
    level: "watch",
    blocks: ["wait", "once"],
  },
  {
    kind: "sink.paused",
    change: ofSink({ state: "paused", error: failed("MR2001"), needsPerson: true }),
    what: "sink cache is paused; the source keeps its log for it",
    level: "watch",
    blocks: ["wait", "once"],
  },
  {
    kind: "sink.failing",
    change: ofSink({ state: "retrying", error: failed("MR2001"), lagSeconds: 60, lagBytes: 10 }),
    what: "sink cache does not take rows, 60 s and 10 B of log behind: MR2001 it fails",
    level: "watch",
    blocks: UNREADY,
  },
  {
    kind: "sink.failing",
    change: ofSink({ state: "retrying", error: failed("MR2002"), needsPerson: true }),
    what: "sink cache does not take rows, 0.0 s and 0 B of log behind: MR2002 it fails",
    level: "act",
    blocks: STOPPED,
  },
  {
    kind: "sink.failing",
    change: ofSink({ state: "failed", error: failed("MR1304", null), needsPerson: true }),
    what: "sink cache is failed and waits for you: MR1304 it fails",
    level: "act",
    blocks: STOPPED,
  },
  {
    kind: "sink.failing",
    change: ofSink({ state: "failed", needsPerson: true }),
    what: "sink cache is failed and waits for you",
    level: "act",
    blocks: STOPPED,
  },
  {
    kind: "sink.wedged",
    change: ofSink({ activity: "wedged" }),
    what: "sink cache does not answer to a write",
    level: "watch",
    blocks: UNREADY,
  },
  {
    kind: "sink.wedged",
    change: ofSink({ activity: "wedged", needsPerson: true }),
    what: "sink cache is wedged: its write gets no answer and can't be cut off",
    level: "act",
    blocks: STOPPED,
  },
  {
    kind: "sink.catching-up",
    change: ofSink({ catchingUp: true, lagSeconds: 5, lagBytes: 100 }),
    what: "sink cache is catching up, 5.0 s and 100 B of log behind; the others are not held up",
    level: "watch",
    blocks: ["wait"],
  },
  {
    kind: "sink.slow",
    change: ofSink({ activity: "slow", lagSeconds: 90, lagBytes: 100 }),
    what: "sink cache is slow, 90 s and 100 B of log behind",
    level: "watch",
    blocks: FREE,
  },
  {
    kind: "sink.slow",
    change: ofSink({ activity: "slow", lagSeconds: 90, lagBytes: 100, unansweredSeconds: 41 }),
    what: "sink cache is slow, 90 s and 100 B of log behind: its present write has had no answer for 41 s",
    level: "watch",
    blocks: FREE,
  },
  {
    kind: "sink.slow",
    change: ofSink({
      activity: "slow",
      lagSeconds: 90,
      lagBytes: 100,
      unansweredSeconds: 41,
      hints: [{ table: null, what: "a quota holds it back", fix: "raise it", slows: true }],
    }),
    what: "sink cache is slow, 90 s and 100 B of log behind: a quota holds it back",
    level: "watch",
    blocks: FREE,
  },
  {
    kind: "sink.failing",
    change: ofSink({
      state: "retrying",
      lagSeconds: 5,
      lagBytes: 100,
      error: { ...failed("MR2001"), isOfSource: true },
    }),
    what: "sink cache waits for the source, to catch up, 5.0 s and 100 B of log behind: MR2001 it fails",
    level: "watch",
    blocks: UNREADY,
  },
  {
    kind: "sink.starting",
    change: ofSink({ state: "starting", place: "cache.example:6379" }),
    what: "sink cache is starting: it is being opened (cache.example:6379)",
    level: "watch",
    blocks: UNREADY,
  },
  {
    kind: "sink.nearly-full",
    change: ofSink({
      rooms: [
        { where: "/a", freeBytes: 9000, lowBytes: 4096 },
        { where: "/b of node n1", freeBytes: 0, lowBytes: 1 },
      ],
    }),
    what: "sink cache has little room left: /b of node n1 has 0 B free",
    level: "act",
    blocks: FREE,
  },
  {
    kind: "sink.hint",
    change: ofSink({ hints: [{ table: null, what: "maxmemory-policy is allkeys-lru", fix: "CONFIG SET" }] }),
    what: "sink cache: maxmemory-policy is allkeys-lru",
    level: "watch",
    blocks: FREE,
  },
  {
    kind: "sink.hint",
    change: ofSink({ hints: [{ table: "public.t", what: "it is closed", fix: "open it", needsPerson: true }] }),
    what: "sink cache: it is closed",
    level: "act",
    blocks: FREE,
  },
  {
    kind: "sink.lost-changes",
    change: ofSink({ lost: { what: "its topics were deleted", since: AT, until: AT } }),
    what: "sink cache has lost changes for good: its topics were deleted",
    level: "act",
    blocks: FREE,
  },
  {
    kind: "sink.dead-letters",
    change: ofSink({ deadLetters: 2, lastRefusal: "public.t: MR3111 no", refusedSince: AT }),
    what: "sink cache refused 2 rows, kept as dead letters: the sink lacks them; the last one, public.t: MR3111 no",
    level: "act",
    blocks: ["once"],
  },
  {
    kind: "table.suspended",
    change: { tables: { suspended: [{ table: "public.t", sink: null, error: failed("MR1303"), mayReturn: false }] } },
    what: "table public.t is suspended, its changes are skipped: MR1303 it fails",
    level: "act",
    blocks: STOPPED,
  },
  {
    kind: "table.suspended",
    change: { tables: { suspended: [{ table: "public.t", sink: null, error: failed("MR1309"), mayReturn: true }] } },
    what: "table public.t is suspended, its changes are skipped: MR1309 it fails",
    level: "act",
    blocks: UNREADY,
  },
  {
    kind: "table.paused",
    change: {
      tables: { suspended: [{ table: "public.t", sink: "cache", error: failed("MR1326"), mayReturn: false }] },
    },
    what: "table public.t is paused in sink cache; its changes are skipped",
    level: "watch",
    blocks: ["wait", "once"],
  },
  {
    kind: "table.suspended-in-sink",
    change: {
      tables: { suspended: [{ table: "public.t", sink: "cache", error: failed("MR1305"), mayReturn: false }] },
    },
    what: "table public.t is suspended in sink cache, which lacks it: MR1305 it fails",
    level: "act",
    blocks: STOPPED,
  },
  {
    kind: "table.unreadable",
    change: {
      tables: { unreadable: [{ table: "public.t", sinks: ["cache"], since: AT, error: failed("MR2026") }] },
    },
    what: "table public.t can't be read for cache: MR2026 it fails",
    level: "act",
    blocks: UNREADY,
  },
  {
    kind: "table.stubborn",
    change: { tables: { stubborn: [{ table: "public.t", sink: "cache" }] } },
    what: "table public.t differs in sink cache each time that it is compared",
    level: "act",
    blocks: ["once"],
  },
  {
    kind: "table.pending",
    change: { tables: { pending: [{ table: "public.t", why: "its new shape is not followed yet", fix: null }] } },
    what: "table public.t waits: its new shape is not followed yet",
    level: "watch",
    blocks: ["wait"],
  },
  {
    kind: "table.pending",
    change: { tables: { pending: [{ table: "public.t", why: "pid 7 holds it", fix: "end it" }] } },
    what: "table public.t waits: pid 7 holds it",
    level: "act",
    blocks: ["wait"],
  },
  {
    kind: "reads.unfinished",
    change: { unfinishedSnapshots: 2 },
    what: "2 reads beside the stream are not finished",
    level: "watch",
    blocks: ["wait"],
  },
  {
    kind: "comparison.drift",
    change: { reconcile: { ...COMPARED, drift: DRIFT } },
    what: "3 rows differed in the comparison r1",
    level: "act",
    blocks: FREE,
  },
  {
    kind: "comparison.drift",
    change: { reconcile: { ...COMPARED, drift: { ...DRIFT, repaired: 3 } } },
    what: "3 rows differed, 3 repaired in the comparison r1",
    level: "watch",
    blocks: FREE,
  },
  {
    kind: "comparison.failed",
    change: { reconcile: { ...COMPARED, failure: failed("MR1402") } },
    what: "the last comparison that the daemon began did not end: MR1402 it fails",
    level: "act",
    blocks: FREE,
  },
  {
    kind: "comparison.overdue",
    change: { reconcile: { ...COMPARED, overdueSince: AT } },
    what: "no whole comparison has ended that began after 2026-11-20 03:00:00 UTC, when one was due",
    level: "act",
    blocks: FREE,
  },
  {
    kind: "proof.old",
    change: { reconcile: { ...COMPARED, continuous: { ...PROVEN, late: 2 } } },
    what: "table public.t in sink pg was last proven at 2026-11-20 03:00:00 UTC, and 1 other table of a sink",
    level: "act",
    blocks: FREE,
  },
  {
    kind: "proof.drift",
    change: { reconcile: { ...COMPARED, continuous: { ...PROVEN, drift: { places: 1, rows: 3, worst: PROOF } } } },
    what: "3 rows of table public.t differ in sink pg",
    level: "act",
    blocks: FREE,
  },
  {
    kind: "webhook.failing",
    change: { notify: { error: failed("MR1158") } },
    what: "the webhook could not be told what is not well: MR1158 it fails",
    level: "act",
    blocks: FREE,
  },
  {
    kind: "config.changed",
    change: { config: { changedAt: AT } },
    what: "the config file was changed, and the daemon runs with what it said before",
    level: "watch",
    blocks: FREE,
  },
];

describe("every outlet agrees on", () => {
  test.each(CASES)("$kind: $what", async ({ kind, change, what, level, blocks }) => {
    const document = statusDocument(change);
    const conditions = new FirstSeen().dated(document.conditions, AT);
    const status = { ...document, conditions };
    expect(conditions.map((one) => [one.kind, one.level, one.blocks])).toEqual([[kind, level, blocks]]);
    const [one] = conditions;
    const isReady = !blocks.includes("ready");

    // Who acts, since when, and what to do or what happens by itself.
    expect(one).toMatchObject({ since: expect.stringMatching(/^2026-/) });
    if (kind !== "source.hint") expect(one!.fix ?? one!.meanwhile).toEqual(expect.stringMatching(/./));
    if (level === "act") expect(one!.fix).toEqual(expect.stringMatching(/./));

    expect(document.verdict.kind).toBe(level === "act" ? "act" : isReady ? "watch" : "unready");
    const lines = statusText(status, NOW_MS).split("\n");
    expect(lines).toContain(`${document.verdict.headline}:`);
    expect(lines.find((line) => line.startsWith("  ! "))?.slice(4)).toMatch(startingWith(what));
    expect(lines.join("\n")).not.toContain("all is well");

    const isRun = status.daemon !== null || status.heldBy !== undefined;
    expect(exitCodeOf(status)).toBe(isRun ? (isReady && level === "watch" ? 0 : 3) : 1);
    const app = createWaitingAdmin({ status, error: failed("MR1215"), redact: (text) => text }, { kind: "socket" });
    const readyz = await app.inject({ url: "/readyz" });
    expect(readyz.statusCode).toBe(isReady ? 200 : 503);
    expect(readyz.json()).toMatchObject({
      ready: isReady,
      reasons: isReady ? [] : [expect.stringContaining(one!.what)],
    });

    const ofRows = pipelineConditions(status);
    for (const block of ["wait", "once"] as const)
      expect(ofRows.some((other) => other.blocks.includes(block))).toBe(blocks.includes(block));
    expect(await toldTo("act", status.conditions)).toEqual(
      isToBeTold(one!) && kind !== "webhook.failing" ? [kind] : [],
    );
    expect(await toldTo("watch", status.conditions)).toEqual(kind === "webhook.failing" ? [] : [kind]);

    const samples = (await new PrometheusMetrics().text(scrapedWith(status))).split("\n");
    expect(samples.filter((line) => line.startsWith("millrace_conditions{"))).toEqual([
      `millrace_conditions{kind="${kind}",level="${level}"} 1`,
    ]);
    const { code } = one!;
    if (code !== null) expect(errorPages().map((page) => page.code)).toContain(code);
  });

  test("nothing: all is well, everywhere", async () => {
    const status = statusDocument();
    expect(status.conditions).toEqual([]);
    expect(status.verdict).toEqual({ kind: "well", headline: "all is well" });
    expect(statusText(status, NOW_MS)).toContain("all is well: 2 sinks follow");
    expect(exitCodeOf(status)).toBe(0);
    expect(await toldTo("watch", status.conditions)).toEqual([]);
  });

  test("each kind that there is", () => {
    const source = readFileSync(join(import.meta.dirname, "../../src/core/conditions/conditions.ts"), "utf8");
    const kinds = [...source.matchAll(/(?:kind: |told\(|act\(|watch\(|condition\()"([a-z]+\.[a-z-]+)"/g)].map(
      ([, kind]) => kind,
    );
    expect(kinds.length).toBeGreaterThan(20);
    expect(new Set(CASES.map(({ kind }) => kind))).toEqual(new Set(kinds));
  });
});

function startingWith(text: string): RegExp {
  return new RegExp(`^${text.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`)}`);
}

/** The kinds that a receiver is told of. */
async function toldTo(level: "act" | "watch", conditions: Parameters<FirstSeen["dated"]>[0]): Promise<string[]> {
  const kinds: string[] = [];
  const stopping = new AbortController();
  let looks = 0;
  const notifier = new Notifier({
    clock: {
      ...systemClock,
      sleep: async () => {
        if (looks++ > 0) stopping.abort();
        stopping.signal.throwIfAborted();
      },
    },
    name: "shop",
    level,
    afterMs: 0,
    notices: { list: async () => [], replace: async () => {} },
    told: new ToldConditions(),
    logger: SILENT,
    send: async (message) => {
      if ("began" in message && Array.isArray(message.began))
        kinds.push(...message.began.map(({ kind }: { readonly kind: string }) => kind));
    },
  });
  await notifier.run(async () => ({ conditions, isWhole: true }), stopping.signal).catch(() => undefined);
  return kinds;
}

test("what has failed says itself that there is no room", () => {
  const rooms = [{ where: "/a", freeBytes: 0, lowBytes: 1 }];
  const kindsOf = (change: StatusChange) => statusDocument(change).conditions.map(({ kind }) => kind);
  expect(kindsOf({ state: { error: failed("MR1209"), rooms } })).toEqual(["state.unwritable"]);
  expect(kindsOf(ofSink({ state: "retrying", error: failed("MR3213"), rooms }))).toEqual(["sink.failing"]);
});

test("what waits for a person is said first, and a phase behind what keeps the daemon there", () => {
  const kindsOf = (change: StatusChange) => statusDocument(change).conditions.map(({ kind }) => kind);
  const away = { up: false, error: failed("MR2002"), unanswered: failed("MR2002") };
  expect(kindsOf({ phase: "starting", source: away })).toEqual(["source.failing", "daemon.starting"]);
  expect(
    kindsOf({
      phase: "snapshot",
      source: { copy: null },
      state: { error: failed("MR1209") },
      ...ofSink({ state: "retrying", error: failed("MR2002"), needsPerson: true }),
    }),
  ).toEqual(["state.unwritable", "sink.failing", "daemon.copying"]);
  expect(kindsOf({ daemon: null, heldBy: "db2 pid 7", ...ofSink({ deadLetters: 1 }) })).toEqual([
    "daemon.elsewhere",
    "sink.dead-letters",
  ]);
});

test("a command to copy has the names of the source as words of a shell, whatever is in them", () => {
  const table = "public.it's; rm -rf ~";
  const suspended = [{ table, sink: "cache", error: failed("MR1326"), mayReturn: false }];
  const [stubborn, paused] = statusDocument({
    tables: { suspended, stubborn: [{ table, sink: "cache" }] },
  }).conditions;
  const word = String.raw`'public.it'\''s; rm -rf ~'`;
  expect(paused?.fix).toBe(`millrace resume --tables ${word} --sink cache`);
  expect(stubborn?.fix).toBe(`millrace reconcile --tables ${word} --sink cache`);
  expect(suspensions.waitsForApproval(table, []).hint).toBe(`millrace schema approve ${word}`);
});

test("that a table is suspended is said once, before the reason", () => {
  const { ambiguousKey, internalFailure, keyLost, newWaits, refusedSince, waitsForApproval } = suspensions;
  const refused = { id: "public.t", reason: "it has no usable key", fix: "add one" };
  for (const { code, message } of [
    ambiguousKey("public.t", "null"),
    internalFailure("public.t", new TypeError()),
    keyLost("public.t"),
    newWaits("public.t"),
    refusedSince(refused),
    refusedSince({ ...refused, code: "MR1026" }),
    waitsForApproval("public.t", ["column added"]),
  ]) {
    expect(message).toContain("public.t");
    const error = { ...failed(code), message };
    const suspended = [{ table: "public.t", sink: null, error, mayReturn: false }];
    const text = statusText(statusDocument({ tables: { suspended } }), NOW_MS);
    expect(text.match(/is suspended/g)).toHaveLength(1);
  }
});

test("a command of an error's page has the names of the sink and the table that it is about", () => {
  const hint = "Do it, then `millrace snapshot start --tables TABLE --sink NAME`; or ALTER TABLE";
  const suspended = [{ table: "public.a b", sink: "cache", error: failed("MR1305", hint), mayReturn: false }];
  expect(statusDocument({ tables: { suspended } }).conditions[0]?.fix).toBe(
    "Do it, then `millrace snapshot start --tables 'public.a b' --sink cache`; or ALTER TABLE",
  );
});

test("a source that answered after its stream broke is away only since then", () => {
  const since = "2026-11-20T02:59:00Z";
  const error = { ...failed("MR2001"), since };
  const sinceOf = (unanswered: StoredError | null) =>
    statusDocument({ source: { up: false, error, unanswered, answeredAt: AT } }).conditions[0]?.since;
  expect([sinceOf(failed("MR2001")), sinceOf(null)]).toEqual([AT, since]);
});

test("a condition keeps the moment at which it was first seen, until it ends", () => {
  const seen = new FirstSeen();
  const paused = statusDocument(ofSink({ state: "paused" })).conditions;
  const sinceOf = (conditions: typeof paused, now: string) => seen.dated(conditions, now)[0]?.since;
  expect(sinceOf(paused, "1")).toBe("1");
  expect(sinceOf(paused, "2")).toBe("1");
  expect(sinceOf([], "3")).toBeUndefined();
  expect(sinceOf(paused, "4")).toBe("4");
});

test("a state that does not answer keeps nobody waiting: what it said last counts", async () => {
  let late = () => {};
  let elapsed = 0;
  const clock = {
    ...systemClock,
    elapsed: () => elapsed,
    after: (_ms: number, call: () => void) => ((late = call), () => {}),
  };
  const answers = new LastAnswer(clock, "none");
  expect(answers.hasAnswer).toBe(false);
  expect(await answers.to(async () => "first")).toBe("first");
  const slow = Promise.withResolvers<string>();
  const asked = answers.to(() => slow.promise);
  late();
  expect(await asked).toBe("first");
  elapsed += 2_000;
  // It is not asked again before it has answered.
  expect(await answers.to(() => Promise.reject(new Error("asked again")))).toBe("first");
  slow.resolve("second");
  await slow.promise;
  expect(await answers.to(async () => "third")).toBe("third");
});
