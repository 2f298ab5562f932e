import { type Clock, timestampBefore } from "../../core/clock.ts";
import type { LogHealth } from "../../core/contracts/log-admin.ts";
import type { Positions } from "../../core/contracts/positions.ts";
import {
  isStubborn,
  type LostChanges,
  type StoredError,
  type WaitingLetters,
} from "../../core/contracts/state-store.ts";
import {
  isRunning,
  type KeptLogStatus,
  letterFacts,
  type PipelineStatus,
  pipelineStatus,
  type SinkActivity,
  type SinkStatus,
  type SnapshotStatus,
  type SourceActivity,
  type SourceStatus,
  type TablesStatus,
} from "../../core/contracts/status.ts";
import { WAITED_IN_VAIN } from "../errors.ts";
import type { SinkLife } from "../sink/sink-life.ts";
import type { Pipeline } from "../pipeline.ts";
import type { FanOut } from "../stream/fan-out.ts";
import type { StreamFacts } from "../streaming.ts";
import type { Estimates } from "./estimates.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import type { Room } from "../../core/disk-room.ts";
import { withTimeout } from "../../core/waiting.ts";

/** What the daemon knows of its source and itself beside the pipeline. */
interface DaemonFacts {
  readonly name: string;
  readonly startedAt: string;
  /** Null: the source did not tell at the last look. */
  readonly health: LogHealth | null;
  /** Why it did not. */
  readonly unanswered: Unanswered | null;
  readonly lag: LagClock;
  readonly estimates: Estimates;
  readonly rooms: TargetRooms;
  /** How much log the source may keep; null: any amount. */
  readonly retainedBytesMax: number | null;
}

export interface Unanswered {
  readonly error: StoredError;
  /** Whether the source refuses, so that somebody has to act. */
  readonly needsPerson: boolean;
}

/** What only the state knows. */
export interface StoredFacts {
  readonly letters: ReadonlyMap<string, WaitingLetters>;
  readonly lost: ReadonlyMap<string, LostChanges>;
  readonly snapshots: readonly SnapshotStatus[];
  readonly stubborn: TablesStatus["stubborn"];
}

export const NOTHING_STORED: StoredFacts = { letters: new Map(), lost: new Map(), snapshots: [], stubborn: [] };

export async function storedFacts(pipeline: Pipeline): Promise<StoredFacts> {
  const { state } = pipeline;
  const [letters, records, snapshots, differences] = await Promise.all([
    state.deadLetters.waiting(),
    state.sinks.all(),
    pipeline.snapshots(false),
    state.snapshots.differences(),
  ]);
  const stubborn = differences.filter(isStubborn).map(({ tableId, sink }) => ({ table: tableId, sink }));
  const lost = new Map(records.flatMap(({ name, lost: own }) => (own == null ? [] : [[name, own] as const])));
  return { letters, lost, snapshots, stubborn };
}

export function statusOf(
  pipeline: Pipeline,
  { name, startedAt, health, unanswered, lag, estimates, rooms, retainedBytesMax }: DaemonFacts,
  { letters, lost, snapshots, stubborn }: StoredFacts,
): PipelineStatus {
  const { source, acknowledged, lives, facts } = pipeline;
  const { position, phase, fanOut, isSilent, goneBack } = facts;
  const nowMs = pipeline.clock.elapsed();
  const up = facts.error === null && health !== null && lag.isFresh(nowMs);
  const lagSeconds = position === null ? null : lag.seconds(position.commit, nowMs);
  const spell = (commit: bigint | undefined) => (commit === undefined ? null : source.positions.format(commit));
  const sinks = lives.map(({ name, worker, place }) => ({ name, kind: worker.sink.kind, place }));
  return pipelineStatus(
    { name, source, sinks },
    {
      phase,
      source: {
        up,
        ...sourceActivity({ up, isSilent, fanOut, lagSeconds }, lives),
        position: spell(position?.commit),
        acknowledged: spell(acknowledged?.commit),
        lagBytes: bytesBetween(source.positions, position?.commit ?? null, lag.tip),
        lagSeconds,
        ...healthFacts(health),
        log: keptLog(health, source.positions),
        retainedBytesMax,
        readsPaused: pipeline.readHold.isOn,
        error: facts.error,
        answeredAt: lag.lookedAtMs === null ? null : timestampBefore(pipeline.clock, nowMs - lag.lookedAtMs),
        unanswered: unanswered?.error ?? null,
        needsPerson: facts.needsPerson || unanswered?.needsPerson === true,
        goneBack: goneBack === null ? null : { ...goneBack, until: source.positions.format(goneBack.until.commit) },
        copy: estimates.ofCopy(facts.copyProgress),
      },
      sinks: new Map(
        lives.map((life) => [
          life.name,
          {
            ...sinkFacts(life, { pipeline, facts, lag, rooms, letters: letters.get(life.name) }),
            lost: lost.get(life.name) ?? null,
          },
        ]),
      ),
      tables: tablesStatus(pipeline, stubborn, health?.oldestTransaction),
      unfinishedSnapshots: facts.unfinishedSnapshots,
      snapshots: estimates.ofReads(snapshots).filter(isRunning),
      daemon: { pid: process.pid, startedAt },
    },
  );
}

