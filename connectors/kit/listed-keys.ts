import type { ListedKey } from "../../src/core/contracts/comparing.ts";
import type { KeyText } from "../../src/core/contracts/row-reads.ts";
import { isDigestId, keyOfRowId } from "../../src/core/model/row-id.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";

interface KeyedRow {
  readonly id: string;
  readonly key: KeyText | null;
}

/** The keys of row ids. An id that is a digest does not tell its key: `rowsOf` reads those rows. */
export async function listedKeys(
  table: TableVersion,
  ids: readonly string[],
  rowsOf: (ids: readonly string[]) => Promise<readonly KeyedRow[]>,
): Promise<readonly ListedKey[]> {
  const listed = ids.map((id) => ({ id, key: keyOfRowId(table, id) }));
  const unknown = listed.filter(({ id, key }) => key === null && isDigestId(id)).map(({ id }) => id);
  if (unknown.length === 0) return listed;
  const rows = new Map((await rowsOf(unknown)).map((row) => [row.id, row.key]));
  return listed.map((one) => ({ id: one.id, key: one.key ?? rows.get(one.id) ?? null }));
}
