/** Compares the sinks with the source all day: range after range, those first that wait longest. */
import { type Clock, timestamp } from "../../core/clock.ts";
import type { ComparePort, Inspection, KeyPage } from "../../core/contracts/comparing.ts";
import type { ProofPlace, ProofStore } from "../../core/contracts/state-store.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { isAborted } from "../../core/errors.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import { Inspections } from "../inspections.ts";
import type { Reconciler } from "../reconciler.ts";
import type { Findings } from "../rows/findings.ts";
import { isAt, readStretch, TableComparison } from "../rows/table-comparison.ts";
import { cursorOf, dueOf, type Ledger, marksOf, type Proven, withKeys, withRange, withTable } from "./ledger.ts";
import { knowPlaces, leftOf, type ProofTurn, storeLedger, turnOf } from "./proof-turn.ts";
import { replacing } from "../../core/replacing.ts";

/** Why nothing is compared now, and which sinks are not. */
export interface Holds {
  /** Null: nothing stands in the way. */
  readonly all: string | null;
  readonly sinks: ReadonlySet<string>;
}

interface ProvingParts {
  readonly maxAgeMs: number;
  /** Of the time of the source, and of each sink. */
  readonly share: number;
  readonly repairs: boolean;
  readonly clock: Clock;
  readonly port: () => ComparePort | null;
  readonly proofs: ProofStore;
  readonly reconciler: Pick<Reconciler, "isRunning">;
  readonly holds: (maxAgeMs: number) => Promise<Holds>;
  readonly lag: (sink: string) => Promise<string>;
  readonly logger: Logger;
}

/** A range is looked at again when half of `maxAge` has passed: the other half is for the others' turns. */
const DUE = 2;
const LOOK_MS = 1_000;
const LEARN_MS = 10_000;
/** What can't be compared now waits for so long. */
const AGAIN_MS = 30_000;
const PATIENCE_MS = 30_000;
const CHOICE_MAX = 64;

export class Proving {
  readonly #parts: ProvingParts;
  readonly #spent: Spent;
  /** By table and sink: until when it is left alone. */
  readonly #left = new Map<string, number>();
  #knownMs = -Infinity;
  /** Tables that are walked for the first time, which may take long, and those that were take turns. */
  #isFirstWalk = false;
  #why: string | null = null;

  constructor(parts: ProvingParts) {
    this.#parts = parts;
    this.#spent = new Spent(parts.clock);
  }

  /** Why it stands back now; null: it does not. */
  get why(): string | null {
    return this.#why;
  }

