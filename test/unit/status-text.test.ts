/** `millrace status` as the one who was woken up reads it. */
import { describe, expect, test } from "vitest";
import { exitCodeOf } from "../../src/cli/status/status.ts";
import { statusText } from "../../src/cli/status/status-text.ts";
import type { ReportSummary } from "../../src/core/contracts/reconciliation.ts";
import { NO_PROGRESS } from "../../src/core/contracts/status.ts";
import type { StoredError } from "../../src/core/contracts/state-store.ts";
import { sinkStatus, type StatusChange, statusDocument } from "../support/daemon/status-document.ts";

const NOW_MS = Date.parse("2026-11-20T03:12:00Z");
const SCREEN_LINES = 40;

const error = (code: string, message: string, hint: string | null, at = "2026-11-20T03:00:00Z"): StoredError => ({
  code,
  message,
  hint,
  at,
});

function text(change: StatusChange = {}): string {
  const written = statusText(statusDocument(change), NOW_MS);
  expect(written.split("\n").length).toBeLessThanOrEqual(SCREEN_LINES);
  return written;
}

const attention = (written: string) => /\n\n.*(?:needs?) you.*:\n([^]*?)\n\n/.exec(written)?.[1];

test("in order: it says so in one line, and asks for nothing", () => {
  const written = text({ tables: { refused: [{ table: "public.log", reason: "it has no usable key", fix: "…" }] } });
  expect(written.split("\n").slice(0, 2)).toEqual([
    "shop: streaming (pid 42, up for 2 h 12 min)",
    "all is well: 2 sinks follow",
  ]);
  expect(written).toContain("left out: public.log (it has no usable key); millrace check has the fix");
  expect(written).not.toMatch(/needs? you|->/);
});

test("a sink that is down: which, since when, that it mends itself, and what to look at", () => {
  const down = sinkStatus("cache", {
    state: "retrying",
    lagSeconds: 720,
    lagBytes: 2048,
    error: {
      ...error("MR2001", "the server can't be reached", "Check url, TLS and firewall.", "2026-11-20T03:11:57Z"),
      since: "2026-11-20T03:00:00Z",
    },
  });
  expect(attention(text({ sinks: [sinkStatus("warehouse"), down] }))).toBe(
    "  ! sink cache does not take rows, 12 min and 2.0 KB of log behind: MR2001 the server can't be reached (for 12 min, last tried 3 s ago; it catches up by itself)\n" +
      "    -> Check url, TLS and firewall.",
  );
});

test("a sink that was never reached is not said to be behind by nothing", () => {
  const down = sinkStatus("cache", {
    state: "retrying",
    lagSeconds: null,
    lagBytes: null,
    error: error("MR2001", "no", null),
  });
  expect(attention(text({ sinks: [down] }))).toContain("! sink cache does not take rows: MR2001 no");
});

test("without a daemon an error that may have passed is not said to wait for somebody", () => {
  const last = sinkStatus("cache", { state: "failed", error: error("MR2001", "the server can't be reached", null) });
  const said = attention(text({ sinks: [last], daemon: null }));
  expect(said).toContain("! sink cache did not take rows last: MR2001 the server can't be reached");
  expect(said).not.toContain("waits for you");
});

test("a sink that failed is not said to mend itself", () => {
  const failed = sinkStatus("cache", {
    state: "failed",
    error: error("MR1301", "it was emptied", "millrace snapshot start"),
  });
  const said = attention(text({ sinks: [failed] }));
  expect(said).toContain("! sink cache is failed and waits for you: MR1301 it was emptied");
  expect(said).toContain("-> millrace snapshot start");
  expect(said).not.toContain("by itself");
});

test("parts that hang are named: whom the stream waits for, and a sink whose write can't be cut off", () => {
  const stuck = sinkStatus("warehouse", { activity: "wedged", needsPerson: true });
  const said = text({ sinks: [stuck], source: { activity: "blocked", blockedBy: ["warehouse"] } });
  expect(said).toContain("source: postgres at 0/1A2B3C8, blocked by warehouse,");
  expect(said).toContain("! sink warehouse is wedged: its write gets no answer and can't be cut off");
  expect(said).toContain("streaming, wedged");
  expect(text({ source: { activity: "half-open" } })).toContain("0/1A2B3C8, half-open,");
  expect(text({ source: { activity: "idle", blockedBy: [] } })).not.toContain("idle");
});

test("a sink that is slow, and one that catches up, are told apart", () => {
  const slow = sinkStatus("warehouse", { lagSeconds: 95, lagBytes: 3 * 1024 ** 2 });
  const late = sinkStatus("cache", { lagSeconds: 4000, lagBytes: 5 * 1024 ** 3, catchingUp: true });
  const said = attention(text({ sinks: [slow, late, sinkStatus("search", { lagSeconds: 2 })] }));
  expect(said).toContain("sink warehouse is slow, 95 s and 3.0 MB of log behind");
  expect(said).toContain("sink cache is catching up, 66 min and 5.0 GB of log behind; the others are not held up");
  expect(said).not.toContain("search");
});

