/** Which of the catalogue's tables are captured, and why others can't be. */
import type { CapturedTables, RefusedTable, TableShape } from "../../../../src/core/contracts/catalog.ts";
import type { TableName } from "../../../../src/core/contracts/connector.ts";
import { tableId } from "../../../../src/core/model/schema.ts";
import { copyRefusal } from "../../../kit/online-copies.ts";
import { sourceError } from "../errors.ts";
import { isOwnTable } from "../../own-tables.ts";
import { quoteIdentifier, quoteTable } from "../../../../src/postgres/quote.ts";
import { readCatalog, type Catalog, type CatalogTable } from "./catalog.ts";
import {
  type Apart,
  type ApartRoots,
  apartness,
  carriersOf,
  isRoot,
  readChecks,
  type Tree,
  treeBelow,
  withTrees,
} from "./trees.ts";
import type { SourceContext } from "../wire/context.ts";
import { readPublication, type Publication } from "./publication.ts";
import { findKey, FULL, type FoundKey, fullIdentity, keyOf } from "./keys.ts";
import { catalogShape } from "./shapes.ts";

export interface Candidate {
  readonly table: CatalogTable;
  readonly shape: TableShape;
}

export interface Selected {
  readonly captured: readonly Candidate[];
  /** What the publication has to carry for them: see `carriersOf`. */
  readonly carriers: readonly CatalogTable[];
  readonly refused: CapturedTables["refused"];
  /** Refused tables for which the role only lacks privileges. */
  readonly lacking: readonly CatalogTable[];
  /** Tables that are named literally and do not exist. */
  readonly missing: readonly string[];
  /** Patterns that fit none of the database's tables. */
  readonly idle: readonly string[];
  /** Tables of extensions that `tables` does not name. */
  readonly extensions: readonly CatalogTable[];
  readonly publication: Publication | undefined;
  /** Its tables that are in a tree by inheritance have that tree's root as their ancestor. */
  readonly catalog: Catalog;
  readonly apart: ApartRoots;
}

type Refusal = Pick<RefusedTable, "reason" | "fix" | "fixWith" | "chosenKey">;

/**
 * Reads catalogue and publication. With `strict`, as at a start, a table that is named literally and can't be captured is
 * an error. While the daemon runs it is refused like others, so that one table does not stop all.
 */
export async function selectTables(context: SourceContext, strict: boolean, signal: AbortSignal): Promise<Selected> {
  const publication = await readPublication(context, signal);
  const { catalog, apart } = await treesIn(
    context,
    await readCatalog(context.database, null, signal),
    publication,
    signal,
  );
  const captured: Candidate[] = [];
  const refused: CapturedTables["refused"][number][] = [];
  const lacking: CatalogTable[] = [];
  const isLiteral = ({ schema, table }: CatalogTable) => context.selection.isLiteral(schema, table);
  const isMeant = (table: CatalogTable) => !isOfExtension(context, table);
  const all = catalog.tables.filter((table) => context.selection.matches(table.schema, table.table));
  const matched = all.filter(isMeant);
  const extensions = all.filter((table) => !isMeant(table));
  const names = Map.groupBy(catalog.tables, ({ schema }) => schema);
  for (const table of matched) {
    if (comesWithRoot(context, table)) continue;
    const copy = isLiteral(table) ? null : copyRefusal(table, namesIn(names.get(table.schema)));
    if (copy !== null) {
      refused.push({ id: tableId(table.schema, table.table), ...copy, isCopy: true });
      continue;
    }
    const key = findKey(table, context.chosenKey(table));
    const shape = catalogShape(table, publishedColumns(table, publication), catalog, key);
    const noKey = shape === undefined ? keyNotPublished(context, table, key) : undefined;
    const refusal = refusalOf(table, catalog, shape, key) ?? noKey;
    const lack = refusal === undefined ? lackOf(table, catalog.role) : undefined;
    if (shape !== undefined && refusal === undefined && lack === undefined) {
      captured.push({ table, shape: isRoot(table) ? { ...shape, parts: partsOf(table, catalog) } : shape });
      continue;
    }
    if (lack !== undefined) lacking.push(table);
    const { reason, fix, fixWith, chosenKey }: Refusal = refusal ?? lack ?? LIST_WITHOUT_KEY;
    const literal = isLiteral(table);
    if (literal && strict)
      throw sourceError("MR2020", "fatal", `${table.schema}.${table.table} can't be captured: ${reason}`, {
        hint: fix,
      });
    // Views are no tables: a glob does not match them.
    if (literal || (table.kind !== "v" && table.kind !== "m"))
      refused.push({
        id: tableId(table.schema, table.table),
        reason,
        fix,
        byPrivilege: lack !== undefined,
        ...(fixWith === undefined ? {} : { fixWith }),
        ...(chosenKey === undefined ? {} : { chosenKey }),
        ...(shape === undefined || lack !== undefined || isOwnTable(table) ? {} : { readable: shape }),
      });
  }
  const known = new Set(catalog.tables.map((table) => `${table.schema}.${table.table}`));
  const missing = context.selection.literals.filter((literal) => !known.has(literal));
  if (strict && missing[0] !== undefined)
    throw sourceError("MR2020", "fatal", `the table ${missing[0]} does not exist`, { hint: MISSING_FIX });
  const idle = context.selection.idle(catalog.tables);
  const carriers = captured.flatMap(({ table }) => carriersOf(table, catalog));
  return { captured, carriers, refused, lacking, missing, idle, extensions, publication, catalog, apart };
}

