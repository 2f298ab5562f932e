import { Comparing, openReports } from "./comparing.ts";
import type { Config, OtlpConfig, SinkConfig } from "../config/config.ts";
import { configChangedAt } from "../config/load.ts";
import { scopeOf, systemClock, timestamp } from "../core/clock.ts";
import { FirstSeen, type NoticeStore } from "../core/conditions/condition.ts";
import { daemonAbsent, daemonEnded, statusDocument } from "../core/conditions/conditions.ts";
import { contextOf, type EnvelopeContext } from "../core/model/envelope.ts";
import type { Sink } from "../core/contracts/sink.ts";
import type { Source } from "../core/contracts/source.ts";
import type { StatusDocument } from "../core/contracts/status.ts";
import { type StateStore, type StoredError, storedErrorOf } from "../core/contracts/state-store.ts";
import type { ReconcileDocument, ReconcileRequest } from "../core/contracts/reconciliation.ts";
import { findMillraceError, isAborted } from "../core/errors.ts";
import { TableSelection } from "../core/table-selection.ts";
import type { Logger, Metrics } from "../core/contracts/telemetry.ts";
import { holderName, isGone } from "./holder.ts";
import { openSource, memoryOf } from "./ruled-source.ts";
import { Activity } from "../ops/dashboard/activity.ts";
import { History } from "../ops/dashboard/history.ts";
import { Notifier } from "../ops/notifier.ts";
import { webhook } from "../ops/webhook.ts";
import { PrometheusMetrics } from "../ops/metrics.ts";
import { TracedBatches } from "../ops/otlp/traced-batches.ts";
import { repairDifferences } from "../reconcile/recovery.ts";
import type { ReportFolder } from "../reconcile/report/report-folder.ts";
import { policyOf } from "../rules/merged-rule.ts";
import { Control } from "../runtime/control/control.ts";
import { Pipeline, type SinkSetup } from "../runtime/pipeline.ts";
import { relay } from "./log-relay.ts";
import { LEASE_LOST } from "../state/errors.ts";
import { openState, roomsOfState } from "../state/open.ts";
import { patient } from "../state/patient.ts";
import { redacting } from "../state/redacting.ts";
import { awaitLease, forgetRemovedSinks, keepLease, releaseLease, takeLease, throughMoves } from "./lease.ts";
import { levelsOf, serve, type ServedParts } from "./serving.ts";
import { PRODUCER, VERSION } from "../version.ts";

export interface DaemonOptions {
  /** Bring every sink to the position that the source has now, then stop. */
  readonly once: boolean;
  readonly logger: Logger;
  /** Waits while another daemon holds the lease. Default: that is an error. */
  readonly awaitsLease?: boolean;
  /** Called before the admin interface opens. */
  readonly serves?: () => Promise<void>;
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
const DEFAULT_LIMITS: NonNullable<Sink["batchLimits"]> = { rowCountMax: 50_000, byteCountMax: 2 * 1024 * 1024 };

/** Runs one source with its sinks until `signal` aborts. It creates all parts of the daemon and connects them. */
export async function runDaemon(config: Config, options: DaemonOptions, signal: AbortSignal): Promise<DaemonResult> {
  const folder = openReports(config);
  const opened = await openState(config.state, { name: config.name, clock });
  const waiting = patient({ store: options.wrap?.state?.(opened) ?? opened, clock, logger: options.logger }, signal);
  const state = redacting(waiting.store, options.redact);
  try {
    const parts = { state, clock, holder: holderName(), isGone };
    const { awaitsLease = false, logger } = options;
    const { lease, isInherited } = await (awaitsLease ? awaitLease(parts, logger, signal) : takeLease(parts));
    const tellEnd = async (stored: StateStore, ended: StoredError | null): Promise<void> => {
      const { notices } = redacting(stored, options.redact);
      const condition = ended === null ? daemonAbsent(timestamp(clock)) : daemonEnded(ended);
      await notifierOf(config, { notices, redact: options.redact, logger })?.last(condition);
    };
    try {
      await state.ending.set(null);
      const result = await throughMoves(
        { clock, logger },
        () =>
          runWithLease(
            config,
            options,
            { state, lease: lease.number, isInherited, folder, stateError: waiting.error },
            signal,
          ),
        signal,
      );
      // A run with `once` ends because it is done.
      if (!options.once) await tellEnd(opened, null);
      return result;
    } catch (error) {
      const ended = signal.aborted ? null : endingOf(error);
      // A state that can't be written is no reason to wait: the log has the error too.
      if (ended !== null)
        await redacting(opened, options.redact)
          .ending.set(ended)
          .catch(() => undefined);
      if (ended?.code !== LEASE_LOST) await tellEnd(opened, ended);
      throw error;
    } finally {
      await releaseLease(state, lease.number, options.logger);
    }
  } catch (error) {
    if (signal.aborted && isAborted(error)) return STOPPED;
    throw error;
  } finally {
    await state.close();
  }
}

/** For `status` and the webhook; null: no error of ours. */
function endingOf(error: unknown): StoredError | null {
  const known = findMillraceError(error);
  return known === undefined ? null : storedErrorOf(known, timestamp(clock));
}

interface HeldState {
  readonly state: StateStore;
  readonly lease: number;
  /** See Acquired. */
  readonly isInherited: boolean;
  /** The folder where reports are written too. */
  readonly folder: ReportFolder | null;
  /** Why calls of the state wait. */
  readonly stateError: () => StoredError | null;
}

async function runWithLease(
  config: Config,
  options: DaemonOptions,
  { state, lease, isInherited, folder, stateError }: HeldState,
  signal: AbortSignal,
): Promise<DaemonResult> {
  const { logger, redact, once, reconcile, wrap = {} } = options;
  const ruled = await openSource(config, await memoryOf(config, state), logger);
  const source = wrap.source?.(ruled) ?? ruled;
  const metrics = new PrometheusMetrics();
  const traced = tracedBatches(config.otlp, metrics);
  const activity = new Activity(clock, traced ?? metrics);
  const origin = contextOf({ name: config.name, producer: PRODUCER }, source);
  const sinks = await Promise.all(config.sinks.map((sink) => setUp(config.source, sink, origin, logger, wrap.sink)));
  await forgetRemovedSinks(
    state,
    sinks.map(({ sink }) => sink.name),
  );
  if (isInherited) logger.info({}, "the last daemon was not stopped, but ended");
  await tellEngines(state, sinks, isInherited);
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
    login: config.source.login,
    isOnce: once,
    policyOf: (table) => policyOf(config.rules, table),
    revised: ruled.revised,
    logger,
    metrics: activity,
  });
  const control = new Control(config.name, pipeline, logger, config.retention);
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
  const firstSeen = new FirstSeen();
  const status = async (): Promise<StatusDocument> => {
    const [now, reconcile] = await Promise.all([control.status(), comparing.status()]);
    const notify = { error: notifier?.error ?? null };
    const beside = {
      state: { error: stateError(), rooms: roomsOfState(config.state) },
      reconcile,
      notify,
      config: { changedAt: configChangedAt(config) },
    };
    const document = statusDocument(now, beside);
    return { ...document, conditions: firstSeen.dated(document.conditions, timestamp(clock)) };
  };
  // It looks every few seconds, so that what is not well has its beginning before anybody asks.
  const history = new History({ clock, activity, status, logger });
  const notifier = notifierOf(config, { notices: state.notices, redact, logger });
  const parts = { control, comparing, state, metrics, activity, history, status, redact, logger };
  await options.serves?.();
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
      history.run(until),
      ...(notifier === null ? [] : [notifier.run(async () => (await status()).conditions, until)]),
      ...(config.otlp === null ? [] : [sendTelemetry(config.otlp, { ...parts, name: config.name, traced }, until)]),
      keepLease({ state, clock }, lease, until),
      repairDifferences({ clock, reconciler, snapshots: state.snapshots, logger }, until),
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

