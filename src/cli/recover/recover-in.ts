/** What a recovery does under the lease, before a daemon compares: a new position, and the list of what is compared. */
import type { Config, SinkConfig } from "../../config/config.ts";
import { findMillraceError, type MillraceError } from "../../core/errors.ts";
import { failpoint } from "../../core/failpoint.ts";
import { EPOCH_MAX, type Position } from "../../core/model/position.ts";
import type { LogIdentity, Positions } from "../../core/contracts/positions.ts";
import type { Source } from "../../core/contracts/source.ts";
import {
  hasIdentity,
  type SinkReset,
  type SourceRecord,
  type StartedRecord,
  type StateStore,
} from "../../core/contracts/state-store.ts";
import { TableSelection } from "../../core/table-selection.ts";
import { memoryOf, openSource } from "../../daemon/ruled-source.ts";
import { ofTables } from "../../daemon/state-parts.ts";
import type { TableGenerations } from "../../core/contracts/catalog.ts";
import { listComparisons } from "../../runtime/start/found-log.ts";
import { epochHeld, epochHeldAtAll, isBeyondLog, knownPosition, unreadable } from "../../runtime/sink/sink-position.ts";
import { askLog } from "../check/check-log.ts";
import { chosenSinks } from "../options.ts";
import { cliError } from "../errors.ts";
import { whileOpen, withOpenSink } from "../opened.ts";
import type { Session } from "../session.ts";
import { sinkAhead, unclassified } from "../../runtime/errors.ts";

/** Time for the source to say where its log ends. */
const ANSWER_MS_MAX = 30_000;

export interface RecoverRequest {
  readonly sink: string | null;
  readonly isForced: boolean;
  readonly isConfirmed: boolean;
}

export interface Recovery {
  readonly applied: boolean;
  /** Why the stream can't continue in the log; null if it can. */
  readonly lost: { readonly code: string; readonly message: string } | null;
  readonly epoch: number;
  /** The sinks' new position; null if nothing has been created. */
  readonly position: string | null;
  /** `loses`: what no comparison brings back; null: nothing. */
  readonly sinks: readonly { readonly name: string; readonly holds: string | null; readonly loses: string | null }[];
  /** Ids of the tables that are compared. */
  readonly tables: readonly string[];
  /** The numbers of the listed comparisons. */
  readonly listed: readonly number[];
  readonly mended: readonly Mended[];
  /** What is still to do, if the command ended early. */
  readonly missing: readonly string[];
}

/** The part of a configuration that a recovery uses. */
export type RecoverConfig = Pick<Config, "rules" | "sinks" | "source">;

interface Mended {
  readonly table: string;
  readonly sink: string;
  /** Rows that differed and were read again. */
  readonly rows: number;
}

/** All of a recovery except the comparing, which a daemon does. The caller holds the lease. */
export async function recoverIn(
  session: Pick<Session, "clock" | "log">,
  whole: RecoverConfig,
  wholeState: StateStore,
  request: RecoverRequest,
): Promise<Recovery> {
  const { config, state } = ofTables(whole, wholeState);
  const { sink } = request;
  const chosen = chosenSinks(config, sink);
  const record = await state.source.get();
  if (record === null || !hasIdentity(record))
    throw cliError("MR1120", "the first start has not finished: there is nothing to recover");
  return await whileOpen(openSource(config, await memoryOf(config, state), session.log), async (source) => {
    const loss = await lossOf(source, state, config, record);
    const concerned = config.sinks.filter(({ name }) => chosen.includes(name));
    const isAnew = loss !== null || request.isForced;
    const held = isAnew ? [] : await heldBySinks(session, concerned, state, false);
    const lost = loss ?? aheadOf(held, record.epoch, await source.log.tip(AbortSignal.timeout(ANSWER_MS_MAX)));
    if (sink !== null && (lost !== null || request.isForced)) {
      const why = lost === null ? "--anyway begins another log" : `the log is lost: ${lost.message}`;
      const hint = "Run `millrace recover` without --sink.";
      throw cliError("MR1127", `--sink ${sink}: every sink needs a new position: ${why}`, { hint });
    }
    if (lost !== null || request.isForced)
      return await startNewLog(session, { config, state, record, chosen, request }, lost);
    return await skipToEnd(source, { config, state, record, chosen: sink === null ? [] : chosen, request });
  });
}

