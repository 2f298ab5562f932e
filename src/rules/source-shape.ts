/** Recovers the source's shapes from shapes that were registered with rules, or with another key. */
import { createHash } from "node:crypto";
import { keyMarks } from "../core/model/schema.ts";
import type { TableShape } from "../core/contracts/catalog.ts";

/** The source's shape of a table that an earlier process registered, with or without rules. */
export function sourceShape(table: TableShape): TableShape {
  const { id, schema, table: name, dialect, relation, deferrableKey, ruled } = table;
  const { columns, key, fingerprint, hides } = ruled?.source ?? table;
  const own = { id, schema, table: name, dialect, relation, columns, key, deferrableKey, fingerprint };
  const shape = hides === undefined ? own : { ...own, hides };
  return { ...shape, ...keyMarks(table) };
}

/**
 * A shape that was registered with another key than the configuration chooses now. Invariant: no rule is applied to a shape
 * with the former key, because the rule may hide that key's columns.
 */
export function withKeyOf(live: TableShape, known: TableShape): TableShape {
  const isChosen = live.keyChosen === true || known.keyChosen === true;
  if (!isChosen || live.relation !== known.relation || live.fingerprint === known.fingerprint) return known;
  const key = live.key.map((ordinal) => {
    const { identity } = live.columns[ordinal]!;
    return known.columns.findIndex((column) => column.identity === identity);
  });
  const isSame = key.length === known.key.length && key.every((ordinal, i) => ordinal === known.key[i]);
  const isKeptAlike = live.deferrableKey === known.deferrableKey && live.unenforcedKey === known.unenforcedKey;
  if (key.includes(-1) || (isSame && isKeptAlike)) return known;
  if (JSON.stringify(live.columns) === JSON.stringify(known.columns)) return live;
  // Its columns have changed too: the log will show how.
  const { keyChosen: _chosen, unenforcedKey: _unenforced, ...own } = known;
  const fingerprint = digest([known.fingerprint, key, live.deferrableKey, live.unenforcedKey]);
  return { ...own, key, deferrableKey: live.deferrableKey, fingerprint, ...keyMarks(live) };
}

export function digest(value: unknown): string {
  return createHash("sha256").update(JSON.stringify(value)).digest("hex");
}
