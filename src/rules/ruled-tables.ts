import type { CapturedTables, RefusedTable, TableShape } from "../core/contracts/catalog.ts";
import { invariant } from "../core/invariant.ts";
import type { Position } from "../core/model/position.ts";
import type { TableVersion } from "../core/model/schema.ts";
import { faultOf, otherRules } from "./errors.ts";
import type { Plan, RuleBook } from "./rule-book.ts";
import type { RuledTable } from "./ruled-blocks.ts";
import { sourceShape, withKeyOf } from "./source-shape.ts";

/** The tables of a source that is under rules: as it has them, as everybody behind the rules sees them, and which is which. */
export class RuledTables {
  readonly #book: RuleBook;
  /** By version at the source, as the source is given it. */
  readonly #bySource = new WeakMap<TableVersion, RuledTable>();
  /** By version as everybody behind the rules sees it; more than one where changes at the source are ignored. */
  readonly #byRuled = new WeakMap<TableVersion, RuledTable[]>();
  /** Tables as the catalogue had them when it was last looked at. */
  readonly #live = new Map<string, TableShape>();

  constructor(book: RuleBook) {
    this.#book = book;
  }

  /** The ruled table whose version at the source this is. */
  ofSource(table: TableVersion): RuledTable | undefined {
    return this.#bySource.get(table);
  }

  /** Takes in what the source's catalogue says now. */
  look({ tables }: CapturedTables): void {
    for (const shape of tables) this.#live.set(shape.id, shape);
  }

  /** What the source's catalogue says, as it is seen behind the rules. */
  captured(captured: CapturedTables): CapturedTables {
    const shapes = captured.tables.map((shape) => this.shape(shape));
    const faulty = shapes.flatMap(({ id, ruled }) => (ruled?.fault == null ? [] : [{ id, ...ruled.fault }]));
    return {
      ...captured,
      tables: shapes.filter(({ ruled }) => ruled?.fault == null),
      refused: [
        ...captured.refused.map((table) => this.#withCode(table)),
        ...faulty.map(({ id, code, message, hint }) => ({ id, reason: message, fix: hint, code })),
      ],
    };
  }

  #withCode(table: RefusedTable): RefusedTable {
    const problem = this.#book.keyProblem(table);
    if (problem === null) return table;
    const { code, message, hint } = faultOf(problem);
    return { ...table, code, reason: message, fix: hint };
  }

  shape(shape: TableShape): TableShape {
    return this.#book.plan(shape)?.shape ?? shape;
  }

  revised(table: TableVersion): TableShape | null {
    const known = sourceShape(table);
    const live = this.#live.get(table.id);
    const shape = this.shape(live === undefined ? known : withKeyOf(live, known));
    return shape.fingerprint === table.fingerprint ? null : shape;
  }

  /** The source's version of a shape that its log shows. `register` gives what is seen of it its place in the registry. */
  async resolve(
    shape: TableShape,
    position: Position,
    register: (shape: TableShape, position: Position) => Promise<TableVersion>,
  ): Promise<TableVersion> {
    const plan = this.#book.plan(shape, position);
    const version = await register(plan?.shape ?? shape, position);
    if (plan === null) return version;
    if (version.fingerprint === plan.shape.fingerprint) return this.#registered(version, shape, plan).source;
    // As it was registered when this place was read first.
    const known = sourceShape(version);
    return this.#registered(version, known, this.#book.plan(known, position)!).source;
  }

  /** The source's version of a table that is asked for. Invariant: nothing is read under other rules than those of now. */
  atSource(table: TableVersion): TableVersion {
    const live = this.#book.isPinned(table.id) ? this.#live.get(table.id) : undefined;
    return this.#versionFor(table, live ?? sourceShape(table));
  }

  /** As a copy has it that was begun with this very version. */
  inCopy(table: TableVersion): TableVersion {
    return this.#versionFor(table, sourceShape(table));
  }

  #versionFor(table: TableVersion, shape: TableShape): TableVersion {
    const plan = this.#book.plan(shape);
    if (plan === null && table.ruled === undefined) return table;
    if (plan?.shape.fingerprint !== table.fingerprint || plan.shape.ruled?.fault != null) throw otherRules(table.id);
    return this.#registered(table, shape, plan).source;
  }

  #registered(ruled: TableVersion, shape: TableShape, plan: Plan): RuledTable {
    const known = this.#byRuled.get(ruled) ?? [];
    const found = known.find(({ source }) => source.fingerprint === shape.fingerprint);
    if (found !== undefined) return found;
    invariant(plan.shape.fingerprint === ruled.fingerprint, "a ruled version is of the rules of now");
    const table = { source: { ...shape, version: ruled.version, since: ruled.since }, ruled, plan };
    this.#byRuled.set(ruled, [...known, table]);
    this.#bySource.set(table.source, table);
    return table;
  }
}