  async run(signal: AbortSignal): Promise<never> {
    const { clock, logger, share } = this.#parts;
    let [asked, port, inspections]: [ComparePort | null, ComparePort | null, Inspections | null] = [null, null, null];
    try {
      for (;;) {
        const beganMs = clock.elapsed();
        let worked = false;
        try {
          const now = this.#parts.port();
          if (now !== asked) {
            await inspections?.[Symbol.asyncDispose]();
            asked = now;
            port = now === null ? null : this.#spent.through(now);
            inspections = port === null ? null : new Inspections(port);
          }
          if (port !== null && inspections !== null) worked = await this.#turn(port, inspections, signal);
        } catch (error) {
          signal.throwIfAborted();
          if (!isAborted(error)) logger.warn({ error }, "the continuous comparison is tried again");
        }
        const tookMs = clock.elapsed() - beganMs;
        await clock.sleep(worked ? Math.max(0, this.#spent.take() / share - tookMs) : LOOK_MS, signal);
      }
    } finally {
      await inspections?.[Symbol.asyncDispose]();
    }
  }

  /** False: there is nothing to do now. */
  async #turn(port: ComparePort, inspections: Inspections, signal: AbortSignal): Promise<boolean> {
    const { clock, proofs, holds, maxAgeMs, reconciler } = this.#parts;
    const { all, sinks: held } = await holds(maxAgeMs);
    this.#why = all;
    await inspections.letGo(reconciler.isRunning ? port.sinks : held);
    if (all !== null || reconciler.isRunning) return false;
    await this.#learn(port);
    const sinks = port.sinks.filter((sink) => port.isComparable(sink) && !held.has(sink));
    for (const [key, untilMs] of this.#left) if (untilMs <= clock.elapsed()) this.#left.delete(key);
    // Tables that are suspended keep their places, and those that are void come first.
    const passedOver = this.#left.size + port.suspended.size * sinks.length;
    const before = new Date(clock.now() - maxAgeMs / DUE).toISOString();
    const first = async (since: string | null): Promise<ProofPlace | undefined> => {
      const due = (await proofs.next(sinks, since, CHOICE_MAX + passedOver)).filter((one) => !this.#isLeft(one));
      return due.find(({ table }) => port.tables.some(({ id }) => id === table));
    };
    this.#isFirstWalk = !this.#isFirstWalk;
    const [mine, other] = this.#isFirstWalk ? [null, before] : [before, null];
    const chosen = (await first(mine)) ?? (await first(other));
    const table = port.tables.find(({ id }) => id === chosen?.table);
    if (chosen === undefined || table === undefined) return false;
    const turns = await this.#turnsOf(port, table, sinks);
    const own = turns.find(({ stored }) => stored.sink === chosen.sink);
    if (own === undefined) return this.#leave(chosen);
    if (dueOf(own.ledger) === "keys") await this.#listing(port, inspections, table, own, signal);
    else {
      const cursor = cursorOf(own.ledger);
      // Those that are at the same place, and whose turn comes soon, share the source's read.
      const together = turns.filter(
        (one) => one === own || (isAt(cursorOf(one.ledger), cursor) && dueOf(one.ledger) === "rows"),
      );
      await this.#range(port, inspections, table, together, signal);
    }
    return true;
  }

  async #learn(port: ComparePort): Promise<void> {
    const { clock, proofs } = this.#parts;
    if (clock.elapsed() - this.#knownMs < LEARN_MS) return;
    await knowPlaces(proofs, port);
    this.#knownMs = clock.elapsed();
  }

  #isLeft({ table, sink }: ProofPlace): boolean {
    return this.#left.has(JSON.stringify([table, sink]));
  }

  #leave({ table, sink }: ProofPlace): false {
    this.#left.set(JSON.stringify([table, sink]), this.#parts.clock.elapsed() + AGAIN_MS);
    return false;
  }

  async #turnsOf(port: ComparePort, table: TableVersion, sinks: readonly string[]): Promise<readonly ProofTurn[]> {
    const turns: ProofTurn[] = [];
    for (const stored of await this.#parts.proofs.ofTable(table.id)) {
      if (!sinks.includes(stored.sink) || !port.takes(stored.sink, table) || this.#isLeft(stored)) continue;
      const turn = turnOf(stored, port);
      const asked = await this.#attempt(turn, async () => ({ unready: await port.unready(stored.sink, table) }));
      if (asked?.unready === null) turns.push(turn);
      else this.#leave(stored);
    }
    return turns;
  }

  /** The next rows of the source, in all sinks that are at the same place. */
  async #range(
    port: ComparePort,
    inspections: Inspections,
    table: TableVersion,
    turns: readonly ProofTurn[],
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, share } = this.#parts;
    const at = timestamp(clock);
    const after = cursorOf(turns[0]!.ledger);
    const open = new Map<TableComparison, ProofTurn>();
    for (const turn of turns) {
      const comparison = await this.#attempt(turn, () =>
        this.#comparison(port, inspections, table, turn, { after, marks: marksOf(turn.ledger) }, signal),
      );
      if (comparison !== null) open.set(comparison, turn);
    }
    const walked: [TableComparison, ProofTurn][] = [];
    let position: string | null = null;
    while (open.size > 0) {
      signal.throwIfAborted();
      const stretch = readStretch({ port, table, share, patienceMs: PATIENCE_MS }, [...open.keys()], after, signal);
      const place = await stretch.place;
      position ??= place.at;
      for (const [comparison, look] of stretch.looks) {
        const turn = open.get(comparison)!;
        const done = await this.#attempt(turn, async () => {
          await comparison.walked(look, place, signal);
          return comparison;
        });
        const isPassed = comparison.isWalked || !isAt(comparison.cursor, after);
        if (done === null || isPassed) open.delete(comparison);
        if (done !== null && isPassed) walked.push([comparison, turn]);
      }
    }
    for (const [comparison, turn] of walked) {
      const isAll = after === null && comparison.isWalked;
      const found = await this.#attempt(turn, async () => {
        if (isAll) await comparison.findExtra(signal);
        await comparison.settle(signal);
        return comparison.findings;
      });
      if (found === null) continue;
      const inspection = await inspections.of(turn.stored.sink, signal);
      const { missing, extra, different, repaired, isDecided } = leftOf(found);
      const proven: Proven = { at, position };
      const isEqual = isDecided && missing + different + extra === 0;
      const { sourceRows, sinkRows } = found;
      // A table of one chunk: all keys of both sides are known.
      const ledger = isAll
        ? withTable(turn.ledger, { began: proven, sourceRows, sinkRows, missing, different, extra, isDecided })
        : withRange(turn.ledger, {
            last: comparison.isWalked ? null : comparison.cursor,
            hasMet: (key) => comparison.met.has(inspection.id(table, key)),
            lookedAt: at,
            proven: isEqual ? proven : null,
            rows: sourceRows,
            missing,
            different,
          });
      await this.#store(turn, ledger, found, repaired);
    }
  }

  /** The next page of the keys that the sink lists. */
  async #listing(
    port: ComparePort,
    inspections: Inspections,
    table: TableVersion,
    turn: ProofTurn,
    signal: AbortSignal,
  ): Promise<void> {
    const began = timestamp(this.#parts.clock);
    const { cursor } = turn.ledger.keys;
    const done = await this.#attempt(turn, async () => {
      const inspection = await inspections.of(turn.stored.sink, signal);
      const comparison = await this.#comparison(port, inspections, table, turn, { isOfKeys: true }, signal);
      let last: KeyPage = { keys: [], next: null };
      if (inspection.page === undefined) {
        await comparison.lookForAll(signal);
      } else {
        last = await inspection.page(table, cursor, signal);
        await comparison.lookFor(last.keys, signal);
      }
      const rows = inspection.page === undefined ? null : last.keys.length;
      return { ...last, rows, found: comparison.findings };
    });
    if (done === null) return;
    const { found, next, rows, isNew = false } = done;
    const { extra, repaired, isDecided } = leftOf(found);
    const position = found.result().positions?.from ?? null;
    const looked = { next, isNew: isNew || cursor === null, began: { at: began, position }, rows, extra, isDecided };
    await this.#store(turn, withKeys(turn.ledger, looked), found, repaired);
  }

  async #comparison(
    port: ComparePort,
    inspections: Inspections,
    table: TableVersion,
    { stored: { sink } }: ProofTurn,
    how: { after?: Ledger["ranges"][number]["upTo"]; marks?: readonly (readonly string[])[]; isOfKeys?: boolean },
    signal: AbortSignal,
  ): Promise<TableComparison> {
    const { clock, lag, repairs, share } = this.#parts;
    const inspection = await inspections.of(sink, signal);
    return new TableComparison({
      ...how,
      marks: new Set(how.marks?.map((key) => inspection.id(table, key))),
      clock,
      lag,
      repairs,
      port,
      inspection,
      table,
      sink,
      patienceMs: PATIENCE_MS,
      share,
      sampleMax: 0,
      showsValues: false,
      part: null,
      resumed: null,
    });
  }

  /** Null: it could not be compared now. */
  async #attempt<T>({ stored }: ProofTurn, work: () => Promise<T>): Promise<T | null> {
    try {
      return await work();
    } catch (error) {
      if (isAborted(error)) throw error;
      const { table, sink } = stored;
      this.#parts.logger.debug({ error, table, sink }, "a range could not be compared now");
      this.#leave(stored);
      return null;
    }
  }

  /** Invariant: what was found, and the keys to repair, are durable before the range counts as proven. */
  async #store(turn: ProofTurn, ledger: Ledger, found: Findings, repaired: number): Promise<void> {
    const { proofs, logger } = this.#parts;
    const { table, sink } = turn.stored;
    const isStored = await storeLedger(proofs, turn, ledger);
    const { missing, extra, different } = found.result();
    if (isStored && missing + extra + different > 0)
      logger.warn({ table, sink, missing, extra, different, repaired }, "rows differ from the source");
  }
}