test("where the stream is behind, no sink is blamed that has all of it", () => {
  const lag = { lagSeconds: 95, lagBytes: 3 * 1024 ** 2 };
  const sinks = [sinkStatus("cache", { ...lag, activity: "idle" }), sinkStatus("search", { ...lag, activity: "slow" })];
  const said = attention(text({ sinks, source: { activity: "slow", ...lag } }));
  expect(said).toContain("! the stream is 95 s and 3.0 MB behind the log, and no sink holds it up");
  expect(said).toContain("sink search is slow, 95 s and 3.0 MB of log behind");
  expect(said).not.toContain("cache");
});

test("a paused table: since when, and the command that ends it", () => {
  const told = error("MR1326", "an operator has paused it", null);
  const paused = { table: "public.busy", sink: "cache", error: told, mayReturn: false };
  expect(attention(text({ tables: { suspended: [paused] } }))).toBe(
    "  ! table public.busy is paused in sink cache; its changes are skipped: MR1326 (12 min ago)\n" +
      "    -> millrace resume --tables public.busy --sink cache",
  );
});

test("a paused sink: what it costs and the command that ends it", () => {
  const said = attention(
    text({ sinks: [sinkStatus("cache", { state: "paused" })], source: { retainedBytes: 3 * 1024 ** 3 } }),
  );
  expect(said).toBe(
    "  ! sink cache is paused; the source keeps its log for it (3.0 GB by now)\n    -> millrace resume --sink cache",
  );
});

test("dead letters are a matter although everything streams", () => {
  const said = attention(text({ sinks: [sinkStatus("cache", { deadLetters: 1 })] }));
  expect(said).toContain("sink cache refused 1 row, kept as dead letters: the sink lacks them");
  expect(said).toContain("-> millrace dlq list --sink cache");
});

test("the source: its error, its warnings, and how much log it still keeps", () => {
  const written = text({
    source: {
      error: error("MR2001", "no connection", "Start it."),
      warnings: ["process 7 holds it"],
      safeBytes: 1024 ** 2,
    },
  });
  expect(attention(written)).toBe(
    "  ! source: process 7 holds it\n    -> millrace check; if log is gone already, millrace recover\n" +
      "  ! the stream from the source is broken: MR2001 no connection (for 12 min, last tried 12 min ago; the sinks are fine; it is tried again by itself)\n" +
      "    -> Start it.",
  );
  expect(written).toContain("keeps 2.0 KB of log for us, gives it up after 1.0 MB more");
});

test("many suspended tables still leave the figures on the screen", () => {
  const suspended = Array.from({ length: 60 }, (_, i) => ({
    table: `public.t${i}`,
    sink: null,
    error: error("MR1303", "column a changed its type", "millrace snapshot start"),
    mayReturn: false,
  }));
  const written = text({ tables: { suspended } });
  expect(written).toContain("! table public.t0 is suspended, its changes are skipped: MR1303");
  expect(written).toContain("55 more tables suspended");
});

test("a first copy that runs: not ready, how far it is, and that nobody has to do anything", () => {
  const written = text({
    phase: "snapshot",
    source: {
      copy: { tableCount: 3, tablesDone: 1, rowsRead: 120_000, rowsEstimated: null, share: 0.371, secondsLeft: 240 },
    },
    sinks: [sinkStatus("cache", { state: "snapshot", position: null, lagSeconds: null, lagBytes: null })],
  });
  expect(written).toContain("\nnot ready; nothing needs you so far:\n");
  expect(attention(written)).toBe(
    "  ! first copy: 1 of 3 tables done, 120,000 rows read, about 37%, about 4 min left (2 h 12 min ago; streaming begins when it is done)",
  );
});

test("without a daemon: that nothing is copied, and how it is started", () => {
  const written = text({ daemon: null, phase: "stopped", sinks: [sinkStatus("cache", { state: "stopped" })] });
  expect(written).toMatch(/^shop: no daemon is running/);
  expect(attention(written)).toContain("nothing is copied while no daemon runs");
  expect(attention(written)).toContain("-> millrace run");
});

test("without a daemon that ended over an error: the error, and what to do", () => {
  const ended = error("MR2010", "the slot does not exist", "millrace recover");
  const written = text({ daemon: null, phase: "stopped", ended });
  expect(attention(written)).toContain("the daemon has ended: MR2010 the slot does not exist");
  expect(attention(written)).toContain("-> millrace recover");
});

