import {
  type Checkpoint,
  type Completeness,
  isOfSameGeneration,
  isOfShape,
  withoutTables,
  withTables,
} from "../../core/checkpoint.ts";
import type { Clock } from "../../core/clock.ts";
import { findMillraceError, joined } from "../../core/errors.ts";
import { failpoint } from "../../core/failpoint.ts";
import { isLater, type TableVersion } from "../../core/model/schema.ts";
import { rowVersion } from "../../core/model/position.ts";
import type { ForeignTarget, Sink, TargetPresence } from "../../core/contracts/sink.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import type { SchemaStore, StateStore } from "../../core/contracts/state-store.ts";
import { laterHistory, partsTaken, targetsGone, targetsTaken } from "../errors.ts";
import type { BatchWriter } from "./batch-writer.ts";
import type { SinkTableAnswers } from "./sink-tables.ts";
import type { CarryWork, CompleteEnd } from "../stream/sink-queue.ts";
import { carriesRows, mayCarry } from "../../core/targets/carrying.ts";
import { ASKED, askAgain } from "../snapshot/snapshots.ts";
import type { ColumnFacts } from "../../core/contracts/catalog.ts";

type PresenceQuestion<T> = (
  presence: TargetPresence,
  tables: readonly TableVersion[],
  until: AbortSignal,
) => Promise<readonly T[]> | undefined;

const FOREIGN: PresenceQuestion<ForeignTarget> = (presence, tables, until) => presence.foreign?.(tables, until);

/** Why a table is compared whose target another program has filled. */
const ADOPTED = "another program has filled the target";
/** Why a table is read whose rows another daemon has written. Stored and compared, as ASKED is. */
const TAKEN = "the target was another daemon's, or another sink's";

/** A look at targets that the sink does not watch takes at most this part of the time. */
const VERIFY_RESTS = 20;

interface TargetShapesParts {
  readonly clock: Clock;
  readonly sink: Sink;
  readonly state: Pick<StateStore, "snapshots">;
  readonly writer: BatchWriter;
  readonly carried: CarriedCopies;
  readonly tables: SinkTableAnswers;
  readonly logger: Logger;
}

/** The shape of each of a sink's targets, and which copies stay complete while the targets follow their tables. */
export class TargetShapes {
  readonly #parts: TargetShapesParts;
  readonly #prepared = new Map<string, TableVersion>();
  /** Fingerprints of the shapes that the sink was last asked to follow, successful or not. */
  readonly #tried = new Map<string, string>();
  /** Tables whose targets the sink has prepared since it was opened last: it looks for these by itself. */
  readonly #watched = new Set<string>();
  /** Since it was opened last, the sink has let go of what it takes no more in shared targets. */
  #hasReleased = false;
  /** Whether the sink has begun in this process. */
  #hasBegun = false;
  /** When `verify` looks next. */
  #verifiesAtMs = -Infinity;

  constructor(parts: TargetShapesParts) {
    this.#parts = parts;
  }

  /** The sink was opened: the shapes of its targets are unknown. */
  reopen(): void {
    this.#prepared.clear();
    this.#watched.clear();
    this.#hasReleased = false;
    this.#verifiesAtMs = -Infinity;
  }

