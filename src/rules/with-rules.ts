/** A source with rules: its streams, chunks, initial snapshot and catalogue have the rules applied. */
import type { CapturedTables, NamedTable } from "../core/contracts/catalog.ts";
import type { TableName } from "../core/contracts/connector.ts";
import type { ChangeLog, Rename, StreamOptions } from "../core/contracts/change-log.ts";
import type { FirstCopy, LogAdmin, SlowFunction } from "../core/contracts/log-admin.ts";
import type { Positions } from "../core/contracts/positions.ts";
import type { RawRows } from "../core/contracts/raw-copy.ts";
import { type Chunk, KeyPace, type RowReads } from "../core/contracts/row-reads.ts";
import type { OnSkipped, Revise, Source } from "../core/contracts/source.ts";
import { type StoredRenames, UNREAD } from "../core/contracts/state-store.ts";
import type { Block } from "../core/model/block.ts";
import { comparePositions, latest, type Position } from "../core/model/position.ts";
import { namesOfTable, type TableVersion } from "../core/model/schema.ts";
import { invariant } from "../core/invariant.ts";
import { Turn } from "../core/waiting.ts";
import { findMillraceError, isAborted } from "../core/errors.ts";
import type { Rules } from "./definition.ts";
import { loadFunctions } from "./computed/functions.ts";
import { conditionAsksHidden, type RuleProblem, rulesError } from "./errors.ts";
import { StreamDoubts } from "./doubts.ts";
import { type FilterMemory, SEES_NOTHING } from "./filter-memory.ts";
import { Foresight, RENAMES_MAX, type RenamesAt } from "./foresight.ts";
import { Masker } from "./masks.ts";
import { knowsByName, noMemory, type RuleMemory } from "./former-rules.ts";
import { Answers, RuledBlocks } from "./ruled-blocks.ts";
import { RuledTables } from "./ruled-tables.ts";
import { RuleBook } from "./rule-book.ts";
import { ByteWriter } from "../core/bytes.ts";
import { BlockCopy } from "./block-copy.ts";
import { bindWhere, type Condition, TRUE } from "./where/condition.ts";
import { columnsIn, parseWhere, WhereError } from "./where/syntax.ts";
import { ConditionRow } from "./where/values.ts";
import { nearestName } from "./nearest.ts";
import { byExactness, fits, isGlob, overlap, selectedName, TableSelection } from "../core/table-selection.ts";
import { hidesAny, mergedRule, saysNothing } from "./merged-rule.ts";
import { asksKeyAlone, boundCondition } from "./rule-fit.ts";

export interface RuledSource extends Source {
  readonly revised: Revise;
  readonly onSkipped: OnSkipped;
}

/** The rules with their functions. Every part that shows, stores or compares rows needs these. */
export function withFunctions(rules: Rules): Rules {
  const names = rules.tables.flatMap(({ computed }) => computed.map((one) => one.function));
  return names.length === 0 ? rules : { ...rules, functions: loadFunctions(names) };
}

/**
 * No part after it sees a masked value, a dropped column or a filtered row. Tables without rules cost nothing per row. Even
 * without any rule, it knows the tables that had some, and what replaces them.
 */
