/**
 * Tables that tools make beside those of an application: for online changes, where the rows of a table are copied into another
 * one and the two are then swapped by renames; and for the catalogue of a lake. The names are those of the tools' own code.
 */
import type { StreamOptions } from "../../src/core/contracts/change-log.ts";
import type { TableName } from "../../src/core/contracts/connector.ts";
import { tableId } from "../../src/core/model/schema.ts";

/** A table whose name says that a tool made it. */
interface OnlineCopy {
  readonly tool: string;
  /** Possible names, in lower case, of the table that must be there too: the copied one. Null: the name says enough. */
  readonly of: readonly string[] | null;
  /** True if the name has the greatest length: the name of the copied table may be cut in it. */
  readonly isCut: boolean;
}

interface Form {
  readonly tool: string;
  /** Its group is the name of the copied table. Absent: no application has tables with such names. */
  readonly pattern: RegExp;
}

/** A sink may have its lake's catalogue in the captured database: each of its commits would be followed by another one. */
const CATALOGUE = { tool: "DuckLake", pattern: /^ducklake_/, of: ["ducklake_snapshot"], isCut: false } as const;

const FORMS: readonly Form[] = [
  { tool: "gh-ost", pattern: /^[_~](.+?)(?:_\d{10,14})?_(?:gho|ghc|ghk|ghr|delr?)$/s },
  { tool: "pt-online-schema-change or Spirit", pattern: /^_(.+?)_(?:new|old|chkpnt)(?:_\d{8}[\d_]*)?$/s },
  { tool: "LHM", pattern: /^lhmn_(.+)$/s },
  { tool: "LHM", pattern: /^lhma_(?:\d{4}(?:_\d\d){5}_\d{3}|\d{10,13})_(.+?)(?:_failed)?$/s },
  { tool: "OnlineSchemaChange", pattern: /^__osc_(?:new|old|chg|ren)_(.+)$/s },
  { tool: "oak-online-alter-table", pattern: /^__(?:oak|arc)_(.+)$/s },
  { tool: "pg-osc", pattern: /^pgosc_(?:st|at)_(.+?)(?:_[0-9a-f]{0,6})?$/s },
  { tool: "pg-osc", pattern: /^pgosc_op_table_(.+)$/s },
  { tool: "Vitess", pattern: /^_vt_[a-z]+_[0-9a-f]{32}_\d{14}_?$/ },
  { tool: "Vitess", pattern: /^_[0-9a-f]{8}(?:_[0-9a-f]{4}){3}_[0-9a-f]{12}_\d{14}_[a-z]+$/ },
  { tool: "the server itself", pattern: /^#sql/ },
];
const REPACK = { schema: "repack", table: /^(?:table|log)_\d+$/ };
/** Postgres has room for 63 bytes, MySQL for 64 characters. */
const CUT_LENGTH = 63;
/** pt-online-schema-change writes up to ten of them before a name, until the name is free. */
const UNDERSCORES_MAX = 11;

/** Null: the name is like any other. */
function onlineCopy({ schema, table }: TableName): OnlineCopy | null {
  const name = table.toLowerCase();
  if (schema === REPACK.schema && REPACK.table.test(name)) return { tool: "pg_repack", of: null, isCut: false };
  if (CATALOGUE.pattern.test(name)) return CATALOGUE;
  const found = FORMS.filter(({ pattern }) => pattern.test(name));
  const [first] = found;
  if (first === undefined) return null;
  const originals = found.map(({ pattern }) => pattern.exec(name)?.[1]);
  const isCut = Math.max(table.length, Buffer.byteLength(table)) >= CUT_LENGTH;
  const of = originals.includes(undefined) ? null : originals.flatMap((original) => withoutUnderscores(original!));
  return { tool: first.tool, of, isCut };
}

/** Names of tables of which this one may be a copy, as its own name says, in its spelling. */
export function copiedNames({ table }: TableName): readonly string[] {
  const originals = FORMS.flatMap(({ pattern }) => new RegExp(pattern, "is").exec(table)?.[1] ?? []);
  return [...new Set(originals.flatMap(withoutUnderscores))];
}

/** The name, and what is left of it without one, two and more of its leading underscores. */
function withoutUnderscores(name: string): string[] {
  const names = [name];
  for (let rest = name; names.length < UNDERSCORES_MAX && /^_./s.test(rest);) names.push((rest = rest.slice(1)));
  return names;
}

/**
 * Why a glob leaves the table out: a table of which it is a copy is there. Null: it is captured as any other. `names`: the
 * tables of its schema.
 */
export function copyRefusal(
  table: TableName,
  names: Iterable<string>,
): { readonly reason: string; readonly fix: string } | null {
  const copy = onlineCopy(table);
  if (copy === null) return null;
  const original = originalOf(copy, names);
  if (copy.of !== null && original === undefined) return null;
  const of = original === undefined ? "" : ` of ${table.schema}.${original}`;
  const what = copy === CATALOGUE ? "part of the catalogue of a lake" : `a copy${of} for an online change`;
  return {
    reason: `it is ${what}, as its name says (${copy.tool})`,
    fix: `Nothing, if it is. To capture it, name it in \`source.tables\`: "${table.schema}.${table.table}".`,
  };
}

/**
 * The same for a table that a log shows, which the catalogue may have no longer. One that flows is no copy, whatever it is called;
 * a copied one may have been followed before. `names`: the tables of its schema now.
 */
export async function isLoggedCopy(
  { schema, table }: TableName,
  { isFlowing, isKnown }: Pick<StreamOptions, "isFlowing" | "isKnown">,
  names: () => Promise<Iterable<string>>,
): Promise<boolean> {
  const copy = onlineCopy({ schema, table });
  if (copy === null || isFlowing?.(tableId(schema, table)) === true) return false;
  if (copy.of === null || copy.of.some((name) => isKnown?.(tableId(schema, name)) === true)) return true;
  return originalOf(copy, await names()) !== undefined;
}

function originalOf({ of, isCut }: OnlineCopy, names: Iterable<string>): string | undefined {
  if (of === null) return undefined;
  for (const name of names) {
    const lower = name.toLowerCase();
    if (of.some((one) => lower === one || (isCut && lower.startsWith(one)))) return name;
  }
  return undefined;
}
