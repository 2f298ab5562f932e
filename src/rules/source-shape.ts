/** Tables as the source has them, of what was made of them under rules, or under another key. */
import { createHash } from "node:crypto";
import { keyMarks } from "../core/model/schema.ts";
import type { TableShape } from "../core/contracts/catalog.ts";

/** The shape as the source has it, of what an earlier process registered under rules, or without. */
export function sourceShape(table: TableShape): TableShape {
  const { id, schema, table: name, dialect, relation, deferrableKey, ruled } = table;
  const { columns, key, fingerprint } = ruled?.source ?? table;
  const shape = { id, schema, table: name, dialect, relation, columns, key, deferrableKey, fingerprint };
  return { ...shape, ...keyMarks(table) };
}

/**
 * A shape that was known under another key than the configuration chooses by now. Invariant: rules are applied to no shape
 * under a key of before, as they may hide its columns.
 */
export function withKeyOf(live: TableShape, known: TableShape): TableShape {
  const isChosen = live.keyChosen === true || known.keyChosen === true;
  if (!isChosen || live.relation !== known.relation || live.fingerprint === known.fingerprint) return known;
  const key = live.key.map((ordinal) => {
    const { identity } = live.columns[ordinal]!;
    return known.columns.findIndex((column) => column.identity === identity);
  });
  const isSame = key.length === known.key.length && key.every((ordinal, i) => ordinal === known.key[i]);
  const isKeptAlike = live.deferrableKey === known.deferrableKey && live.keyOnWord === known.keyOnWord;
  if (key.includes(-1) || (isSame && isKeptAlike)) return known;
  if (JSON.stringify(live.columns) === JSON.stringify(known.columns)) return live;
  // Its columns have changed too: the log will show as what.
  const { keyChosen: _chosen, keyOnWord: _word, ...own } = known;
  const fingerprint = digest([known.fingerprint, key, live.deferrableKey, live.keyOnWord]);
  return { ...own, key, deferrableKey: live.deferrableKey, fingerprint, ...keyMarks(live) };
}

export function digest(value: unknown): string {
  return createHash("sha256").update(JSON.stringify(value)).digest("hex");
}
