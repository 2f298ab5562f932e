/** Puts a program's `follow` together: the source, the state, and the program as the one sink of a pipeline. */
import type { Config } from "../config/config.ts";
import { scopeOf, systemClock } from "../core/clock.ts";
import type { TableName } from "../core/contracts/connector.ts";
import type { Source } from "../core/contracts/source.ts";
import type { StateStore } from "../core/contracts/state-store.ts";
import type { Logger, Metrics } from "../core/contracts/telemetry.ts";
import { fatalFrom } from "../core/errors.ts";
import { type Checkpoint, checkpointFromTexts, checkpointTexts } from "../core/checkpoint.ts";
import { contextOf } from "../core/model/envelope.ts";
import { tableId } from "../core/model/schema.ts";
import { News } from "../core/waiting.ts";
import { type HeldState, holdingState } from "../daemon/held-state.ts";
import { keepLease } from "../daemon/lease.ts";
import { memoryOf, openSource } from "../daemon/ruled-source.ts";
import { policyOf } from "../rules/merged-rule.ts";
import { Pipeline } from "../runtime/pipeline.ts";
import { bondOf, targetOf } from "../runtime/sink/sink-position.ts";
import { openState } from "../state/open.ts";
import { openMemory } from "../state/sqlite/open.ts";
import { PRODUCER } from "../version.ts";
import { Changes } from "./changes.ts";
import { libraryError } from "./errors.ts";
import { FollowSink } from "./follow-sink.ts";
import type { Handover, Keeper } from "./handover.ts";
import { deflateRawSync, inflateRawSync } from "node:zlib";
import * as z from "zod";
import type { LogIdentity, Positions } from "../core/contracts/positions.ts";

interface FollowerParts {
  /** With the keys of source and state; its sinks do not count. */
  readonly config: Config;
  readonly handover: Handover;
  readonly hasState: boolean;
  /** Undefined: the state keeps the position. Null: the program has none yet. */
  readonly from: string | null | undefined;
  readonly completes: boolean;
  readonly limits: { readonly rowCountMax: number; readonly byteCountMax: number };
  readonly logger: Logger;
  readonly redact: (json: string) => string;
}

/** The sink's name in the state. */
const SINK = "follow";
/** A program may take as long for a transaction as it wants. */
const ANSWER_MS_MAX = 10 * 365 * 86_400_000;
const LOOK_MS = 500;
const LATE_MS = 60_000;
const clock = systemClock;
const UNMEASURED: Metrics = {
  rowsApplied: () => undefined,
  batchApplied: () => undefined,
  commitToApply: () => undefined,
  sinkError: () => undefined,
};

/** Follows until aborted. */
export async function runFollower(parts: FollowerParts, signal: AbortSignal): Promise<void> {
  const { config, hasState, logger, redact } = parts;
  const open = async (): Promise<StateStore> =>
    hasState ? await openState(config.state, { name: config.name, clock }) : openMemory(clock);
  const start = new Start(parts);
  await holdingState({ clock, logger, redact, open }, (held) => followOnce(parts, start, held, signal), signal);
}