/** The trees by inheritance below the captured tables, as far as each is certainly one table. */
async function treesIn(
  context: SourceContext,
  catalog: Catalog,
  publication: Publication | undefined,
  signal: AbortSignal,
): Promise<{ readonly catalog: Catalog; readonly apart: ApartRoots }> {
  const { selection } = context;
  const byOid = new Map(catalog.tables.map((table) => [table.oid, table]));
  const isRootOfTree = (table: CatalogTable): boolean =>
    table.kind === "r" &&
    table.heirs.length > 0 &&
    selection.matches(table.schema, table.table) &&
    !isOfExtension(context, table) &&
    !table.parents.some((parent) => selection.matches(parent.schema, parent.table));
  const apart = new Map<number, Apart>();
  const possible: Tree[] = [];
  for (const root of catalog.tables.filter(isRootOfTree)) {
    const tree = treeBelow(root, byOid);
    const why = "reason" in tree ? tree : keyApart(context, tree, catalog, publication);
    if (why !== null) apart.set(root.oid, why);
    else if ("members" in tree) possible.push(tree);
  }
  const checks = await readChecks(context, possible, signal);
  const trees: Tree[] = [];
  for (const tree of possible) {
    const why = await apartness(context, tree, checks, signal);
    if (why === null) trees.push(tree);
    else apart.set(tree.root.oid, why);
  }
  return { catalog: withTrees(catalog, trees), apart };
}

/** Why the log does not show the rows of this tree as those of one table with one key. */
function keyApart(
  context: SourceContext,
  { root, members }: Tree,
  catalog: Catalog,
  publication: Publication | undefined,
): Apart | null {
  const key = findKey(root, context.chosenKey(root));
  if (!("key" in key))
    return { reason: "it has no key of its own", fix: keyFix(root, quoteTable(root.schema, root.table)) };
  if (key.kind !== "own" || key.key.deferrable)
    return { reason: "its key is chosen by the configuration, or deferrable", fix: "Give it a primary key." };
  const refusal = leafRefusal(root, members.slice(1), "heir");
  if (refusal !== undefined) return { reason: refusal.reason, fix: refusal.fix };
  const shape = catalogShape(root, publishedColumns(root, publication), catalog, key);
  const short = members.slice(1).find((heir) => {
    const published = publishedColumns(heir, publication);
    return published !== null && shape?.columns.some(({ name }) => !published.includes(name)) === true;
  });
  if (short === undefined) return null;
  const name = quoteTable(short.schema, short.table);
  return { reason: `the publication leaves out columns of ${name}`, fix: `Publish ${name} without a column list.` };
}

/** A glob means tables of the application. */
export function isOfExtension(
  { selection }: Pick<SourceContext, "selection">,
  { schema, table, extension }: CatalogTable,
): boolean {
  return extension !== null && !selection.isLiteral(schema, table);
}

/** A partition, or a table of a tree, is no table of its own if the configuration takes one above it. */
export function comesWithRoot({ selection }: Pick<SourceContext, "selection">, { ancestors }: CatalogTable): boolean {
  return ancestors.some(({ schema, table }) => selection.matches(schema, table));
}

function* namesIn(tables: readonly CatalogTable[] = []): Generator<string> {
  for (const { table, kind } of tables) if (kind === "r" || kind === "p") yield table;
}

export const MISSING_FIX = "Correct its name in `tables` (schema.table), or create it first.";

const LIST_WITHOUT_KEY: Refusal = {
  reason: "the publication leaves out a column of its key",
  fix: "Publish the whole table, or at least its key's columns.",
};

function partsOf({ oid: root }: CatalogTable, { below, relation }: Catalog): readonly number[] {
  return below(root).map(({ oid }) => relation(oid));
}

