import { type Clock, timestamp } from "../../core/clock.ts";
import { failpoint } from "../../core/failpoint.ts";
import { comparePositions, type Position } from "../../core/model/position.ts";
import { describeChange, isCompatible, schemaChanges } from "../../core/model/schema-change.ts";
import type { SchemaPolicy } from "../../core/model/schema-policy.ts";
import { isKeyed, isLater, type TableVersion } from "../../core/model/schema.ts";
import type { CapturedTables, ColumnFacts, TableShape } from "../../core/contracts/catalog.ts";
import type { StateStore, StoredError } from "../../core/contracts/state-store.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { MillraceError } from "../../core/errors.ts";
import { keyLost, MENDED_AT_SOURCE, refusedSince, TARGETS_MEET, waitsForApproval } from "../errors.ts";

/** What changed about the captured tables; told to whoever keeps the sinks complete. */
export interface TableEvents {
  /** A table that was not known, or one of another shape than before: sinks need its rows. */
  readonly changed: (table: TableVersion) => void;
  /** Tables may be read from now on, or have rows that came or went without a word in the log. */
  readonly renewed: () => void;
  readonly setAside: (tableId: string) => void;
  /** Why a table that was not known can't be taken in, or null. */
  readonly obstacle: (table: TableShape) => MillraceError | null;
}

export interface GateParts {
  readonly clock: Clock;
  readonly state: StateStore;
  readonly events: TableEvents;
  readonly policyOf: (table: TableShape) => SchemaPolicy;
  readonly logger: Logger;
}

/**
 * Which tables flow, and under which version. Every shape that the stream or the catalogue shows passes here: it gets its
 * version from the registry, and where the change can't be followed its table is set aside, so that its changes pass
 * over the sinks while everything else goes on.
 */
export class TableGate {
  readonly #parts: GateParts;
  /** The version of each table that is in force furthest on in the log. */
  readonly #current = new Map<string, TableVersion>();
  readonly #aside = new Map<string, StoredError>();
  #refused: CapturedTables["refused"] = [];
  /** Tables that may be read: they are published, and who wrote to them before has ended. */
  #generations = new Map<string, string>();
  /** What the last look said of each table's columns, and the shape that it showed. */
  #columns = new Map<string, { readonly fingerprint: string; readonly facts: ColumnFacts | null }>();
  /** Tables whose shape has changed since the catalogue was looked at. */
  readonly #toLookAt = new Set<string>();
  #turn: Promise<unknown> = Promise.resolve();
  /** Ids of the tables that the catalogue has; null until it was looked at. */
  #present: ReadonlySet<string> | null = null;
  /** Those of them that can be captured. */
  #capturable: ReadonlySet<string> = new Set();

  constructor(parts: GateParts) {
    this.#parts = parts;
  }

