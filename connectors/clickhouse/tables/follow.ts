/**
 * Makes an existing target follow the shape of its table. Old values and rows that can't be kept are null, or removed,
 * until the table has been read again: every change of shape requests that, unless `carriesTarget` says otherwise.
 */
import type { MillraceError } from "../../../src/core/errors.ts";
import type { Column } from "../../../src/core/model/schema.ts";
import { followsByNote } from "../../../src/core/targets/carrying.ts";
import { encodeNote, follow, type Following } from "../../../src/core/targets/following.ts";
import type { Client } from "../client.ts";
import { clickhouseError } from "../errors.ts";
import type { WriteFence } from "../fence.ts";
import { EXACT_COLUMN, OFFSET_COLUMN, OWN_PREFIX, quoteIdentifier, quoteLiteral, VERSION_COLUMN } from "../names.ts";
import { alterationOf, type ExistingTarget } from "./existing.ts";
import type { Placement } from "./form.ts";
import type { TableLayout } from "./layout.ts";
import { rebuild } from "./rebuild.ts";
import { noteText, onCluster, wantedColumns } from "./statements.ts";

/** Throws if the target is not ours, or if somebody changed it. */
export async function followTable(
  client: Client,
  fence: WriteFence,
  layout: TableLayout,
  existing: ExistingTarget,
  signal: AbortSignal,
): Promise<void> {
  expectOurs(layout, existing);
  const following = followingOf(layout, existing);
  refuseAltered(layout, existing, following);
  const changes = simpleChanges(layout, existing, following);
  if (changes?.length === 0) return;
  await fence.enter([layout], signal);
  if (changes === null) return await rebuild(client, fence, { layout, existing, following }, signal);
  const { sqlName, placement } = layout;
  // One statement changes everything or nothing.
  const parts = [...changes, fence.condition].join(", ");
  await client.run(`ALTER TABLE ${sqlName}${onCluster(placement)} ${parts}`, signal);
}

function followingOf(layout: TableLayout, existing: ExistingTarget): Following {
  const wanted = wantedColumns(layout);
  const found = [...existing.columns.keys()].filter((name) => !name.startsWith(OWN_PREFIX));
  const takes = (name: string, i: number): boolean => existing.columns.get(name) === wanted[i]!.type;
  const following = follow(found, existing.note, layout.table, wanted, takes);
  const drops = layout.dropsColumns && layout.form.mode === "mirror";
  return drops ? { ...following, retired: [], replaced: [] } : following;
}

/** Null: the rows must be written into another table. */
function simpleChanges(
  layout: TableLayout,
  existing: ExistingTarget,
  { from, replaced }: Following,
): readonly string[] | null {
  if (existing.form?.deletes !== layout.form.deletes && layout.form.mode === "mirror") return null;
  if (replaced.length > 0 || !hasKey(layout, existing, from)) return null;
  const kept = new Set(from);
  const drops = layout.dropsColumns && layout.form.mode === "mirror";
  const changes: string[] = [];
  for (const column of existing.columns.keys()) {
    if (column.startsWith(OWN_PREFIX) || kept.has(column) || !drops) continue;
    if (layout.columns.some(({ name }) => name === column)) return null;
    changes.push(`DROP COLUMN ${quoteIdentifier(column)}`);
  }
  for (const [i, { name, type, isKey }] of layout.columns.entries()) {
    const before = from[i] ?? null;
    if (before === null) {
      if (existing.columns.has(name)) return null;
      changes.push(`ADD COLUMN ${quoteIdentifier(name)} ${type.name}`);
    } else if (existing.columns.get(before) !== type.name) return null;
    else if (before !== name) {
      if (isKey || existing.columns.has(name)) return null;
      changes.push(`RENAME COLUMN ${quoteIdentifier(before)} TO ${quoteIdentifier(name)}`);
    }
  }
  if (!isNoted(layout, existing)) changes.push(`MODIFY COMMENT ${quoteLiteral(noteText(layout))}`);
  return changes;
}

function isNoted(layout: TableLayout, { note }: ExistingTarget): boolean {
  return note !== null && encodeNote(note) === noteText(layout);
}

