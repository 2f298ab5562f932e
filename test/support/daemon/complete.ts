/** Complete tables, from the texts that stand for them in a test. */
import { type CompleteTables, isCompleteTables } from "../../../src/core/checkpoint/completeness.ts";
import { invariant } from "../../../src/core/invariant.ts";

export function complete(tables: Readonly<Record<string, string>>): CompleteTables {
  invariant(isCompleteTables(tables), "texts by table id");
  return tables;
}