  async load(): Promise<void> {
    for (const table of await this.#parts.state.schemas.list()) this.#current.set(table.id, table);
    for (const [id, error] of await this.#parts.state.schemas.aside()) this.#aside.set(id, error);
    // Let in again without its key having come back.
    for (const { id, key } of this.tables) if (key.length === 0) await this.setAside(id, keyLost(id));
  }

  /** The newest version of each table that was ever known. */
  get every(): Iterable<TableVersion> {
    return this.#current.values();
  }

  /** Tables whose rows may still be on their way, dropped ones included. */
  get known(): readonly TableVersion[] {
    return [...this.#current.values()].filter(({ id }) => !this.#aside.has(id));
  }

  /** The tables that flow, newest version each. */
  get tables(): readonly TableVersion[] {
    return [...this.#current.values()].filter(({ id }) => !this.#aside.has(id) && !this.isGone(id));
  }

  /** Tables that are set aside; of one that the catalogue no longer has nobody waits for anything. */
  get aside(): ReadonlyMap<string, StoredError> {
    return new Map([...this.#aside].filter(([id]) => !this.isGone(id)));
  }

  /** Ids of the tables of which nobody knows yet whether a sink lacks rows, as their shape has just changed. */
  get changing(): readonly string[] {
    return [...this.#toLookAt].filter((id) => this.table(id) !== undefined);
  }

  /** Tables that can't be captured, with the reason. */
  get refused(): CapturedTables["refused"] {
    return this.#refused;
  }

  /** The newest version, of a table that is set aside or gone too. */
  newest(id: string): TableVersion | undefined {
    return this.#current.get(id);
  }

  /** The newest version of a table that flows. */
  table(id: string): TableVersion | undefined {
    return this.#aside.has(id) || this.isGone(id) ? undefined : this.#current.get(id);
  }

  /**
   * Whether rows of this version go to the sinks. A stream that lies behind shows versions without a key of a table that has
   * one again: their rows are in what is read again since.
   */
  flows(table: TableVersion): boolean {
    return isKeyed(table) && !this.#aside.has(table.id);
  }

  /** `SchemaResolver` of the streams. One at a time: what two streams show at once is one version. */
  readonly resolve = (shape: TableShape, position: Position): Promise<TableVersion> =>
    this.#inTurn(() => this.#resolve(shape, position));

  /** The catalogue's word for the shape that is in force at a place of the log that the stream has passed. */
  async confirm(shape: TableShape, position: Position): Promise<void> {
    await this.#inTurn(async () => {
      if (this.#differs(shape)) await this.#resolve(shape, position);
    });
  }

  /** Of what the catalogue shows: tables of another shape than the newest that is known, set aside or not. */
  changed({ tables }: CapturedTables): readonly TableShape[] {
    return tables.filter((shape) => this.#differs(shape));
  }

  #differs(shape: TableShape): boolean {
    return this.#current.get(shape.id)?.fingerprint !== shape.fingerprint;
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work);
    this.#turn = turn.catch(() => undefined);
    return await turn;
  }

  async #resolve(shape: TableShape, position: Position): Promise<TableVersion> {
    const known = await this.#parts.state.schemas.versions(shape.id);
    const inForce = known.findLast(({ since }) => comparePositions(since, position) <= 0) ?? known.at(0);
    if (inForce?.fingerprint === shape.fingerprint) return inForce;
    // A place that was read before, as by a sink that is behind. The catalogue, which the shape has its identities from, is
    // further ahead by now than it was then.
    const isReadAgain = known.some(({ since }) => comparePositions(since, position) > 0);
    if (inForce !== undefined && isReadAgain && isAnnouncedAlike(inForce, shape)) return inForce;
    // Letters hold what the rules of before let through.
    if (inForce !== undefined && inForce.ruled?.rules !== shape.ruled?.rules) {
      await this.#parts.state.deadLetters.forget(shape.id);
    }
    const obstacle = this.#obstacle(shape, inForce);
    // Invariant: a change that can't be followed is set aside before it is registered; after a crash in between it is
    // new again.
    if (obstacle !== null) await this.setAside(shape.id, obstacle);
    const version = await this.#parts.state.schemas.resolve(shape, position);
    failpoint("schema.registered", version);
    const current = this.#current.get(version.id);
    if (current !== undefined && !isLater(version, current)) return version;
    this.#current.set(version.id, version);
    // Invariant: what a copy of the new shape is complete for is looked at after the change, before the copy begins.
    this.#generations.delete(version.id);
    if (current !== undefined) this.#toLookAt.add(version.id);
    if (!this.#aside.has(version.id)) this.#parts.events.changed(version);
    return version;
  }

  /**
   * Takes in what rules make of the tables that are known from before, where those are others by now. Invariant: before
   * anything is read or delivered, so that nothing is under the rules of before.
   */
  async revise(revised: (table: TableVersion) => TableShape | null, position: Position): Promise<void> {
    const known = Array.from(this.#current.values());
    for (const table of known) {
      const shape = revised(table);
      if (shape !== null) await this.resolve(shape, position);
    }
  }

  #obstacle(shape: TableShape, inForce: TableVersion | undefined): MillraceError | null {
    if (shape.key.length === 0) return keyLost(shape.id);
    const fault = rulesFault(shape);
    if (fault !== null) return fault;
    if (inForce === undefined) return this.#parts.events.obstacle(shape);
    const { schemaChange, compatibility } = this.#parts.policyOf(shape);
    const isChosen = inForce.keyChosen === true || shape.keyChosen === true;
    const changes = schemaChanges(atSource(inForce), atSource(shape)).filter(
      ({ kind }) => kind !== "key changed" || !isChosen,
    );
    const refused =
      schemaChange === "pause" ? changes : changes.filter((change) => !isCompatible(change, compatibility));
    return refused.length === 0 ? null : waitsForApproval(shape.id, refused.map(describeChange));
  }

  /**
   * Takes the catalogue's word for which tables there are, and for those that the stream has not shown yet. `lookedAt`:
   * what was `changing` before the catalogue was read.
   */
  async discover(captured: CapturedTables, lookedAt: readonly string[], position: Position): Promise<void> {
    this.#refused = captured.refused;
    const returning = captured.tables.filter(
      ({ id }) => this.isGone(id) && this.#current.has(id) && !this.#aside.has(id),
    );
    this.#present = new Set([...captured.tables, ...captured.refused].map(({ id }) => id));
    this.#capturable = new Set(captured.tables.filter((shape) => rulesFault(shape) === null).map(({ id }) => id));
    for (const shape of captured.tables) if (!this.#current.has(shape.id)) await this.resolve(shape, position);
    // In the meantime another table may have come to where they were written to.
    for (const shape of returning) {
      const obstacle = this.#parts.events.obstacle(shape);
      if (obstacle !== null) await this.setAside(shape.id, obstacle);
    }
    const before = this.#generations;
    for (const id of lookedAt) this.#toLookAt.delete(id);
    // A table that has changed since stands for something else by now.
    this.#generations = new Map([...captured.generations].filter(([id]) => !this.#toLookAt.has(id)));
    this.#columns = new Map(
      captured.tables.map(({ id, fingerprint }) => [id, { fingerprint, facts: captured.columns?.get(id) ?? null }]),
    );
    // The source takes such a table out of what it publishes: without a word its changes would pass unseen. One that was
    // made again and waits to be published is read again then.
    for (const refused of captured.refused) {
      const { id, isPassing } = refused;
      if (isPassing === true) continue;
      if (this.#current.has(id) && !this.#aside.has(id)) await this.setAside(id, refusedSince(refused));
    }
    if ([...captured.generations].some(([id, generation]) => before.get(id) !== generation))
      this.#parts.events.renewed();
  }

  /**
   * Of what the catalogue shows: tables that were set aside for what they lacked at the source, and that have it again, as
   * the stream has seen.
   */
  mended({ tables }: CapturedTables): readonly string[] {
    const mendable = tables.filter((shape) => this.#isMendable(shape.id) && this.#capturable.has(shape.id));
    return mendable.filter((shape) => !this.#differs(shape)).map(({ id }) => id);
  }

  /** True for a table that is set aside, and may be let in as soon as the catalogue was looked at. */
  isToReturn(id: string): boolean {
    return this.#isMendable(id) && (this.#present === null || this.#capturable.has(id));
  }

  #isMendable(id: string): boolean {
    const { code } = this.#aside.get(id) ?? {};
    if (code !== TARGETS_MEET) return MENDED_AT_SOURCE.has(code ?? "");
    // The other one may be gone by now.
    const current = this.#current.get(id);
    return current !== undefined && this.#parts.events.obstacle(current) === null;
  }

  /** What its name stands for is not certain before the next look. */
  doubt(id: string): void {
    this.#generations.delete(id);
    if (this.#current.has(id)) this.#toLookAt.add(id);
  }

  /** What the table's name stood for at the last look; undefined: its rows can't be read, or not yet. */
  generation(id: string): string | undefined {
    return this.#generations.get(id);
  }

  /**
   * What the last look said of the columns of this version; null: nothing is known of them; undefined: the catalogue showed
   * a later version, which the stream has not come to yet, or this one has come since.
   */
  columnFacts({ id, fingerprint }: TableVersion): ColumnFacts | null | undefined {
    const looked = this.#columns.get(id);
    return looked?.fingerprint === fingerprint && !this.#toLookAt.has(id) ? looked.facts : undefined;
  }

  /** True for a table that the catalogue no longer has. */
  isGone(id: string): boolean {
    return this.#present?.has(id) === false;
  }

  async setAside(tableId: string, error: MillraceError): Promise<void> {
    const { code, message, hint } = error;
    const stored = { code, message, hint: hint ?? null, at: timestamp(this.#parts.clock) };
    await this.#parts.state.schemas.setAside(tableId, stored);
    this.#aside.set(tableId, stored);
    this.#parts.logger.error({ table: tableId, code }, message);
    this.#parts.events.setAside(tableId);
  }

  /**
   * Lets a table in again; the caller has its rows read. In its turn: the stream may be about to show that it has lost its
   * key again.
   */
  async readmit(id: string): Promise<TableVersion | undefined> {
    return await this.#inTurn(() => this.#readmit(id));
  }

  async #readmit(id: string): Promise<TableVersion | undefined> {
    const current = this.#current.get(id);
    if (current?.key.length === 0) throw keyLost(id);
    const fault = current === undefined ? null : rulesFault(current);
    if (fault !== null) throw fault;
    const meeting =
      current === undefined || this.#aside.get(id)?.code !== TARGETS_MEET ? null : this.#parts.events.obstacle(current);
    if (meeting !== null) throw meeting;
    await this.#parts.state.schemas.readmit(id);
    this.#aside.delete(id);
    return this.#current.get(id);
  }
}

/** Whether the log announces the two shapes in the same words. */
function isAnnouncedAlike(a: TableShape, b: TableShape): boolean {
  const announced = ({ relation, columns, key, ruled }: TableShape): string =>
    JSON.stringify([relation, columns.map(({ name, type, native }) => [name, type, native]), key, ruled?.rules]);
  return announced(a) === announced(b);
}

/** A change of rules is the operator's own: only what changed at the source may have to wait. */
function atSource(table: TableShape): Pick<TableShape, "relation" | "columns" | "key"> {
  return table.ruled === undefined ? table : { ...table.ruled.source, relation: table.relation };
}

function rulesFault({ id, ruled }: TableShape): MillraceError | null {
  if (ruled?.fault == null) return null;
  const { code, message, hint } = ruled.fault;
  return new MillraceError({ code, kind: "fatal", message: `table ${id} is set aside: ${message}`, hint });
}
