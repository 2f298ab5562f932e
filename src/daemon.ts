import { chmodSync, lstatSync, renameSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { Comparing, openReports } from "./comparing.ts";
import type { Config, SinkConfig } from "./config/config.ts";
import { scopeOf, systemClock } from "./core/clock.ts";
import { contextOf, type EnvelopeContext } from "./core/model/envelope.ts";
import { MillraceError } from "./core/errors.ts";
import { makeFolder } from "./core/folder.ts";
import type { Sink } from "./core/contracts/sink.ts";
import type { Source } from "./core/contracts/source.ts";
import type { ReportStore, StateStore, StoredError } from "./core/contracts/state-store.ts";
import type { ReconcileDocument, ReconcileRequest } from "./core/contracts/reconciliation.ts";
import { TableSelection } from "./core/table-selection.ts";
import type { Logger } from "./core/contracts/telemetry.ts";
import { holderName, isGone } from "./holder.ts";
import { openSource, pinsOf } from "./open-source.ts";
import { createAdmin } from "./ops/admin.ts";
import { controlSocketPath } from "./ops/control-socket.ts";
import { PrometheusMetrics } from "./ops/metrics.ts";
import { repairDifferences } from "./reconcile/recovery.ts";
import type { ReportFolder } from "./reconcile/report/report-folder.ts";
import { policyOf } from "./rules/definition.ts";
import { Control } from "./runtime/control.ts";
import { Pipeline, type SinkSetup } from "./runtime/pipeline.ts";
import { relay } from "./relaying.ts";
import { openState } from "./state/open.ts";
import { patient } from "./state/patient.ts";
import { redacting } from "./state/redacting.ts";
import { forgetRemovedSinks, keepLease, releaseLease, takeLease, throughMoves } from "./tenure.ts";
import { PRODUCER, VERSION } from "./version.ts";

export interface DaemonOptions {
  /** Bring every sink to the position that the source has now, then stop. */
  readonly once: boolean;
  readonly logger: Logger;
  /** Removes secrets from the texts of a JSON document. */
  readonly redact: (json: string) => string;
  /** With `once`: compares the sinks when they have reached that position. */
  readonly reconcile?: ReconcileRequest;
  /** Wrappers between the runtime and its parts; tests inject faults there. */
  readonly wrap?: Wrappers;
}

export interface Wrappers {
  readonly sink?: (sink: Sink) => Sink;
  readonly source?: (source: Source) => Source;
  readonly state?: (state: StateStore) => StateStore;
}

export interface DaemonResult {
  /** With `once`: the reasons why sinks did not get there. */
  readonly missing: readonly string[];
  /** With `reconcile`: the result; null if it was stopped before. */
  readonly reconciled: ReconcileDocument | null;
}

const STOPPED: DaemonResult = { missing: [], reconciled: null };
const clock = systemClock;
const DEFAULT_LIMITS = { rowCountMax: 50_000, byteCountMax: 2 * 1024 * 1024 };

/** Runs one source with its sinks until `signal` aborts. It creates all parts of the daemon and connects them. */
export async function runDaemon(config: Config, options: DaemonOptions, signal: AbortSignal): Promise<DaemonResult> {
  const folder = openReports(config);
  const opened = await openState(config.state, { name: config.name, clock });
  const waiting = patient({ store: options.wrap?.state?.(opened) ?? opened, clock, logger: options.logger }, signal);
  const state = redacting(waiting.store, options.redact);
  try {
    const lease = await takeLease({ state, clock, holder: holderName(), isGone });
    try {
      return await throughMoves(
        { clock, logger: options.logger },
        () => runWithLease(config, options, { state, lease, folder, stateError: waiting.error }, signal),
        signal,
      );
    } finally {
      await releaseLease(state, lease, options.logger);
    }
  } finally {
    await state.close();
  }
}

interface Held {
  readonly state: StateStore;
  readonly lease: number;
  /** The folder where reports are written too. */
  readonly folder: ReportFolder | null;
  /** Why calls of the state wait. */
  readonly stateError: () => StoredError | null;
}

async function runWithLease(
  config: Config,
  options: DaemonOptions,
  { state, lease, folder, stateError }: Held,
  signal: AbortSignal,
): Promise<DaemonResult> {
  const { logger, redact, once, reconcile, wrap = {} } = options;
  const ruled = await openSource(config, await pinsOf(config, state), logger);
  const source = wrap.source?.(ruled) ?? ruled;
  const metrics = new PrometheusMetrics();
  const origin = contextOf({ name: config.name, producer: PRODUCER }, source);
  const sinks = await Promise.all(config.sinks.map((sink) => setUp(config.source, sink, origin, logger, wrap.sink)));
  await forgetRemovedSinks(
    state,
    sinks.map(({ sink }) => sink.name),
  );
  const pipeline = new Pipeline({
    clock,
    name: config.name,
    producer: PRODUCER,
    source,
    state,
    lease,
    sinks,
    snapshot: config.source.snapshot,
    heartbeatMs: config.source.heartbeatMs,
    policyOf: (table) => policyOf(config.rules, table),
    revised: ruled.revised,
    logger,
    metrics,
  });
  const control = new Control(config.name, pipeline, logger);
  const { signal: until, end } = scopeOf(signal);
  const { reports, comparisons: kept } = state;
  const compared = {
    clock,
    news: pipeline.news,
    port: () => pipeline.comparisons,
    lag: (sink: string) => control.lagOf(sink),
    kept,
  };
  const comparing = new Comparing(config, { ...compared, reports, folder, redact, logger }, until);
  await comparing.recall();
  const { reconciler } = comparing;
  const parts = { control, comparing, reports, metrics, stateError, redact, logger };
  await using admin = await serve(config, parts, until);
  logger.info({ name: config.name, listen: admin.address }, "millrace is running");
  const running = pipeline.run(until);
  const relaying = relay({ clock, sinks: sinks.map(({ sink }) => sink), pipeline, logger }, until);
  try {
    const caughtUp = async (): Promise<DaemonResult> => {
      const missing = await control.untilCaughtUp(until);
      return { missing, reconciled: reconcile === undefined ? null : await comparing.once(reconcile) };
    };
    return await Promise.race([
      running.then((): DaemonResult => STOPPED),
      control.run(until),
      keepLease({ state, clock }, lease, until),
      repairDifferences({ clock, reconciler, refills: state.refills, logger }, until),
      once ? caughtUp() : comparing.planned(),
    ]);
  } catch (error) {
    if (!signal.aborted) throw error;
    return STOPPED;
  } finally {
    end();
    await Promise.allSettled([running, relaying]);
    await closeAll(source, sinks, logger);
    logger.info({}, "millrace has stopped");
  }
}

async function setUp(
  source: Config["source"],
  config: SinkConfig,
  origin: EnvelopeContext,
  logger: Logger,
  wrap: (sink: Sink) => Sink = (sink) => sink,
): Promise<SinkSetup> {
  const captured = new TableSelection(source.tables);
  const selection = new TableSelection(config.tables);
  const sink = await config.connector.create(logger.child({ sink: config.name }), origin);
  const limits = sink.batch ?? DEFAULT_LIMITS;
  return {
    sink: wrap(sink),
    limits: {
      rowCountMax: config.batch.rowCountMax ?? limits.rowCountMax,
      byteCountMax: config.batch.byteCountMax ?? limits.byteCountMax,
    },
    onPoison: config.onPoison,
    ...(config.onLost === undefined ? {} : { onLost: config.onLost }),
    takes: ({ schema, table }) => captured.matches(schema, table) && selection.matches(schema, table),
  };
}

interface Served extends AsyncDisposable {
  readonly address: string | null;
}

interface ServedParts {
  readonly control: Control;
  readonly comparing: Comparing;
  readonly reports: ReportStore;
  readonly metrics: PrometheusMetrics;
  readonly stateError: () => StoredError | null;
  readonly redact: (json: string) => string;
  readonly logger: Logger;
}

async function serve(
  config: Config,
  { control, comparing, reports, metrics, stateError, redact, logger }: ServedParts,
  signal: AbortSignal,
): Promise<Served> {
  const { reconciler } = comparing;
  const port = {
    version: VERSION,
    status: async () => {
      const [now, reconcile] = await Promise.all([control.status(), comparing.status()]);
      return { ...now, state: { error: stateError() }, reconcile };
    },
    unready: () => {
      const error = stateError();
      return [...control.unready, ...(error === null ? [] : [`the state can't be written: ${error.code}`])];
    },
    metrics: async () => ({
      contentType: metrics.contentType,
      text: await metrics.text({
        ...levelsOf(await control.status(), control.schemas),
        ...(await comparing.levels()),
        memory: await control.memory(),
      }),
    }),
    pause: (sink: string | null) => control.pause(sink),
    resume: (sink: string | null) => control.resume(sink),
    wait: (timeoutMs: number) => control.wait(timeoutMs, signal),
    startSnapshot: (request: Parameters<Control["startSnapshot"]>[0]) => control.startSnapshot(request),
    snapshots: () => control.snapshots(),
    cancelSnapshot: (id: number) => control.cancelSnapshot(id),
    replayLetters: (choice: Parameters<Control["discardLetters"]>[0], timeoutMs: number) =>
      control.replayLetters(choice, timeoutMs, signal),
    discardLetters: (choice: Parameters<Control["discardLetters"]>[0]) => control.discardLetters(choice),
    reports: () => reports.list(),
    redact,
  };
  const local = createAdmin(
    {
      ...port,
      copy: (sink, asked) => control.copy(sink, AbortSignal.any([signal, asked])),
      reconcile: (request) => ({ id: reconciler.start(request, signal) }),
      reconciliation: () => reconciler.look(),
      stopReconciliation: (id) => reconciler.stop(id),
    },
    { kind: "socket" },
    logger,
  );
  const socket = await listenLocally(local, controlSocketPath(config.state));
  const { listen, tokens, hosts } = config.admin;
  const remote = listen === null ? null : createAdmin(port, { kind: "tcp", tokens, hosts }, logger);
  try {
    if (remote !== null && listen !== null) await remote.listen({ host: listen.host, port: listen.port });
  } catch (error) {
    await local.close();
    socket[Symbol.dispose]();
    throw listenFailed(listen, error);
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
  await admin.listen({ path: early });
  chmodSync(early, 0o600);
  renameSync(early, path);
  const own = lstatSync(path).ino;
  return {
    [Symbol.dispose]: () => {
      if (lstatSync(path, { throwIfNoEntry: false })?.ino === own) rmSync(path, { force: true });
    },
  };
}

function listenFailed(listen: Config["admin"]["listen"], cause: unknown): MillraceError {
  const reason = cause instanceof Error && "code" in cause ? String(cause.code) : "unknown error";
  return new MillraceError({
    code: "MR1154",
    kind: "blocked",
    message: `admin.listen: ${listen?.host}:${listen?.port} can't be listened on (${reason})`,
    hint: "another daemon may have this address: give each its own admin.listen, or false",
    cause,
  });
}

function levelsOf(status: Awaited<ReturnType<Control["status"]>>, schemas: Control["schemas"]) {
  return {
    sourceUp: status.source.up,
    sourceNeedsPerson: status.source.needsPerson,
    suspendedCount: status.tables.aside.length + status.tables.suspended.length,
    unreadableCount: status.tables.unreadable.length,
    sourceLagBytes: status.source.lagBytes,
    sourceLagSeconds: status.source.lagSeconds,
    slotRetainedBytes: status.source.retainedBytes,
    counts: status.source,
    schemas,
    sinks: status.sinks.map(
      ({ name, state, lagSeconds, deadLetters, deadRows, catchingUp, needsPerson, waitsFor }) => ({
        name,
        state,
        lagSeconds,
        deadLetterCount: deadLetters,
        deadRowCount: deadRows ?? null,
        isCatchingUp: catchingUp,
        needsPerson,
        isWaiting: waitsFor.length > 0,
      }),
    ),
  };
}

async function closeAll(source: Source, sinks: readonly SinkSetup[], logger: Logger): Promise<void> {
  const closing = [source.close(), ...sinks.map(({ sink }) => sink.close())];
  for (const result of await Promise.allSettled(closing)) {
    if (result.status === "rejected")
      logger.warn({ error: result.reason as unknown }, "a connection was not closed cleanly");
  }
}