export function withRules(
  source: Source,
  rules: Rules,
  memory: RuleMemory = noMemory(),
  isSelected?: (table: TableName) => boolean,
): RuledSource {
  const book = new RuleBook(rules, memory, isSelected);
  const tables = new RuledTables(book, memory.elsewhere);
  const blocks = new RuledBlocks(new Masker(rules.maskKey), (table) => tables.ofSource(table));
  const { hasRules } = book;
  const onRenamed = async (renames: StoredRenames["renames"], position: Position): Promise<void> => {
    const followed = book.rename(renames, position);
    // Invariant: durable before the stream goes on.
    if (followed.length > 0) await memory.keep(followed, position);
  };
  const doubts = new StreamDoubts(memory.pending);
  let hints: readonly RuleHint[] = [];
  const look = async (signal: AbortSignal, known?: readonly NamedTable[]): Promise<CapturedTables> => {
    const captured = await source.catalog.tables(signal, known);
    tables.look(captured);
    const elsewhere = tables.elsewhere(captured);
    // Invariant: durable before a row of this share passes.
    if (elsewhere.length > 0) await memory.keepElsewhere?.(elsewhere);
    blocks.memory.looked(captured);
    hints = ruleHints(rules, captured, memory.former.known);
    await doubts.settle();
    return captured;
  };
  const isChecking = hasRules || rules.selections.some(({ patterns }) => patterns.length > 0);
  let isChecked = false;
  /** Once, before anything is created or read. Later shapes are checked one by one. */
  const check = async (signal: AbortSignal): Promise<void> => {
    if (isChecked || !isChecking) return;
    const captured = await look(signal);
    const problems = problemsOf(book, rules, memory, captured);
    const [first, ...rest] = problems.filter(({ isContained }) => isContained !== true);
    if (first !== undefined) throw rulesError([first, ...rest]);
    // From here on rules follow the tables: the first copy may find them under other names.
    tables.captured(captured);
    isChecked = true;
  };
  const ruling = { book, tables, blocks, rows: source.rows, check };
  const foresee = foreseeing(source.log, ruling, memory);
  return {
    ...source,
    positions: ruledPositions(source.positions, blocks),
    log: hasRules ? ruledLog(source.log, ruling, { foresee, onRenamed, doubts }) : source.log,
    admin: ruledAdmin(source.admin, ruling, { hints: () => hints, slowFunctions: () => book.slowFunctions() }),
    catalog: { ...source.catalog, tables: async (signal, known) => tables.captured(await look(signal, known)) },
    rows: ruledRows(source.rows, { tables, blocks, isAsked: () => hides(rules) || book.withholds }),
    revised: async (versions, from, signal) => {
      await foresee(from, signal);
      // A look says which they are: partitions are registered as free with their table, or never.
      if (memory.former.holdsParts) await check(signal);
      return versions.flatMap((table) => tables.revised(table, from) ?? []);
    },
    onSkipped: async ({ from, to, isThere }, signal) => {
      const { former } = memory;
      // An earlier process may have read further than its sinks got.
      const read = from === null ? null : latest(from, former.shownUntil);
      const isRead = read !== null && comparePositions(to, read) <= 0;
      // Directly behind what was read: a sink that is behind goes on from there.
      const unread = read === null ? to : { ...read, index: read.index + 1 };
      if (!knowsByName(memory) || isRead) return;
      const told = from !== null && isThere ? await renamesThere(source.log, { from, read, to }, signal) : null;
      // The renames alone do not say what becomes of tables that come under rules in between.
      const isCertain = told?.every((rename) => !book.concerns(rename)) === true;
      if (!isCertain && !former.isInDoubt && former.mayBeExchanged(unread)) await onRenamed([UNREAD], unread);
      const hiding: StoredRenames["renames"][number][] = [];
      for (const rename of told ?? []) {
        const perhaps = former.perhaps(rename);
        if (perhaps.length > 0) hiding.push(...book.rename(perhaps, unread));
      }
      if (hiding.length > 0) await memory.keep(hiding, unread);
    },
  };
}

/** Of the log, as far as `to`; null: all from there on. */
export interface LogPart {
  /** Where a stream can begin: where a version is in force from, or a name is in doubt, none may. */
  readonly from: Position;
  /** Only what is behind this position, too, counts. */
  readonly read: Position | null;
  readonly to: Position | null;
}

/** `told`: null: any table may have got another name, very many did, or the log does not reach so far. */
export async function renamesIn(
  renames: NonNullable<ChangeLog["renames"]>,
  { from, read, to }: LogPart,
  signal: AbortSignal,
): Promise<{ readonly told: readonly RenamesAt[] | null; readonly end: bigint }> {
  const isAsked = (position: Position): boolean =>
    to === null || (comparePositions(position, latest(from, read)) > 0 && comparePositions(position, to) <= 0);
  const told: RenamesAt[] = [];
  let count = 0;
  const end = await renames(
    from,
    to,
    (some, position) => {
      if (!isAsked(position)) return;
      count += some?.length ?? Infinity;
      if (some !== null && count <= RENAMES_MAX) told.push({ renames: some, position });
    },
    signal,
  );
  return { told: count > RENAMES_MAX || end < (to?.commit ?? end) ? null : told, end };
}