/** Why a start could not continue in the log. */
async function lossOf(
  source: Source,
  state: StateStore,
  config: RecoverConfig,
  record: StartedRecord,
): Promise<Recovery["lost"]> {
  try {
    await askLog(source, state, config.sinks, record, new AbortController().signal);
    return null;
  } catch (error) {
    const known = findMillraceError(error);
    if (known === undefined || !source.admin.losses.has(known.code)) throw error;
    return { code: known.code, message: known.message };
  }
}

interface Recovering {
  readonly config: RecoverConfig;
  readonly state: StateStore;
  readonly record: SourceRecord;
  /** The sinks that get a new position. */
  readonly chosen: readonly string[];
  readonly request: RecoverRequest;
}

/**
 * Starts another log, in a new epoch. Lists the comparisons before it moves the sinks' positions: after a crash in
 * between, the former log still counts as the lost one.
 */
async function startNewLog(
  session: Pick<Session, "clock" | "log">,
  { config, state, record: { epoch: before, identity }, chosen, request: { isConfirmed, isForced } }: Recovering,
  lost: Recovery["lost"],
): Promise<Recovery> {
  const epoch = newEpoch(await heldBySinks(session, config.sinks, state, isForced), before);
  const { signal } = new AbortController();
  // This source must know nothing of the former log.
  return await whileOpen(openSource(config, await memoryOf(config, state), session.log), async (source) => {
    const plan = { lost, epoch, sinks: await holdings(source.positions, state, identity, config.sinks, chosen) };
    if (!isConfirmed) return planned({ ...plan, tables: (await state.schemas.list()).map(({ id }) => id) });
    const log = await source.admin.create({ epoch, wantCopy: false, resumeIntent: true }, signal);
    failpoint("recover.created");
    const { generations } = await source.catalog.tables(signal);
    const { listed, tables, keeps } = await list(config, state, chosen, generations);
    failpoint("recover.listed");
    await state.source.crossed(log.identity, log.position, movedTo(log.position, keeps));
    return begun({ ...plan, tables, listed, position: source.positions.format(log.position.commit) });
  });
}

/** The log is good: puts the sinks to its end. Comparing finds what they lack. */
async function skipToEnd(
  source: Source,
  { config, state, record: { epoch, identity }, chosen, request: { isConfirmed } }: Recovering,
): Promise<Recovery> {
  const { signal } = new AbortController();
  const plan = { lost: null, epoch, sinks: await holdings(source.positions, state, identity, config.sinks, chosen) };
  if (chosen.length === 0) return planned({ ...plan, tables: [] });
  if (!isConfirmed) return planned({ ...plan, tables: (await state.schemas.list()).map(({ id }) => id) });
  const { generations } = await source.catalog.tables(signal);
  const to: Position = { epoch, commit: await source.log.tip(signal), index: 0 };
  const { listed, tables, keeps } = await list(config, state, chosen, generations);
  await state.source.reset(movedTo(to, keeps));
  return begun({ ...plan, tables, listed, position: source.positions.format(to.commit) });
}

function movedTo(to: Position, keeps: Listed["keeps"]): ReadonlyMap<string, SinkReset> {
  return new Map(Array.from(keeps, ([name, kept]) => [name, { to, anew: false, keeps: kept }]));
}

async function holdings(
  positions: Positions,
  state: StateStore,
  identity: LogIdentity | null,
  sinks: RecoverConfig["sinks"],
  chosen: readonly string[],
): Promise<Recovery["sinks"]> {
  if (identity !== null) positions.recall?.(identity);
  const records = new Map((await state.sinks.all()).map((record) => [record.name, record]));
  return chosen.map((name) => {
    const place = knownPosition(records.get(name) ?? null);
    const form = sinks.find((sink) => sink.name === name)?.connector.form ?? "mirror";
    const holds = place === null ? null : positions.format(place.commit);
    return { name, holds, loses: place === null ? null : unreadable(form) };
  });
}

