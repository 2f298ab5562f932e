/** A source under rules: streams, chunks, first copy and catalogue come out of it already ruled. */
import type { Block } from "../core/model/block.ts";
import { invariant } from "../core/invariant.ts";
import { logDistance } from "../core/log-distance.ts";
import type { Position } from "../core/model/position.ts";
import type { TableVersion } from "../core/model/schema.ts";
import type {
  Blocker,
  CapturedTables,
  ChangeStream,
  Chunk,
  CreatedLog,
  CreateRequest,
  Crossing,
  FirstCopy,
  HeldPositions,
  KeyText,
  LogHealth,
  LogIdentity,
  MadeObject,
  RefusedTable,
  SchemaResolver,
  Source,
  StreamOptions,
  TableShape,
  Visibility,
} from "../core/contracts/source.ts";
import type { Rules } from "./definition.ts";
import { faultOf, otherRules, rulesError, type RuleProblem } from "./errors.ts";
import { Masker } from "./masks.ts";
import { NO_PINS, type Pins } from "./pins.ts";
import { RuledBlocks, type RuledTable } from "./ruled-blocks.ts";
import { type Plan, RuleBook } from "./rule-book.ts";
import { sourceShape, withKeyOf } from "./source-shape.ts";

/**
 * Nobody behind it sees a masked value, a dropped column or a row that is filtered out. Tables without rules cost nothing
 * per row. Without any rule it still knows the tables that had some, and what takes their place.
 */
export function withRules(source: Source, rules: Rules, pins: Pins = NO_PINS): Source {
  return new RuledSource(source, rules, pins);
}

/** What is wrong with the rules, given the tables as they are now. */
export async function ruleProblems(
  source: Source,
  rules: Rules,
  pins: Pins,
  signal: AbortSignal,
): Promise<readonly RuleProblem[]> {
  if (rules.tables.length === 0) return [];
  return problemsOf(new RuleBook(rules, pins), await source.tables(signal));
}

function problemsOf(book: RuleBook, { tables, refused }: CapturedTables): readonly RuleProblem[] {
  const unfit = refused.map((table) => book.keyProblem(table)).filter((problem) => problem !== null);
  return [...book.problems(tables), ...unfit];
}

class RuledSource implements Source {
  readonly kind: string;
  readonly database: string;
  readonly markPrefix: string;
  readonly losses: Source["losses"];
  readonly #inner: Source;
  readonly #hasRules: boolean;
  readonly #book: RuleBook;
  readonly #blocks: RuledBlocks;
  /** By version at the source, as the inner source is given it. */
  readonly #bySource = new WeakMap<TableVersion, RuledTable>();
  /** By version as everybody behind this sees it; more than one where changes at the source are ignored. */
  readonly #byRuled = new WeakMap<TableVersion, RuledTable[]>();
  /** Tables as the catalogue had them when it was last looked at. */
  readonly #live = new Map<string, TableShape>();
  #isChecked = false;

  constructor(inner: Source, rules: Rules, pins: Pins) {
    this.#inner = inner;
    this.kind = inner.kind;
    this.database = inner.database;
    this.markPrefix = inner.markPrefix;
    this.losses = inner.losses;
    this.#hasRules = rules.tables.length > 0;
    this.#book = new RuleBook(rules, pins);
    this.#blocks = new RuledBlocks(new Masker(rules.maskKey), (table) => this.#bySource.get(table));
  }

  formatPosition(commit: bigint): string {
    return this.#inner.formatPosition(commit);
  }

  parsePosition(text: string): bigint {
    return this.#inner.parsePosition(text);
  }

  recall(identity: LogIdentity): void {
    this.#inner.recall?.(identity);
  }

  namesBefore(commit: bigint): string | undefined {
    return this.#inner.namesBefore?.(commit);
  }

