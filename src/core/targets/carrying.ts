/**
 * Decides after which changes of a table's shape the rows that did not change need not be read again: once the target
 * has followed, a sink's rows equal the source's. Answers yes only if that is certain.
 */
import { keyShape } from "../model/row-id.ts";
import { isLater, type TableVersion } from "../model/schema.ts";
import type { ColumnFacts } from "../contracts/catalog.ts";

/**
 * Whether rows of one shape can become rows of the next at all: columns were renamed, added or dropped, or NULL was
 * allowed or forbidden. `carriesRows` decides finally. Invariant: the key stays the same, because listed keys still
 * wait.
 */
export function mayCarry(from: TableVersion, to: TableVersion): boolean {
  if (from.relation !== to.relation || from.id !== to.id || !isLater(to, from)) return false;
  // It is unknown what the rules would do with a null, or with the values of the existing rows.
  if (from.ruled !== undefined || to.ruled !== undefined || from.hides !== to.hides) return false;
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
 * The source numbers columns in the order of their creation. Columns in another order have wrong identities: the names
 * that identified them belong to other columns by now.
 */
function isInOrder({ columns }: TableVersion): boolean {
  return columns.every(({ identity }, i) => identity > (columns[i - 1]?.identity ?? 0));
}

/**
 * `versions`: the shape of the complete copy, and those that the target has followed since; each can keep the rows of
 * the one before (`mayCarry`). `facts`: from a look at the catalogue that showed the last of them, while the table was
 * not rewritten since the copy. `kept`: what the sink holds of that version; of another column nothing need be null.
 *
 * A shape from a row of the stream gets its identities from the catalogue, which may be ahead. They count only if no
 * other set of columns fits: no name has changed its column; or no column was dropped, so that the shapes grow one
 * column at a time; or none was added, and a shape is the first or the last.
 */
export function carriesRows(
  versions: readonly TableVersion[],
  facts: ColumnFacts,
  kept: Pick<TableVersion, "columns"> | undefined = versions.at(-1),
): boolean {
  const first = identitiesOf(versions[0]);
  const last = identitiesOf(versions.at(-1));
  const newest = Math.max(...first);
  // If a column was added and dropped meanwhile, it is unknown which shapes had it.
  if (facts.dropped.some((identity) => identity > newest)) return false;
  const added = last.filter((identity) => !first.includes(identity));
  const isKept = new Set(identitiesOf(kept));
  const isRight = (identity: number): boolean => facts.nullBefore.has(identity) || !isKept.has(identity);
  if (!added.every((identity) => identity > newest && isRight(identity))) return false;
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

function identitiesOf(version: Pick<TableVersion, "columns"> | undefined): readonly number[] {
  return version?.columns.map(({ identity }) => identity) ?? [];
}

function isSame(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((identity, i) => identity === b[i]);
}

/** Each name means the same column in all versions, and each column has one name. */
function hasLastingNames(versions: readonly TableVersion[]): boolean {
  const columns = versions.flatMap((version) => version.columns);
  const pairs = new Set(columns.map(({ name, identity }) => `${identity} ${name}`));
  return (
    pairs.size === new Set(columns.map(({ name }) => name)).size &&
    pairs.size === new Set(columns.map(({ identity }) => identity)).size
  );
}

/** Whether all columns stay and keep their names: then rows that are stored as they were written still show them. */
export function onlyGrows(from: TableVersion, to: TableVersion): boolean {
  return from.columns.every(({ name, identity }) =>
    to.columns.some((column) => column.identity === identity && column.name === name),
  );
}
