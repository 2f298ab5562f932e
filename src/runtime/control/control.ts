import { deadline, timestamp } from "../../core/clock.ts";
import { findMillraceError, withLogin } from "../../core/errors.ts";
import type { LogHealth } from "../../core/contracts/log-admin.ts";
import type { Position } from "../../core/model/position.ts";
import { pipelineConditions, stateConditions } from "../../core/conditions/conditions.ts";
import { blocks, type Condition, sentenceOf } from "../../core/conditions/condition.ts";
import { type DeadLetter, storedErrorOf } from "../../core/contracts/state-store.ts";
import type { PipelineStatus, SnapshotStatus } from "../../core/contracts/status.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { LastAnswer } from "../../core/waiting.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import { chosenLetters, DISCARD, replay } from "./replay.ts";
import {
  historyNotPaused,
  noSuchLetter,
  noSuchSink,
  noSuchTable,
  notAsked,
  streamLost,
  tooManyQueries,
} from "../errors.ts";
import { Estimates } from "./estimates.ts";
import {
  bytesBetween,
  LagClock,
  NOTHING_STORED,
  statusOf,
  type StoredFacts,
  storedFacts,
  TargetRooms,
  type Unanswered,
} from "./status.ts";
import type {
  FreshAnswer,
  FreshRequest,
  LetterChoice,
  Replayed,
  SnapshotOrder,
  WaitAnswer,
} from "../../core/contracts/orders.ts";
import { Freshness } from "./freshness.ts";
import { MarkedTips, Waits } from "./waits.ts";
import type { Pipeline } from "../pipeline.ts";
import { holdsReads, keepWithin, type KeptLogPolicy } from "../stream/kept-log.ts";
import type { SinkLife } from "../sink/sink-life.ts";
import { kindOf } from "../retry.ts";
import { ASKED, cancelSnapshot, expectReadable, tryCondition } from "../snapshot/snapshots.ts";

const UNTOLD = "the source did not tell its tables and position";
const SAMPLE_MS = 1_000;
/** A `wait` looks again after each notification, and this often, because some changes send none. */
const WAIT_LOOK_MS = 250;
/** At the same time: each copy takes time and space of the disk. */
const COPIES_MAX = 4;

/** What operators see of a running pipeline and do to it. The CLI, the API and the metrics all use it. */
export class Control {
  readonly #name: string;
  readonly #pipeline: Pipeline;
  readonly #logger: Logger;
  readonly #lag = new LagClock();
  readonly #freshness: Freshness;
  readonly #tips: MarkedTips;
  readonly #waits: Waits;
  readonly estimates: Estimates;
  readonly #rooms: TargetRooms;
  readonly #startedAt: string;
  readonly #retention: KeptLogPolicy | null;
  #health: LogHealth | null = null;
  #unanswered: Unanswered | null = null;
  readonly #stored: LastAnswer<StoredFacts>;
  readonly #snapshots: LastAnswer<readonly SnapshotStatus[]>;
  #copyCount = 0;

