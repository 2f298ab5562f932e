/**
 * Checks what keeps tables from being captured, with the statements that correct it. Each finding names everything that the
 * role lacks, so that one round of statements is enough.
 */
import { ok, warning, wrong } from "../../kit/findings.ts";
import type { Finding } from "../../../src/core/contracts/connector.ts";
import { tableId } from "../../../src/core/model/schema.ts";
import { quoteIdentifier, quoteTable } from "../../../src/postgres/quote.ts";
import type { CatalogTable } from "./catalog/catalog.ts";
import type { SourceContext } from "./wire/context.ts";
import { leftOutByLists, NAMED_COUNT_MAX, shownBesides, uncarriedColumns } from "./catalog/differences.ts";
import {
  addAdvice,
  addRefusal,
  checkPublication,
  createStatement,
  publishable,
  type Publication,
} from "./catalog/publication.ts";
import { MISSING_FIX, type Selected, grantsFor } from "./catalog/selection.ts";
import type { ServerFacts } from "./log/server.ts";
import { shellWord } from "../../../src/core/shell-word.ts";

const PUBLICATION = "postgres.publication";

/** Tables that are left out. The daemon can't work if a table that is named literally is left out, or if all are. */
export function tableFindings(context: SourceContext, selected: Selected): readonly Finding[] {
  const { refused, lacking, missing, extensions, catalog } = selected;
  const findings = [capturedFinding(selected)];
  const literals = new Set(catalog.tables.filter((table) => isLiteral(context, table)).map(idOf));
  for (const { id, reason, fix, byPrivilege, chosenKey, isCopy } of refused) {
    // Problems of rules are reported with the rules.
    if (byPrivilege === true || chosenKey !== undefined) continue;
    const level = literals.has(id) ? "error" : isCopy === true ? "ok" : "warning";
    findings.push({ id: "postgres.table", level, what: `${id} is left out: ${reason}`, fix });
  }
  for (const name of missing) findings.push(wrong("postgres.table", `the table ${name} does not exist`, MISSING_FIX));
  if (lacking.length > 0) findings.push(grantFinding(context, selected));
  findings.push(
    ...ownRowsFindings(selected),
    ...heirsColumnsFindings(selected),
    ...generatedFindings(context, selected),
    ...nameFindings(selected),
  );
  const narrowed = leftOutByLists(context.publication, selected);
  if (narrowed !== null) findings.push({ id: PUBLICATION, level: "warning", ...narrowed });
  if (extensions.length > 0) {
    const what = `${namesOf(extensions)} ${extensions.length === 1 ? "is" : "are"} left out: made by an extension, and not named in \`tables\``;
    findings.push(ok("postgres.table", what));
  }
  return findings;
}

function ownRowsFindings(selected: Selected): readonly Finding[] {
  const { captured, apart } = selected;
  const oids = new Map(captured.map(({ table, shape }) => [shape.id, table.oid]));
  return Array.from(shownBesides(selected), ([id, what]): Finding => {
    const alone = "Capture the tables that are not captured by themselves too; each needs a key of its own.";
    const fixes = [apart.get(oids.get(id) ?? 0)?.fix ?? "", what.includes("not captured") ? alone : ""];
    const fix = fixes.filter((one) => one !== "").join(" ");
    return warning("postgres.table", `${id}: ${what}`, fix === "" ? null : fix);
  });
}

