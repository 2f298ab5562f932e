/**
 * The index that is filled beside the visible one when a table's new shape does not fit the old mapping. It is hidden
 * from wildcards, and has an alias of its own until the table's alias moves to it.
 */
import { failpoint } from "../../../src/core/failpoint.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { expectEveryNode, expectOk, type Engine, findIndices, refresh } from "./ddl.ts";
import { droppedError } from "../errors.ts";
import { pathOf, type SearchClient } from "../http.ts";
import type { IndexIdentity, TableIndex } from "./tables.ts";

/** No table's name has a percent sign before `ne`. */
export function nextAliasOf(alias: string): string {
  return `${alias}%next`;
}

/** The first index behind an alias, or the next one after the existing ones. `dropped`: see TableIndices. */
export function indexAfter(alias: string, present: readonly (IndexIdentity | null)[] = [], dropped = 0): string {
  const numbers = present.map((found) => (found === null ? 0 : numberOf(found)));
  return `${alias}-${String(Math.max(...numbers, dropped) + 1).padStart(6, "0")}`;
}

export function numberOf({ index }: Pick<IndexIdentity, "index">): number {
  return Number(/-(\d+)$/.exec(index)?.[1] ?? 0);
}

export async function dropIndex(
  client: SearchClient,
  { index }: Pick<IndexIdentity, "index">,
  signal: AbortSignal,
): Promise<void> {
  const answer = await client.request({ method: "DELETE", path: pathOf(index) }, signal);
  if (answer.status !== 404) expectOk(answer, "dropping an index that is not needed any more");
}

/**
 * Moves the table's alias to the next index and drops the old one in one request. Invariant: until then the old one
 * exists. Idempotent, because the answer may be lost, or the process may end before the move is recorded.
 */
export async function moveAlias(
  engine: Engine,
  table: Pick<TableVersion, "id">,
  { alias, uuid, next, shared }: TableIndex & { readonly next: IndexIdentity },
  signal: AbortSignal,
): Promise<TableIndex> {
  const { client } = engine;
  const found = await findIndices(engine, table, { alias, nextAlias: next.alias }, signal);
  if (found.current?.uuid !== next.uuid) {
    if (found.next?.uuid !== next.uuid) throw droppedError(next.alias);
    if (found.current !== null && found.current.uuid !== uuid) throw droppedError(alias);
    // Readers must find the rows at once.
    await refresh(client, next.index, table.id, signal);
    const actions = [
      ...(found.current === null ? [] : [{ remove_index: { index: found.current.index } }]),
      { add: { index: next.index, alias, is_write_index: true } },
      ...(shared === undefined ? [] : [{ add: { index: next.index, alias: shared } }]),
      { remove: { index: next.index, alias: next.alias } },
    ];
    const answer = await client.request({ method: "POST", path: "/_aliases", body: { actions } }, signal);
    expectEveryNode(answer, `moving the alias of ${table.id}`, table.id);
    failpoint("elasticsearch.alias-moved", table);
  }
  const body = { "index.hidden": null };
  const shown = await client.request({ method: "PUT", path: `${pathOf(next.index)}/_settings`, body }, signal);
  expectOk(shown, `showing the index of ${table.id}`, table.id);
  return { ...next, alias, shared };
}
