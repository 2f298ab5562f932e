/**
 * Changes of a table's shape after which the rows that did not move need no reading: what a sink has of them is what the
 * source has, once the target has followed. Everything here says yes only where that is certain.
 */
import type { TargetNote, WantedColumn } from "./following.ts";
import { keyShape } from "../model/row-id.ts";
import { isLater, type TableVersion } from "../model/schema.ts";
import type { ColumnFacts } from "../contracts/catalog.ts";

/**
 * Whether rows of one shape can be rows of the next at all: columns were renamed, added or dropped, NULL allowed or
 * forbidden. `carriesRows` has the last word. Invariant: the key stays what it is, as listed keys go on waiting.
 */
export function mayCarry(from: TableVersion, to: TableVersion): boolean {
  if (from.relation !== to.relation || from.id !== to.id || !isLater(to, from)) return false;
  // What rules make of a null, or of a row that they look at, they have not said of the rows that are there.
  if (from.ruled !== undefined || to.ruled !== undefined) return false;
  if (from.deferrableKey !== to.deferrableKey || keyShape(from) !== keyShape(to)) return false;
  if (!isInOrder(from) || !isInOrder(to)) return false;
  const before = new Map(from.columns.map((column) => [column.identity, column]));
  return to.columns.every((column) => {
    const old = before.get(column.identity);
    if (old === undefined) return true;
    return old.native === column.native && JSON.stringify(old.type) === JSON.stringify(column.type);
  });
}

/**
 * Columns come in the order of their identities, as the source made them. Where they don't, identities were told by names
 * that other columns have by now.
 */
function isInOrder({ columns }: TableVersion): boolean {
  return columns.every(({ identity }, i) => identity > (columns[i - 1]?.identity ?? 0));
}

/**
 * `versions`: the shape under which the copy was complete, and those that the target has followed since, each of which may
 * have the rows of the one before it (`mayCarry`). `facts`: of a look at the catalogue that showed the last of them, the
 * rows lying where they lay when the copy was made.
 *
 * A shape that a row of the stream shows gets its identities from the catalogue, which may be ahead. So they count only
 * where no other set of columns fits: no name has changed its column; or none was dropped, so that the shapes grow one
 * column at a time; or none was added, and a shape is the first or the last.
 */
export function carriesRows(versions: readonly TableVersion[], facts: ColumnFacts): boolean {
  const first = identitiesOf(versions[0]);
  const last = identitiesOf(versions.at(-1));
  const newest = Math.max(...first);
  // Of a column that came and went meanwhile nobody knows which shapes had it.
  if (facts.dropped.some((identity) => identity > newest)) return false;
  const added = last.filter((identity) => !first.includes(identity));
  if (!added.every((identity) => identity > newest && facts.nullBefore.has(identity))) return false;
  const all = new Set([...first, ...last]);
  if (!versions.every((version) => identitiesOf(version).every((identity) => all.has(identity)))) return false;
  if (hasLastingNames(versions)) return true;
  if (all.size === last.length) {
    return versions.every((version) => isSame(identitiesOf(version), last.slice(0, version.columns.length)));
  }
  return (
    added.length === 0 && versions.every((version) => [first, last].some((ids) => isSame(identitiesOf(version), ids)))
  );
}

function identitiesOf(version: TableVersion | undefined): readonly number[] {
  return version?.columns.map(({ identity }) => identity) ?? [];
}

function isSame(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((identity, i) => identity === b[i]);
}

/** Each name means one column in all of the versions, and each column has one name. */
function hasLastingNames(versions: readonly TableVersion[]): boolean {
  const columns = versions.flatMap((version) => version.columns);
  const pairs = new Set(columns.map(({ name, identity }) => `${identity} ${name}`));
  return (
    pairs.size === new Set(columns.map(({ name }) => name)).size &&
    pairs.size === new Set(columns.map(({ identity }) => identity)).size
  );
}

/** Whether all columns that go on keep their names, and none goes: rows that are kept as they were written show them. */
export function onlyGrows(from: TableVersion, to: TableVersion): boolean {
  return from.columns.every(({ name, identity }) =>
    to.columns.some((column) => column.identity === identity && column.name === name),
  );
}

/**
 * Whether a target with the columns `found` that was noted for `from` comes to be as `wanted` by renames, columns added
 * and columns dropped alone. A column that is added must not find one under its name: that would lend it its values.
 */
export function followsByNote(
  found: readonly string[],
  note: TargetNote | null,
  from: readonly Pick<WantedColumn, "name" | "identity">[],
  table: TableVersion,
  wanted: readonly WantedColumn[],
): boolean {
  if (note === null || note.relation !== table.relation) return false;
  const there = new Set(found);
  const isNoted = from.every(({ name, identity }) => note.columns[name]?.[0] === identity && there.has(name));
  if (!isNoted || Object.keys(note.columns).length !== from.length) return false;
  const noted = new Map(Object.values(note.columns));
  return wanted.every(({ name, identity, type }) =>
    noted.has(identity) ? noted.get(identity) === type : !there.has(name),
  );
}
