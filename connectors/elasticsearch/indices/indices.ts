import { versionSince, type ShapeNote, shapeNote } from "../../../src/core/targets/base-rows.ts";
import type { CompleteTables } from "../../../src/core/checkpoint.ts";
import { eachOf } from "../../../src/core/each-of.ts";
import { aboutTable, findMillraceError, joined, type MillraceError } from "../../../src/core/errors.ts";
import { failpoint } from "../../../src/core/failpoint.ts";
import { invariant } from "../../../src/core/invariant.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import type { TargetHint } from "../../../src/core/contracts/sink.ts";
import type { Logger } from "../../../src/core/contracts/telemetry.ts";
import {
  changeSettings,
  createIndex,
  dropIndex,
  expectMade,
  extendIndex,
  type Extension,
  extensionOf,
  moveAlias,
  type NewIndex,
  outdatedField,
  settingsChange,
  shareIndex,
} from "./ddl.ts";
import {
  type Engine,
  expectShared,
  findIndices,
  type FoundIndex,
  foundIndices,
  indexBehind,
  type IndexOptions,
  type StoredIndices,
  storedIndices,
} from "./found-index.ts";
import { conflictsOf, definitionFor } from "./definition.ts";
import { droppedError, OF_ONE_TABLE, type OverShards, refusedDefinition, tooManyShards } from "../errors.ts";
import type { WriteFence } from "../fence.ts";
import { CONNECTIONS_MAX, type SearchClient } from "../http.ts";
import { absentIndices, chunksByLength, lostError, type Obstacle, reviseIndices, type Unusable } from "./presence.ts";
import type { CheckpointChange, CheckpointContent, StoredCheckpoint } from "../checkpoint.ts";
import {
  indexAfter,
  type IndexIdentity,
  nextAliasOf,
  numberOf,
  type PreparedIndex,
  type TableIndex,
  writtenIndex,
} from "./tables.ts";

/** `shared`: see TableIndex. */
interface WantedIndex {
  readonly table: TableVersion;
  readonly alias: string;
  readonly shared: string | undefined;
}

/** What a table's index lacks: fields, or it is not there. */
interface Plan {
  readonly table: TableVersion;
  readonly shared: string | undefined;
  readonly current: FoundIndex | null;
  readonly filling: FoundIndex | null;
  readonly note: ShapeNote;
  readonly extended: { readonly target: FoundIndex; readonly extension: Extension } | null;
  readonly created: NewIndex | null;
}

const OF_MANY = "looking at the sink's indices";

/**
 * Knows the index of each table. If the mapping can take a new shape, the index is extended; otherwise the next index
 * is filled beside the visible one. Invariants: an index is recorded before its first row, and the alias has moved
 * before the table counts as complete.
 */
export class TableIndices {
  readonly #client: SearchClient;
  readonly #engine: Engine;
  readonly #fence: WriteFence;
  readonly #document: StoredCheckpoint;
  readonly #log: Logger;
  readonly #indices = new Map<string, TableIndex>();
  /** By table id, the highest number of an index that was dropped: a request to drop it that comes late finds no other. */
  readonly #dropped = new Map<string, number>();
  #unfilled = new Set<string>();
  /** Tables whose index the cluster has no room for. */
  readonly #over = new Map<string, OverShards>();
  #unusable: Unusable = new Map();
  /** Ids of tables whose next index is being filled. */
  readonly #filling = new Set<string>();

  constructor(client: SearchClient, options: IndexOptions, fence: WriteFence, document: StoredCheckpoint, log: Logger) {
    this.#client = client;
    this.#engine = { client, options, lacking: new Set() };
    this.#fence = fence;
    this.#document = document;
    this.#log = log;
  }

