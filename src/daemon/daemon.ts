import { Comparing, openReports } from "./comparing.ts";
import type { Config, OtlpConfig, SinkConfig } from "../config/config.ts";
import { lackOf, telemetryExtras } from "../config/extras.ts";
import { configChangedAt } from "../config/config-file.ts";
import { scopeOf, systemClock, timestamp } from "../core/clock.ts";
import { FirstSeen } from "../core/conditions/condition.ts";
import { daemonAbsent, daemonEnded, statusDocument } from "../core/conditions/conditions.ts";
import { contextOf, type EnvelopeContext } from "../core/model/envelope.ts";
import type { Sink } from "../core/contracts/sink.ts";
import type { Source } from "../core/contracts/source.ts";
import type { StatusDocument } from "../core/contracts/status.ts";
import type { StateStore, StoredError } from "../core/contracts/state-store.ts";
import type { ReconcileDocument, ReconcileRequest } from "../core/contracts/reconciliation.ts";
import { findMillraceError, type MillraceError } from "../core/errors.ts";
import { TableSelection } from "../core/table-selection.ts";
import type { Logger, Metrics } from "../core/contracts/telemetry.ts";
import { type HeldState, holdingState } from "./held-state.ts";
import { keptElsewhere, memoryOf, openSource } from "./ruled-source.ts";
import { Activity } from "../ops/dashboard/activity.ts";
import { History } from "../ops/dashboard/history.ts";
import { PrometheusMetrics } from "../ops/metrics.ts";
import { TracedBatches } from "../ops/otlp/traced-batches.ts";
import { isDocument } from "../documents/document.ts";
import {
  deepSides,
  followNest,
  holdDocuments,
  type OpenNest,
  openNestOf,
  tellPassed,
  watchColumns,
} from "./documents.ts";
import { comparePorts, type Controls, JoinedControl } from "./joined-control.ts";
import type { TableName } from "../core/contracts/connector.ts";
import { tableId } from "../core/model/schema.ts";
import { News } from "../core/waiting.ts";
import { partsOf } from "./state-parts.ts";
import { holdsOf } from "../reconcile/proof/proof-status.ts";
import { repairDifferences } from "../reconcile/recovery.ts";
import type { ReportFolder } from "../reconcile/report/report-folder.ts";
import { policyOf } from "../rules/merged-rule.ts";
import { Control } from "../runtime/control/control.ts";
import { Pipeline, type SinkSetup } from "../runtime/pipeline.ts";
import { relay } from "./log-relay.ts";
import { LEASE_LOST } from "../state/errors.ts";
import { notifierOf } from "./notifying.ts";
import type { Looked } from "../ops/notifier.ts";
import { mayHeal } from "./until-healed.ts";
import { openState, roomsOfState } from "../state/open.ts";
import { redacting } from "../state/redacting.ts";
import { forgetRemovedSinks, keepLease } from "./lease.ts";
import { ofSink, scrapedFrom, serve, type ServedParts } from "./serving.ts";
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

const STOPPED: DaemonResult = {
  missing: ["millrace was stopped before every sink was at the source's position"],
  reconciled: null,
};
const clock = systemClock;
const DEFAULT_LIMITS: NonNullable<Sink["batchLimits"]> = { rowCountMax: 50_000, byteCountMax: 2 * 1024 * 1024 };

/** Runs one source with its sinks until `signal` aborts. It creates all parts of the daemon and connects them. */
export async function runDaemon(config: Config, options: DaemonOptions, signal: AbortSignal): Promise<DaemonResult> {
  const folder = openReports(config);
  const { logger, redact, once, awaitsLease = false, wrap } = options;
  const told = async (stored: StateStore, how: "ended" | "failed", ended: StoredError | null): Promise<void> => {
    // A run with `once` ends because it is done.
    if ((once && how === "ended") || ended?.code === LEASE_LOST) return;
    const { notices } = redacting(stored, redact);
    const last = ended === null ? daemonAbsent(timestamp(clock)) : daemonEnded(ended);
    await notifierOf(config, { notices, redact, logger })?.last(last);
  };
  const open = (): Promise<StateStore> => openState(config.state, { name: config.name, clock });
  const outlasts = (error: MillraceError): boolean => !once && mayHeal(error);
  const parts = { clock, logger, redact, open, wrap: wrap?.state, awaitsLease, outlasts, told };
  const run = (held: HeldState) => runWithLease(config, options, { ...held, folder }, signal);
  return (await holdingState(parts, run, signal)) ?? STOPPED;
}

interface DaemonState extends HeldState {
  /** The folder where reports are written too. */
  readonly folder: ReportFolder | null;
}