interface Listed extends Pick<Recovery, "listed" | "tables"> {
  /** By the sinks' names. */
  readonly keeps: ReadonlyMap<string, NonNullable<SinkReset["keeps"]>>;
}

/** Lists the comparison of each table that a sink takes. A table that the state does not know is read as a whole. */
async function list(
  config: RecoverConfig,
  state: StateStore,
  chosen: readonly string[],
  generations: TableGenerations,
): Promise<Listed> {
  const known = (await state.schemas.list()).filter(({ id }) => generations.has(id));
  const keeps = new Map<string, NonNullable<SinkReset["keeps"]>>();
  for (const { name, tables } of config.sinks) {
    if (!chosen.includes(name)) continue;
    const selection = new TableSelection(tables);
    const ids = known.filter(({ schema, table }) => selection.matches(schema, table)).map(({ id }) => id);
    keeps.set(name, await listComparisons(state.snapshots, name, ids, generations));
  }
  const open = await state.snapshots.differences();
  return { listed: open.map(({ id }) => id), tables: known.map(({ id }) => id), keeps };
}

type Plan = Pick<Recovery, "lost" | "epoch" | "sinks" | "tables">;

function planned(plan: Plan): Recovery {
  return { ...plan, applied: false, position: null, listed: [], mended: [], missing: [] };
}

function begun(plan: Plan & Pick<Recovery, "listed" | "position">): Recovery {
  return { ...plan, applied: true, mended: [], missing: [] };
}

/** Time for a sink to look at all its rows. */
const ROWS_MS_MAX = 15 * 60_000;

interface HeldEpoch {
  readonly name: string;
  /** 0: the sink holds nothing. */
  readonly epoch: number;
  /** The position in its checkpoint. */
  readonly position: Position | null;
  /** Why the sink did not answer. */
  readonly failure: MillraceError | null;
}

/**
 * Asks the sinks themselves: a state that was restored or created again does not know later epochs. `byRows`: looks at
 * rows even if there is a checkpoint.
 */
async function heldBySinks(
  session: Pick<Session, "clock" | "log">,
  sinks: readonly SinkConfig[],
  state: StateStore,
  byRows: boolean,
): Promise<readonly HeldEpoch[]> {
  const signal = AbortSignal.timeout(ROWS_MS_MAX);
  const ask = byRows ? epochHeldAtAll : epochHeld;
  const held: HeldEpoch[] = [];
  for (const config of sinks) {
    const { name } = config;
    try {
      held.push(
        await withOpenSink(session, config, state, async (sink, own) => {
          return { name, epoch: await ask(sink, own, signal), position: own?.position ?? null, failure: null };
        }),
      );
    } catch (error) {
      const failure = findMillraceError(error) ?? unclassified(name, error);
      held.push({ name, epoch: 0, position: null, failure });
    }
  }
  return held;
}

/** A sink whose checkpoint or rows are beyond the end of this log can continue only in an epoch above both. */
function aheadOf(
  held: readonly HeldEpoch[],
  epoch: number,
  tip: bigint,
): Pick<MillraceError, "code" | "message"> | null {
  const ahead = held.find(
    (sink) => sink.epoch > epoch || (sink.position !== null && isBeyondLog(sink.position, epoch, tip)),
  );
  if (ahead === undefined) return null;
  const { code, message } = sinkAhead(ahead.name);
  return { code, message };
}

/** Invariant: a new epoch is above all that sinks show. A sink that does not answer may hold a higher one. */
function newEpoch(held: readonly HeldEpoch[], epoch: number): number {
  const silent = held.find(({ failure }) => failure !== null);
  if (silent !== undefined) {
    throw cliError("MR1130", `sink ${silent.name} can't be asked which epoch it holds: ${silent.failure!.message}`, {
      cause: silent.failure,
    });
  }
  const next = 1 + Math.max(epoch, ...held.map((sink) => sink.epoch));
  if (next > EPOCH_MAX)
    throw cliError("MR1131", `epoch ${next} is more than the ${EPOCH_MAX} that row versions can tell apart`);
  return next;
}