function tracedBatches(to: OtlpConfig | null, metrics: Metrics): TracedBatches | null {
  return to === null || to.traces === null ? null : new TracedBatches(clock, metrics, to.traces);
}

interface TelemetryParts extends ServedParts {
  readonly name: string;
  readonly traced: TracedBatches | null;
}

async function sendTelemetry(to: OtlpConfig, parts: TelemetryParts, signal: AbortSignal): Promise<never> {
  const { name, metrics, traced, logger } = parts;
  const { pushTelemetry } = await import("../ops/otlp/otlp-push.ts");
  const collect = async () => await metrics.measured(await levelsOf(parts));
  const takeBatches = traced === null ? null : () => traced.take();
  return await pushTelemetry({ ...to, clock, name, version: VERSION, collect, takeBatches, logger }, signal);
}

interface Notified {
  readonly notices: NoticeStore;
  readonly redact: (json: string) => string;
  readonly logger: Logger;
}

function notifierOf({ name, notify }: Config, { notices, redact, logger }: Notified): Notifier | null {
  if (notify === null) return null;
  const { webhook: url, tls, key, level, afterMs } = notify;
  const send = webhook({ url, tls, key, redact });
  return new Notifier({ clock, name, level, afterMs, notices, send, logger });
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
  const limits = sink.batchLimits ?? DEFAULT_LIMITS;
  return {
    sink: wrap(sink),
    limits: {
      rowCountMax: config.batch.rowCountMax ?? limits.rowCountMax,
      byteCountMax: config.batch.byteCountMax ?? limits.byteCountMax,
      delayMs: config.batch.delayMs ?? limits.delayMs ?? 0,
      hasTruncates: limits.hasTruncates ?? false,
      ...(limits.tableCountMax === undefined ? {} : { tableCountMax: limits.tableCountMax }),
      ...(config.batch.answerMsMax === null ? {} : { answerMsMax: config.batch.answerMsMax }),
    },
    onPoison: config.onPoison,
    login: config.login,
    deadLettersMax: config.deadLettersMax,
    ...(config.onLost === undefined ? {} : { onLost: config.onLost }),
    takes: ({ schema, table }) => captured.matches(schema, table) && selection.matches(schema, table),
  };
}

/** Before any sink is opened. */
async function tellEngines(state: StateStore, sinks: readonly SinkSetup[], died: boolean): Promise<void> {
  const suspended = await state.suspensions.list();
  for (const { sink } of sinks) {
    if (sink.engine === undefined) continue;
    const own = await state.sinks.get(sink.name);
    const errors = suspended.filter((table) => table.sink === sink.name).map(({ error }) => error);
    sink.engine.follows({ died, errors: own?.error == null ? errors : [own.error, ...errors] });
  }
}

async function closeAll(source: Source, sinks: readonly SinkSetup[], logger: Logger): Promise<void> {
  const closing = [source.close(), ...sinks.map(({ sink }) => sink.close())];
  for (const result of await Promise.allSettled(closing)) {
    if (result.status === "rejected")
      logger.warn({ error: result.reason as unknown }, "a connection was not closed cleanly");
  }
}
