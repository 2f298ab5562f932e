import type { ListedKey } from "../../src/core/contracts/comparing.ts";
import type { KeyText } from "../../src/core/contracts/row-reads.ts";
import { invariant } from "../../src/core/invariant.ts";
import { isDigestId, isPossibleKey, keyOfRowId, rowIdOf } from "../../src/core/model/row-id.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";

interface KeyedRow {
  readonly id: string;
  readonly key: KeyText | null;
}

/**
 * The keys of row ids. An id that is a digest does not tell its key: `rowsOf` reads those rows. One that is gone by then is
 * no row of the listing.
 */
export async function listedKeys(
  table: TableVersion,
  ids: readonly string[],
  rowsOf: (ids: readonly string[]) => Promise<readonly KeyedRow[]>,
): Promise<readonly ListedKey[]> {
  const listed = ids.map((id) => ({ id, key: keyOfRowId(table, id) }));
  const unknown = listed.filter(({ id, key }) => key === null && isDigestId(id)).map(({ id }) => id);
  if (unknown.length === 0) return listed;
  const rows = new Map((await rowsOf(unknown)).map((row) => [row.id, row.key]));
  const gone = new Set(unknown.filter((id) => !rows.has(id)));
  return listed.flatMap(({ id, key }) => (gone.has(id) ? [] : [{ id, key: key ?? rows.get(id) ?? null }]));
}

/** The key from a row's own values, each in the source's spelling; null if it does not make the row's id. */
export function keyInRow(table: TableVersion, id: string, sourceText: (ordinal: number) => string): KeyText | null {
  try {
    const key = table.key.map(sourceText);
    return rowIdOf(key) === id ? key : null;
  } catch (error) {
    // What the row has there is no JSON, or nested more deeply than the stack goes.
    if (error instanceof SyntaxError || error instanceof RangeError) return null;
    throw error;
  }
}

/** `shown`: the key as the target shows it; `key`: as the source prints it, if it can. */
export function listedKeyOf(table: TableVersion, shown: KeyText, key: KeyText): ListedKey {
  return { id: rowIdOf(shown), key: isPossibleKey(table, key) ? key : null };
}

/** The key at which a page of keys ended, as `KeyPage.next` has it: one without nulls. */
export function keyAtPageEnd(text: string): KeyText {
  const texts: unknown = JSON.parse(text);
  invariant(Array.isArray(texts) && texts.every((one) => typeof one === "string"), "a page ends at a key");
  return texts;
}