async function runWithLease(
  config: Config,
  options: DaemonOptions,
  { state, lease, isInherited, folder }: DaemonState,
  signal: AbortSignal,
): Promise<DaemonResult> {
  const { logger, redact, once, reconcile, wrap = {} } = options;
  const lack = lackOf(telemetryExtras(config));
  if (lack !== undefined) throw lack.with({ message: `telemetry.otlp: ${lack.message}` });
  const memory = await memoryOf(config, state);
  const ruled = await openSource(config, { ...memory, ...keptElsewhere(state) }, logger);
  const source = wrap.source?.(ruled) ?? ruled;
  const metrics = new PrometheusMetrics();
  const traced = tracedBatches(config.otlp, metrics);
  const activity = new Activity(clock, traced ?? metrics);
  const captured = new TableSelection(config.source.tables);
  const isCaptured = ({ schema, table }: TableName): boolean => captured.matches(schema, table);
  const setUpAll = async (of: Source, takes: (table: TableName) => boolean, configs: readonly SinkConfig[]) => {
    const origin = contextOf({ name: config.name, producer: PRODUCER }, of);
    return await Promise.all(configs.map((sink) => setUp(takes, sink, origin, logger, wrap.sink)));
  };
  const nest = config.documents.length === 0 ? null : await openNestOf(config, source, logger, signal);
  const ofTables = await setUpAll(
    source,
    (table) => isCaptured(table) && (nest === null || !isDocument(table)),
    config.sinks.filter(({ documents }) => documents === null),
  );
  const ofDocuments =
    nest === null
      ? []
      : await setUpAll(
          nest.source,
          () => true,
          config.sinks.filter(({ documents }) => documents !== null),
        );
  if (nest !== null) ofTables.push(nestSetup(nest));
  const sinks = [...ofTables, ...ofDocuments];
  await forgetRemovedSinks(
    state,
    sinks.map(({ sink }) => sink.name),
  );
  if (isInherited) logger.info({}, "the last daemon was not stopped, but ended");
  await tellSinks(state, sinks, isInherited);
  const parts = partsOf(state, (name) => ofDocuments.some(({ sink }) => sink.name === name));
  const shared = {
    clock,
    name: config.name,
    producer: PRODUCER,
    lease,
    isOnce: once,
    news: new News(),
    logger,
    metrics: activity,
  };
  const { snapshot, heartbeatMs, login } = config.source;
  const pipeline = new Pipeline({
    ...shared,
    source,
    state: nest === null ? state : parts.tables,
    sinks: ofTables,
    snapshot,
    heartbeatMs,
    login,
    policyOf: (table) => policyOf(config.rules, table),
    revised: ruled.revised,
    onSkipped: ruled.onSkipped,
  });
  const ownControl = new Control(config.name, pipeline, logger, config.retention);
  const documents =
    nest === null
      ? null
      : new Pipeline({
          ...shared,
          source: nest.source,
          state: parts.documents,
          sinks: ofDocuments,
          snapshot: "initial",
          heartbeatMs,
          revised: async () => [],
          onSkipped: async () => {},
        });
  /** Of the pipeline of documents. */
  let failure: StoredError | null = null;
  let isFilled = false;
  const control: Controls =
    documents === null || nest === null
      ? ownControl
      : new JoinedControl({
          clock,
          tables: ownControl,
          documents: new Control(config.name, documents, logger),
          config,
          nest,
          facts: () => ({ failure, isFilled, waiting: nest.waiting() }),
        });
  const { signal: until, end } = scopeOf(signal);
  const { reports, comparisons: kept, proofs } = state;
  const compared = {
    clock,
    news: pipeline.news,
    port: comparePorts(pipeline, documents),
    lag: (sink: string) => control.lagOf(sink),
    kept,
    deep: nest === null ? null : (until: AbortSignal) => deepSides({ source, nest, control: ownControl }, until),
  };
  const holds = async (maxAgeMs: number) => holdsOf(await control.status(), maxAgeMs);
  const comparing = new Comparing(
    config,
    { ...compared, state, reports, proofs, holds, folder, redact, logger },
    until,
  );
  await kept.prune();
  await comparing.recall();
  const { reconciler } = comparing;
  const firstSeen = new FirstSeen();
  const status = async (): Promise<StatusDocument> => {
    const [now, reconcile] = await Promise.all([control.status(), comparing.status()]);
    const notify = { error: notifier?.error ?? null };
    const waits = state.waitsFor?.();
    const beside = {
      state: { error: waits?.error ?? null, isSilent: waits?.isSilent ?? false, rooms: roomsOfState(config.state) },
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
  const looked = async (): Promise<Looked> => {
    const { conditions, tables } = await status();
    return { conditions, isWhole: tables.areKnown && control.isStoredKnown && comparing.isStoredKnown };
  };
  const served = { control, comparing, state, metrics, activity, history, status, redact, logger };
  await options.serves?.();
  await using admin = await serve(config, served, until);
  logger.info({ name: config.name, listen: admin.address }, "millrace is running");
  const following =
    nest === null || documents === null
      ? null
      : Promise.race([
          followNest(
            {
              clock,
              tables: pipeline,
              documents,
              nest,
              logger,
              onFilled: () => (isFilled = true),
              onFailure: (error) => (failure = error),
            },
            until,
          ),
          holdDocuments({ clock, tables: pipeline, nest }, until),
          tellPassed({ clock, documents, nest }, until),
          watchColumns(config, source, { clock, tables: pipeline, documents, nest, logger }, until),
        ]);
  const running = pipeline.run(until);
  const relaying = relay({ clock, sinks: ofTables.map(({ sink }) => sink), pipeline, logger }, until);
  try {
    const caughtUp = async (): Promise<DaemonResult> => {
      const missing = await control.untilCaughtUp(until);
      return { missing, reconciled: reconcile === undefined ? null : await comparing.once(reconcile) };
    };
    return await Promise.race([
      running.then((): DaemonResult => STOPPED),
      ...(following === null ? [] : [following.then((): DaemonResult => STOPPED)]),
      control.run(until),
      history.run(until),
      ...(notifier === null ? [] : [notifier.run(looked, until)]),
      ...(config.otlp === null ? [] : [sendTelemetry(config.otlp, { ...served, name: config.name, traced }, until)]),
      keepLease({ state, clock }, lease, until),
      repairDifferences({ clock, port: compared.port, reconciler, snapshots: state.snapshots, logger }, until),
      once ? caughtUp() : comparing.planned(),
    ]);
  } catch (error) {
    if (!signal.aborted) throw error;
    return STOPPED;
  } finally {
    end();
    await Promise.allSettled([running, following, relaying]);
    await closeAll([source, ...(nest === null ? [] : [nest.source])], sinks, logger);
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
  const collect = async () => await metrics.measured(await scrapedFrom(parts));
  const takeBatches = traced === null ? null : () => traced.take();
  return await pushTelemetry({ ...to, clock, name, version: VERSION, collect, takeBatches, logger }, signal);
}

/** What can't be used in its part of the configuration ends the start: the message says of which sink. */
async function created({ name, connector }: SinkConfig, logger: Logger, origin: EnvelopeContext): Promise<Sink> {
  try {
    return await connector.create(logger, origin);
  } catch (error) {
    const known = findMillraceError(error);
    throw known === undefined ? error : known.with({ message: `${ofSink(name)}${known.message}` });
  }
}

async function setUp(
  isCaptured: (table: TableName) => boolean,
  config: SinkConfig,
  origin: EnvelopeContext,
  logger: Logger,
  wrap: (sink: Sink) => Sink = (sink) => sink,
): Promise<SinkSetup> {
  const selection = new TableSelection(config.tables);
  const sink = await created(config, logger.child({ sink: config.name }), origin);
  const limits = sink.batchLimits ?? DEFAULT_LIMITS;
  return {
    sink: wrap(sink),
    limits: {
      ...limits,
      rowCountMax: config.batch.rowCountMax ?? limits.rowCountMax,
      byteCountMax: config.batch.byteCountMax ?? limits.byteCountMax,
      delayMs: config.batch.delayMs ?? limits.delayMs ?? 0,
      ...(config.batch.answerMsMax === null ? {} : { answerMsMax: config.batch.answerMsMax }),
    },
    onPoison: config.onPoison,
    login: config.login,
    place: config.place,
    deadLettersMax: config.deadLettersMax,
    neighbours: config.neighbours,
    ...(config.onLost === undefined ? {} : { onLost: config.onLost }),
    takes: (table) => isCaptured(table) && selection.matches(table.schema, table.table),
  };
}

/** The nest is a sink of the tables that documents are made of. */
function nestSetup({ sink, tableIds }: OpenNest): SinkSetup {
  const limits = sink.batchLimits ?? DEFAULT_LIMITS;
  const taken = new Set(tableIds);
  const takes = ({ schema, table }: TableName): boolean => taken.has(tableId(schema, table));
  return { sink, limits, onPoison: "deadLetter", onLost: "resync", takes };
}

/** What the state knows of them. Before any sink is opened. */
async function tellSinks(state: StateStore, sinks: readonly SinkSetup[], died: boolean): Promise<void> {
  const suspended = await state.suspensions.list();
  for (const { sink } of sinks) {
    sink.numbers?.keepIn(state.numbers);
    if (sink.engine === undefined) continue;
    const own = await state.sinks.get(sink.name);
    const errors = suspended.filter((table) => table.sink === sink.name).map(({ error }) => error);
    sink.engine.follows({ died, errors: own?.error == null ? errors : [own.error, ...errors] });
  }
}

async function closeAll(sources: readonly Source[], sinks: readonly SinkSetup[], logger: Logger): Promise<void> {
  const closing = [...sources.map((source) => source.close()), ...sinks.map(({ sink }) => sink.close())];
  for (const result of await Promise.allSettled(closing)) {
    if (result.status === "rejected")
      logger.warn({ error: result.reason as unknown }, "a connection was not closed cleanly");
  }
}