/** `stubborn`: as far as the caller asked the state. */
export function tablesStatus(
  pipeline: Pipeline,
  stubborn: TablesStatus["stubborn"] = [],
  oldestTransaction?: string,
): TablesStatus {
  const { gate, facts } = pipeline;
  return {
    captured: gate.tables.length,
    refused: gate.refused.map(({ id, reason, fix }) => ({ table: id, reason, fix })),
    unreadable: facts.unreadable,
    suspended: suspendedTables(pipeline),
    pending: pendingTables(pipeline, oldestTransaction),
    stubborn,
    areKnown: facts.hasLooked,
    notLooked: facts.notLooked,
  };
}

function suspendedTables({ gate, facts, suspendedTables: inSinks }: Pipeline): TablesStatus["suspended"] {
  return [
    ...Array.from(gate.suspended, ([table, error]) => {
      // A table that the source may no longer have holds nothing up.
      return { table, sink: null, error, mayReturn: !facts.hasLooked || gate.isToReturn(table) };
    }),
    ...inSinks.map(({ tableId: table, sink, error }) => ({ table, sink, error, mayReturn: false })),
  ];
}

function pendingTables({ facts, gate }: Pipeline, oldestTransaction: string | undefined): TablesStatus["pending"] {
  const { changingTables, unsettledTables } = facts;
  const oldest = oldestTransaction === undefined ? "" : `; the oldest is ${oldestTransaction}`;
  return [
    ...changingTables.map((table) => ({ table, why: "its new shape is not followed yet", fix: null })),
    ...unsettledTables.map((table) => ({
      table,
      why: `it is read when the transactions have ended that ran before it was published${oldest}`,
      fix: null,
    })),
    ...gate.refused.flatMap(({ id, reason, isPassing, code, fix }) => {
      const ends = code === WAITED_IN_VAIN ? fix : null;
      return isPassing === true ? [{ table: id, why: `it is not captured yet: ${reason}`, fix: ends }] : [];
    }),
  ];
}

interface SinkFacts extends Pick<DaemonFacts, "lag" | "rooms"> {
  readonly pipeline: Pipeline;
  readonly facts: StreamFacts;
  readonly letters: WaitingLetters | undefined;
}