/** Null: the log does not say them all, or lacks a part. */
async function renamesThere(
  { renames }: ChangeLog,
  part: LogPart,
  signal: AbortSignal,
): Promise<readonly Rename[] | null> {
  if (renames === undefined) return null;
  try {
    const { told } = await renamesIn(renames, part, signal);
    return told?.flatMap((one) => one.renames) ?? null;
  } catch (error) {
    if (findMillraceError(error)?.kind !== "fatal") throw error;
    return null;
  }
}

type Foresee = (from: Position, signal: AbortSignal) => Promise<void>;

/**
 * What tables become that are known by their names: before a stream that begins where other rules were in force, or where a
 * table under rules was not known, the log is looked through for renames. Invariant: that it has to be is durable before a
 * version under the present rules is registered; the next process could not tell.
 */
function foreseeing(
  { renames }: ChangeLog,
  { book, tables, check }: Pick<Ruling, "book" | "tables" | "check">,
  { foreseen, foresee, versions }: RuleMemory,
): Foresee {
  const turn = new Turn();
  let lowest: Position | null = null;
  return async (from, signal) => {
    if (!book.hasRules || renames === undefined) return;
    using _ = await turn.take(signal);
    if (lowest !== null && comparePositions(lowest, from) <= 0) return;
    await check(signal);
    const isBehind = foreseen !== null && comparePositions(from, foreseen) < 0;
    if (isBehind || !tables.areSettled(from, versions)) {
      const { told, end } = await renamesIn(renames, { from, read: null, to: null }, signal);
      const until = { ...from, commit: end, index: 0 };
      await foresee(until);
      book.foresee(new Foresight(told, until));
    }
    lowest = from;
  };
}

/** What is wrong with the rules, and what they say in vain, given the tables as they are now. */
export async function ruleFindings(
  { catalog }: Pick<Source, "catalog">,
  rules: Rules,
  memory: RuleMemory,
  isSelected: (table: TableName) => boolean,
  signal: AbortSignal,
): Promise<{ readonly problems: readonly RuleProblem[]; readonly hints: readonly RuleHint[] }> {
  const captured = await catalog.tables(signal);
  const book = new RuleBook(rules, memory, isSelected);
  return {
    problems: problemsOf(book, rules, memory, captured),
    hints: [...ruleHints(rules, captured, memory.former.known), ...emptyRules(rules)],
  };
}

function problemsOf(
  book: RuleBook,
  rules: Rules,
  { former }: RuleMemory,
  captured: CapturedTables,
): readonly RuleProblem[] {
  const { tables, refused, elsewhere } = captured;
  book.begin(captured);
  const unfit = refused.map((table) => book.keyProblem(table)).filter((problem) => problem !== null);
  const found = [...idleRules(rules, captured, former.known), ...book.problems(tables, elsewhere?.tables), ...unfit];
  const idle = new Set(found.flatMap(({ code, place }) => (code === "MR1021" ? [place] : [])));
  // A rule that fits nothing says what it may have meant.
  return found.filter(({ code, place }) => code !== "MR1034" || !idle.has(place));
}

interface Ruling {
  readonly book: RuleBook;
  readonly tables: RuledTables;
  readonly blocks: RuledBlocks;
  readonly rows: RowReads;
  /** Throws if the rules do not fit the tables. */
  readonly check: (signal: AbortSignal) => Promise<void>;
}

function ruledPositions(positions: Positions, blocks: RuledBlocks): Positions {
  const { recordPosition } = positions;
  if (recordPosition === undefined) return positions;
  return {
    ...positions,
    recordPosition: (block, row) => {
      const origin = blocks.origin(block);
      return origin === undefined ? recordPosition(block, row) : recordPosition(origin.block, origin.rows[row]!);
    },
  };
}

interface StreamRuling {
  readonly foresee: Foresee;
  readonly onRenamed: NonNullable<StreamOptions["onRenamed"]>;
  readonly doubts: StreamDoubts;
}

