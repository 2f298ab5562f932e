/** What the rules make of rows that a table has now: `millrace rules try`. It reads a part of the table, and writes nothing. */
import { ByteWriter } from "../core/bytes.ts";
import type { TableShape } from "../core/contracts/catalog.ts";
import type { Source } from "../core/contracts/source.ts";
import { addRead, type Block, finishRead, NO_TUPLE, readBlock } from "../core/model/block.ts";
import type { ComputedLineage, Lineage, TableVersion } from "../core/model/schema.ts";
import { type FailedCell, failedCell, CELL_FAILED, CellMap, tupleEnd } from "../core/model/tuple.ts";
import { writeJson } from "../core/values/json.ts";
import { SEES_NOTHING } from "./filter-memory.ts";
import { Masker } from "./masks.ts";
import type { RuleBook } from "./rule-book.ts";
import { RuledBlocks } from "./ruled-blocks.ts";

/** By column's name, the value's JSON text. */
export type Shown = ReadonlyMap<string, string>;

export interface TriedRow {
  /** As the source has it. */
  readonly before: Shown;
  /** As the sinks get it; null: the filter leaves it out. */
  readonly after: Shown | null;
  /** The function that failed on it: the row goes to no sink. */
  readonly failed: FailedCell | null;
  /** False if a second call gave another value: a function is not pure. */
  readonly isStable: boolean;
}

export interface Trial {
  readonly rows: readonly TriedRow[];
  /** Where the source's columns go. */
  readonly lineage: readonly Lineage[];
  readonly computed: readonly ComputedLineage[];
}

const NOWHERE = { epoch: 1, commit: 0n, index: 0 };

/** The first rows in key order. The rules fit the table (`RuleBook.problems`). */
export async function tryRules(
  { rows }: Pick<Source, "rows">,
  book: RuleBook,
  {
    shape,
    maskKey,
    rowCount,
  }: { readonly shape: TableShape; readonly maskKey: string | null; readonly rowCount: number },
  signal: AbortSignal,
): Promise<Trial> {
  const source: TableVersion = { ...shape, version: 0, since: NOWHERE };
  const plan = book.plan(shape);
  const ruled: TableVersion = plan === null ? source : { ...plan.shape, version: 0, since: NOWHERE };
  const blocks = new RuledBlocks(new Masker(maskKey), () => (plan === null ? undefined : { source, ruled, plan }));
  const asItIs = shape.columns.map(({ name }): Lineage => ({ source: name, target: name, mask: null }));
  const { lineage = asItIs, computed = [] } = ruled.ruled ?? {};
  const tried: TriedRow[] = [];
  let after = null;
  do {
    const chunk = await rows.readRange(source, { after, where: null }, signal);
    after = chunk.last;
    if (chunk.block !== null) tried.push(...triedRows(chunk.block, blocks, { source, ruled }, rowCount - tried.length));
  } while (after !== null && tried.length < rowCount);
  return { rows: tried, lineage, computed };
}

function triedRows(
  whole: Block,
  blocks: RuledBlocks,
  { source, ruled }: { readonly source: TableVersion; readonly ruled: TableVersion },
  rowCount: number,
): readonly TriedRow[] {
  const block = firstRows(whole, source, rowCount);
  whole.release();
  using read = blocks.memory.reading(source.id);
  const from = { sees: SEES_NOTHING, read };
  const [made, again] = [blocks.applyRead(block.retain(), from), blocks.applyRead(block.retain(), from)];
  const origins = blocks.origin(made)?.rows;
  const rowOf = new Map(Array.from({ length: made.count }, (_, row) => [origins?.[row] ?? row, row]));
  const rows = Array.from({ length: block.count }, (_, row): TriedRow => {
    const before = shownCells(source, block, block.after[row]!);
    const ordinal = rowOf.get(row);
    if (ordinal === undefined) return { before, after: null, failed: null, isStable: true };
    const offset = made.after[ordinal]!;
    return {
      before,
      after: shownCells(ruled, made, offset),
      failed: failedCell(ruled, made.bytes, offset),
      isStable: tupleText(made, offset) === tupleText(again, again.after[ordinal] ?? NO_TUPLE),
    };
  });
  for (const one of [made, again, block]) one.release();
  return rows;
}

/** A copy: a chunk may have many thousands of rows. */
function firstRows(from: Block, table: TableVersion, rowCount: number): Block {
  const out = new ByteWriter();
  const block = readBlock(table, NOWHERE.epoch, out);
  for (let row = 0; row < Math.min(from.count, rowCount); row++) {
    const offset = from.after[row]!;
    addRead(block, out.length);
    out.copy(from.bytes, offset, tupleEnd(from.bytes, offset) - offset);
  }
  return finishRead(block, out, NOWHERE);
}

const cells = new CellMap();
const json = new ByteWriter(256);

function shownCells({ columns }: TableVersion, { bytes }: Block, offset: number): Shown {
  cells.read(bytes, offset);
  const shown = new Map<string, string>();
  for (const [i, { name, type }] of columns.entries()) {
    if (cells.kind[i] === CELL_FAILED) continue;
    json.reset();
    writeJson(json, type, cells.kind[i]!, bytes, cells.start[i]!, cells.length[i]!);
    shown.set(name, json.view().toString("utf8"));
  }
  return shown;
}

function tupleText({ bytes }: Block, offset: number): string {
  if (offset === NO_TUPLE) return "";
  return Buffer.from(bytes.subarray(offset, tupleEnd(bytes, offset))).toString("latin1");
}
