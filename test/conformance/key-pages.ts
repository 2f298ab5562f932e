import type { Inspection, KeyPage } from "../../src/core/contracts/comparing.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { timeout } from "./stage.ts";

export interface Listing {
  /** Null: no row of the source can have it. */
  readonly keys: readonly (string | null)[];
  readonly pageCount: number;
}

/** A target's keys, page after page; `between` writes after each. */
export async function listPages(
  inspection: Inspection,
  table: TableVersion,
  between: (pageCount: number) => Promise<unknown> = async () => undefined,
): Promise<Listing> {
  const keys: (string | null)[] = [];
  let after: string | null = null;
  let pageCount = 0;
  do {
    const page: KeyPage = await inspection.page!(table, after, timeout());
    keys.push(...page.keys.map(({ key }) => key?.join() ?? null));
    after = page.next;
    await between(++pageCount);
  } while (after !== null);
  return { keys, pageCount };
}