test("a stream that went back for a sink: who waits, for whom, and why", () => {
  const goneBack = { sinks: ["cache"], until: "0/99", error: error("MR2030", "no second slot", "Raise the limit.") };
  const waiting = sinkStatus("warehouse", { waitsFor: ["cache"] });
  const written = text({ source: { goneBack }, sinks: [waiting, sinkStatus("cache", { catchingUp: true })] });
  expect(attention(written)).toContain(
    "the stream went back for cache; the other sinks wait until it is at 0/99 again",
  );
  expect(attention(written)).toContain("-> Raise the limit.");
  expect(written).toMatch(/warehouse \(redis\) │ streaming, waits for cache/);
});

test("a table that can't be read: for whom, why, since when, and that it is tried again", () => {
  const one = {
    table: "shop.orders",
    sinks: ["cache", "warehouse"],
    since: "2026-11-20T03:06:00Z",
    error: error("MR2026", "the server gave up waiting", "Look who holds the table.", "2026-11-20T03:11:52Z"),
  };
  expect(attention(text({ tables: { unreadable: [one] } }))).toBe(
    "  ! table shop.orders can't be read for cache, warehouse: MR2026 the server gave up waiting (for 6 min, last tried 8 s ago; it is tried again by itself)\n" +
      "    -> Look who holds the table.",
  );
  const many = attention(text({ tables: { unreadable: Array.from({ length: 40 }, () => one) } }));
  expect(many).toContain("! 35 more tables that can't be read\n    -> millrace status --json");
});

test("what is read beside the stream: how far each is, since when, and the list's command for the rest", () => {
  const one = {
    id: 1,
    tableId: "public.orders",
    sink: "warehouse",
    scope: { kind: "table" },
    reason: "not complete in this sink",
    needed: true,
    state: "running",
    error: null,
    ...NO_PROGRESS,
    rowsDone: 12_000,
    chunksDone: 3,
    resumedCount: 2,
    restartedCount: 0,
    createdAt: "2026-11-20T02:00:00Z",
    startedAt: new Date(NOW_MS - 60_000).toISOString(),
    endedAt: null,
  } as const;
  const written = text({ unfinishedSnapshots: 40, snapshots: Array.from({ length: 40 }, () => one) });
  expect(attention(written)).toBe("  ! 40 reads beside the stream are not finished\n    -> millrace snapshot list");
  expect(written.match(/ {2}public\.orders for warehouse: 12,000 rows read in 60 s, resumed 2 times/g)?.length).toBe(5);
});

const COMPARED: ReportSummary = {
  whole: true,
  complete: true,
  part: null,
  suspended: 0,
  deadLetters: 0,
  id: "20261120T020000000Z-a1",
  name: "shop",
  startedAt: "2026-11-20T02:00:00.000Z",
  finishedAt: "2026-11-20T02:12:00.000Z",
  drift: false,
  alarm: false,
  tables: 2,
  notComparable: 0,
  compared: 1_000,
  missing: 0,
  extra: 0,
  different: 0,
  repaired: 0,
};

test("drift that no later comparison of everything has found gone is something to look at", () => {
  const drift = { ...COMPARED, missing: 3, different: 2, repaired: 5, drift: true, alarm: true };
  const written = text({ reconcile: { last: COMPARED, next: null, drift, failure: null } });
  expect(written).not.toContain("all is well");
  expect(attention(written)).toContain(
    "5 rows differed, 5 repaired in the comparison 20261120T020000000Z-a1 (60 min ago; no full comparison since then was without drift)",
  );
  expect(attention(written)).toContain(`millrace report show ${COMPARED.id}`);
});

test("what the last comparison found, and when the next one comes", () => {
  const lastLine = (last: ReportSummary | null, next: string | null = null) =>
    text({ reconcile: { last, next, drift: null, failure: null } })
      .split("\n")
      .at(-1);
  expect(lastLine(null)).toBe("2 tables captured");
  expect(lastLine(COMPARED, "2026-11-21T02:00:00.000Z")).toBe(
    "compared 60 min ago: equal, next comparison 2026-11-21 02:00 UTC (in 22 h 48 min)",
  );
  expect(lastLine({ ...COMPARED, notComparable: 1, complete: false })).toBe(
    `compared 60 min ago: what was compared is equal, 1 not comparable (millrace report show ${COMPARED.id})`,
  );
  expect(lastLine({ ...COMPARED, complete: false })).toContain("what was compared is equal (");
  expect(lastLine({ ...COMPARED, deadLetters: 2 })).toContain(": equal except for 2 dead letters (");
  expect(lastLine({ ...COMPARED, missing: 3, different: 2, repaired: 4, drift: true })).toBe(
    `compared 60 min ago: 5 rows differed, 4 repaired (millrace report show ${COMPARED.id})`,
  );
});