/** Whether the sorting key's columns, as they will be, are the key. A note tells their order. */
function hasKey(layout: TableLayout, existing: ExistingTarget, from: Following["from"]): boolean {
  const own = layout.form.mode === "history" ? [VERSION_COLUMN, OFFSET_COLUMN] : [];
  const before = layout.table.key.map((ordinal) => from[ordinal] ?? null);
  if (existing.sorted === null) return false;
  const sorted = new Set(existing.sorted);
  if (sorted.size !== before.length + own.length) return false;
  if (![...before, ...own].every((name) => name !== null && sorted.has(name))) return false;
  const noted = existing.note?.key;
  return noted === undefined || before.every((name, i) => name === noted[i]);
}

/** See `Sink.carries`. Texts of values that do not fit are stored under the columns' names. */
export async function carriesTarget(
  client: Client,
  [from, to]: readonly [from: TableLayout, to: TableLayout],
  existing: ExistingTarget,
  signal: AbortSignal,
): Promise<boolean> {
  const drops = to.dropsColumns || to.form.mode === "history";
  // A column that a mirror keeps must be null in all rows; a history keeps the old values.
  const isGoing = ({ identity }: Column): boolean => to.table.columns.every((column) => column.identity !== identity);
  if (!drops && from.table.columns.some(isGoing)) return false;
  const found = [...existing.columns.keys()].filter((name) => !name.startsWith(OWN_PREFIX));
  if (!followsByNote(found, existing.note, wantedColumns(from), to.table, wantedColumns(to))) return false;
  if (from.columns.length === to.columns.length && from.columns.every(({ name }, i) => name === to.columns[i]!.name))
    return true;
  const sql = `SELECT 1 FROM ${to.sqlName} WHERE ${quoteIdentifier(EXACT_COLUMN)} != '' LIMIT 1`;
  return (await client.rows(sql, signal)).length === 0;
}

function expectOurs({ target, form, placement }: TableLayout, existing: ExistingTarget): void {
  const { form: found } = existing;
  const name = `${target.database}.${target.table}`;
  if (found === null) {
    throw clickhouseError({
      code: "MR4105",
      kind: "fatal",
      message: `${name} exists in ClickHouse and was not made by Millrace`,
    });
  }
  expectMode(name, found.mode, form.mode);
  refuseForm(name, existing, placement);
}

/** `table`: its id, where it is not known yet. */
export function refuseForm(name: string, existing: ExistingTarget, placement: Placement, table?: string): void {
  const alteration = alterationOf(existing, placement);
  if (alteration === null) return;
  const of = table === undefined ? {} : { table };
  throw clickhouseError({
    code: "MR4121",
    kind: "fatal",
    message: `${name} was changed by somebody: ${alteration}`,
    ...of,
  });
}

export function expectMode(name: string, found: string, wanted: string): void {
  if (found === wanted) return;
  throw clickhouseError({
    code: "MR4108",
    kind: "fatal",
    message: `${name} holds a ${found}, and the sink is to keep a ${wanted}`,
  });
}

/** A difference from the created target that the table does not explain: somebody else changed the target. */
function refuseAltered(layout: TableLayout, existing: ExistingTarget, { from }: Following): void {
  const { note } = existing;
  const name = `${layout.target.database}.${layout.target.table}`;
  for (const [i, column] of layout.columns.entries()) {
    const before = from[i] ?? "";
    const found = existing.columns.get(before);
    if (found === undefined || found === column.type.name) continue;
    const noted = note?.columns[before]?.[1];
    if (noted === undefined || noted === column.type.name) {
      throw clickhouseError({
        code: "MR4106",
        kind: "fatal",
        message: `column ${column.name} of ${name} is ${found} in ClickHouse and should be ${column.type.name}`,
      });
    }
  }
  if (hasKey(layout, existing, from)) return;
  const isHistory = layout.form.mode === "history";
  const isExplained = note !== null && !isSameKey(note.key, layout, from);
  if (isHistory || !isExplained) throw otherKey(name);
}

function isSameKey(noted: readonly string[], { table }: TableLayout, from: Following["from"]): boolean {
  return noted.length === table.key.length && table.key.every((ordinal, i) => from[ordinal] === noted[i]);
}

function otherKey(name: string): MillraceError {
  return clickhouseError({
    code: "MR4107",
    kind: "fatal",
    message: `${name} has another sorting key in ClickHouse than the table's key`,
  });
}