  /**
   * The sink was opened again in the middle of its work, and may have forgotten what it knew. What it has lost is asked for
   * here: a batch that is repeated would fill the targets, and hide it. What it can't tell now, a heartbeat asks for again.
   * While tables are tried one by one, only the tried one is written to: the sink is asked for all when it is opened next.
   */
  async reopened(signal: AbortSignal): Promise<void> {
    const { sink, tables, writer } = this.#parts;
    this.#watched.clear();
    this.#verifiesAtMs = -Infinity;
    if (sink.presence === undefined) return;
    const written = writer.tried === null ? tables.named : tables.named.filter(({ id }) => id === writer.tried);
    const isHeld = written.every((table) => this.#isHeld(table));
    const parts = new Set(isHeld ? [] : (await tables.parts()).map(([id]) => id));
    const held = written.filter((table) => parts.has(table.id) || this.#isHeld(table));
    if (held.length === 0) return;
    try {
      this.#expectNone(await this.lost(held, signal));
    } catch (error) {
      const known = findMillraceError(error);
      if (known?.reason === "taken" || (known?.kind !== "fatal" && known?.kind !== "blocked")) throw error;
    }
  }

  /**
   * Which of these tables, of which the sink holds rows, have to be read again: their targets are gone, or are another daemon's
   * now. Throws for the latter, all of them, once the sink has begun: daemons that run side by side would take tables from each
   * other in turns. So does a history, which can't be read again.
   */
  async lost(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly TableVersion[]> {
    const { presence, form } = this.#parts.sink;
    if (presence === undefined) return [];
    const foreign = (await presence.foreign?.(tables, signal)) ?? [];
    if (this.#hasBegun || form === "history") this.#expectOwn(foreign);
    await this.#expectFree(foreign);
    const taken = new Set(foreign.map(({ table }) => table));
    const left = tables.filter((table) => !taken.has(table));
    return [...taken, ...(await presence.missing(left, signal))];
  }

  /** The sink begins again: nothing is known any more about copies that were not complete. */
  begin(): void {
    this.#hasBegun = true;
    this.#parts.carried.clear();
  }

  /** The fingerprint of the shape that the sink was asked to follow last. */
  tried(tableId: string): string | undefined {
    return this.#tried.get(tableId);
  }

  /** The target has followed a later shape of the table: rows that were read in an earlier one are useless. */
  isOutdated(table: TableVersion): boolean {
    const prepared = this.#prepared.get(table.id);
    return prepared !== undefined && isLater(prepared, table);
  }

  /** Prepares the target for rows of this shape. */
  async prepare(table: TableVersion, signal: AbortSignal): Promise<void> {
    await this.prepareAll([table], signal);
  }

  /** The same for several tables. */
  async prepareAll(tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    const { sink, writer, tables: own } = this.#parts;
    const changed = tables.filter((table) => this.#prepared.get(table.id) !== table);
    if (changed.length === 0) return;
    const others = await this.#takenFrom(await this.#asked(changed, FOREIGN, signal));
    const held = changed.filter((table) => this.#isHeld(table));
    this.#expectNone(await this.#asked(held, (presence, some, until) => presence.missing(some, until), signal));
    const voided = new Set<string>();
    for (const table of changed) {
      if (this.#isHeld(table)) continue;
      const before = writer.position.tables[table.id] ?? null;
      if (before !== null) voided.add(table.id);
      this.#works(table.id);
      await writer.retrying(signal, () => this.#parts.carried.follow(table, before, signal));
    }
    writer.attempted = null;
    if (voided.size > 0) {
      // Invariant: durable before the target follows, which may lose values. A process that continues from there reads them
      // again.
      await writer.store({ tables: withoutTables(writer.position.tables, voided) }, signal);
      own.changed();
      for (const table of changed) if (voided.has(table.id)) failpoint("sink.voided", table);
    }
    if (sink.form !== "mirror") await this.#expectEarlier(tablesOf(others), signal);
    const adopted = await this.#asked(changed, (presence, some, until) => presence.adoptable?.(some, until), signal);
    // Invariant: durable before the target is this sink's. Afterwards it does not show that its rows prove nothing.
    await this.#request(adopted, "differences", ADOPTED);
    if (adopted.length > 0) failpoint("sink.adoption-listed");
    await this.#make(changed, others, signal);
  }

  /**
   * Looks whether the targets of complete tables are there, and this sink's, that the sink, not having prepared them, does not
   * look for. With thousands of them this takes at most a part of the time.
   */
  async verify(tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    const { clock, writer } = this.#parts;
    const begunMs = clock.elapsed();
    if (begunMs < this.#verifiesAtMs) return;
    const unwatched = tables.filter((table) => !this.#watched.has(table.id) && this.#isHeld(table));
    this.#expectNone(await this.#asked(unwatched, (_, some, until) => this.lost(some, until), signal));
    const tookMs = clock.elapsed() - begunMs;
    this.#verifiesAtMs = begunMs + tookMs * VERIFY_RESTS;
    writer.attempted = null;
  }

  /** Whether the sink may still have a table's rows in a shared target that it takes no more. */
  get hasToRelease(): boolean {
    const { sink, tables } = this.#parts;
    if (sink.presence?.keepOnly === undefined || !tables.isCatalogKnown) return false;
    return !this.#hasReleased || this.#gone().length > 0;
  }

  /** Tables that are gone at the source, or left the configuration, are the next daemon's that comes for them. */
  async release(signal: AbortSignal): Promise<void> {
    if (!this.hasToRelease) return;
    const { sink, tables, writer } = this.#parts;
    const gone = this.#gone();
    const kept = [...tables.known].filter(({ id }) => tables.misses(id));
    await writer.onTargets(async (until) => await sink.presence?.keepOnly?.(kept, until), signal);
    this.#hasReleased = true;
    for (const { id } of gone) this.#prepared.delete(id);
  }

  /** Tables that the sink has prepared, whose rows lie in a shared target. */
  #gone(): readonly TableVersion[] {
    const { sink, tables } = this.#parts;
    return [...this.#prepared.values()].filter((table) => !tables.misses(table.id) && sink.scope?.(table) != null);
  }

  #isHeld(table: TableVersion): boolean {
    const complete = this.#parts.writer.position.tables[table.id];
    return complete !== undefined && isOfShape(complete, table);
  }

  #expectOwn([first, ...further]: readonly ForeignTarget[]): void {
    if (first !== undefined) throw targetsTaken(this.#parts.sink, [first, ...further]);
  }

  /** Invariant: a target that is made again is empty, so the sink has not kept the table as complete. */
  #expectNone(missing: readonly TableVersion[]): void {
    const ids = missing.map(({ id }) => id);
    if (ids.length > 0) throw targetsGone(this.#parts.sink.name, ids);
  }

  /**
   * Throws for those whose part of a shared target another daemon has: who came first keeps it, unless an operator has asked for the
   * table here. A target that many tables share is seldom the newcomer's.
   */
  async #expectFree(foreign: readonly ForeignTarget[]): Promise<void> {
    const { sink, state } = this.#parts;
    if (sink.scopedBy !== "rows") return;
    const kept: ForeignTarget[] = [];
    for (const one of foreign) {
      if (sink.scope?.(one.table) == null) continue;
      const reads = await state.snapshots.unfinished(sink.name, one.table.id);
      if (!reads.some(({ reason }) => reason === ASKED || reason === TAKEN)) kept.push(one);
    }
    const [first, ...further] = kept;
    if (first !== undefined) throw partsTaken(sink, [first, ...further]);
  }

  /** Tables that this sink takes from another daemon. Throws if it holds rows of one. */
  async #takenFrom(foreign: readonly ForeignTarget[]): Promise<readonly ForeignTarget[]> {
    if (foreign.length === 0) return [];
    await this.#expectFree(foreign);
    const { writer, tables } = this.#parts;
    const parts = new Set((await tables.parts()).map(([id]) => id));
    this.#expectOwn(foreign.filter(({ table: { id } }) => parts.has(id) || writer.position.holds(id)));
    return foreign;
  }

  /** `others`: those whose targets have rows of another daemon. */
  async #make(tables: readonly TableVersion[], others: readonly ForeignTarget[], signal: AbortSignal): Promise<void> {
    const { sink, writer, carried, tables: own } = this.#parts;
    for (const { id, fingerprint } of tables) this.#tried.set(id, fingerprint);
    const known = new Set(tablesOf(others));
    const make = async (some: readonly TableVersion[]) => {
      await writer.onTargets((until) => sink.prepare(some, until), signal);
      // Another daemon may have prepared one since this sink looked whose they are.
      const unknown = some.filter((table) => !known.has(table));
      const late = await this.#takenFrom(await this.#ask(unknown, FOREIGN, signal));
      if (late.length > 0) await writer.onTargets((until) => sink.prepare(tablesOf(late), until), signal);
      const from = [...others.filter(({ table }) => some.includes(table)), ...late];
      this.#tellTaken(from);
      const taken = new Set(tablesOf(from));
      const inherited = await this.#inherited(
        some.filter((table) => !taken.has(table)),
        signal,
      );
      const gone = [...taken, ...inherited];
      for (const { id } of gone) carried.forget(id);
      // Rows of a later version would win against all that is read now. Invariant: they go when their writer can add no more, and
      // after what reads the table where nothing is read unasked is durable.
      if (gone.length > 0) {
        failpoint("sink.taken");
        if (sink.form !== "mirror") await this.#expectEarlier(gone, signal);
        else if (!own.areReadUnasked) await this.#request(gone, "table", TAKEN);
        await this.#expel(gone, signal);
      }
      for (const table of some) this.#noteMade(table);
      return [];
    };
    await this.#together(tables, make, signal);
  }

  /** The former owner says so too, if it runs; this one's operator may not know of it. */
  #tellTaken(foreign: readonly ForeignTarget[]): void {
    const { logger } = this.#parts;
    for (const [owner, some] of Map.groupBy(foreign, (one) => one.owner)) {
      const tables = some.map(({ table: { id } }) => id);
      logger.warn({ owner, tables }, "tables are taken over from another daemon, or another sink");
    }
  }

  async #request(of: readonly TableVersion[], kind: "table" | "differences", reason: string): Promise<void> {
    if (of.length === 0) return;
    const { sink, state, tables } = this.#parts;
    const tableIds = of.map(({ id }) => id);
    await askAgain(state.snapshots, { tableIds, sink: sink.name, scope: { kind }, reason, needed: true });
    tables.changed();
  }

  async #isAdopted(tableId: string): Promise<boolean> {
    const { sink, state } = this.#parts;
    return (await state.snapshots.unfinished(sink.name, tableId)).some(({ reason }) => reason === ADOPTED);
  }

  /** Removes rows of these tables that no batch of this sink can have written. */
  async #expel(tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    const { sink, writer } = this.#parts;
    await writer.onTargets(async (until) => await sink.rows?.expel(tables, this.#reached, until), signal);
  }

  /** Throws for a history that has such rows, because its past is not removed: see `laterHistory`. */
  async #expectEarlier(tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    const { sink } = this.#parts;
    const [first, ...further] = (await this.#withLater(tables, signal)).map(({ id }) => laterHistory(sink.name, id));
    if (first !== undefined) throw joined([first, ...further]);
  }

  /**
   * Those of these tables whose part of a shared target another daemon had before this sink read anything of them. The target
   * belongs to all who write there, so the rows alone tell it.
   */
  async #inherited(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly TableVersion[]> {
    const { sink, tables: own } = this.#parts;
    if (sink.scopedBy !== "rows") return [];
    const lacking = tables.filter((table) => sink.scope?.(table) != null && !this.#isHeld(table));
    if (lacking.length === 0) return [];
    const parts = new Set((await own.parts()).map(([id]) => id));
    return await this.#withLater(
      lacking.filter(({ id }) => !parts.has(id)),
      signal,
    );
  }

  /** Those of these tables of which the target has rows that no batch of this sink can have written. */
  async #withLater(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly TableVersion[]> {
    const { sink, writer } = this.#parts;
    const haveLater = async (some: readonly TableVersion[]): Promise<boolean> => {
      let highest = 0n;
      const look = async (until: AbortSignal) => void (highest = (await sink.rows?.highestVersion(some, until)) ?? 0n);
      await writer.onTargets(look, signal);
      return highest > this.#reached;
    };
    if (tables.length === 0 || !(await haveLater(tables))) return [];
    if (tables.length === 1) return tables;
    const later: TableVersion[] = [];
    for (const table of tables) if (await haveLater([table])) later.push(table);
    return later;
  }

  /** No batch of this sink has written a row of a later version. */
  get #reached(): bigint {
    const { epoch, commit } = this.#parts.writer.position.checkpoint.position;
    return rowVersion(epoch, commit);
  }