function sinkFacts(life: SinkLife, { pipeline, facts, lag, rooms, letters }: SinkFacts): Partial<SinkStatus> {
  const { goneBack, phase, fanOut } = facts;
  const { positions } = pipeline.source;
  // Until a moved sink has begun at its new position, it holds what it held before.
  const { covered } = life.isMoved ? life.worker.position : life.positions;
  const state = life.isFailing ? "retrying" : life.state;
  const isApart = life.catchingUp && phase === "streaming";
  const sharesStream = state === "streaming" && !isApart;
  const isWaitedFor = goneBack?.sinks.includes(life.name) === true;
  const catchingUp = isApart || isWaitedFor;
  const waitsFor = goneBack !== null && sharesStream && !isWaitedFor ? goneBack.sinks : [];
  const snapshotting = state === "streaming" && (phase === "snapshot" || life.isFilling);
  return {
    state: snapshotting ? "snapshot" : state,
    activity: sinkActivity({ state, worker: life.worker }, { catchingUp, waitsFor }, fanOut),
    position: covered === null ? null : positions.format(covered.commit),
    lagSeconds: covered === null ? null : lag.seconds(covered.commit, pipeline.clock.elapsed()),
    lagBytes: bytesBetween(positions, covered?.commit ?? null, lag.tip),
    unansweredSeconds: life.worker.writer.watch.unansweredSeconds,
    ...letterFacts(letters),
    error: life.error,
    needsPerson: life.needsPerson,
    isMoved: life.isMoved,
    catchingUp,
    waitsFor,
    ...(life.worker.sink.engine === undefined ? {} : { deadRows: life.worker.sink.engine.deadRows }),
    ...(life.worker.sink.hints === undefined ? {} : { hints: life.worker.sink.hints }),
    ...rooms.of(life.name),
  };
}

export function bytesBetween(positions: Positions, from: bigint | null, to: bigint | null): number | null {
  if (from === null || to === null) return null;
  if (to <= from) return 0;
  return positions.distance(from, to);
}

function keptLog(health: LogHealth | null, positions: Positions): KeptLogStatus | null {
  if (health?.kept === undefined) return null;
  const { from, confirmed, state } = health.kept;
  const spell = (position: bigint | null) => (position === null ? null : positions.format(position));
  return { from: spell(from), confirmed: spell(confirmed), state };
}

function healthFacts(health: LogHealth | null): Partial<SourceStatus> {
  if (health === null) return {};
  const { retainedBytes, safeBytes, safeSeconds = null, warnings, hints = [], slowFunctions = [], counts } = health;
  return { retainedBytes, safeBytes, safeSeconds, warnings, hints, slowFunctions, ...counts };
}

/** The log is read later than this only if the daemon, or the way to it, is slow. */
const SLOW_SECONDS = 10;

interface Stream {
  readonly up: boolean;
  /** See `SourceFeed`. */
  readonly isSilent: boolean;
  /** Null while it starts. */
  readonly fanOut: FanOut | null;
  readonly lagSeconds: number | null;
}

function sourceActivity({ up, isSilent, fanOut, lagSeconds }: Stream, lives: readonly SinkLife[]) {
  const blockedBy = up ? blockers(fanOut, lives) : [];
  const activity = activityOf({ up, isSilent, fanOut, lagSeconds }, blockedBy.length > 0);
  return { activity, blockedBy } satisfies Pick<SourceStatus, "activity" | "blockedBy">;
}

function activityOf({ up, isSilent, fanOut, lagSeconds }: Stream, isBlocked: boolean): SourceActivity {
  if (isSilent) return "half-open";
  if (!up) return "away";
  if (isBlocked) return "blocked";
  if (lagSeconds !== null && lagSeconds > SLOW_SECONDS) return "slow";
  const isIdle = lagSeconds === 0 && [...(fanOut?.sinks ?? [])].every(({ idle }) => idle);
  return isIdle ? "idle" : "flowing";
}

/** The sinks for which the most waits, where the stream can't give them more; all of them, if none takes anything. */
function blockers(fanOut: FanOut | null, lives: readonly SinkLife[]): readonly string[] {
  if (fanOut === null) return [];
  const sinks = [...fanOut.sinks];
  const crowded = sinks.filter((worker) => fanOut.isCrowded(worker));
  if (crowded.length > 0 || !fanOut.isAtRest) return crowded.map(({ name }) => name);
  return (sinks.length === 0 ? lives : sinks).map(({ name }) => name);
}

function sinkActivity(
  { state, worker }: Pick<SinkLife, "state" | "worker">,
  { catchingUp, waitsFor }: Pick<SinkStatus, "catchingUp" | "waitsFor">,
  fanOut: FanOut | null,
): SinkActivity {
  if (state !== "streaming" && state !== "retrying" && state !== "snapshot") return "stopped";
  if (worker.writer.watch.isWedged) return "wedged";
  if (state === "retrying") return "away";
  if (catchingUp || worker.writer.watch.isSlow || fanOut?.isCrowded(worker) === true) return "slow";
  if (waitsFor.length > 0) return "blocked";
  return worker.idle ? "idle" : "flowing";
}