/** Null: all columns that are not generated. For a table that is not published yet: as it will be. */
function publishedColumns(table: CatalogTable, publication: Publication | undefined): readonly string[] | null {
  const listed = publication?.columns.get(table.oid);
  if (listed !== undefined || publication?.hasStored !== true || publication.published.has(table.oid))
    return listed ?? null;
  return table.columns.filter(({ generated }) => generated === "" || generated === "s").map(({ name }) => name);
}

/** If a generated column is in the key, and the table is published without it, the server refuses all updates of the table. */
function keyNotPublished({ publication }: SourceContext, table: CatalogTable, key: FoundKey): Refusal {
  const keyed = "key" in key ? key.key.columns : [];
  const generated = table.columns.find((column) => column.generated !== "" && keyed.includes(column.name));
  if (generated === undefined) return LIST_WITHOUT_KEY;
  const reason = `its key has the generated column ${JSON.stringify(generated.name)}, which the publication leaves out`;
  const other = "Choose a key without it: a unique index over NOT NULL columns, and REPLICA IDENTITY USING INDEX.";
  if (generated.generated !== "s") return { reason, fix: other };
  const publish = `ALTER PUBLICATION ${quoteIdentifier(publication)} SET (publish_generated_columns = stored);`;
  return { reason, fix: `${other} Or, on Postgres 18: ${publish}` };
}

/** What such bytes become when they are read. */
const NO_UTF8 = "\ufffd";

interface Named extends TableName {
  readonly columns: readonly { readonly name: string }[];
}

export function isIllegible(table: CatalogTable, { types }: Catalog): boolean {
  if (table.isIllegible === true || table.columns.some(({ type }) => types(type)?.isIllegible === true)) return true;
  return hasIllegibleName(table) || table.columns.some(({ native }) => native.includes(NO_UTF8));
}

export function hasIllegibleName({ schema, table, columns }: Named): boolean {
  return [schema, table, ...columns.map(({ name }) => name)].some((text) => text.includes(NO_UTF8));
}

function refusalOf(
  table: CatalogTable,
  catalog: Catalog,
  shape: TableShape | undefined,
  key: FoundKey,
): Refusal | undefined {
  const name = quoteTable(table.schema, table.table);
  if (isOwnTable(table)) return { reason: "it is one of Millrace's own tables", fix: "Leave it out of `tables`." };
  switch (table.kind) {
    case "v":
    case "m":
      return { reason: "it is a view, and views are not in the log", fix: "Capture the tables beneath it." };
    case "f":
      return {
        reason: "it is a foreign table, and its rows are in another server's log",
        fix: "Capture it at that server.",
      };
    default:
      break;
  }
  if (isIllegible(table, catalog))
    return {
      reason: "its name, or that of a column, an index or a type, has bytes that are no UTF-8",
      fix: "Rename it.",
    };
  if (table.persistence !== "p") return { reason: "it is unlogged", fix: `ALTER TABLE ${name} SET LOGGED;` };
  if (key.kind === "none")
    return {
      reason: keyReason(table),
      fix: keyFix(table, name),
      fixWith: (former: readonly string[]) => keyFix(table, name, former),
    };
  if (key.kind === "unknown" || key.kind === "unfit") return { ...key, chosenKey: key.kind };
  const reserved = shape?.columns.find((column) => column.name.startsWith("_millrace_"));
  if (reserved !== undefined)
    return {
      reason: `its column ${reserved.name} has a name that Millrace reserves`,
      fix: "Rename the column.",
    };
  return table.kind === "p" ? leafRefusal(table, catalog.below(table.oid), "partition") : undefined;
}

function keyReason(table: CatalogTable): string {
  if (table.identity === "n") return "it has no usable key: its replica identity is NOTHING";
  if (table.identity === "i") return "it has no usable key: the index that was its replica identity was dropped";
  if (table.uniques.some((index) => index.primary)) return "it has no usable key: its primary key is deferrable";
  return "it has no usable key";
}

