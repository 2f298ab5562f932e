import { type Clock, timestamp } from "../../core/clock.ts";
import { failpoint } from "../../core/failpoint.ts";
import { type Completeness, completeFor, isOfShape } from "../../core/checkpoint.ts";
import { comparePositions, type Position } from "../../core/model/position.ts";
import {
  describeChange,
  isCompatible,
  type SchemaChange,
  schemaChanges,
  type SchemaPolicy,
} from "../../core/model/schema-change.ts";
import { isKeyed, isLater, type TableVersion } from "../../core/model/schema.ts";
import type { CapturedTables, ColumnFacts, RefusedTable, TableShape } from "../../core/contracts/catalog.ts";
import type { StateStore, StoredError } from "../../core/contracts/state-store.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { MillraceError } from "../../core/errors.ts";
import { Turn, withTimeout } from "../../core/waiting.ts";
import { CORRECTED_AT_SOURCE, keyLost, newWaits, refusedSince, waitsForApproval } from "../errors.ts";

/** Notifies the parts that keep the sinks complete about changes of the captured tables. */
export interface TableEvents {
  /** A table that is new, or that has another shape than before: sinks need its rows. */
  readonly changed: (table: TableVersion) => void;
  /** Tables can be read from now on, or have rows that came or went without a trace in the log. */
  readonly renewed: () => void;
  readonly suspended: (tableId: string) => void;
  /** A table is new, or is back. When this resolves, each sink that must not take it skips it. */
  readonly found: (table: TableShape) => Promise<void>;
}

interface GateParts {
  readonly clock: Clock;
  readonly state: StateStore;
  readonly events: TableEvents;
  readonly policyOf: (table: TableShape) => SchemaPolicy;
  readonly logger: Logger;
}

/** A look takes less, unless the source is away or has locked its catalogue. */
const LOOK_MS_MAX = 10_000;

/**
 * Decides which tables flow, and in which version. Every shape that the stream or the catalogue shows passes here. It gets
 * its version from the registry. If a change can't be followed, the table is suspended: the sinks skip its changes while
 * everything else continues.
 */
export class TableGate {
  readonly #parts: GateParts;
  /** The newest version of each table, by its position in the log. */
  readonly #current = new Map<string, TableVersion>();
  /** See `tables`; null after a change. It is asked for far more often than tables change. */
  #flowing: readonly TableVersion[] | null = null;
  #changeCount = 0;
  /** Ids of the tables that the last changes concerned, each of one table. */
  #changedIds: string[] = [];
  /** New tables that are being registered. */
  readonly #arriving = new Map<string, TableShape>();
  readonly #suspended = new Map<string, StoredError>();
  #refused: CapturedTables["refused"] = [];
  #besides: ReadonlyMap<string, string> = new Map();
  /** Tables that can be read: they are published, and all transactions have ended that wrote to them before. */
  #generations = new Map<string, string>();
  /** What the last look found about each table's columns, and the shape that it showed. */
  #columns = new Map<string, { readonly fingerprint: string; readonly facts: ColumnFacts | null }>();
  /** Tables whose shape has changed since the catalogue was looked at. */
  readonly #toLookAt = new Set<string>();
  readonly #turn = new Turn();
  /** Ids of the tables in the catalogue; null until it was read. */
  #present: ReadonlySet<string> | null = null;
  /** Every table of a first look was registered, by this process or another: a table that comes later is new. */
  #hasLooked = false;
  /** Ids of the tables at this process's first look; null before it. Until all of them are registered these are no new ones. */
  #thereBefore: ReadonlySet<string> | null = null;
  /** Those of them that can be captured. */
  #capturable: ReadonlySet<string> = new Set();
  #elsewhere: readonly TableShape[] = [];
  readonly #firstLook = Promise.withResolvers<void>();
  #isCatalogKnown = false;
  #isFirstLookLate = false;

  constructor(parts: GateParts) {
    this.#parts = parts;
  }