  /** Those of these tables for which the question is true. A sink that can't tell: none. */
  async #asked<T>(
    tables: readonly TableVersion[],
    question: PresenceQuestion<T>,
    signal: AbortSignal,
  ): Promise<readonly T[]> {
    if (this.#parts.sink.presence === undefined) return [];
    return await this.#together(tables, (some) => this.#ask(some, question, signal), signal);
  }

  async #ask<T>(
    tables: readonly TableVersion[],
    question: PresenceQuestion<T>,
    signal: AbortSignal,
  ): Promise<readonly T[]> {
    const { sink, writer } = this.#parts;
    const { presence } = sink;
    if (presence === undefined || tables.length === 0) return [];
    let found: readonly T[] = [];
    await writer.onTargets(async (until) => void (found = (await question(presence, tables, until)) ?? []), signal);
    return found;
  }

  /** All tables in one call. If that fails and the error names no table, one call per table shows which one fails. */
  async #together<T>(
    tables: readonly TableVersion[],
    ask: (tables: readonly TableVersion[]) => Promise<readonly T[]>,
    signal: AbortSignal,
  ): Promise<readonly T[]> {
    if (tables.length > 1) {
      try {
        return await ask(tables);
      } catch (error) {
        signal.throwIfAborted();
        const known = findMillraceError(error);
        if (known?.kind === "reopen") throw error;
        if (known?.table !== undefined && (known.kind === "fatal" || known.kind === "blocked")) throw error;
      }
    }
    const found: T[] = [];
    for (const table of tables) {
      this.#works(table.id);
      found.push(...(await ask([table])));
    }
    return found;
  }

  /** The sink is working on the target of this table alone. */
  #works(tableId: string): void {
    this.#parts.writer.attempted = { kind: "table", tableId };
  }

  #noteMade(table: TableVersion): void {
    failpoint("sink.prepared", table);
    this.#prepared.set(table.id, table);
    this.#watched.add(table.id);
  }

  /** All rows of these tables are in the sink, and their targets are prepared. */
  async complete(works: readonly CompleteEnd[], signal: AbortSignal): Promise<void> {
    if (works.length === 0) return;
    const { writer } = this.#parts;
    await writer.store(this.completed(writer.position.checkpoint, works), signal);
    this.noteComplete(works);
  }

  /** What the sink holds when these tables are complete too. */
  completed(held: Checkpoint, works: readonly CompleteEnd[]): Checkpoint {
    if (works.length === 0) return held;
    const added = works.map(({ table, completeness }) => [table.id, completeness] as const);
    return { ...held, tables: withTables(held.tables, added) };
  }

  /** The sink has stored this durably. */
  noteComplete(works: readonly CompleteEnd[]): void {
    for (const { table } of works) this.#parts.carried.forget(table.id);
  }

  /**
   * Those whose table the sink holds completely: its rows may have followed the change of shape, or what differs in them is
   * listed to be read. Invariant: the sink records completeness again only after it has recorded its end, and after the change
   * of the target.
   */
  async carry(works: readonly CarryWork[], signal: AbortSignal): Promise<ReadonlySet<CarryWork>> {
    const { writer, carried: copies } = this.#parts;
    await this.prepareAll(
      works.map(({ table }) => table),
      signal,
    );
    const { tables } = writer.position.checkpoint;
    const carried: (readonly [tableId: string, Completeness])[] = [];
    const possible: CarryWork[] = [];
    for (const work of works) {
      const { table, completeness, facts } = work;
      const isAdopted = await this.#isAdopted(table.id);
      if (facts === null && !isAdopted) continue;
      possible.push(work);
      const isCarried = facts !== null && copies.take(table, completeness, facts);
      if (tables[table.id] !== undefined || (!isAdopted && !isCarried)) continue;
      failpoint("sink.carried", table);
      carried.push([table.id, completeness]);
    }
    if (carried.length > 0)
      await writer.store({ position: writer.position.reached, tables: withTables(tables, carried) }, signal);
    return new Set(possible.filter(({ table, completeness }) => writer.position.tables[table.id] === completeness));
  }
}

