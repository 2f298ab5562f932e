import { isGlob } from "../../core/table-selection.ts";
import type { DebeziumConfig } from "./debezium-config.ts";
import {
  type Alternative,
  expressionsOf,
  haveCommonNames,
  nameGlobs,
  readExpression,
  tableGlobs,
} from "./expression.ts";
import { UNDECIDED } from "./findings.ts";

/** Globs of a list, those that its negative lookaheads exclude, and whether they say exactly what the list says. */
interface Listed {
  readonly globs: readonly string[];
  readonly without: readonly string[];
  readonly isExact: boolean;
  readonly isThere: boolean;
}

/**
 * `source.tables` from Debezium's lists of databases, schemas and tables. Empty: every table. Nothing is selected that
 * the lists do not select: what no glob says becomes a value that does not load.
 */
export function tablesFrom(kind: string, given: DebeziumConfig): readonly string[] {
  const part = kind === "postgres" ? "schema" : "database";
  const schemas = listed(given, ofSchema, `${part}.include.list`, `${part}.whitelist`);
  const tables = listed(given, ofTable, "table.include.list", "table.whitelist");
  const noSchemas = listed(given, ofSchema, `${part}.exclude.list`, `${part}.blacklist`);
  const noTables = listed(given, ofTable, "table.exclude.list", "table.blacklist");
  const included = includedBoth(part, given, schemas, tables);
  const excluded = [
    ...schemas.without.map((glob) => `${glob}.*`),
    ...tables.without,
    ...noSchemas.globs.map((glob) => `${glob}.*`),
    ...noTables.globs,
  ];
  // What leaves out nothing that is included would only be named as such.
  const schemaOf = (glob: string) => glob.slice(0, glob.indexOf(".")).toLowerCase();
  const meeting = excluded.filter(
    (glob) => included.length === 0 || included.some((each) => haveCommonNames(schemaOf(each), schemaOf(glob))),
  );
  const isUndecided = [schemas, tables, noSchemas, noTables].some(({ isExact }) => !isExact);
  const all = included.length === 0 && excluded.length > 0 && !tables.isThere && !schemas.isThere ? ["*.*"] : included;
  return [...new Set([...(isUndecided ? [UNDECIDED] : []), ...all, ...meeting.map((glob) => `!${glob}`)])];
}

/** A table is captured if both lists have it. */
function includedBoth(part: string, given: DebeziumConfig, schemas: Listed, tables: Listed): readonly string[] {
  if (!schemas.isThere) return tables.globs;
  if (!tables.isThere) return schemas.globs.map((schema) => `${schema}.*`);
  const both = tables.globs.flatMap((table) => {
    const dot = table.indexOf(".");
    const [own, name] = [table.slice(0, dot), table.slice(dot + 1)];
    const meeting = schemas.globs.filter((schema) => haveCommonNames(schema, own));
    // The narrower of the two is what both have, if one of them is a name.
    return meeting.map((schema) =>
      !isGlob(own) || own === schema ? table : !isGlob(schema) ? `${schema}.${name}` : null,
    );
  });
  const known = both.filter((glob) => glob !== null);
  // What they say is to be decided, and told, already.
  if (!schemas.isExact || !tables.isExact) return [...new Set(known)];
  if (known.length === both.length && known.length > 0) return [...new Set(known)];
  given.block(
    `${part}.include.list`,
    known.length === both.length
      ? `no table of table.include.list is in one of its ${part}s`
      : "no glob says which tables are in both lists: write them to `source.tables`",
  );
  return [UNDECIDED, ...new Set(known)];
}

type GlobsOf = (parts: Alternative["parts"]) => readonly string[];
const ofTable: GlobsOf = tableGlobs;
const ofSchema: GlobsOf = nameGlobs;

function listed(given: DebeziumConfig, globsOf: GlobsOf, key: string, formerKey: string): Listed {
  const list = given.take(key, formerKey);
  if (list === null) return { globs: [], without: [], isExact: true, isThere: false };
  const isIncluding = /include|white/.test(key);
  const read = expressionsOf(list).map((expression) => {
    const found = list.includes("${") ? null : readExpression(expression);
    const isExact = found?.every((each) => each.isExact && (isIncluding || each.without.length === 0)) ?? false;
    return { expression, isExact, found: found ?? [] };
  });
  for (const { expression, isExact, found } of read)
    if (isExact && found.every(({ parts }) => globsOf(parts).length === 0))
      given.leave(key, `${expression} selects nothing: an expression is of a whole name, as schema.table`);
  const exact = read.flatMap(({ isExact, found }) => (isExact ? found : []));
  const globs = exact.flatMap(({ parts }) => globsOf(parts));
  const without = exact.flatMap((of) => of.without.flatMap(globsOf).map((glob) => ({ of, glob })));
  const lost = read.filter(({ isExact }) => !isExact).map(({ expression }) => expression);
  // `!` leaves a table out whatever else includes it.
  const clashing = without.filter(({ of, glob }) =>
    exact.some((other) => other !== of && globsOf(other.parts).some((included) => haveCommonNames(included, glob))),
  );
  if (lost.length > 0)
    given.block(
      key,
      isIncluding
        ? `no glob says ${lost.join(" or ")}: write what it selects to \`source.tables\``
        : `no glob says ${lost.join(" or ")}: write what it leaves out to \`source.tables\`, with a \`!\` before each`,
    );
  else if (clashing.length > 0)
    given.block(key, "what one of its expressions leaves out, another one selects: write `source.tables` by hand");
  else if (globs.length === 0) given.block(key, "it selects no table: write `source.tables` by hand");
  return {
    globs,
    without: without.map(({ glob }) => glob),
    isExact: lost.length === 0 && clashing.length === 0 && globs.length > 0,
    isThere: true,
  };
}