  /**
   * A table whose index was dropped or replaced while no daemon ran is no longer complete. This is stored with the
   * lease, before a new index can replace the old one in the record.
   */
  async revise(held: CheckpointContent, signal: AbortSignal): Promise<CheckpointChange> {
    const { indices, lost, unfilled } = await reviseIndices(this.#client, held.indices, signal);
    this.#indices.clear();
    this.#filling.clear();
    this.#dropped.clear();
    for (const [id, number] of held.dropped) this.#dropped.set(id, number);
    this.adopt(indices);
    this.#unfilled = new Set(unfilled);
    const changed = new Map<string, TableIndex | null>(Array.from(lost, (id) => [id, null]));
    for (const [id, index] of indices) if (held.indices.get(id) !== index) changed.set(id, index);
    if (lost.size + unfilled.size === 0) return { indices: changed };
    this.#log.warn({ tables: [...lost, ...unfilled] }, "indices were dropped or replaced: their tables are read again");
    const tables = Object.entries(held.tables).filter(([id]) => !lost.has(id) && !unfilled.has(id));
    return { indices: changed, tables: Object.fromEntries(tables) };
  }

  /** False if the table has no index, or has lost the one that was being filled. */
  holds(tableId: string): boolean {
    return this.#indices.has(tableId) && !this.#unfilled.has(tableId);
  }

  /** The index to which the table's rows are written. */
  written(tableId: string): IndexIdentity | undefined {
    const table = this.#indices.get(tableId);
    return table === undefined ? undefined : writtenIndex(table);
  }

  /** Drops the table's indices, including the visible one; `prepare` creates another. */
  async remove(tableId: string, signal: AbortSignal): Promise<void> {
    const table = this.#indices.get(tableId);
    if (table === undefined) return;
    for (const identity of [table, ...(table.next === undefined ? [] : [table.next])]) {
      await this.#drop(tableId, identity, signal);
    }
    await this.#document.write({ indices: new Map([[tableId, null]]) }, signal);
    this.#indices.delete(tableId);
    this.#filling.delete(tableId);
  }

  async #drop(tableId: string, index: IndexIdentity, signal: AbortSignal): Promise<void> {
    const number = numberOf(index);
    if (number > (this.#dropped.get(tableId) ?? 0)) {
      await this.#document.write({ dropped: new Map([[tableId, number]]) }, signal);
      this.#dropped.set(tableId, number);
    }
    await dropIndex(this.#client, index, signal);
  }

  /** Prepares an index for rows of each of these versions. An error that concerns one table alone names it. */
  async prepare(wanted: readonly WantedIndex[], signal: AbortSignal): Promise<readonly PreparedIndex[]> {
    const prepared: PreparedIndex[] = [];
    for (const some of chunksByLength(wanted, ({ alias }) => `${alias},${nextAliasOf(alias)}`))
      prepared.push(...(await this.#prepare(some, signal)));
    return prepared;
  }

  async #prepare(wanted: readonly WantedIndex[], signal: AbortSignal): Promise<readonly PreparedIndex[]> {
    // Invariant: a process that has lost its lease creates and drops no index.
    await this.#document.compare(signal);
    const found = await this.#look(
      wanted.flatMap(({ alias }) => [alias, nextAliasOf(alias)]),
      wanted,
      signal,
    );
    const planned: Plan[] = [];
    for (const one of wanted) planned.push(await ofTable(one.table, () => this.#plan(one, found, signal)));
    await this.#extend(planned, signal);
    await this.#create(planned, signal);
    const plans = planned.filter(({ table }) => !this.#over.has(table.id));
    const made = await this.#made(plans, signal);
    const recorded = plans.map((plan) => recordOf(plan, made.get(plan.table.id)));
    await this.#record(new Map(plans.map(({ table }, i) => [table.id, recorded[i]!])), signal);
    for (const { table, current } of plans) {
      const index = made.get(table.id)?.index;
      if (index !== undefined && current !== null)
        this.#log.info(
          { table: table.id, index },
          "a type, a setting or a mapping changed: the table is read into a new index",
        );
    }
    const [first, ...others] = planned.flatMap(({ table }) => this.#withoutRoom(table.id) ?? []);
    if (first !== undefined) throw joined([first, ...others]);
    return plans.map(({ note }, i) => ({ index: writtenIndex(recorded[i]!), note }));
  }

  async #look(names: readonly string[], wanted: readonly Pick<WantedIndex, "table">[], signal: AbortSignal) {
    const [one, ...others] = wanted.map(({ table }) => table.id);
    const what = others.length > 0 ? { text: OF_MANY } : { text: `looking at the index of ${one}`, table: one! };
    return await storedIndices(this.#client, names, what, signal);
  }

  async #plan({ alias, shared, table }: WantedIndex, found: StoredIndices, signal: AbortSignal): Promise<Plan> {
    const recorded = this.#indices.get(table.id);
    // The index under a former name of the table stays as it is.
    const known = recorded?.alias === alias ? recorded : undefined;
    const nextAlias = nextAliasOf(alias);
    const { current, next } = foundIndices(found, table, { alias, nextAlias }, this.#engine.options);
    const expectAlias = async (name: string, one: IndexIdentity, there: FoundIndex | null): Promise<void> => {
      if (there?.uuid === one.uuid) return;
      const looking = { name, text: `looking at the index of ${table.id}`, table: table.id };
      throw await lostError(this.#client, one, looking, signal);
    };
    if (known !== undefined) await expectAlias(alias, known, current);
    const filling = known?.next === undefined || this.#unfilled.has(table.id) ? null : next;
    if (known?.next !== undefined && !this.#unfilled.has(table.id)) await expectAlias(nextAlias, known.next, filling);
    const target = filling ?? current;
    this.#expectDefinition(table);
    if (shared !== undefined && current?.aliases.includes(shared) !== true)
      await expectShared(this.#client, shared, table, signal);
    const fits = target !== null && (await this.#fits(target, table, signal));
    if (next !== null && (filling === null || !fits)) {
      // Created but never recorded, so it has no rows; or begun for a shape that the table no longer has.
      await this.#drop(table.id, next, signal);
    }
    if (shared !== undefined && current !== null) await shareIndex(this.#engine, table, current, shared, signal);
    const plan = { table, current, filling, shared };
    if (fits) {
      const note = shapeNote(target.note, table, versionSince(this.#document.position));
      const extension = extensionOf(this.#engine, target, table, note);
      return { ...plan, note, extended: extension === null ? null : { target, extension }, created: null };
    }
    const note = shapeNote(null, table, 0n);
    const made = { writeAlias: this.#fence.newAlias(), note };
    const dropped = this.#dropped.get(table.id);
    const created =
      current === null
        ? { ...made, index: indexAfter(alias, [next], dropped), alias, shared, isHidden: false }
        : { ...made, index: indexAfter(alias, [current, next], dropped), alias: nextAlias, isHidden: true };
    return { ...plan, note, extended: null, created };
  }

  async #extend(plans: readonly Plan[], signal: AbortSignal): Promise<void> {
    const extended = plans.flatMap(({ table, extended: one }) => (one === null ? [] : [{ ...one, table }]));
    if (extended.length === 0) return;
    const { aliases } = await this.#fence.enter(
      extended.map(({ target }) => target),
      signal,
    );
    await this.#document.compare(signal);
    const works = extended.map((one, i) => ({ ...one, alias: aliases[i]! }));
    await eachOf(works, CONNECTIONS_MAX, ({ table, alias, extension }) =>
      ofTable(table, () => extendIndex(this.#engine, table, { alias, extension }, signal)),
    );
  }

  /** By table id, what was created. */
  /** Those for which the cluster has no room are in `#over` then. */
  async #create(plans: readonly Plan[], signal: AbortSignal): Promise<void> {
    for (const { table } of plans) this.#over.delete(table.id);
    await eachOf(toMake(plans), CONNECTIONS_MAX, async ({ table, wanted }) => {
      await this.#document.compare(signal);
      const over = await ofTable(table, () => createIndex(this.#engine, table, wanted, signal));
      if (over !== null) this.#over.set(table.id, over);
    });
  }

  #withoutRoom(tableId: string): MillraceError | null {
    const over = this.#over.get(tableId);
    if (over === undefined) return null;
    const waiting = [...this.#over.values()].reduce((sum, { added }) => sum + added, 0);
    return tooManyShards(over, tableId, waiting);
  }

  async #made(plans: readonly Plan[], signal: AbortSignal): Promise<ReadonlyMap<string, IndexIdentity>> {
    const works = toMake(plans);
    const made = new Map<string, IndexIdentity>();
    if (works.length === 0) return made;
    const found = await this.#look(
      works.map(({ wanted }) => wanted.alias),
      works,
      signal,
    );
    for (const { table, wanted } of works) {
      const index = await ofTable(table, async () => expectMade(this.#engine, table, wanted, found));
      made.set(table.id, identityOf(index));
      this.#fence.made(index.uuid, wanted.writeAlias);
      failpoint("elasticsearch.index-made", table);
    }
    return made;
  }

  /** Whether the visible index takes rows of this version. */
  async takes(alias: string, table: TableVersion, signal: AbortSignal): Promise<boolean> {
    const known = this.#indices.get(table.id);
    if (known === undefined || known.next !== undefined) return false;
    const { current, next } = await findIndices(this.#engine, table, { alias, nextAlias: nextAliasOf(alias) }, signal);
    return current?.uuid === known.uuid && next === null && (await this.#fits(current, table, signal));
  }

  /**
   * The tables whose index, to which they are written, is not as the configuration wants it. What can be changed in a living
   * index is changed.
   */
  async outdated(tables: readonly TableVersion[], signal: AbortSignal): Promise<ReadonlySet<string>> {
    const outdated = new Set<string>();
    const { options } = this.#engine;
    const held = tables.flatMap((table) => {
      const written = this.written(table.id);
      return written === undefined ? [] : [{ table, written }];
    });
    for (const chunk of chunksByLength(held, ({ written }) => written.alias)) {
      const names = chunk.map(({ written }) => written.alias);
      const found = await storedIndices(this.#client, names, { text: OF_MANY }, signal);
      for (const { table, written } of chunk) {
        const index = ownIndex(found, written, table, options);
        if (index === null) continue;
        // `prepare` then tells what does not fit, before anything is written.
        const isPossible = conflictsOf(definitionFor(options.parts, table), table.columns).length === 0;
        if (!isPossible || !(await this.#fits(index, table, signal))) outdated.add(table.id);
      }
    }
    return outdated;
  }

  async #fits(found: FoundIndex, table: TableVersion, signal: AbortSignal): Promise<boolean> {
    if (outdatedField(this.#engine, found, table) !== null) return false;
    const changed = settingsChange(this.#engine, found, table);
    if (Object.keys(changed).length === 0) return true;
    const [alias] = (await this.#fence.enter([found], signal)).aliases;
    await this.#document.compare(signal);
    const isChanged = await changeSettings(this.#engine, found, { table, alias: alias!, changed }, signal);
    const settings = Object.keys(changed);
    if (isChanged)
      this.#log.info({ table: table.id, settings }, "settings of the index changed, as the configuration says");
    return isChanged;
  }

  #expectDefinition(table: TableVersion): void {
    const [first] = conflictsOf(definitionFor(this.#engine.options.parts, table), table.columns);
    if (first !== undefined) throw refusedDefinition(table.id, `\`${first.key}\`: ${first.what}; ${first.fix}`);
  }

  /** From here on the indices are known by their UUIDs, also after a restart. */
  async #record(tables: ReadonlyMap<string, TableIndex>, signal: AbortSignal): Promise<void> {
    const isKnown = (id: string, table: TableIndex) => JSON.stringify(this.#indices.get(id)) === JSON.stringify(table);
    const changed = new Map([...tables].filter(([id, table]) => !isKnown(id, table)));
    if (changed.size > 0) await this.#document.write({ indices: changed }, signal);
    for (const id of tables.keys()) this.#unfilled.delete(id);
    this.adopt(tables);
  }

  /**
   * Moves the aliases of the tables that become complete with this batch. Returns what to store with the batch's
   * checkpoint, and then to `adopt`. Idempotent until then.
   */
  async complete(tables: CompleteTables, signal: AbortSignal): Promise<ReadonlyMap<string, TableIndex>> {
    const moved = new Map<string, TableIndex>();
    for (const id of this.#filling) {
      const { next, ...table } = this.#indices.get(id)!;
      if (next === undefined || tables[id] === undefined) continue;
      moved.set(id, await moveAlias(this.#engine, { id }, { ...table, next }, signal));
    }
    return moved;
  }

  /** Of tables whose index takes no rows, as of the last `expectPresent`: rows that do not move would not show it. */
  get hints(): readonly TargetHint[] {
    return [...this.#indices].flatMap(([id, { index, next }]) => {
      const found = [index, ...(next === undefined ? [] : [next.index])].flatMap(
        (one) => this.#unusable.get(one) ?? [],
      );
      return found.map((one): TargetHint => ({ table: id, ...one, needsPerson: true }));
    });
  }

  /** Throws if an index of ours does not exist. */
  async expectPresent(signal: AbortSignal): Promise<void> {
    const unusable = new Map<string, Obstacle>();
    const [absent] = await absentIndices(this.#client, this.all(), signal, (some) => {
      for (const [index, told] of some) unusable.set(index, told);
    });
    this.#unusable = unusable;
    if (absent !== undefined) throw droppedError(absent.alias);
  }

  /** Without those that are known to be gone; they stay recorded until others replace them. */
  all(): IndexIdentity[] {
    const isThere = (id: string, { next }: TableIndex): boolean => next !== undefined && !this.#unfilled.has(id);
    return [...this.#indices].flatMap(([id, table]) => (isThere(id, table) ? [table, table.next!] : [table]));
  }

  adopt(changed: ReadonlyMap<string, TableIndex>): void {
    for (const [id, table] of changed) {
      this.#indices.set(id, table);
      if (table.next === undefined) this.#filling.delete(id);
      else this.#filling.add(id);
    }
  }
}

/** Null: it is gone, or not the sink's own any more, which `prepare` tells. */
function ownIndex(
  found: StoredIndices,
  { alias, uuid }: IndexIdentity,
  table: TableVersion,
  options: IndexOptions,
): FoundIndex | null {
  try {
    const index = indexBehind(found, alias, table, options);
    return index?.uuid === uuid ? index : null;
  } catch (error) {
    if (findMillraceError(error)?.kind !== "fatal") throw error;
    return null;
  }
}

/** What is recorded of a table's indices once the plan is carried out. */
function recordOf({ current, filling, shared }: Plan, made: IndexIdentity | undefined): TableIndex {
  const next = current === null ? null : (made ?? filling);
  const visible = current ?? made;
  invariant(visible !== undefined, "a table has a visible index");
  return { ...identityOf(visible), next: next === null ? undefined : identityOf(next), shared };
}

function toMake(plans: readonly Plan[]) {
  return plans.flatMap(({ table, created: wanted }) => (wanted === null ? [] : [{ table, wanted }]));
}

async function ofTable<T>({ id }: TableVersion, work: () => Promise<T>): Promise<T> {
  return await aboutTable(id, OF_ONE_TABLE, findMillraceError, work);
}

function identityOf({ alias, index, uuid }: IndexIdentity): IndexIdentity {
  return { alias, index, uuid };
}