function ruledLog(
  log: ChangeLog,
  { book, tables, blocks, rows, check }: Ruling,
  { foresee, onRenamed, doubts }: StreamRuling,
): ChangeLog {
  return {
    ...log,
    stream: async (from, options, signal) => {
      await check(signal);
      await foresee(from, signal);
      const { resolve } = options;
      blocks.memory.streamFrom(from);
      const ruled: StreamOptions = {
        ...options,
        resolve: async (shape, position) => {
          const unlogged = book.unlogged(shape, position);
          if (unlogged.length > 0) await onRenamed(unlogged, position);
          blocks.memory.shows(shape);
          return await tables.resolve(shape, position, resolve);
        },
        ...forgetting(options, blocks.memory),
        onRenamed: async (renames, position) => {
          await onRenamed(renames, position);
          await options.onRenamed?.(renames, position);
        },
      };
      const own = await doubts.opened(options.temporary);
      const stream = await log.stream(from, ruled, signal);
      return {
        next: async (until) => {
          const block = await stream.next(until);
          return blocks.apply(block, await ask(block, new Answers(own), { blocks, rows }, until));
        },
        acknowledge: (commit) => {
          if (!options.temporary) doubts.acknowledged(commit);
          stream.acknowledge(commit);
        },
        [Symbol.asyncDispose]: () => stream[Symbol.asyncDispose](),
      };
    },
  };
}

/** Reads what is needed and the changes leave out. Where that fails, the sinks read the rows later. */
async function ask(
  block: Block,
  answers: Answers,
  { blocks, rows: { readWritten } }: Pick<Ruling, "blocks" | "rows">,
  signal: AbortSignal,
): Promise<Answers> {
  if (readWritten === undefined) return answers;
  for (const { table, rows: asked } of blocks.asked(block, answers.doubts)) {
    const pace = new KeyPace();
    try {
      for (let next = 0; next < asked.length;) {
        const some = asked.slice(next, (next += pace.count));
        const keys = some.map(({ key }) => key);
        const changedBy = some.map(({ writer }) => writer);
        const read = await readWritten(table.source, keys, changedBy, signal);
        blocks.answer(answers, table, some, read.block, read.writers);
        pace.looked(some.length, read.block?.byteCount ?? 0);
        read.block?.release();
      }
    } catch (error) {
      // The block is delivered in any case: nobody gets it again.
      if (isAborted(error) || findMillraceError(error) !== undefined) continue;
      block.release();
      throw error;
    }
  }
  return answers;
}

/** What is remembered of rows is of no use behind changes that the stream does not tell. */
function forgetting(
  { onUnloggedRows, onUnreadableRows }: StreamOptions,
  memory: FilterMemory,
): Pick<StreamOptions, "onUnloggedRows" | "onUnreadableRows"> {
  return {
    ...(onUnloggedRows === undefined
      ? {}
      : {
          onUnloggedRows: async (tableId, passedBy) => {
            memory.passedBy(tableId);
            await onUnloggedRows(tableId, passedBy);
          },
        }),
    ...(onUnreadableRows === undefined
      ? {}
      : {
          onUnreadableRows: async (tableId, error) => {
            memory.passedBy(tableId);
            await onUnreadableRows(tableId, error);
          },
        }),
  };
}

/** What the rules add to the source's health. */
interface Findings {
  readonly hints: () => readonly RuleHint[];
  readonly slowFunctions: () => readonly SlowFunction[];
}

function ruledAdmin(admin: LogAdmin, ruling: Ruling, { hints, slowFunctions }: Findings): LogAdmin {
  return {
    ...admin,
    health: async (signal) => {
      const health = await admin.health(signal);
      const own = hints().map(({ what, fix }) => `${what}. ${fix}`);
      return { ...health, hints: [...(health.hints ?? []), ...own], slowFunctions: slowFunctions() };
    },
    create: async (request, signal) => {
      await ruling.check(signal);
      const log = await admin.create(request, signal);
      return log.copy === null ? log : { ...log, copy: ruledCopy(log.copy, ruling) };
    },
    resume: async (identity, held, signal) => {
      await ruling.check(signal);
      return await admin.resume(identity, held, signal);
    },
  };
}

