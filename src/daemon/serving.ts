import { withoutKeys } from "../core/contracts/reconciliation.ts";
import { chmodSync, lstatSync, renameSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { dirname } from "node:path";
import type { Comparing } from "./comparing.ts";
import type { Config } from "../config/config.ts";
import { audited } from "../core/audit/audited.ts";
import { statusDocument } from "../core/conditions/conditions.ts";
import { systemClock } from "../core/clock.ts";
import { pipelineStatus, type StatusDocument } from "../core/contracts/status.ts";
import { LastAnswer } from "../core/waiting.ts";
import type { DeadLetter, StateStore, StoredError } from "../core/contracts/state-store.ts";
import type { Logger } from "../core/contracts/telemetry.ts";
import { listenFailed } from "../ops/errors.ts";
import { makeFolder } from "../core/files.ts";
import { createAdmin, createWaitingAdmin } from "../ops/admin/admin.ts";
import type { AdminPort } from "../ops/admin/port.ts";
import { RateLimit } from "../ops/admin/rate-limit.ts";
import { controlSocketPath } from "../ops/control-socket.ts";
import type { Activity } from "../ops/dashboard/activity.ts";
import type { History } from "../ops/dashboard/history.ts";
import {
  type DaemonView,
  letterGroupsOf,
  lettersOf,
  readsOf,
  STEP_SECONDS,
  STEPS_OF_DAY,
  tablesOf,
} from "../ops/dashboard/view.ts";
import { retentionSeconds, type Scraped } from "../ops/gauges.ts";
import type { PrometheusMetrics } from "../ops/metrics.ts";
import type { Controls } from "./joined-control.ts";
import { VERSION } from "../version.ts";

/** Of connections that come at once: the kernel refuses the rest (EAGAIN) before anybody here sees them. */
const BACKLOG = 4_096;

type View = Omit<DaemonView, "role">;

interface Served extends AsyncDisposable {
  readonly address: string | null;
}

export interface ServedParts {
  readonly control: Controls;
  readonly comparing: Comparing;
  readonly state: Pick<StateStore, "audit" | "deadLetters" | "reports" | "sinks">;
  readonly metrics: PrometheusMetrics;
  readonly activity: Activity;
  readonly history: History;
  readonly status: () => Promise<StatusDocument>;
  readonly redact: (json: string) => string;
  readonly logger: Logger;
}

/** The admin interface on its socket and, if the configuration has one, its address. */
export async function serve(config: Config, parts: ServedParts, signal: AbortSignal): Promise<Served> {
  const { control, comparing, logger } = parts;
  const { reconciler } = comparing;
  const port = portOf(parts, signal);
  const local = createAdmin(
    {
      ...port,
      copy: (sink, asked) => control.copy(sink, AbortSignal.any([signal, asked])),
      reconcile: (request) => ({ id: reconciler.start(request, signal) }),
      reconciliation: () => reconciler.look(),
      reportProofs: async () => ({ id: await comparing.reportProofs() }),
      stopReconciliation: (id) => reconciler.stop(id),
    },
    { kind: "socket" },
    logger,
  );
  const socket = await listenLocally(local, controlSocketPath(config.state.url));
  const { listen, tokens, hosts } = config.admin;
  const limit = new RateLimit(systemClock);
  const remote = listen === null ? null : createAdmin(port, { kind: "tcp", tokens, hosts, limit }, logger);
  try {
    if (remote !== null && listen !== null)
      await remote.listen({ host: listen.host, port: listen.port, backlog: BACKLOG });
  } catch (error) {
    await local.close();
    socket[Symbol.dispose]();
    throw listen === null ? error : listenFailed(listen, error);
  }
  return {
    address: listen === null ? null : `${listen.host}:${listen.port}`,
    [Symbol.asyncDispose]: async () => {
      await remote?.close();
      await local.close();
      socket[Symbol.dispose]();
    },
  };
}

/** What a process waits for that does not run its pipeline. */
export interface Obstacle {
  readonly error: StoredError;
  /** It does not pass by itself. */
  readonly needsPerson: boolean;
}

export interface Waits extends Obstacle {
  readonly redact: (json: string) => string;
  readonly logger: Logger;
}

/**
 * While the process has no state yet, or what it needs is away: it lives, is not ready, and says what it waits for. At the
 * configured address; and on the socket if the state is away, for else a command asks that, and if no daemon that holds the
 * lease listens there.
 */
export async function serveWaiting(config: Config, waits: Waits): Promise<AsyncDisposable> {
  const { error, redact, logger } = waits;
  const { listen, tokens, hosts } = config.admin;
  const status = waitingStatus(config, waits);
  const ends = new AsyncDisposableStack();
  const path = controlSocketPath(config.state.url);
  try {
    if (!(await isListenedTo(path))) {
      const local = createWaitingAdmin({ status, error, redact }, { kind: "socket" });
      ends.defer(() => local.close());
      ends.use(await listenLocally(local, path));
    }
    if (listen === null) return ends;
    const entrance = { kind: "tcp", tokens, hosts, limit: new RateLimit(systemClock) } as const;
    const remote = createWaitingAdmin({ status, error, redact }, entrance);
    ends.defer(() => remote.close());
    await remote.listen({ host: listen.host, port: listen.port, backlog: BACKLOG });
  } catch (cause) {
    const known = listen === null ? cause : listenFailed(listen, cause);
    logger.warn({ error: known }, "nobody can be told what the daemon waits for");
  }
  return ends;
}

/** What a failure of one sink begins with where the daemon can't begin over it. */
export function ofSink(name: string): string {
  return `sink ${name}: `;
}

function isOfState({ code }: StoredError): boolean {
  return code.startsWith("MR12");
}

function isListenedTo(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect(path, () => resolve(true)).on("error", () => resolve(false));
  return promise.finally(() => socket.destroy());
}

/** What is known without state, source and sinks. */
export function waitingStatus(config: Config, { error, needsPerson }: Obstacle): StatusDocument {
  const ofState = isOfState(error);
  const sink = config.sinks.find(({ name }) => error.message.startsWith(ofSink(name)));
  const source = ofState || sink !== undefined ? {} : { error, unanswered: error, needsPerson };
  const waits = { state: "retrying", error, needsPerson } as const;
  const sinks = new Map(sink === undefined ? [] : [[sink.name, waits]]);
  const daemon = { pid: process.pid, startedAt: error.since ?? error.at };
  const known = pipelineStatus(config, { phase: "starting", source, daemon, sinks });
  const reconcile = { next: null, last: null, drift: null, failure: null };
  return statusDocument(known, { state: { error: ofState ? error : null }, reconcile });
}

function portOf(parts: ServedParts, signal: AbortSignal): AdminPort {
  const { control, comparing, state, metrics, redact } = parts;
  const letters = new LastAnswer<readonly DeadLetter[]>(systemClock, []);
  return {
    version: VERSION,
    isOver: () => signal.aborted,
    status: parts.status,
    metrics: async () => ({ contentType: metrics.contentType, text: await metrics.text(await scrapedFrom(parts)) }),
    pause: (sink, tables) => control.pause(sink, tables),
    resume: (sink, tables) => control.resume(sink, tables),
    wait: (timeoutMs) => control.wait(timeoutMs, signal),
    fresh: (request, timeoutMs) => control.fresh(request, timeoutMs, signal),
    startSnapshot: (request) => control.startSnapshot(request),
    snapshots: () => control.snapshots(),
    cancelSnapshot: (id) => control.cancelSnapshot(id),
    repair: (sinks, tables) => ({ id: comparing.repair(sinks, tables) }),
    replayLetters: (choice, timeoutMs) => control.replayLetters(choice, timeoutMs, signal),
    discardLetters: (choice) => control.discardLetters(choice),
    reports: () => state.reports.list(),
    report: async (id) => {
      const found = await state.reports.get(id);
      return found === null ? null : withoutKeys(found);
    },
    view: async (since) => {
      const waiting = await letters.to(() => state.deadLetters.list({ state: "waiting" }));
      return await viewOf(parts, waiting, since);
    },
    audit: (limit) => state.audit.list(limit),
    audited: (order, work) => audited(state, order, work),
    redact,
  };
}

async function viewOf(
  { control, comparing, activity, history }: ServedParts,
  letters: readonly DeadLetter[],
  since: string,
): Promise<View> {
  return {
    history: history.points.filter(({ at }) => at > since),
    stepSeconds: STEP_SECONDS,
    day: history.day.filter(({ at }) => at > since),
    dayStepSeconds: STEP_SECONDS * STEPS_OF_DAY,
    retentionSeconds: retentionSeconds((await control.status()).source, history.points),
    tables: tablesOf({
      schemas: control.schemas,
      taken: control.taken,
      estimates: control.estimates.counts,
      activities: [...activity.tables],
      counts: comparing.counted,
      proofs: await comparing.proofs(),
    }),
    reads: readsOf(await control.snapshots()),
    deadLetters: lettersOf(letters),
    letterGroups: letterGroupsOf(letters),
  };
}

/**
 * Replaces the socket file, whatever is there: only the holder of the lease gets here. A daemon that lost its lease may
 * still be about to end, so each removes the file only while it is its own. Listening elsewhere first keeps Node from
 * removing the file by name at the end.
 */
async function listenLocally(admin: ReturnType<typeof createAdmin>, path: string): Promise<Disposable> {
  // If the state is kept elsewhere, no part has made the folder yet.
  makeFolder(dirname(path), 0o700);
  const early = `${path}~`;
  rmSync(early, { force: true });
  await admin.listen({ path: early, backlog: BACKLOG });
  chmodSync(early, 0o600);
  renameSync(early, path);
  const own = lstatSync(path).ino;
  return {
    [Symbol.dispose]: () => {
      if (lstatSync(path, { throwIfNoEntry: false })?.ino === own) rmSync(path, { force: true });
    },
  };
}

/** For the metrics. */
export async function scrapedFrom({ control, comparing, history, status: ask }: ServedParts): Promise<Scraped> {
  const status = await ask();
  return {
    status,
    schemas: control.schemas,
    taken: control.taken,
    reads: await control.snapshots(),
    ...(await comparing.levels()),
    retentionSeconds: retentionSeconds(status.source, history.points),
    memory: await control.memory(),
    nowMs: systemClock.now(),
  };
}
