/**
 * Conditions that operators give to commands, where rules hide something of any table: in the language of filters, over the
 * columns that the rules show, and judged here. As SQL of the source they could ask everything.
 */
import { ByteWriter } from "../../core/bytes.ts";
import type { Block } from "../../core/model/block.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import { BlockCopy } from "../block-copy.ts";
import type { Rules } from "../definition.ts";
import { conditionAsksHidden } from "../errors.ts";
import { bindWhere, type Condition, TRUE } from "./condition.ts";
import { columnsIn, parseWhere, WhereError } from "./syntax.ts";
import { ConditionRow } from "./values.ts";

/** Whether the rules hide columns or rows of any table. */
export function hides({ tables }: Rules): boolean {
  return tables.some(({ columns, only, where }) => {
    const isHidden = columns.some(({ action: { hiding } }) => hiding !== null && hiding !== "none");
    return isHidden || only !== null || where?.expression != null;
  });
}

/** `table`: as the rules show it. The condition has the names of the source. */
export function shownCondition({ columns, ruled }: TableVersion, text: string): Condition {
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
export function matching(block: Block, condition: Condition): Block | null {
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
