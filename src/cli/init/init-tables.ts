import { namesOfTable } from "../../core/model/schema.ts";
import type { CapturedTables, RefusedTable } from "../../core/contracts/catalog.ts";

/** More names in a line would make one that nobody reads. */
const NAMED_COUNT_MAX = 10;
const SCHEMA_COUNT_MAX = 20;

/** `public  2 tables: customers, orders`: what can be followed, schema by schema. */
export function followedLines({ tables }: CapturedTables): readonly string[] {
  const bySchema = Map.groupBy(tables, ({ schema }) => schema);
  const width = Math.max(...[...bySchema.keys()].map((schema) => oneLine(schema).length));
  const lines = [...bySchema].map(
    ([schema, members]) => `${oneLine(schema).padEnd(width)}  ${named(members.map(({ table }) => table))}`,
  );
  const rest = lines.length - SCHEMA_COUNT_MAX;
  return rest > 0 ? [...lines.slice(0, SCHEMA_COUNT_MAX), `and ${rest} more schemas`] : lines;
}

/** The tables that can't be followed, by reason; the fix of each is `check`'s to say. */
export function refusedLines({ refused }: CapturedTables): readonly string[] {
  const byReason = Map.groupBy(refused, ({ reason }) => reason);
  return [...byReason].map(([reason, members]) => `${oneLine(reason)}: ${named(members.map(({ id }) => id))}`);
}

/** How many can be followed, and how many can't; what a grant would put right is told apart. */
export function countsOf({ tables, refused }: CapturedTables): string {
  const followed = `${countOf(tables.length)} can be followed`;
  if (refused.length === 0) return followed;
  const lacking = refused.filter(isLacking).length;
  return `${followed}, ${refused.length} can't${lacking === 0 ? "" : ` (${lacking} for want of a grant)`}`;
}

/** A glob for each schema, for the example of `tables`. */
export function exampleGlobs({ tables }: CapturedTables): readonly string[] {
  const schemas = [...new Set(tables.map(({ schema }) => schema))].filter((schema) => /^[\w -]+$/.test(schema));
  return [...(schemas.length === 0 ? ["public"] : schemas.slice(0, 3)).map((schema) => `${schema}.*`), "!*.tmp_*"];
}

/** A column that looks as if it held what not everybody should see, for the example of rules. */
export function exampleColumn({ tables }: CapturedTables): { readonly table: string; readonly column: string } | null {
  for (const { id, columns, key } of tables) {
    const column = columns.find(({ name }, ordinal) => !key.includes(ordinal) && PERSONAL.test(name));
    if (column !== undefined) return { table: plainName(id), column: column.name };
  }
  return null;
}

const PERSONAL = /mail|phone|passw|secret|ssn|iban|birth|token/i;

function plainName(id: string): string {
  const { schema, table } = namesOfTable(id);
  return `${schema}.${table}`;
}

function isLacking({ byPrivilege }: RefusedTable): boolean {
  return byPrivilege === true;
}

function named(names: readonly string[]): string {
  const sorted = names.toSorted(new Intl.Collator("en", { numeric: true }).compare).map(oneLine);
  const shown = sorted.slice(0, NAMED_COUNT_MAX).join(", ");
  const rest = sorted.length - NAMED_COUNT_MAX;
  return rest > 0 ? `${shown} and ${rest} more` : shown;
}

function countOf(count: number): string {
  return `${count} table${count === 1 ? "" : "s"}`;
}

/** Names are data: a line break in one must not end the comment. */
function oneLine(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, " ");
}