function ruledCopy(copy: FirstCopy, { tables, blocks }: Ruling): FirstCopy {
  const { raw } = copy;
  blocks.memory.looked(copy);
  return {
    ...(raw === undefined ? {} : { raw: ruledRaw(raw) }),
    tables: copy.tables.map((shape) => tables.shape(shape)),
    generations: copy.generations,
    read: (table, signal) => ruledAll(table.id, copy.read(tables.inCopy(table), signal), blocks),
    close: () => copy.close(),
  };
}

/** Rules need the cells. */
function ruledRaw(raw: RawRows): RawRows {
  return {
    form: raw.form,
    sessionCountMax: raw.sessionCountMax,
    table: async (table, signal) => (table.ruled === undefined ? await raw.table(table, signal) : null),
  };
}

async function* ruledAll(tableId: string, blocks: AsyncIterable<Block>, ruled: RuledBlocks): AsyncGenerator<Block> {
  using read = ruled.memory.reading(tableId);
  for await (const block of blocks) yield ruled.applyRead(block, { sees: SEES_NOTHING, read });
}

interface RowRuling extends Pick<Ruling, "tables" | "blocks"> {
  /** Whether conditions are judged here: in the source's SQL they could ask what is hidden, of any table. */
  readonly isAsked: () => boolean;
}

function ruledRows(rows: RowReads, { tables, blocks, isAsked }: RowRuling): RowReads {
  const { readJoined } = rows;
  const ruled = async (table: TableVersion, reading: (source: TableVersion) => Promise<Chunk>): Promise<Chunk> => {
    using read = blocks.memory.reading(table.id);
    const chunk = await reading(tables.atSource(table));
    const { block, sees } = chunk;
    try {
      // A look may have found meanwhile that the table shows what rules hide.
      tables.atSource(table);
    } catch (error) {
      block?.release();
      throw error;
    }
    return block === null ? chunk : { ...chunk, block: blocks.applyRead(block, { sees, read }) };
  };
  return {
    readRange: async (table, range, signal) => {
      const condition = range.where !== null && isAsked() ? shownCondition(table, range.where) : null;
      const asked = condition === null ? range : { ...range, where: null };
      const chunk = await ruled(table, (source) => rows.readRange(source, asked, signal));
      const { block } = chunk;
      return condition === null || block === null ? chunk : { ...chunk, block: matching(block, condition) };
    },
    readKeys: (table, keys, signal) => ruled(table, (source) => rows.readKeys(source, keys, signal)),
    ...(readJoined === undefined
      ? {}
      : {
          readJoined: (table, by, above, signal) => {
            const upper = tables.atSource(above.table);
            const joined = { ...above, table: upper, of: ordinalsAtSource(above.table, upper, above.of) };
            return ruled(table, (below) => readJoined(below, ordinalsAtSource(table, below, by), joined, signal));
          },
        }),
  };
}

/** Ordinals of columns that the source has, masked or not, as it counts them. */
function ordinalsAtSource(
  { columns, ruled }: TableVersion,
  source: TableVersion,
  ordinals: readonly number[],
): readonly number[] {
  if (ruled === undefined) return ordinals;
  return ordinals.map((ordinal) => {
    const from = ruled.lineage.find(({ target }) => target === columns[ordinal]!.name);
    const found = source.columns.findIndex(({ name }) => name === from?.source);
    invariant(found >= 0, "rows are looked up by columns that the source has");
    return found;
  });
}

/** Whether the rules hide columns or rows of any table. */
function hides({ tables }: Rules): boolean {
  return tables.some(({ columns, only, where }) => {
    const isHidden = columns.some(({ action: { hiding } }) => hiding !== null && hiding !== "none");
    return isHidden || only !== null || where?.expression != null;
  });
}

/**
 * What an operator gives to a command, in the language of filters, over the columns that the rules show. `table`: as the rules
 * show it. The condition has the names of the source.
 */