  bytesBetween(from: bigint, to: bigint): number {
    return logDistance(this.#inner, from, to);
  }

  recordPosition(block: Block, row: number): bigint | undefined {
    const origin = this.#blocks.origin(block);
    if (origin === undefined) return this.#inner.recordPosition?.(block, row);
    return this.#inner.recordPosition?.(origin.block, origin.rows[row]!);
  }

  async expectFree(identity: LogIdentity | null, signal: AbortSignal): Promise<void> {
    await this.#inner.expectFree?.(identity, signal);
  }

  async create(request: CreateRequest, signal: AbortSignal): Promise<CreatedLog> {
    await this.#check(signal);
    const log = await this.#inner.create(request, signal);
    return log.copy === null ? log : { ...log, copy: new RuledCopy(log.copy, this) };
  }

  async resume(identity: LogIdentity, held: HeldPositions, signal: AbortSignal): Promise<LogIdentity> {
    await this.#check(signal);
    return await this.#inner.resume(identity, held, signal);
  }

  async cross(identity: LogIdentity, places: readonly bigint[], signal: AbortSignal): Promise<Crossing | null> {
    return (await this.#inner.cross?.(identity, places, signal)) ?? null;
  }

  remember(places: readonly bigint[]): LogIdentity | null {
    return this.#inner.remember?.(places) ?? null;
  }

  /** Before anything is made or read, and once: what was right at the start is looked at shape by shape from then on. */
  async #check(signal: AbortSignal): Promise<void> {
    if (this.#isChecked || !this.#hasRules) return;
    const captured = await this.#inner.tables(signal);
    this.#seen(captured);
    const [first, ...rest] = problemsOf(this.#book, captured);
    if (first !== undefined) throw rulesError([first, ...rest]);
    this.#isChecked = true;
  }

  async stream(from: Position, options: StreamOptions, signal: AbortSignal): Promise<ChangeStream> {
    if (!this.#hasRules) return await this.#inner.stream(from, options, signal);
    await this.#check(signal);
    const resolve: SchemaResolver = async (shape, position) => {
      const plan = this.#book.plan(shape, position);
      const version = await options.resolve(plan?.shape ?? shape, position);
      if (plan === null) return version;
      if (version.fingerprint === plan.shape.fingerprint) return this.#registered(version, shape, plan).source;
      // As it was registered when this place was read first.
      const known = sourceShape(version);
      return this.#registered(version, known, this.#book.plan(known, position)!).source;
    };
    const stream = await this.#inner.stream(from, { ...options, resolve }, signal);
    return {
      next: async (signal_) => this.apply(await stream.next(signal_)),
      acknowledge: (commit) => stream.acknowledge(commit),
      [Symbol.asyncDispose]: () => stream[Symbol.asyncDispose](),
    };
  }

  #seen({ tables }: CapturedTables): void {
    for (const shape of tables) this.#live.set(shape.id, shape);
  }

  apply(block: Block): Block {
    return this.#blocks.apply(block);
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

  /** The source's version of a table that is asked for. Invariant: nothing is read under other rules than those of now. */
  sourceVersion(table: TableVersion): TableVersion {
    const live = this.#book.isPinned(table.id) ? this.#live.get(table.id) : undefined;
    return this.#versionFor(table, live ?? sourceShape(table));
  }

  /** As a copy has it that was begun with this very version. */
  copiedVersion(table: TableVersion): TableVersion {
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

  async tables(signal: AbortSignal): Promise<CapturedTables> {
    const captured = await this.#inner.tables(signal);
    this.#seen(captured);
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

  publish(onChange: (identity: LogIdentity) => Promise<void>, signal: AbortSignal): Promise<void> {
    return this.#inner.publish(onChange, signal);
  }

  settle(onWait: (blocker: Blocker) => void, signal: AbortSignal): Promise<void> {
    return this.#inner.settle(onWait, signal);
  }

  visibility(signal: AbortSignal): Promise<Visibility> {
    return this.#inner.visibility(signal);
  }

  mark(content: string, signal: AbortSignal): Promise<void> {
    return this.#inner.mark(content, signal);
  }

  async readRange(
    table: TableVersion,
    after: KeyText | null,
    where: string | null,
    signal: AbortSignal,
    scanRowCountMax?: number,
  ): Promise<Chunk> {
    return this.#chunk(await this.#inner.readRange(this.sourceVersion(table), after, where, signal, scanRowCountMax));
  }

  async readKeys(table: TableVersion, keys: readonly KeyText[], signal: AbortSignal): Promise<Chunk> {
    return this.#chunk(await this.#inner.readKeys(this.sourceVersion(table), keys, signal));
  }

  #chunk(chunk: Chunk): Chunk {
    return chunk.block === null ? chunk : { ...chunk, block: this.apply(chunk.block) };
  }

  renew(signal: AbortSignal): Promise<bigint> {
    return this.#inner.renew(signal);
  }

  made(identity: LogIdentity | null, signal: AbortSignal): Promise<readonly MadeObject[]> {
    return this.#inner.made(identity, signal);
  }

  remove(identity: LogIdentity | null, signal: AbortSignal): Promise<void> {
    return this.#inner.remove(identity, signal);
  }

  earliest(signal: AbortSignal): Promise<bigint | null> {
    return this.#inner.earliest(signal);
  }

  tip(signal: AbortSignal): Promise<bigint> {
    return this.#inner.tip(signal);
  }

  health(signal: AbortSignal): Promise<LogHealth> {
    return this.#inner.health(signal);
  }

  close(): Promise<void> {
    return this.#inner.close();
  }
}

class RuledCopy implements FirstCopy {
  readonly tables: readonly TableShape[];
  readonly generations: FirstCopy["generations"];
  readonly #inner: FirstCopy;
  readonly #source: RuledSource;

  constructor(inner: FirstCopy, source: RuledSource) {
    this.#inner = inner;
    this.#source = source;
    this.tables = inner.tables.map((shape) => source.shape(shape));
    this.generations = inner.generations;
  }

  async *read(table: TableVersion, signal: AbortSignal): AsyncIterable<Block> {
    for await (const block of this.#inner.read(this.#source.copiedVersion(table), signal))
      yield this.#source.apply(block);
  }

  close(): Promise<void> {
    return this.#inner.close();
  }
}