async function followOnce(parts: FollowerParts, start: Start, held: HeldState, signal: AbortSignal): Promise<void> {
  const { config, handover, hasState, from, completes, limits, logger } = parts;
  const { state } = held;
  const source = await openSource(config, await memoryOf(config, state), logger);
  const { signal: until, end } = scopeOf(signal);
  const running: Promise<unknown>[] = [];
  try {
    const keeper = await start.keeper(source, state, until);
    handover.keepIn(keeper);
    const writer = new PositionWriter(source.positions);
    const { heartbeatMs, login } = config.source;
    const snapshot = start.readsNothing ? "none" : config.source.snapshot;
    const sink = new FollowSink({
      name: SINK,
      changes: new Changes(contextOf({ name: config.name, producer: PRODUCER }, source)),
      handover,
      keeper,
      isOwn: from !== undefined,
      passing: hasState ? null : state,
      reads: snapshot === "initial",
      completes,
      limits,
      spell: async () => {
        const identity = hasState ? null : ((await state.source.get())?.identity ?? null);
        return (checkpoint) => writer.write({ checkpoint, identity });
      },
      stopping: signal,
    });
    const pipeline = new Pipeline({
      clock,
      name: config.name,
      producer: PRODUCER,
      source,
      state,
      lease: held.lease,
      sinks: [{ sink, limits: { ...limits, answerMsMax: ANSWER_MS_MAX }, onPoison: "pause", takes: () => true }],
      snapshot,
      heartbeatMs,
      login,
      policyOf: (table) => policyOf(config.rules, table),
      revised: source.revised,
      onSkipped: source.onSkipped,
      news: new News(),
      logger,
      metrics: UNMEASURED,
    });
    running.push(pipeline.run(until), failureOf(pipeline, until), keepLease({ state, clock }, held.lease, until));
    running.push(warnOfWaiting(handover, logger, until));
    await Promise.race(running);
  } finally {
    end();
    await Promise.allSettled(running);
    await source.close().catch((error: unknown) => logger.warn({ error }, "a connection was not closed cleanly"));
  }
}

/** Throws what ends a program's work: its sink can't go on, or the start needs a person. */
async function failureOf(pipeline: Pipeline, signal: AbortSignal): Promise<never> {
  for (;;) {
    const told = pipeline.news.count;
    const [life] = pipeline.lives;
    if (life?.state === "failed" && life.error !== null) throw fatalFrom(life.error);
    const { phase, error, needsPerson } = pipeline.facts;
    if (phase === "starting" && needsPerson && error !== null) throw fatalFrom(error);
    await pipeline.news.after(told, clock, LOOK_MS, signal);
  }
}

/** A program that forgets `done()` waits for ever. */
async function warnOfWaiting(handover: Handover, logger: Logger, signal: AbortSignal): Promise<never> {
  for (;;) {
    await clock.sleep(LATE_MS, signal);
    const { waitingFor } = handover;
    if (waitingFor > 0)
      logger.warn({ count: waitingFor }, "the program asks for a transaction before it has done those that it has");
  }
}

/** Where the program is, and what the state has to know of that. Once in a process: later runs go on with what was done. */
class Start {
  readonly #parts: FollowerParts;
  /** Of positions that are the program's own. */
  #own: Keeper | null = null;
  /** The program gave a position without what it has read: no table is read. */
  readsNothing = false;

  constructor(parts: FollowerParts) {
    this.#parts = parts;
  }

  async keeper(source: Source, state: StateStore, signal: AbortSignal): Promise<Keeper> {
    const { from } = this.#parts;
    if (from === undefined) {
      return {
        load: () => state.checkpoints.get(SINK),
        keep: (checkpoint) => state.checkpoints.put(SINK, checkpoint),
      };
    }
    return (this.#own ??= await this.#find(from, source, state, signal));
  }

  async #find(from: string | null, source: Source, state: StateStore, signal: AbortSignal): Promise<Keeper> {
    const { hasState } = this.#parts;
    if (from === null) return inMemory(null);
    const found = readPosition(from, source.positions);
    if (found !== null && hasState === (found.identity === null)) {
      if (found.identity === null) return inMemory(found.checkpoint);
      return inMemory(await this.#enter(state, found.identity, found.checkpoint));
    }
    if (hasState || found !== null) {
      const other = hasState ? "a follow without `state`" : "a follow with `state`";
      throw libraryError("MR1171", `\`from\` is a position of ${found === null ? "another program" : other}`);
    }
    return inMemory(await this.#enterAt(source, state, from, signal));
  }

  /** The log of the position is the one that has to be found: the start compares it. */
  async #enter(
    state: StateStore,
    identity: Readonly<Record<string, string>>,
    checkpoint: Omit<Checkpoint, "bond">,
  ): Promise<Checkpoint> {
    const { position, tables } = checkpoint;
    await state.source.announce(position.epoch);
    await state.source.created(identity, position);
    const entry = await state.bonds.enter(SINK, { own: undefined, owed: [], reason: "" });
    await state.sinks.setCheckpoint(SINK, position, tables);
    return { ...checkpoint, bond: bondOf(entry, 0) };
  }

  /** A position as somebody wrote it: the log is the one that is there now, if it reaches back so far. */
  async #enterAt(source: Source, state: StateStore, from: string, signal: AbortSignal): Promise<Checkpoint> {
    this.readsNothing = true;
    const created = await source.admin.create({ epoch: 1, wantCopy: false, resumeIntent: false }, signal);
    let commit: bigint;
    try {
      commit = source.positions.parse(from);
    } catch (error) {
      throw unreadable(error);
    }
    const position = { epoch: 1, commit, index: 0 };
    return await this.#enter(state, created.identity, { position, tables: {}, place: targetOf(TARGETS) });
  }
}