function shownCondition({ columns, ruled }: TableVersion, text: string): Condition {
  const lineage = ruled?.lineage ?? columns.map(({ name }) => ({ source: name, target: name, mask: null }));
  const shown = lineage.filter(({ target, mask }) => target !== null && mask === null);
  try {
    const expression = parseWhere(text);
    const hidden = columnsIn(expression).find(
      (name) => lineage.some(({ source }) => source === name) && !shown.some(({ source }) => source === name),
    );
    if (hidden !== undefined) throw conditionAsksHidden(`column ${JSON.stringify(hidden)} is hidden by the rules`);
    // No condition can name a column "": what is hidden or computed.
    const named = columns.map((column) => {
      return { ...column, name: shown.find(({ target }) => target === column.name)?.source ?? "" };
    });
    return bindWhere(expression, named);
  } catch (error) {
    if (!(error instanceof WhereError)) throw error;
    throw conditionAsksHidden(`at character ${error.at + 1}: ${error.message}`);
  }
}

/** The rows of a read that the condition lets through; null: none. Takes over the caller's reference. */
function matching(block: Block, condition: Condition): Block | null {
  const row = new ConditionRow();
  const copy = new BlockCopy(block, [undefined], new ByteWriter(), () => block.release());
  let count = 0;
  for (let at = 0; at < block.count; at++) {
    row.set(block.bytes, block.after[at]!, -1);
    if (condition.evaluate(row) !== TRUE) continue;
    copy.asItIs(at);
    count++;
  }
  const made = copy.finish();
  if (count > 0) return made;
  made.release();
  return null;
}

/** Matches whatever there is: it can't be misspelt. */
const ANY = /^[*?.]+$/;

/**
 * Keys of `tables` and items of sinks' lists that fit no table: a mask that hides nothing is worse than none. `former`: ids of
 * the tables that there ever were. One that is gone, was renamed or can't be seen was named without a mistake.
 */
function idleRules(
  { tables, selections }: Rules,
  captured: CapturedTables,
  former: Iterable<string>,
): readonly RuleProblem[] {
  const present = [...presentIn(captured), ...Array.from(former, namesOfTable)];
  const names = present.map(selectedName);
  const similar = [
    ...present.map(({ schema, table }) => `${schema}.${table}`),
    ...new Set(present.map(({ schema }) => `${schema}.*`)),
  ];
  const optional = new Set(tables.filter(({ isOptional }) => isOptional).map(({ pattern }) => pattern));
  // What a glob of a sink's list does not match goes nowhere: that hides nothing, and is told.
  const listed = selections.flatMap(({ patterns }) =>
    patterns.filter(({ pattern }) => !pattern.startsWith("!") && !isGlob(pattern)),
  );
  return [...tables, ...listed]
    .filter(({ pattern }) => !ANY.test(pattern) && !optional.has(pattern) && !names.some((name) => fits(pattern, name)))
    .map(({ pattern, place }) => {
      const what = isGlob(pattern) ? "matches no captured table" : "is no captured table";
      const nearest = nearestName(pattern, similar);
      const meant = nearest === undefined ? "" : `; did you mean ${JSON.stringify(nearest)}?`;
      return { code: "MR1021", place, message: `${JSON.stringify(pattern)} ${what}${meant}` };
    });
}

const NONE: ReadonlyMap<string, string> = new Map();

/** What deserves a word, and hides no less than it should. */
interface RuleHint {
  readonly id: string;
  readonly what: string;
  readonly fix: string;
}

function ruleHints(rules: Rules, captured: CapturedTables, former: Iterable<string>): readonly RuleHint[] {
  const { selections } = rules;
  const ofSource = (captured.idle ?? []).filter((pattern) => pattern.startsWith("!") || isGlob(pattern));
  const present = presentIn(captured);
  const ofSinks = selections.flatMap(({ sink, patterns }) =>
    new TableSelection(patterns.map(({ pattern }) => pattern))
      .idle(present)
      .filter((pattern) => pattern.startsWith("!") || isGlob(pattern))
      .map((pattern) => idleIn(`sinks.${sink}.tables`, pattern)),
  );
  const wrong = new Set(idleRules(rules, captured, former).map(({ place }) => place));
  const gone = idleRules(rules, captured, []).filter(({ place }) => !wrong.has(place));
  const idle = [
    ...ofSource.map((pattern) => idleIn("source.tables", pattern)),
    ...ofSinks,
    ...gone.map(({ place, message }) => `${place}: ${message}; what it was for is gone`),
  ];
  const fix = "correct or remove it";
  return [...idle.map((what) => ({ id: "rules.idle", what, fix })), ...untoldDeletes(rules, captured)];
}