/** Columns of tables in a tree that its root lacks. */
function heirsColumnsFindings({ captured, catalog }: Selected): readonly Finding[] {
  return captured.flatMap(({ table, shape }): Finding[] => {
    if (table.isTree !== true) return [];
    const common = new Set(table.columns.map(({ name }) => name));
    const more = catalog.below(table.oid).flatMap((heir) => {
      const names = heir.columns.filter(({ name }) => !common.has(name)).map(({ name }) => name);
      return names.length === 0 ? [] : [`${idOf(heir)} (${names.join(", ")})`];
    });
    if (more.length === 0) return [];
    const rest = more.length > NAMED_COUNT_MAX ? ` and ${more.length - NAMED_COUNT_MAX} more` : "";
    const what = `${shape.id}: columns that only tables which inherit from it have are in no sink: ${more.slice(0, NAMED_COUNT_MAX).join(", ")}${rest}`;
    return [
      warning(
        "postgres.table",
        what,
        `If the sinks shall have them: ALTER TABLE ${quoteTable(table.schema, table.table)} ADD COLUMN …;`,
      ),
    ];
  });
}

/**
 * Types (fixed in pg_type.dat), and arrays of them, whose values are numbers and print as names: those of tables, functions,
 * operators, types, roles, schemas, text search and collations. aclitem prints roles.
 */
const NAMING = new Set([
  24, 1008, 1033, 1034, 2202, 2203, 2204, 2205, 2206, 2207, 2208, 2209, 2210, 2211, 3734, 3735, 3769, 3770, 4089, 4090,
  4096, 4097, 4191, 4192,
]);

function nameFindings({ captured }: Selected): readonly Finding[] {
  return captured.flatMap(({ table }): Finding[] => {
    const columns = table.columns
      .filter(({ type }) => NAMING.has(type))
      .map(({ name, native }) => `${name} (${native})`);
    if (columns.length === 0) return [];
    const what = `${idOf(table)}: columns that show names of the catalogue: ${columns.slice(0, NAMED_COUNT_MAX).join(", ")}. If what they name is renamed or dropped, their text changes and no row does`;
    const fix = `After such a change: millrace snapshot start --tables ${shellWord(idOf(table))}`;
    return [warning("postgres.table", what, fix)];
  });
}

/** Generated columns that no sink gets. */
function generatedFindings({ publication: name }: SourceContext, selected: Selected): readonly Finding[] {
  const { publication, catalog } = selected;
  const publish = `ALTER PUBLICATION ${quoteIdentifier(name)} SET (publish_generated_columns = stored);`;
  const compute = "compute them in the sink, or fill plain columns by a trigger.";
  const ofStored =
    catalog.version < 180_000
      ? `Upgrade to Postgres 18, which can publish stored ones; or ${compute}`
      : `${publication === undefined ? "After the first start: " : ""}${publish}`;
  const ofVirtual = `No version of Postgres publishes virtual ones: make them STORED and publish these (${publish}), or ${compute}`;
  return [...generatedFinding(selected, "stored", ofStored), ...generatedFinding(selected, "virtual", ofVirtual)];
}

function generatedFinding(selected: Selected, kind: "stored" | "virtual", fix: string): readonly Finding[] {
  const left = uncarriedColumns(selected, kind[0]!);
  if (left === null) return [];
  const what = `${kind} generated columns that the log does not carry are in no sink: ${left.named}`;
  return [warning("postgres.generated", what, fix)];
}

/** A start without tables is possible, but a mistake in `tables` looks the same. */
function capturedFinding({ captured, refused, missing }: Selected): Finding {
  const id = "postgres.tables";
  if (captured.length > 0) {
    const what = `${countOf(captured.length)} ${captured.length === 1 ? "is" : "are"} captured`;
    return ok(id, what);
  }
  const level = refused.length > 0 || missing.length > 0 ? "ok" : "warning";
  const fix =
    "Look at `tables` (schema.table, * is a wildcard), or create the tables: they are taken in while the daemon runs.";
  const what =
    refused.length > 0
      ? `no table is captured: ${countOf(refused.length)} would be, but for what is said below`
      : "no table is captured: none matches `tables`, or the database has none";
  return { id, level, what, fix };
}