/** As FollowSink names them. */
const TARGETS = { target: ({ schema, table }: TableName) => tableId(schema, table) };

function inMemory(first: Checkpoint | null): Keeper {
  let kept = first;
  return { load: async () => kept, keep: async (checkpoint) => void (kept = checkpoint) };
}

/**
 * A sink's checkpoint as the text that a program stores: `0/1A2B3D0;1.4;BOND;REST`. First the position as `millrace offsets show`
 * prints it, then epoch and index, the bond with the state, and packed what rarely changes: which tables the program has read
 * and, where there is no state, which log this is a position of.
 */
interface StoredPosition {
  readonly checkpoint: Checkpoint;
  /** Null: a state has it. */
  readonly identity: LogIdentity | null;
}

const REST = z.object({ tables: z.string(), identity: z.record(z.string(), z.string()).nullable() });
const REST_BYTES_MAX = 64 * 1024 * 1024;

type Formats = Pick<Positions, "format">;
type Parses = Pick<Positions, "parse" | "recall">;

class PositionWriter {
  readonly #positions: Formats;
  #tables = "";
  #identity: LogIdentity | null = null;
  #rest = "";

  constructor(positions: Formats) {
    this.#positions = positions;
  }

  write({ checkpoint, identity }: StoredPosition): string {
    const { epoch, commit, index } = checkpoint.position;
    const { tables, bond } = checkpointTexts(checkpoint);
    if (this.#rest === "" || tables !== this.#tables || identity !== this.#identity) {
      this.#tables = tables;
      this.#identity = identity;
      this.#rest = deflateRawSync(JSON.stringify({ tables, identity })).toString("base64url");
    }
    return `${this.#positions.format(commit)};${epoch}.${index};${encodeURIComponent(bond)};${this.#rest}`;
  }
}

const TEXT = /^(.+);(\d+)\.(\d+);([^;]+);([\w-]+)$/;

/** Null: it is the position alone, as `millrace offsets show` prints it. */
function readPosition(text: string, positions: Parses): StoredPosition | null {
  const match = TEXT.exec(text);
  if (match === null) return null;
  const [, place = "", epoch, index, bond = "", packed = ""] = match;
  try {
    const packedBytes = Buffer.from(packed, "base64url");
    const { tables, identity } = REST.parse(
      JSON.parse(inflateRawSync(packedBytes, { maxOutputLength: REST_BYTES_MAX }).toString("utf8")),
    );
    if (identity !== null) positions.recall?.(identity);
    const position = { epoch: Number(epoch), commit: positions.parse(place), index: Number(index) };
    return { checkpoint: { position, ...checkpointFromTexts(tables, decodeURIComponent(bond)) }, identity };
  } catch (error) {
    throw unreadable(error);
  }
}

function unreadable(cause: unknown): Error {
  return libraryError("MR1171", "`from` is not a position that a transaction of this source had", { cause });
}