  /** `retention`: null if the source may keep any amount of log. */
  constructor(name: string, pipeline: Pipeline, logger: Logger, retention: KeptLogPolicy | null = null) {
    this.#retention = retention;
    this.#name = name;
    this.#pipeline = pipeline;
    this.#logger = logger;
    this.#stored = new LastAnswer(pipeline.clock, NOTHING_STORED);
    this.#snapshots = new LastAnswer(pipeline.clock, []);
    this.estimates = new Estimates(pipeline.clock, logger);
    this.#rooms = new TargetRooms(pipeline.clock, logger);
    this.#startedAt = timestamp(pipeline.clock);
    this.#freshness = new Freshness(pipeline);
    this.#tips = new MarkedTips(pipeline);
    this.#waits = new Waits(
      pipeline,
      () => this.#blocking(),
      (tip, blocking) => this.#missing(tip, blocking),
    );
  }

  /** Looks at the source and the targets regularly. */
  async run(signal: AbortSignal): Promise<never> {
    const { lives } = this.#pipeline;
    const estimated = this.estimates.run(this.#pipeline, signal);
    return await Promise.race([this.#sample(signal), estimated, this.#rooms.run(lives, signal)]);
  }

  /** So that lag is known in seconds. */
  async #sample(signal: AbortSignal): Promise<never> {
    for (;;) {
      try {
        const askedMs = this.#pipeline.clock.elapsed();
        const isBegun = this.#pipeline.facts.position !== null;
        const health = await this.#pipeline.source.admin.health(signal);
        // Before the start has made its place in the log, nothing is missing there.
        this.#health = isBegun ? health : { ...health, warnings: [] };
        this.#lag.sample(this.#health.tip, askedMs);
        this.#freshness.sawTip(this.#health.tip, askedMs);
        this.#unanswered = null;
        this.#keepLog(this.#health);
      } catch (error) {
        signal.throwIfAborted();
        this.#health = null;
        this.#unanswered = this.#silentFor(error);
        this.#logger.debug({ error }, "the source did not tell its position");
      }
      await this.#pipeline.clock.sleep(SAMPLE_MS, signal);
    }
  }

  #silentFor(error: unknown): Unanswered {
    const { clock, login } = this.#pipeline;
    const known = withLogin(findMillraceError(error) ?? streamLost(error), login);
    const at = timestamp(clock);
    const since = this.#unanswered?.error.since ?? at;
    return { error: storedErrorOf(known, at, since), needsPerson: kindOf(error) === "blocked" };
  }

  #keepLog({ retainedBytes, tip }: LogHealth): void {
    const { lives, source, readHold } = this.#pipeline;
    const reached = this.#pipeline.facts.position;
    if (this.#retention === null || reached === null) return;
    const isHeld = holdsReads(this.#retention, retainedBytes, readHold.isOn);
    if (readHold.set(isHeld)) {
      this.#logger.warn(
        { retainedBytes },
        isHeld ? "reads beside the stream are paused" : "reads beside the stream go on",
      );
    }
    const bytesBehind = ({ commit }: Position): number => bytesBetween(source.positions, commit, tip) ?? 0;
    keepWithin(this.#retention, { retainedBytes, reached, bytesBehind }, lives, this.#logger);
  }

  /** Whether the state has answered yet: until then what it alone knows is missing in the status. */
  get isStoredKnown(): boolean {
    return this.#stored.hasAnswer;
  }

  async status(): Promise<PipelineStatus> {
    return this.#statusOf(await this.#stored.to(() => storedFacts(this.#pipeline)));
  }

  #statusOf(stored: StoredFacts): PipelineStatus {
    return statusOf(
      this.#pipeline,
      {
        name: this.#name,
        startedAt: this.#startedAt,
        health: this.#health,
        unanswered: this.#unanswered,
        lag: this.#lag,
        estimates: this.estimates,
        rooms: this.#rooms,
        retainedBytesMax: this.#retention?.byteCountMax ?? null,
      },
      stored,
    );
  }

  /** How far a sink is behind, for people. */
  async lagOf(sink: string): Promise<string> {
    const found = (await this.status()).sinks.find(({ name }) => name === sink);
    if (found?.lagSeconds == null) return "its lag is not known";
    return `it is ${found.lagSeconds.toFixed(1)} s and ${found.lagBytes ?? 0} bytes behind`;
  }

  /** The captured tables, with the version of each one's shape. */
  get schemas(): readonly { readonly table: string; readonly version: number; readonly columns: number }[] {
    return this.#pipeline.gate.tables.map(({ id, version, columns }) => ({
      table: id,
      version,
      columns: columns.length,
    }));
  }

  get taken(): readonly { readonly sink: string; readonly tables: readonly string[] }[] {
    return this.#pipeline.lives.map(({ name }) => ({ sink: name, tables: this.#pipeline.tablesOf(name) }));
  }

  /** One sink or all (null): as a whole, or, if `tables` has any, these tables alone. */
  async pause(sink: string | null, tables: readonly string[] = []): Promise<void> {
    this.#expectTables(tables);
    const lives = this.#chosen(sink);
    if (tables.length === 0) for (const life of lives) await life.pause();
    const takers = lives.filter(({ name }) => this.#pipeline.takenOf(name, tables).length > 0);
    for (const { name, worker } of takers) if (worker.sink.form === "history") throw historyNotPaused(name);
    for (const { name } of takers) await this.#pipeline.pauseIn(name, tables);
  }

  async resume(sink: string | null, tables: readonly string[] = []): Promise<void> {
    this.#expectTables(tables);
    for (const life of this.#chosen(sink)) {
      if (tables.length === 0) {
        await life.resume();
        await this.#pipeline.state.sinks.setLost(life.name, null);
      } else await this.#pipeline.resumeIn(life.name, tables);
    }
  }

  #expectTables(ids: readonly string[]): void {
    const { gate } = this.#pipeline;
    for (const id of ids) if (gate.table(id) === undefined && !gate.suspended.has(id)) throw noSuchTable(id);
  }

  /** For sinks whose engines run in this process: the memory that the engine itself reports. */
  async memory(): Promise<ReadonlyMap<string, number>> {
    const found = new Map<string, number>();
    for (const { name, worker } of this.#pipeline.lives) {
      // The figure is only informative: a sink that can't report it now is left out.
      const bytes = await worker.sink.engine?.memoryBytes().catch(() => null);
      if (bytes != null) found.set(name, bytes);
    }
    return found;
  }

  /** Makes a copy of what a sink holds, to query it elsewhere. */
  async copy(sink: string, signal: AbortSignal): Promise<string> {
    const asked = this.#chosen(sink)[0]!.worker.sink;
    if (asked.copies === undefined) throw notAsked(sink);
    if (this.#copyCount >= COPIES_MAX) throw tooManyQueries(COPIES_MAX);
    this.#copyCount++;
    try {
      return await asked.copies.copy(signal);
    } finally {
      this.#copyCount--;
    }
  }

  /** Reads tables again beside the stream. A sink that had failed, or was emptied, is filled again from the beginning. */
  async startSnapshot(request: SnapshotOrder): Promise<readonly string[]> {
    const { gate, source } = this.#pipeline;
    const lives =
      request.sinks.length === 0 ? this.#pipeline.lives : request.sinks.flatMap((name) => this.#chosen(name));
    const ids = request.tables.length === 0 ? gate.tables.map((table) => table.id) : request.tables;
    this.#expectTables(ids);
    const read = ids.flatMap((id) => gate.table(id) ?? []);
    const isWhole = request.tables.length === 0 && request.where === null;
    if (request.sinks.length > 0) {
      for (const { name, worker, state, error } of lives)
        if (state === "failed" && error !== null) expectReadable({ name, form: worker.sink.form, error }, isWhole);
      for (const { name } of lives) this.#pipeline.expectApart(name, request.tables);
    }
    if (request.where !== null) await tryCondition(this.#pipeline.clock, source.rows, read, request.where);
    await this.#pipeline.reinstate(ids);
    const names = lives.map(({ name }) => name);
    await this.#pipeline.reinstateIn(names, ids);
    // All at once: sinks that begin together share what is read.
    const asked = lives.map(({ name }) => this.#pipeline.snapshot(name, ids, request.where, ASKED));
    await Promise.all(asked);
    const { position } = this.#pipeline.facts;
    for (const life of lives) {
      if (life.state !== "failed") continue;
      if (isWhole && position !== null) await life.fillAgain(position);
      else await life.resume();
    }
    return ids;
  }

  async snapshots(): Promise<readonly SnapshotStatus[]> {
    return this.estimates.ofReads(await this.#snapshots.to(() => this.#pipeline.snapshots(true)));
  }

  /** False if there is no unfinished snapshot with this number. */
  async cancelSnapshot(id: number): Promise<boolean> {
    return await cancelSnapshot(this.#pipeline.state.snapshots, id);
  }

  /** Reads the rows of dead letters from the source again; resolves when each has ended, or after the timeout. */
  async replayLetters(choice: LetterChoice, timeoutMs: number, signal: AbortSignal): Promise<Replayed> {
    const { clock, news, state, gate } = this.#pipeline;
    const letters = await this.#letters(choice);
    using limit = deadline(clock, timeoutMs, signal);
    const onKeys = (): void => this.#pipeline.readListedKeys();
    const tableOf = (sink: string, id: string): TableVersion | undefined => {
      const table = gate.table(id);
      return table !== undefined && this.#pipeline.life(sink)?.tables.fills(table) === true ? table : undefined;
    };
    const replayed = await replay(letters, { clock, news, state, table: tableOf, onKeys }, limit.signal);
    // What was not read then is no failure: the next run reads it.
    signal.throwIfAborted();
    return replayed;
  }

  /** Whether the dead letter is of one of these sinks. */
  async hasLetter(id: number): Promise<boolean> {
    const letter = await this.#pipeline.state.deadLetters.get(id);
    return letter !== null && this.#pipeline.life(letter.sink) !== undefined;
  }

  /** Gives dead letters up: the sinks stay without these rows until they change again. Returns how many waited. */
  async discardLetters(choice: LetterChoice): Promise<number> {
    const ids = (await this.#letters(choice)).map(({ id }) => id);
    return await this.#pipeline.state.deadLetters.settle(ids, DISCARD);
  }

  async #letters(choice: LetterChoice): Promise<readonly DeadLetter[]> {
    if (choice.sink !== null) this.#chosen(choice.sink);
    const { letters, unknown } = await chosenLetters(this.#pipeline.state, choice);
    if (unknown.length > 0) throw noSuchLetter(unknown);
    return letters;
  }

  /** Resolves when everything committed before the call is durable in every sink, re-reads included. */
  async wait(timeoutMs: number, signal: AbortSignal): Promise<WaitAnswer> {
    const { clock, news } = this.#pipeline;
    using limit = deadline(clock, Math.ceil(timeoutMs), signal);
    const until = limit.signal;
    let tip: bigint | null = null;
    try {
      for (let told = news.count; !(await this.#pipeline.look(until)); told = news.count)
        await news.after(told, clock, WAIT_LOOK_MS, until);
      tip = await this.#tips.marked(until);
      await this.#waits.until(tip, until);
      return { reached: true, missing: [] };
    } catch (error) {
      if (!until.aborted) throw error;
      signal.throwIfAborted();
      return {
        reached: false,
        missing: tip === null ? this.#unasked() : [...this.#heldByState(), ...this.#missing(tip)],
      };
    }
  }

  /** Why the source's position is not known, to one who waits for it. */
  #unasked(): readonly string[] {
    const error = this.#tips.error ?? this.#pipeline.facts.error;
    const held = this.#heldByState();
    if (error !== null) return [...held, `${UNTOLD}: ${error.code} ${error.message}`];
    const blocking = [...held, ...this.#missing(0n)];
    return blocking.length > 0 ? blocking : ["the time was up while the source was asked for its tables and position"];
  }

  /** A new table, or a sink that begins, goes on only behind what is stored. */
  #heldByState(): readonly string[] {
    const waits = this.#pipeline.state.waitsFor?.() ?? null;
    return waits === null ? [] : [...stateConditions(waits, false)].map(sentenceOf);
  }

  /** Resolves when the sinks that are asked about have everything before the token, or after the timeout. */
  async fresh(request: FreshRequest, timeoutMs: number, signal: AbortSignal): Promise<FreshAnswer> {
    const { clock, source } = this.#pipeline;
    const lives = this.#chosen(request.sink);
    this.#expectTables(request.tables);
    if (request.at !== null)
      return await this.#freshness.reached({ ...request, at: request.at }, lives, timeoutMs, signal);
    const untilMs = clock.elapsed() + timeoutMs;
    using limit = deadline(clock, timeoutMs, signal);
    try {
      const at = source.positions.format(await this.#tips.marked(limit.signal));
      return await this.#freshness.reached({ ...request, at }, lives, Math.max(0, untilMs - clock.elapsed()), signal);
    } catch (error) {
      if (!limit.signal.aborted) throw error;
      signal.throwIfAborted();
      return { reached: false, position: null, missing: this.#unasked() };
    }
  }

  /**
   * Resolves when every sink is at the source's present position (an empty list), or with the reasons why a sink will not
   * get there.
   */
  async untilCaughtUp(signal: AbortSignal): Promise<readonly string[]> {
    const { clock, news, source } = this.#pipeline;
    const tip = await source.log.tip(signal);
    for (;;) {
      const told = news.count;
      const isThere = this.#missing(tip).length === 0 && !this.#pipeline.lives.some(mayRelease);
      const blocking = pipelineConditions(await this.status()).filter((one) => blocks(one, "once"));
      if ((isThere && this.isStoredKnown) || blocking.length > 0) return blocking.map(sentenceOf);
      await news.after(told, clock, WAIT_LOOK_MS, signal);
    }
  }

  /** What still has to happen until every sink holds everything before `tip`. */
  #missing(tip: bigint, blocking = this.#blocking()): readonly string[] {
    const { lives } = this.#pipeline;
    const { phase, position } = this.#pipeline.facts;
    const missing = blocking.map(sentenceOf);
    if (phase !== "streaming" || position === null) return missing;
    const held = new Set(blocking.map(({ sink, table }) => (table === null ? sink : null)));
    if (position.commit < tip) missing.push("the stream has not reached the source's position");
    for (const {
      name,
      positions: { covered },
    } of lives) {
      const isThere = covered !== null && covered.commit >= tip;
      if (!isThere && !held.has(name)) missing.push(`sink ${name} has not applied it all`);
    }
    return missing;
  }

  #blocking(): readonly Condition[] {
    return pipelineConditions(this.#statusOf(NOTHING_STORED)).filter((one) => blocks(one, "wait"));
  }

  #chosen(sink: string | null): readonly SinkLife[] {
    if (sink === null) return this.#pipeline.lives;
    const life = this.#pipeline.life(sink);
    if (life === undefined)
      throw noSuchSink(
        sink,
        this.#pipeline.lives.map((r) => r.name),
      );
    return [life];
  }
}

/** `run --once` ends after the sinks have let go of tables that are gone. */
function mayRelease({ state, worker }: SinkLife): boolean {
  return state === "streaming" && worker.hasToRelease;
}