/** `former`: the columns of a key that the table had. */
function keyFix(table: CatalogTable, name: string, former: readonly string[] = []): string {
  const primary = table.uniques.find((index) => index.primary);
  if (primary?.immediate === true) return `ALTER TABLE ${name} REPLICA IDENTITY DEFAULT;`;
  const notNull = new Set(table.columns.filter((column) => column.notNull).map((column) => column.attnum));
  const unique = table.uniques.find((index) => index.immediate && index.columns.every((attnum) => notNull.has(attnum)));
  if (unique !== undefined) return `ALTER TABLE ${name} REPLICA IDENTITY USING INDEX ${quoteIdentifier(unique.name)};`;
  if (primary !== undefined) return fullIdentity(table);
  const columns = former.every((column) => table.columns.some((one) => one.name === column)) ? former : [];
  // Under NOTHING, or an index that is gone, a primary key alone does not help.
  const identity = table.identity === "n" || table.identity === "i" ? ", REPLICA IDENTITY DEFAULT" : "";
  if (columns.length > 0)
    return `ALTER TABLE ${name} ADD PRIMARY KEY (${columns.map(quoteIdentifier).join(", ")})${identity};`;
  return `ALTER TABLE ${name} ADD PRIMARY KEY (…)${identity}; or make a unique index over NOT NULL columns and: ALTER TABLE ${name} REPLICA IDENTITY USING INDEX …;`;
}

function sameNames(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name) => b.includes(name));
}

/** Each leaf logs old rows by its own identity: one leaf without an identity makes the application's updates fail. */
function leafRefusal(
  root: CatalogTable,
  below: readonly CatalogTable[],
  called: "partition" | "heir",
): Refusal | undefined {
  for (const leaf of below) {
    if (leaf.kind === "p") continue;
    const name = quoteTable(leaf.schema, leaf.table);
    if (leaf.kind === "f")
      return {
        reason: `its ${called} ${name} is a foreign table`,
        fix: "Detach it, or capture the partitions one by one.",
      };
    if (leaf.persistence !== "p")
      return { reason: `its ${called} ${name} is unlogged`, fix: `ALTER TABLE ${name} SET LOGGED;` };
    const own = keyOf(leaf);
    if (own === undefined)
      return { reason: `its ${called} ${name}: ${keyReason(leaf)}`, fix: keyFix(leaf, name, keyOf(root)?.columns) };
    // The leaf's identity decides which old keys are logged. If it covers other columns, a change of the row's key in the
    // root would be invisible.
    if (leaf.identity !== FULL && !sameNames(own.columns, keyOf(root)?.columns ?? []))
      return {
        reason: `its ${called} ${name} has a replica identity over other columns`,
        fix: `ALTER TABLE ${name} REPLICA IDENTITY FULL; or USING INDEX, over the columns of ${quoteTable(root.schema, root.table)}'s`,
      };
  }
  return root.identity === FULL ? partlyFull(root, below, called) : undefined;
}

const LEAVES_NAMED_MAX = 3;

/** An old row is announced as whole, but it holds only what the leaf's identity logged. */
function partlyFull(
  root: CatalogTable,
  below: readonly CatalogTable[],
  called: "partition" | "heir",
): Refusal | undefined {
  const others = below.filter(({ kind, identity }) => kind !== "p" && identity !== FULL);
  if (others.length === 0) return undefined;
  const named = others.slice(0, LEAVES_NAMED_MAX).map(({ schema, table }) => quoteTable(schema, table));
  const more = others.length > named.length ? ` and ${others.length - named.length} more` : "";
  const lacking = `${named.join(", ")}${more}`;
  const which = others.length === 1 ? `its ${called} ${lacking} has not` : `its ${called}s ${lacking} have not`;
  return { reason: `it has REPLICA IDENTITY FULL, ${which}`, fix: fullIdentity(root) };
}

interface Lack {
  readonly reason: string;
  readonly fix: string;
}

/** Missing privileges that keep a table from being captured; its shape and key are checked elsewhere. */
function lackOf(table: CatalogTable, role: string): Lack | undefined {
  const cannotRead = !table.mayUseSchema || !table.mayRead;
  if (!cannotRead && !table.hidesRows) return undefined;
  const reasons = [
    ...(cannotRead ? ["the role may not read it"] : []),
    ...(table.hidesRows ? ["row-level security hides rows of it from the role"] : []),
  ];
  return { reason: reasons.join(", and "), fix: grantsFor([table], role) };
}

/** One statement per schema and kind of privilege, for all the tables together. */
export function grantsFor(tables: readonly CatalogTable[], role: string): string {
  const to = quoteIdentifier(role);
  const closed = new Set(tables.filter((table) => !table.mayUseSchema).map(({ schema }) => quoteIdentifier(schema)));
  const unread = tables.filter((table) => !table.mayRead).map(({ schema, table }) => quoteTable(schema, table));
  return [
    ...(closed.size === 0 ? [] : [`GRANT USAGE ON SCHEMA ${[...closed].join(", ")} TO ${to};`]),
    ...(unread.length === 0 ? [] : [`GRANT SELECT ON ${unread.join(", ")} TO ${to};`]),
    ...(tables.some((table) => table.hidesRows) ? [`ALTER ROLE ${to} BYPASSRLS;`] : []),
  ].join("\n");
}