/** The clock keeps one sample a second for this long; a longer lag reads as "at least". */
const SAMPLES_MAX = 3_600;

/** The log's end is read once a second, and an answer may take some time. */
const FRESH_MS = 5_000;

/**
 * Turns positions into seconds: it remembers when the source's log ended where. A sink at a position lags by the age of the
 * oldest known end beyond that position. By the time that passes in this process, for the machine's clock may be set.
 */
export class LagClock {
  readonly #samples: { readonly atMs: number; readonly tip: bigint }[] = [];
  #lookedAtMs: number | null = null;

  /** The log ended at `tip` at `atMs`. Samples come in order. */
  sample(tip: bigint, atMs: number): void {
    this.#lookedAtMs = atMs;
    const last = this.#samples.at(-1);
    if (last !== undefined && tip <= last.tip) return;
    this.#samples.push({ atMs, tip });
    if (this.#samples.length > SAMPLES_MAX) this.#samples.shift();
  }

  /** When the end of the log was last known; null: never. */
  get lookedAtMs(): number | null {
    return this.#lookedAtMs;
  }

  /** The last known end of the log. */
  get tip(): bigint | null {
    return this.#samples.at(-1)?.tip ?? null;
  }

  /** Whether the present end of the log is known. */
  isFresh(nowMs: number): boolean {
    return this.#lookedAtMs !== null && nowMs - this.#lookedAtMs < FRESH_MS;
  }

  /**
   * Seconds since the log first went beyond `position`; 0 if it has not, null if nothing is known. While the source is away
   * nobody knows what it has written: the result is then at least the time since the last look.
   */
  seconds(position: bigint, nowMs: number): number | null {
    if (this.#lookedAtMs === null) return null;
    const first = this.#samples.find((sample) => sample.tip > position);
    const unknownMs = this.isFresh(nowMs) ? 0 : nowMs - this.#lookedAtMs;
    return Math.max(0, unknownMs, first === undefined ? 0 : nowMs - first.atMs) / 1000;
  }
}

/** A disk fills in minutes, and a server has other work than telling. */
const LOOK_MS = 30_000;
const ANSWER_MS_MAX = 10_000;

/** How much room each sink's target had at the last look, so that somebody can act before it is full. */
export class TargetRooms {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #rooms = new Map<string, readonly Room[]>();

  constructor(clock: Clock, logger: Logger) {
    this.#clock = clock;
    this.#logger = logger;
  }

  of(sink: string): Pick<SinkStatus, "rooms"> {
    const rooms = this.#rooms.get(sink);
    return rooms === undefined ? {} : { rooms };
  }

  async run(lives: readonly Pick<SinkLife, "name" | "worker">[], signal: AbortSignal): Promise<never> {
    const telling = lives.filter(({ worker }) => worker.sink.rooms !== undefined);
    if (telling.length === 0) return await new Promise<never>(() => {});
    for (;;) {
      await Promise.all(telling.map((life) => this.#look(life, signal)));
      await this.#clock.sleep(LOOK_MS, signal);
    }
  }

  async #look({ name, worker: { sink } }: Pick<SinkLife, "name" | "worker">, signal: AbortSignal): Promise<void> {
    const limits = { clock: this.#clock, signal, timeoutMs: ANSWER_MS_MAX, late: (): readonly Room[] => [] };
    try {
      const rooms = await withTimeout(sink.rooms?.(signal) ?? Promise.resolve([]), limits);
      if (rooms.length === 0) this.#rooms.delete(name);
      else this.#rooms.set(name, rooms);
    } catch (error) {
      signal.throwIfAborted();
      // A sink that may not ask, or can't be reached, says so itself if it matters.
      this.#rooms.delete(name);
      this.#logger.debug({ sink: name, error }, "the target did not tell its room");
    }
  }
}