describe("a source that is away", () => {
  const lost = {
    ...error("MR2001", "no connection to db:5432", null, "2026-11-20T03:11:58Z"),
    since: "2026-11-20T03:10:00Z",
  };
  const source = {
    up: false,
    activity: "away",
    error: lost,
    unanswered: lost,
    answeredAt: "2026-11-20T03:09:59.5Z",
  } as const;
  const lag = { lagSeconds: 95, lagBytes: 0 };

  test("until when it was there, since when it is not, and that the sinks are fine", () => {
    const sinks = [sinkStatus("a", { ...lag, activity: "idle" }), sinkStatus("b", { ...lag, activity: "flowing" })];
    expect(attention(text({ source, sinks }))).toBe(
      "  ! no connection to the source, connected until 2026-11-20 03:09:59 UTC: MR2001 no connection to db:5432 (for 2 min, last tried 2 s ago; the sinks are fine; it is tried again by itself)\n" +
        "    -> millrace explain MR2001",
    );
  });

  test("a sink that is away besides is told, and not called fine", () => {
    const said = attention(text({ source, sinks: [sinkStatus("a", { state: "retrying", error: lost })] }));
    expect(said).toContain("! no connection to the source");
    expect(said).toContain("! sink a does not take rows");
    expect(said).not.toContain("are fine");
  });

  test("at a start: that it was not reached yet, and what it refuses", () => {
    const refused = { ...source, error: null, answeredAt: null, needsPerson: true };
    expect(text({ phase: "starting", source: refused })).toContain(
      "! the source does not tell its position, not since the daemon's start; lags and what it keeps are not known: MR2001",
    );
  });
});

describe("as an exit code", () => {
  const refused = error("MR1305", "it waits", null);
  const last = { ...COMPARED, id: "r", missing: 1, extra: 0, different: 0, repaired: 0 };
  const summaryOf = (changed: Partial<ReportSummary>): ReportSummary => ({ ...last, ...changed });
  const found = (changed: Partial<ReportSummary>) => ({
    next: null,
    last: summaryOf(changed),
    drift: summaryOf(changed),
    failure: null,
  });

  test.each<[string, StatusChange, number]>([
    ["all is well", {}, 0],
    ["a sink that is away", { sinks: [sinkStatus("a", { state: "retrying", error: refused })] }, 3],
    ["a sink that catches up", { sinks: [sinkStatus("a", { catchingUp: true })] }, 0],
    ["a first copy", { phase: "snapshot" }, 3],
    ["a paused sink", { sinks: [sinkStatus("a", { state: "paused" })] }, 0],
    ["no daemon", { daemon: null }, 1],
    ["a daemon elsewhere", { daemon: null, heldBy: "host pid 7" }, 0],
    ["a sink that waits for somebody", { sinks: [sinkStatus("a", { state: "retrying", needsPerson: true })] }, 3],
    ["dead letters", { sinks: [sinkStatus("a", { deadLetters: 2 })] }, 3],
    [
      "a suspended table",
      { tables: { suspended: [{ table: "public.t", sink: null, error: refused, mayReturn: false }] } },
      3,
    ],
    [
      "a table that can't be read",
      { tables: { unreadable: [{ table: "public.t", sinks: ["a"], since: "", error: refused }] } },
      3,
    ],
    ["a long transaction", { source: { hints: ["process 7 has had a transaction open for 9 min"] } }, 0],
    ["log that is nearly gone", { source: { warnings: ["only 3 MB of log are left"] } }, 3],
    ["a login that is refused", { source: { error: refused, needsPerson: true } }, 3],
    ["a source that is away", { source: { error: refused } }, 3],
    ["a state that can't be written", { state: { error: refused } }, 3],
    ["drift", { reconcile: found({}) }, 3],
    ["drift that was repaired", { reconcile: found({ repaired: 1 }) }, 0],
    ["a planned comparison that failed", { reconcile: { next: null, last: null, drift: null, failure: refused } }, 3],
    ["a sink that failed without an error", { sinks: [sinkStatus("a", { state: "failed" })] }, 3],
    [
      "a table that a sink lacks",
      { tables: { suspended: [{ table: "public.t", sink: "a", error: refused, mayReturn: false }] } },
      3,
    ],
    ["a source that does not tell its position", { source: { up: false } }, 3],
  ])("%s", (what, change, expected) => {
    expect(exitCodeOf(statusDocument(change))).toBe(expected);
    // What somebody has to act on is never passed over in words.
    if (expected !== 0) expect(text(change)).not.toMatch(/all is well|nothing is wrong/);
    if (what.endsWith("its position")) expect(text(change)).toContain("does not tell its position");
  });
});