  async load(): Promise<void> {
    for (const table of await this.#parts.state.schemas.list()) this.#current.set(table.id, table);
    this.#noteChange();
    this.#hasLooked = (await this.#parts.state.source.get())?.hasLooked === true;
    for (const { sink, tableId, error } of await this.#parts.state.suspensions.list())
      if (sink === null) this.#suspended.set(tableId, error);
    // The table was reinstated, but its key had not come back.
    for (const { id, key } of this.tables) if (key.length === 0) await this.suspend(id, keyLost(id));
  }

  /** The newest version of each table that was ever known. */
  get every(): readonly TableVersion[] {
    return [...this.#current.values()];
  }

  /** Tables whose rows may still arrive, dropped ones included. */
  get known(): readonly TableVersion[] {
    return [...this.#current.values()].filter(({ id }) => !this.#suspended.has(id));
  }

  /** The tables that flow, newest version each. */
  get tables(): readonly TableVersion[] {
    return (this.#flowing ??= [...this.#current.values()].filter(({ id }) => this.#isFlowing(id)));
  }

  /** The same number: the same `tables`, in the same generations. */
  get changeCount(): number {
    return this.#changeCount;
  }

  /** The tables that may differ since that number, in whether they flow or in what they are; null: each may. */
  changedSince(changeCount: number): ReadonlySet<string> | null {
    const count = this.#changeCount - changeCount;
    if (count > this.#changedIds.length) return null;
    return new Set(this.#changedIds.slice(this.#changedIds.length - count));
  }

  /** `id`: of the one table that the change concerns. */
  #noteChange(id?: string): void {
    this.#flowing = null;
    this.#changeCount++;
    if (id === undefined || this.#changedIds.length === CHANGED_IDS_MAX) this.#changedIds = [];
    else this.#changedIds.push(id);
  }

  /** Suspended tables. A table that the catalogue no longer has is left out: nothing waits for it. */
  get suspended(): ReadonlyMap<string, StoredError> {
    return new Map([...this.#suspended].filter(([id]) => !this.isGone(id)));
  }

  /** Ids of tables whose shape has just changed: it is not known yet whether a sink lacks rows of them. */
  get changing(): readonly string[] {
    return [...this.#toLookAt].filter((id) => this.table(id) !== undefined);
  }

  /** Tables that can't be captured, with the reason. */
  get refused(): CapturedTables["refused"] {
    return this.#refused;
  }

  /** See `CapturedTables`. */
  get besides(): ReadonlyMap<string, string> {
    return this.#besides;
  }

  /** Tables that another share of the same sinks has. */
  get elsewhere(): readonly TableShape[] {
    return this.#elsewhere;
  }

  /** The newest version, also of a table that is suspended or gone. */
  newest(id: string): TableVersion | undefined {
    return this.#current.get(id);
  }

  /** The newest version of a table that flows. */
  table(id: string): TableVersion | undefined {
    return this.#isFlowing(id) ? this.#current.get(id) : undefined;
  }

  #isFlowing(id: string): boolean {
    return !this.#suspended.has(id) && !this.isGone(id);
  }

  /** A table with this id flows, or will as soon as it is registered. */
  expected(id: string): TableShape | undefined {
    return this.table(id) ?? this.#arriving.get(id);
  }

  /**
   * Whether rows of this version go to the sinks. A stream that is behind may show versions without a key of a table that
   * has a key again; the resync since then contains their rows.
   */
  flows(table: TableVersion): boolean {
    return isKeyed(table) && !this.#suspended.has(table.id);
  }

  /** `SchemaResolver` of the streams. One call at a time: a shape that two streams show at once becomes one version. */
  readonly resolve = async (shape: TableShape, position: Position): Promise<TableVersion> =>
    (await this.resolveAll([shape], position))[0]!;

  /** The same for several tables, which are registered together. */
  async resolveAll(shapes: readonly TableShape[], position: Position): Promise<readonly TableVersion[]> {
    const versions: TableVersion[] = [];
    for (let from = 0; from < shapes.length; from += REGISTERED_TOGETHER) {
      const some = shapes.slice(from, from + REGISTERED_TOGETHER);
      versions.push(...(await this.#turn.run(() => this.#resolve(some, position))));
    }
    return versions;
  }

  /** Registers a shape from the catalogue that is in force at a position that the stream has passed. */
  async confirm(shape: TableShape, position: Position): Promise<void> {
    await this.#turn.run(async () => {
      if (this.#differs(shape)) await this.#resolve([shape], position);
    });
  }

  /** Tables of the catalogue whose shape differs from their newest known version, suspended or not. */
  changed({ tables }: CapturedTables): readonly TableShape[] {
    return tables.filter((shape) => this.#differs(shape));
  }

  #differs(shape: TableShape): boolean {
    return this.#current.get(shape.id)?.fingerprint !== shape.fingerprint;
  }

  async #resolve(shapes: readonly TableShape[], position: Position): Promise<readonly TableVersion[]> {
    const inForce = new Map<string, TableVersion>();
    try {
      for (const shape of shapes) {
        const known = await this.#expect(shape, position);
        if (known !== null) inForce.set(shape.id, known);
      }
      const toRegister = shapes.filter(({ id }) => !inForce.has(id));
      if (toRegister.length > 0) {
        const versions = await this.#parts.state.schemas.resolve(toRegister, position);
        for (const version of versions) inForce.set(version.id, this.#registered(version));
      }
    } finally {
      this.#arriving.clear();
    }
    return shapes.map(({ id }) => inForce.get(id)!);
  }

  /** The version if the shape need not be registered. Otherwise the table is ready for that: suspended, or free to flow. */
  async #expect(shape: TableShape, position: Position): Promise<TableVersion | null> {
    const known = await this.#parts.state.schemas.versions(shape.id);
    const inForce = known.findLast(({ since }) => comparePositions(since, position) <= 0) ?? known.at(0);
    if (inForce?.fingerprint === shape.fingerprint) return inForce;
    // A position that was read before, for instance by a sink that is behind. The shape's identities come from the
    // catalogue, which is further ahead now than it was then.
    const isReadAgain = known.some(({ since }) => comparePositions(since, position) > 0);
    if (inForce !== undefined && isReadAgain && isAnnouncedAlike(inForce, shape)) return inForce;
    // These hold values and keys that the former rules let through. Where the present rules were met last, further on in the
    // log, it was done then.
    const last = known.at(-1);
    const isMet = last !== undefined && comparePositions(last.since, position) > 0 && isUnderSameRules(last, shape);
    if (inForce !== undefined && !isUnderSameRules(inForce, shape) && !isMet) {
      const { comparisons, deadLetters, reports } = this.#parts.state;
      await deadLetters.forget(shape.id);
      await reports.forgetKeys(shape.id);
      await comparisons.forgetTable(shape.id);
    }
    const obstacle = this.#obstacle(shape, inForce);
    // Invariant: before a change that can't be followed is registered, its table is suspended. After a crash in between,
    // the change is new again.
    if (obstacle !== null) await this.suspend(shape.id, obstacle);
    else {
      if (inForce === undefined) await this.#parts.events.found(shape);
      this.#arriving.set(shape.id, shape);
    }
    return null;
  }

  #registered(version: TableVersion): TableVersion {
    failpoint("schema.registered", version);
    const current = this.#current.get(version.id);
    if (current !== undefined && !isLater(version, current)) return version;
    this.#current.set(version.id, version);
    // Invariant: the completeness of a copy of the new shape is determined after the change, before the copy begins.
    this.#generations.delete(version.id);
    this.#noteChange(version.id);
    if (current !== undefined) this.#toLookAt.add(version.id);
    if (!this.#suspended.has(version.id)) this.#parts.events.changed(version);
    return version;
  }

  /**
   * Registers the new shapes of known tables whose rules have changed. Invariant: before a sink begins and anything is read
   * or delivered, so that nothing passes under the former rules. A sink may begin before the newest version does: then that one
   * is replaced where it is.
   */
  async revise(shapes: readonly TableShape[], position: Position): Promise<void> {
    const since = ({ id }: TableShape): Position => this.#current.get(id)?.since ?? position;
    const isAhead = (shape: TableShape): boolean => comparePositions(since(shape), position) > 0;
    await this.resolveAll(
      shapes.filter((shape) => !isAhead(shape)),
      position,
    );
    for (const shape of shapes.filter(isAhead)) await this.resolveAll([shape], since(shape));
  }

  /** Ids of the tables whose copies were made under other rules: changes that the present rules leave out pass them by. */
  async ofOtherRules(copies: Iterable<readonly [tableId: string, copy: Completeness]>): Promise<ReadonlySet<string>> {
    const others = new Set<string>();
    for (const [id, copy] of copies) {
      const newest = this.#current.get(id);
      if (newest === undefined || isOfShape(copy, newest)) continue;
      const versions = await this.#parts.state.schemas.versions(id);
      const copied = versions.find((version) => isOfShape(copy, version));
      if (copied === undefined || !isUnderSameRules(copied, newest)) others.add(id);
    }
    return others;
  }

  #obstacle(shape: TableShape, inForce: TableVersion | undefined): MillraceError | null {
    if (shape.key.length === 0) return keyLost(shape.id);
    const fault = rulesFault(shape);
    if (fault !== null) return fault;
    if (inForce === undefined) {
      const isWaiting = this.#isNew(shape.id) && this.#parts.policyOf(shape).newTables === "wait";
      return isWaiting ? newWaits(shape.id) : null;
    }
    const refused = waitingChanges(inForce, shape, this.#parts.policyOf(shape));
    return refused.length === 0 ? null : waitsForApproval(shape.id, refused.map(describeChange));
  }

  /** Whether a table that is not registered yet has come since the first look. */
  #isNew(id: string): boolean {
    return this.#hasLooked || this.#thereBefore?.has(id) === false;
  }

  /**
   * Takes over from the catalogue which tables exist, including those that the stream has not shown yet. `lookedAt`: the
   * value of `changing` before the catalogue was read.
   */
  async discover(captured: CapturedTables, lookedAt: readonly string[], position: Position): Promise<void> {
    this.#refused = captured.refused;
    this.#besides = captured.besides ?? new Map();
    // At the first look every known table: a sink may be new, which nothing was asked about yet.
    const isFirst = this.#present === null;
    const returning = captured.tables.filter(
      ({ id }) => (isFirst || this.isGone(id)) && this.#current.has(id) && !this.#suspended.has(id),
    );
    const isNew = ({ id }: TableShape): boolean => this.#current.has(id) && this.#present?.has(id) === false;
    // The stream has shown them before the catalogue showed a table of another share.
    returning.push(...captured.tables.filter((shape) => isNew(shape) && !this.#suspended.has(shape.id)));
    this.#elsewhere = captured.elsewhere?.tables ?? [];
    this.#present = new Set([...captured.tables, ...captured.refused].map(({ id }) => id));
    this.#capturable = new Set(captured.tables.filter((shape) => rulesFault(shape) === null).map(({ id }) => id));
    const isAwaited = captured.awaitsLog === true;
    this.#noteChange();
    // What a table is that rules hold back is known from now on, whatever becomes of its columns while nobody looks.
    const all = [...captured.tables, ...captured.refused.flatMap(({ withheld }) => withheld ?? [])];
    this.#thereBefore ??= new Set(all.map(({ id }) => id));
    if (!isAwaited) {
      await this.resolveAll(
        all.filter(({ id }) => !this.#current.has(id)),
        position,
      );
    }
    if (!this.#hasLooked && captured.tables.every(({ id }) => this.#current.has(id) || this.#isNew(id))) {
      await this.#parts.state.source.looked();
      this.#hasLooked = true;
    }
    // Meanwhile another table may have got the same target. Backwards: of two that meet, the first goes on.
    for (const shape of returning.toReversed()) await this.#parts.events.found(shape);
    const before = this.#generations;
    for (const id of lookedAt) this.#toLookAt.delete(id);
    // The name of a table that has changed since may mean another table by now.
    this.#generations = new Map([...captured.generations].filter(([id]) => !this.#toLookAt.has(id)));
    this.#noteChange();
    this.#columns = new Map(
      captured.tables.map(({ id, fingerprint }) => [id, { fingerprint, facts: captured.columns?.get(id) ?? null }]),
    );
    // The source may remove such a table from its publication, and its changes would then be missing unnoticed. A table
    // that was created again and waits to be published is read again later.
    for (const refused of captured.refused) {
      const { id, isPassing, code } = refused;
      const known = this.#suspended.get(id);
      // Of a table that returns by itself, the catalogue has the newest reason, and the way out.
      if (isPassing === true || (known !== undefined && !CORRECTED_AT_SOURCE.has(known.code))) continue;
      // One that its rules do not fit may never have been captured.
      if (!this.#current.has(id) && code === undefined) continue;
      const error = refusedSince(await this.withFix(refused));
      if (known?.message !== error.message) await this.suspend(id, error);
    }
    this.#isCatalogKnown = true;
    this.#firstLook.resolve();
    if ([...captured.generations].some(([id, generation]) => before.get(id) !== generation))
      this.#parts.events.renewed();
  }

  /**
   * Resolves when this process has read the catalogue. If that takes longer than `LOOK_MS_MAX`, it resolves without,
   * and later calls resolve at once.
   */
  async looked(signal: AbortSignal): Promise<void> {
    if (this.#isFirstLookLate) return;
    const { clock } = this.#parts;
    const late = (): void => {
      this.#isFirstLookLate = true;
    };
    await withTimeout(this.#firstLook.promise, { clock, signal, timeoutMs: LOOK_MS_MAX, late });
  }

  /** The same with the fix for the key that the table had, if it was captured with one. */
  async withFix({ fixWith, ...refused }: RefusedTable): Promise<RefusedTable> {
    const before = this.#current.get(refused.id);
    if (fixWith === undefined || before === undefined) return refused;
    const { key, columns } = await this.#lastWithKey(before);
    return { ...refused, fix: fixWith(key.map((ordinal) => columns[ordinal]!.name)) };
  }

  /** The stream may have shown the table without its key before the catalogue. */
  async #lastWithKey(table: TableVersion): Promise<TableVersion> {
    if (table.key.length > 0) return table;
    const versions = await this.#parts.state.schemas.versions(table.id);
    return versions.findLast(({ key }) => key.length > 0) ?? table;
  }

  /** Suspended tables that have at the source again what they lacked, as both the catalogue and the stream show. */
  returned({ tables }: CapturedTables): readonly string[] {
    const returned = tables.filter((shape) => this.#isReturnable(shape.id) && this.#capturable.has(shape.id));
    return returned.filter((shape) => !this.#differs(shape)).map(({ id }) => id);
  }

  /** True for a suspended table that can be reinstated as soon as the catalogue was read. */
  isToReturn(id: string): boolean {
    return this.#isReturnable(id) && (this.#present === null || this.#capturable.has(id));
  }

  #isReturnable(id: string): boolean {
    return CORRECTED_AT_SOURCE.has(this.#suspended.get(id)?.code ?? "");
  }

  /** Until the next look it is not certain which table the name means. */
  doubt(id: string): void {
    this.#generations.delete(id);
    this.#noteChange(id);
    if (this.#current.has(id)) this.#toLookAt.add(id);
  }

  /** What a sink records about a complete copy of the table as it is now; null while the table can't be read. */
  completeness(table: TableVersion): Completeness | null {
    const generation = this.#generations.get(table.id);
    return generation === undefined ? null : completeFor(table, generation);
  }

  /**
   * What the last look found about the columns of this version. Null: nothing is known. Undefined: the catalogue showed a
   * later version, which the stream has not reached yet, or this version has come since.
   */
  columnFacts({ id, fingerprint }: TableVersion): ColumnFacts | null | undefined {
    const looked = this.#columns.get(id);
    return looked?.fingerprint === fingerprint && !this.#toLookAt.has(id) ? looked.facts : undefined;
  }

  /** The first look has ended, and what it showed is known. */
  get isCatalogKnown(): boolean {
    return this.#isCatalogKnown;
  }

  /** True for a table that the catalogue no longer has. */
  isGone(id: string): boolean {
    return this.#present?.has(id) === false;
  }

  /** Whether a look has shown that the source has it, for this daemon. */
  isShown(id: string): boolean {
    return this.#present?.has(id) === true;
  }

  async suspend(tableId: string, error: MillraceError): Promise<void> {
    const { code, message, hint } = error;
    const at = timestamp(this.#parts.clock);
    const before = this.#suspended.get(tableId);
    const stored = { code, message, hint: hint ?? null, at, since: before?.since ?? before?.at ?? at };
    await this.#parts.state.suspensions.suspend([{ sink: null, tableId, error: stored }]);
    this.#suspended.set(tableId, stored);
    this.#noteChange(tableId);
    this.#parts.logger.error({ table: tableId, code }, `${message}; the table is suspended`);
    this.#parts.events.suspended(tableId);
  }

  /**
   * Ends a table's suspension; the caller starts reading its rows. It waits for its turn, because the stream may be about
   * to show that the table has lost its key again.
   */
  async reinstate(id: string): Promise<TableVersion | undefined> {
    return await this.#turn.run(() => this.#reinstate(id));
  }

  async #reinstate(id: string): Promise<TableVersion | undefined> {
    const current = this.#current.get(id);
    if (current?.key.length === 0) throw keyLost(id);
    const fault = current === undefined ? null : rulesFault(current);
    if (fault !== null) throw fault;
    // The stream has not shown yet that rules hold it back, or can't: another table has the name, or it shows other rows.
    const withheld = this.#refused.find((one) => one.id === id && CORRECTED_AT_SOURCE.has(one.code ?? ""));
    if (withheld !== undefined) throw refusedSince(withheld);
    if (current !== undefined) await this.#parts.events.found(current);
    await this.#parts.state.suspensions.reinstate(null, [id]);
    this.#suspended.delete(id);
    this.#noteChange(id);
    return this.#current.get(id);
  }
}

/** In one transaction of the state: thousands of tables need few, and none holds up what else waits for the state. */
const REGISTERED_TOGETHER = 250;
/** Who asks what has changed asks soon. */
const CHANGED_IDS_MAX = 1_000;

function isUnderSameRules(a: TableShape, b: TableShape): boolean {
  return a.ruled?.rules === b.ruled?.rules && a.hides === b.hides;
}

/** Whether the log announces both shapes in the same way. */
function isAnnouncedAlike(a: TableShape, b: TableShape): boolean {
  const announced = ({ relation, columns, key }: TableShape): string =>
    JSON.stringify([relation, columns.map(({ name, type, native }) => [name, type, native]), key]);
  return isUnderSameRules(a, b) && announced(a) === announced(b);
}

/** The changes from one shape to the next that the policy does not let sinks follow without approval. */
export function waitingChanges(
  from: TableShape,
  to: TableShape,
  { schemaChange, compatibility }: SchemaPolicy,
): readonly SchemaChange[] {
  const isChosen = from.keyChosen === true || to.keyChosen === true;
  const changes = schemaChanges(atSource(from), atSource(to)).filter(({ kind }) => kind !== "key changed" || !isChosen);
  return schemaChange === "pause" ? changes : changes.filter((change) => !isCompatible(change, compatibility));
}

/** Only changes at the source may need approval: the operator made the changes of rules. */
function atSource(table: TableShape): Pick<TableShape, "relation" | "columns" | "key"> {
  return table.ruled === undefined ? table : { ...table.ruled.source, relation: table.relation };
}

function rulesFault({ id, ruled }: TableShape): MillraceError | null {
  if (ruled?.fault == null) return null;
  const { code, message, hint } = ruled.fault;
  return new MillraceError({ code, kind: "fatal", message: `${id}: ${message}`, hint });
}
