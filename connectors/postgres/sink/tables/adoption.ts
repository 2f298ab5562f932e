/** What keeps Millrace from taking over a table that another program made. */
import { quoteIdentifier, quoteLiteral, quoteTable, quoteTextArray } from "../../../../src/postgres/quote.ts";
import type { Session } from "../wire/session.ts";
import { type FoundTable, namesIn, type Obstacle } from "./found-table.ts";
import { fitted, type TargetName } from "./names.ts";

/** `written`: names of the columns that Millrace writes. */
export async function adoptionObstacles(
  session: Session,
  { schema, table }: TargetName,
  written: readonly string[],
  signal: AbortSignal,
): Promise<readonly Obstacle[]> {
  const named = `schemaname = ${quoteLiteral(schema)} AND tablename = ${quoteLiteral(table)}`;
  const { rows } = await session.query(
    `SELECT pg_has_role(c.relowner, 'USAGE'), quote_ident(current_user),
       (SELECT json_agg(quote_ident(s.subname)) FROM pg_subscription_rel r JOIN pg_subscription s ON s.oid = r.srsubid WHERE r.srrelid = c.oid AND s.subenabled),
       (SELECT json_agg(quote_ident(pubname)) FROM pg_publication_tables WHERE ${named}),
       (SELECT json_agg(conrelid::regclass || ' DROP CONSTRAINT ' || quote_ident(conname)) FROM pg_constraint WHERE contype = 'f' AND conparentid = 0 AND (conrelid = c.oid OR confrelid = c.oid)),
       (SELECT json_agg(attname) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attnotnull
          AND NOT atthasdef AND attidentity = '' AND attname <> ALL (${quoteTextArray(written)})),
       c.relispartition, row_security_active(c.oid)
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = ${quoteLiteral(schema)} AND c.relname = ${quoteLiteral(table)}`,
    signal,
  );
  const [mayAlter, role, subscriptions, publications, references, required, isPartition, isSecured] = rows[0] ?? [];
  const name = quoteTable(schema, table);
  const found: Obstacle[] = [];
  if (mayAlter !== "t")
    found.push({
      what: `role ${role} does not own ${name}, so it can't add the columns that Millrace needs`,
      fix: `ALTER TABLE ${name} OWNER TO ${role};`,
    });
  if (isPartition === "t")
    found.push({
      what: `${name} is a partition of another table`,
      fix: "Let the table of the source be the whole one.",
    });
  if (isSecured === "t") found.push(hiddenRows(name, role ?? ""));
  for (const publication of namesIn(publications))
    found.push({
      what: `${name} is in the publication ${publication} of the target's database: it may be a captured table itself`,
      fix: "If this database is the source, give the sink another one, or a `schema`. Else take the table out of the publication until Millrace has taken it over.",
    });
  for (const subscription of namesIn(subscriptions))
    found.push({
      what: `the subscription ${subscription} still writes to ${name}`,
      fix: `ALTER SUBSCRIPTION ${subscription} DISABLE;`,
    });
  for (const reference of namesIn(references))
    found.push({
      what: `a foreign key of or to ${name} would refuse rows whose order is that of the log`,
      fix: `ALTER TABLE ${reference};`,
    });
  for (const column of namesIn(required))
    found.push({
      what: `${name}.${quoteIdentifier(column)} must have a value, which the table at the source does not have`,
      fix: `ALTER TABLE ${name} ALTER COLUMN ${quoteIdentifier(column)} DROP NOT NULL;`,
    });
  return found;
}

/** What another program filled, and rules leave out: Millrace would neither write nor remove it. `hidden`: see `hiddenNames`. */
export function shownColumns(
  { schema, table }: TargetName,
  { columns }: FoundTable,
  hidden: readonly string[],
): readonly Obstacle[] {
  const name = quoteTable(schema, table);
  return hidden
    .map(fitted)
    .filter((column) => columns.has(column))
    .map((column) => ({
      what: `${name}.${quoteIdentifier(column)} has what the rules hide at the source`,
      fix: `ALTER TABLE ${name} DROP COLUMN ${quoteIdentifier(column)};`,
    }));
}

/** `name` and `role`: quoted. */
export function hiddenRows(name: string, role: string): Obstacle {
  return {
    what: `policies hide rows of ${name} from role ${role}`,
    fix: `ALTER TABLE ${name} NO FORCE ROW LEVEL SECURITY; if the role owns it; or ALTER ROLE ${role} BYPASSRLS;`,
  };
}