function tablesOf(foreign: readonly ForeignTarget[]): readonly TableVersion[] {
  return foreign.map(({ table }) => table);
}

interface CarriedCopy {
  /** What the sink recorded about the copy while it was complete. */
  readonly held: Completeness;
  /** The shape in which it was complete, and the shapes that the target has followed since. */
  readonly versions: readonly TableVersion[];
}

/**
 * Copies of one sink that were complete until their tables changed, and that may become complete again without a read. They
 * are kept in memory only: after a crash such copies are not complete, and are read.
 */
export class CarriedCopies {
  readonly #sink: Sink;
  readonly #schemas: Pick<SchemaStore, "versions">;
  readonly #copies = new Map<string, CarriedCopy>();

  constructor(sink: Sink, schemas: Pick<SchemaStore, "versions">) {
    this.#sink = sink;
    this.#schemas = schemas;
  }

  has(tableId: string): boolean {
    return this.#copies.has(tableId);
  }

  /** The target is about to follow. `held`: the completeness that this ends; null: nothing is recorded, or not any more. */
  async follow(table: TableVersion, held: Completeness | null, signal: AbortSignal): Promise<void> {
    const { id } = table;
    const before = held === null ? this.#copies.get(id) : await this.#begun(table, held);
    // If anything fails from here on, the copy is read.
    this.#copies.delete(id);
    const from = before?.versions.at(-1);
    if (before === undefined || from === undefined || !mayCarry(from, table)) return;
    if ((await this.#sink.evolution?.carries(from, table, signal)) !== true) return;
    this.#copies.set(id, { ...before, versions: [...before.versions, table] });
  }

  async #begun(table: TableVersion, held: Completeness): Promise<CarriedCopy | undefined> {
    if (this.#sink.evolution === undefined) return undefined;
    const known = await this.#schemas.versions(table.id);
    const under = known.findLast((version) => isLater(table, version) && isOfShape(held, version));
    return under === undefined ? undefined : { held, versions: [under] };
  }

  /** True if the copy is complete for that. In both cases it is forgotten here. */
  take(table: TableVersion, completeness: Completeness, facts: ColumnFacts): boolean {
    const copy = this.#copies.get(table.id);
    this.#copies.delete(table.id);
    if (copy === undefined || copy.versions.at(-1) !== table) return false;
    const kept = this.#sink.evolution?.kept?.(table) ?? table;
    if (!isOfShape(completeness, table) || !isOfSameGeneration(copy.held, completeness)) return false;
    return carriesRows(copy.versions, facts, kept);
  }

  forget(tableId: string): void {
    this.#copies.delete(tableId);
  }

  clear(): void {
    this.#copies.clear();
  }
}
