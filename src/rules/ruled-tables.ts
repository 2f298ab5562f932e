import type { CapturedTables, RefusedTable, TableShape } from "../core/contracts/catalog.ts";
import { invariant } from "../core/invariant.ts";
import { comparePositions, latest, type Position } from "../core/model/position.ts";
import type { TableVersion } from "../core/model/schema.ts";
import { faultOf, otherRules } from "./errors.ts";
import { isKnownByName, type RuleMemory } from "./former-rules.ts";
import type { RuleBook } from "./rule-book.ts";
import { type RuledShape, sourceShape, underNone, withKeyOf } from "./ruled-shape.ts";
import type { RuledTable } from "./ruled-blocks.ts";

/**
 * The tables of a source with rules: the source's versions, the versions that every part after the rules sees, and how they
 * belong together.
 */
export class RuledTables {
  readonly #book: RuleBook;
  /** By version at the source, as the source gets it. */
  readonly #bySource = new WeakMap<TableVersion, RuledTable>();
  /** By the version that parts after the rules see; it has several entries if changes at the source are ignored. */
  readonly #byRuled = new WeakMap<TableVersion, RuledTable[]>();
  /** Tables as the catalogue had them at the last look. */
  readonly #live = new Map<string, TableShape>();
  /** Tables of other shares, as the catalogue had them at the last look. */
  #others: readonly TableShape[] = [];
  /** Of these, the fingerprints of what is kept of them. */
  readonly #elsewhere: Map<string, string>;

  constructor(book: RuleBook, elsewhere: RuleMemory["elsewhere"] = new Map()) {
    this.#book = book;
    this.#elsewhere = new Map(elsewhere);
  }

  ofSource(table: TableVersion): RuledTable | undefined {
    return this.#bySource.get(table);
  }

  /** Takes over what the source's catalogue shows now. */
  look(captured: CapturedTables): void {
    this.#book.begin(captured);
    for (const shape of captured.tables) this.#live.set(shape.id, shape);
    this.#others = captured.elsewhere?.tables ?? [];
  }

  /**
   * What tables of other shares stand under since the last look. Also that it is nothing any more, unless they are known by
   * their names: the log may have exchanged them.
   */
  elsewhere({ elsewhere }: CapturedTables): readonly TableShape[] {
    const shapes = (elsewhere?.tables ?? []).map((table) => this.shape(table));
    return shapes.flatMap((shape): TableShape[] => {
      const { id, fingerprint } = shape;
      const ruled = shape.ruled ?? (this.#elsewhere.has(id) && !isKnownByName(shape) ? underNone(shape) : null);
      if (ruled?.fault !== null || this.#elsewhere.get(id) === fingerprint) return [];
      this.#elsewhere.set(id, fingerprint);
      return [{ ...shape, ruled: { ...ruled, isElsewhere: true } }];
    });
  }

  /** The source's catalogue, as it is seen after the rules. */
  captured(captured: CapturedTables): CapturedTables {
    const shapes = captured.tables.map((shape) => this.shape(shape));
    const faulty = shapes.flatMap((shape) => {
      const { id, ruled } = shape;
      if (ruled?.fault == null) return [];
      const { code, message, hint } = ruled.fault;
      return [{ id, reason: message, fix: hint, code, withheld: shape }];
    });
    return {
      ...captured,
      ...(this.#book.hasRules && captured.tables.some(isKnownByName) ? { awaitsLog: true } : {}),
      tables: shapes.filter(({ ruled }) => ruled?.fault == null),
      refused: [...captured.refused.map((table) => this.#withCode(table)), ...faulty],
    };
  }

  #withCode(table: RefusedTable): RefusedTable {
    const problem = this.#book.keyProblem(table);
    if (problem === null) return table;
    const { code, message, hint } = faultOf(problem);
    return { ...table, code, reason: message, fix: hint };
  }

  shape(shape: TableShape): TableShape {
    return this.#book.shape(shape);
  }

  /**
   * `from`: where a stream begins. It is registered there, or where it is further on: what loses its name behind that is not what
   * the present rules for the name are for.
   */
  revised(table: TableVersion, from?: Position): TableShape | null {
    const known = sourceShape(table);
    const live = this.#live.get(table.id);
    const own = live === undefined ? known : withKeyOf(live, known);
    const at = from === undefined ? undefined : latest(from, table.since);
    const isLost = at !== undefined && this.#book.future(own, at) !== undefined;
    const shape = this.#book.shape(own, isLost ? at : undefined);
    return shape.fingerprint === table.fingerprint ? null : shape;
  }

  /**
   * True if each table that is known by its name was under the present rules at this position already: then nothing that comes
   * behind it has to be known in advance. Of a table of another share, which may have come from this one, nobody knows since
   * when it is.
   */
  areSettled(from: Position, registered: RuleMemory["versions"]): boolean {
    const unknown = [...this.#live.values(), ...this.#others].filter(({ id }) => !registered.has(id));
    if (unknown.some((shape) => isKnownByName(shape) && this.#book.plan(shape) !== null)) return false;
    return Array.from(registered.values()).every((versions) => {
      const newest = versions.at(-1);
      if (newest === undefined || !isKnownByName(newest)) return true;
      const inForce = versions.findLast(({ since }) => comparePositions(since, from) <= 0);
      if (inForce !== undefined) return this.revised(inForce) === null;
      return this.revised(newest) === null && versions.every(({ ruled }) => ruled === undefined);
    });
  }

  /** The source's version of a shape that its log shows. `register` registers its ruled shape. */
  async resolve(
    shape: TableShape,
    position: Position,
    register: (shape: TableShape, position: Position) => Promise<TableVersion>,
  ): Promise<TableVersion> {
    const plan = this.#book.plan(shape, position);
    const version = await register(plan?.shape ?? shape, position);
    if (plan === null) return version;
    if (version.fingerprint === plan.shape.fingerprint) return this.#registered(version, shape, plan).source;
    // The version that was registered when this position was first read.
    const known = sourceShape(version);
    return this.#registered(version, known, this.#book.plan(known, position)!).source;
  }

  /** The source's version of a requested table. Invariant: nothing is read with other rules than the present ones. */
  atSource(table: TableVersion): TableVersion {
    const live = this.#book.isPinned(table.id) ? this.#live.get(table.id) : undefined;
    return this.#versionFor(table, live ?? sourceShape(table));
  }

  /** The version in a copy that began with this version. */
  inCopy(table: TableVersion): TableVersion {
    return this.#versionFor(table, sourceShape(table));
  }

  #versionFor(table: TableVersion, shape: TableShape): TableVersion {
    const plan = this.#book.plan(shape);
    if (plan === null && table.ruled === undefined) return table;
    if (plan?.shape.fingerprint !== table.fingerprint || plan.shape.ruled?.fault != null) throw otherRules(table.id);
    return this.#registered(table, shape, plan).source;
  }

  #registered(ruled: TableVersion, shape: TableShape, plan: RuledShape): RuledTable {
    const known = this.#byRuled.get(ruled) ?? [];
    const found = known.find(({ source }) => source.fingerprint === shape.fingerprint);
    if (found !== undefined) return found;
    invariant(plan.shape.fingerprint === ruled.fingerprint, "a ruled version belongs to the present rules");
    const table = { source: { ...shape, version: ruled.version, since: ruled.since }, ruled, plan };
    this.#byRuled.set(ruled, [...known, table]);
    this.#bySource.set(table.source, table);
    return table;
  }
}