/** Rules that say nothing, and a key that makes no hash: somebody expects something of them. */
function emptyRules({ maskKey, tables }: Rules): readonly RuleHint[] {
  // A table's own name lets a copy through, or a table that waits.
  const silent = tables.filter((rule) => isGlob(rule.pattern) && saysNothing(rule));
  const empty = silent.map(({ place }) => {
    return { id: "rules.empty", what: `${place}: says nothing`, fix: "say what is to be done, or remove it" };
  });
  const hashes = tables.some(({ columns }) => columns.some(({ action }) => action.hiding === "hash"));
  const isIdleKey = maskKey !== null && !hashes;
  const idleKey = { id: "rules.empty", what: "maskKey makes no hash: no rule has `mask: hash`", fix: "remove it" };
  return isIdleKey ? [...empty, idleKey] : empty;
}

/**
 * Of the source's own selection, the globs that take in new tables which nobody looks at first: what is hidden may come in one
 * of them, under names of its own.
 */
export function unapproved({ tables }: Rules, selected: readonly string[]): readonly string[] {
  if (!tables.some(hidesAny)) return [];
  const included = selected.filter((pattern) => !pattern.startsWith("!"));
  const globs = included.length === 0 ? ["*.*"] : included.filter(isGlob);
  return [...new Set(globs.flatMap((glob) => takenAtOnce(tables, glob)))];
}

/**
 * Globs under which new tables go out at once: the source's own glob; or, if its new tables wait, those of more exact
 * rules by which some do not. A rule covers all of `selected` if its pattern fits the text of that glob.
 */
function takenAtOnce(tables: Rules["tables"], selected: string): readonly string[] {
  // A column that is not listed does not go out.
  if (tables.some(({ only, pattern }) => only !== null && fits(pattern, selected))) return [];
  const saying = tables.filter(({ pattern, policy }) => isGlob(pattern) && policy.schemaChange !== null);
  const pausing = saying.filter(({ policy }) => policy.schemaChange === "pause");
  if (!pausing.some(({ pattern }) => fits(pattern, selected))) return [selected];
  const others = saying.filter((rule) => !pausing.includes(rule) && overlap(rule.pattern, selected));
  const isOverruled = (other: string): boolean =>
    pausing.some(
      ({ pattern }) => byExactness(pattern, other, "") < 0 && (fits(pattern, selected) || fits(pattern, other)),
    );
  return others.map(({ pattern }) => pattern).filter((other) => !isOverruled(other));
}

/** Streams are told that a row left a filter, or was deleted, only where it is known that the row was let through. */
function untoldDeletes(rules: Rules, { tables, partlyLogged = NONE }: CapturedTables): readonly RuleHint[] {
  return tables.flatMap((shape) => {
    const fix = partlyLogged.get(shape.id);
    const rule = fix === undefined ? null : mergedRule(rules, shape);
    const condition = rule === null ? null : boundCondition(shape.columns, shape.id, rule, shape.origins);
    if (fix === undefined || condition === null || "code" in condition) return [];
    if (asksKeyAlone(condition, shape)) return [];
    const streams = rules.selections.filter(
      ({ form, patterns }) =>
        form === "stream" &&
        new TableSelection(patterns.map(({ pattern }) => pattern)).matches(shape.schema, shape.table),
    );
    if (streams.length === 0) return [];
    const names = streams.map(({ sink }) => sink).join(", ");
    const what = `deletes in table ${shape.id}, and rows that leave its filter, may not be told to ${names}: the log has only the key of an old row, and after a restart nobody knows whether it ever matched`;
    return [{ id: "rules.untold", what, fix }];
  });
}

function idleIn(list: string, pattern: string): string {
  return `${JSON.stringify(pattern)} in ${list} ${pattern.startsWith("!") ? "leaves out no table" : "matches no table"}`;
}

/** All tables that the configuration means, whether or not they can be captured now. */
function presentIn({ tables, refused, elsewhere }: CapturedTables): readonly TableName[] {
  const others = [...refused, ...(elsewhere?.refused ?? [])];
  return [...tables, ...(elsewhere?.tables ?? []), ...others.map(({ id }) => namesOfTable(id))];
}