/** How long source and sinks read for comparisons. */
class Spent {
  readonly #clock: Clock;
  readonly #ms = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Of the one that read longest since the last call: the source, or a sink. */
  take(): number {
    const longest = Math.max(0, ...this.#ms.values());
    this.#ms.clear();
    return longest;
  }

  /** The same port; what it reads is counted. */
  through(port: ComparePort): ComparePort {
    return replacing(port, {
      at: async (place, signal) => {
        const compared = await port.at(place, signal);
        this.#add(SOURCE, compared.readMs);
        return compared;
      },
      inspect: async (sink, signal) => this.#inspection(sink, await port.inspect(sink, signal)),
    });
  }

  #inspection(sink: string, inspection: Inspection): Inspection {
    return replacing(inspection, {
      rows: (table, keys, signal) => this.#timed(sink, () => inspection.rows(table, keys, signal)),
      keys: (table, signal) => this.#each(sink, inspection.keys(table, signal)),
      ...(inspection.equal === undefined
        ? {}
        : { equal: (table, asked, signal) => this.#timed(sink, () => inspection.equal!(table, asked, signal)) }),
      ...(inspection.page === undefined
        ? {}
        : { page: (table, after, signal) => this.#timed(sink, () => inspection.page!(table, after, signal)) }),
    });
  }

  async *#each<T>(sink: string, all: AsyncIterable<T>): AsyncGenerator<T> {
    let beganMs = this.#clock.elapsed();
    for await (const one of all) {
      this.#add(sink, this.#clock.elapsed() - beganMs);
      yield one;
      beganMs = this.#clock.elapsed();
    }
    this.#add(sink, this.#clock.elapsed() - beganMs);
  }

  async #timed<T>(sink: string, work: () => Promise<T>): Promise<T> {
    const beganMs = this.#clock.elapsed();
    try {
      return await work();
    } finally {
      this.#add(sink, this.#clock.elapsed() - beganMs);
    }
  }

  #add(of: string, ms: number): void {
    this.#ms.set(of, (this.#ms.get(of) ?? 0) + ms);
  }
}

/** No sink can have this name. */
const SOURCE = "*";