function grantFinding(context: SourceContext, { captured, lacking, catalog }: Selected): Finding {
  const isNeeded = captured.length === 0 || lacking.some((table) => isLiteral(context, table));
  const hidden = lacking.filter((table) => table.hidesRows).length;
  const unread = lacking.filter((table) => !table.mayRead || !table.mayUseSchema).length;
  const what = [
    ...(unread === 0 ? [] : [`the role may not read ${countOf(unread)}`]),
    ...(hidden === 0 ? [] : [`row-level security hides rows of ${countOf(hidden)} from it`]),
  ].join(", and ");
  return {
    id: "postgres.privileges",
    level: isNeeded ? "error" : "warning",
    what: `${what}: left out are ${namesOf(lacking)}`,
    fix: grantsFor(lacking, catalog.role),
    byPrivilege: true,
  };
}

/** Whether all tables that are captured, or will be with the grants, are published, or can be published by this role. */
export async function publicationFindings(
  context: SourceContext,
  facts: ServerFacts,
  { publication, carriers, lacking }: Selected,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const tables = [...carriers, ...lacking];
  if (publication !== undefined) return existingFindings(context, publication, tables);
  if (!(await context.writer.canWrite(signal))) {
    const what = `the publication ${context.publication} does not exist: make it on the primary, or set source.primaryUrl`;
    return [wrong(PUBLICATION, what, `${createStatement(context.publication, tables)};`)];
  }
  const foreign = tables.filter((table) => !table.owned);
  if (foreign.length > 0) {
    const what = `the role does not own ${namesOf(foreign)}, so another role has to publish: a superuser, or an owner of all the tables`;
    return [{ ...wrong(PUBLICATION, what, `${createStatement(context.publication, tables)};`), byPrivilege: true }];
  }
  const [may] = await context.database.rows<{ create: boolean }>(
    "checking privileges",
    "select has_database_privilege(current_database(), 'CREATE') as create",
    [],
    signal,
  );
  if (may?.create !== true) {
    const fix = `GRANT CREATE ON DATABASE ${quoteIdentifier(facts.database)} TO ${quoteIdentifier(facts.user)};`;
    return [{ ...wrong(PUBLICATION, "the role may not make a publication", fix), byPrivilege: true }];
  }
  return [ok(PUBLICATION, `${countOf(tables.length)} will be published at start`)];
}

function existingFindings(
  context: SourceContext,
  publication: Publication,
  tables: readonly CatalogTable[],
): readonly Finding[] {
  checkPublication(context, publication, tables);
  const name = context.publication;
  const findings: Finding[] = [];
  const possible = new Set(publishable(context, publication, tables));
  const left = tables.filter((table) => !possible.has(table));
  if (left.length > 0) {
    const isNeeded = possible.size === 0 || left.some((table) => isLiteral(context, table));
    const what = `${namesOf(left)} ${left.length === 1 ? "is" : "are"} not in the publication ${name}: ${addRefusal(publication, left)}`;
    findings.push({
      ...wrong(PUBLICATION, what, addAdvice(name, publication, left)),
      level: isNeeded ? "error" : "warning",
    });
  }
  if (findings.length > 0) return findings;
  const missing = tables.filter((table) => !publication.published.has(table.oid));
  if (missing.length > 0) return [ok(PUBLICATION, `${countOf(missing.length)} will be published at start`)];
  return [ok(PUBLICATION, `the publication ${name} carries ${countOf(tables.length)}`)];
}

function isLiteral({ selection }: SourceContext, { schema, table }: CatalogTable): boolean {
  return selection.isLiteral(schema, table);
}

function idOf({ schema, table }: CatalogTable): string {
  return tableId(schema, table);
}

function namesOf(tables: readonly CatalogTable[]): string {
  const named = tables.slice(0, NAMED_COUNT_MAX).map(idOf).join(", ");
  return tables.length > NAMED_COUNT_MAX ? `${named} and ${tables.length - NAMED_COUNT_MAX} more` : named;
}

function countOf(count: number): string {
  return `${count} table${count === 1 ? "" : "s"}`;
}
