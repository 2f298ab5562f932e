import type { Finding, TableName } from "../../../src/core/contracts/connector.ts";
import { findMillraceError } from "../../../src/core/errors.ts";
import { quoteIdentifier, quoteTable, quoteTextArray } from "../quote.ts";
import { FOREIGN_TABLE_FIX } from "./errors.ts";
import { VERSION_COLUMN } from "./tables/form.ts";
import { fitted, targetName, type TargetName } from "./tables/names.ts";
import { METADATA_SCHEMA } from "../own-tables.ts";
import { PROGRESS_NAME } from "./progress.ts";
import { Session } from "./session.ts";
import type { PostgresSinkOptions } from "./sink.ts";
import { Frames } from "./wire.ts";

const VERSION_MIN = 140_000;

interface Facts {
  readonly version: number;
  readonly standby: boolean;
  readonly encoding: string;
  readonly mayCreate: boolean;
  readonly mayUseTemporary: boolean;
  readonly database: string;
  readonly role: string;
  /** Existing schemas -> whether the role may create tables in them. */
  readonly schemas: ReadonlyMap<string, boolean>;
  /** Existing tables to which the role may not write, or which Millrace did not create. */
  readonly closed: readonly TargetName[];
  readonly foreign: readonly TargetName[];
}

/** The targets of rows and progress. */
interface Wanted {
  readonly schemas: readonly string[];
  readonly tables: readonly TargetName[];
  /** True if the tables' schemas are unknown, so that one may have to be created. */
  readonly isUnknown: boolean;
}

/** Checks whether the sink would work. Connects, reads, and changes nothing. */
export async function checkTarget(
  options: PostgresSinkOptions,
  signal: AbortSignal,
  tables?: readonly TableName[],
): Promise<readonly Finding[]> {
  const id = `postgres.${options.name}`;
  const names = (tables ?? []).map((table) => targetName(table, options.schema));
  const known = options.schema === undefined ? names.map(({ schema }) => schema) : [fitted(options.schema)];
  const wanted = {
    schemas: [...new Set([METADATA_SCHEMA, ...known])],
    tables: names,
    isUnknown: tables === undefined && options.schema === undefined,
  };
  let session: Session;
  try {
    session = await Session.open(options.address, new Frames(), signal);
  } catch (error) {
    const failure = findMillraceError(error);
    if (failure === undefined) throw error;
    const what = `${failure.code}: ${failure.message}`;
    return [{ id: `${id}.connect`, level: "error", what, fix: failure.hint ?? null }];
  }
  try {
    return findings(id, await look(session, wanted, signal), wanted);
  } finally {
    await session.end();
  }
}

async function look(session: Session, wanted: Wanted, signal: AbortSignal): Promise<Facts> {
  const general = await session.query(
    `SELECT current_setting('server_version_num'), pg_is_in_recovery(), current_setting('server_encoding'),
       has_database_privilege(current_database(), 'CREATE'), has_database_privilege(current_database(), 'TEMPORARY'),
       current_database(), current_user`,
    signal,
  );
  const [version, standby, encoding, create, temporary, database, role] = general.rows[0] ?? [];
  // One call with several privileges is true if the role has any of them, so each is asked separately.
  const schemas = await session.query(
    `SELECT nspname, has_schema_privilege(oid, 'CREATE') AND has_schema_privilege(oid, 'USAGE') FROM pg_namespace
     WHERE nspname = ANY (${quoteTextArray(wanted.schemas)})`,
    signal,
  );
  const places = [...wanted.tables, PROGRESS_NAME];
  const tables = await session.query(
    `SELECT n.nspname, c.relname, pg_has_role(c.relowner, 'USAGE') OR (SELECT bool_and(has_table_privilege(c.oid, p))
         FROM unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE}'::text[]) AS p),
       EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = '${VERSION_COLUMN}' AND NOT a.attisdropped)
     FROM unnest(${quoteTextArray(places.map(({ schema }) => schema))}, ${quoteTextArray(places.map(({ table }) => table))}) AS w (s, t)
     JOIN pg_namespace n ON n.nspname = w.s JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t`,
    signal,
  );
  const found = tables.rows.map(([schema, table, mayWrite, isOurs]) => {
    const name = { schema: schema ?? "", table: table ?? "" };
    return { name, mayWrite: mayWrite === "t", isOurs: isOurs === "t" || schema === METADATA_SCHEMA };
  });
  return {
    version: Number(version),
    standby: standby === "t",
    encoding: encoding ?? "",
    mayCreate: create === "t",
    mayUseTemporary: temporary === "t",
    database: database ?? "",
    role: role ?? "",
    schemas: new Map(schemas.rows.map(([name, may]) => [name ?? "", may === "t"])),
    closed: found.filter(({ mayWrite, isOurs }) => isOurs && !mayWrite).map(({ name }) => name),
    foreign: found.filter(({ isOurs }) => !isOurs).map(({ name }) => name),
  };
}

function findings(id: string, facts: Facts, wanted: Wanted): readonly Finding[] {
  const database = quoteIdentifier(facts.database);
  const role = quoteIdentifier(facts.role);
  const found: Finding[] = [];
  const error = (name: string, what: string, fix: string): void => {
    found.push({ id: `${id}.${name}`, level: "error", what, fix });
  };
  if (facts.version < VERSION_MIN) error("version", "the target is older than Postgres 14", "Upgrade the server.");
  if (facts.standby) error("primary", "the target is a standby: it takes no writes", "Point the url at the primary.");
  if (!facts.mayUseTemporary) {
    const fix = `GRANT TEMPORARY ON DATABASE ${database} TO ${role};`;
    error("temporary", `role ${role} may not use temporary tables in ${database}`, fix);
  }
  const mustCreate = wanted.isUnknown || wanted.schemas.some((name) => !facts.schemas.has(name));
  if (mustCreate && !facts.mayCreate) {
    const fix = `GRANT CREATE ON DATABASE ${database} TO ${role};`;
    error("create", `role ${role} may not create schemas in ${database}`, fix);
  }
  for (const [name, may] of facts.schemas) {
    if (may) continue;
    const quoted = quoteIdentifier(name);
    const fix = `GRANT USAGE, CREATE ON SCHEMA ${quoted} TO ${role};`;
    error("schema", `role ${role} may not create tables in schema ${quoted}`, fix);
  }
  for (const { schema, table } of facts.closed) {
    const quoted = quoteTable(schema, table);
    error("table", `role ${role} may not write to ${quoted}`, `ALTER TABLE ${quoted} OWNER TO ${role};`);
  }
  for (const { schema, table } of facts.foreign) {
    const fix = FOREIGN_TABLE_FIX;
    error("foreign", `${quoteTable(schema, table)} exists in the target and was not made by Millrace`, fix);
  }
  if (facts.encoding !== "UTF8") {
    const what = `the target's encoding is ${facts.encoding}: rows with characters that it lacks become dead letters`;
    found.push({ id: `${id}.encoding`, level: "warning", what, fix: "Use a database with encoding UTF8." });
  }
  return found.length > 0 ? found : [{ id, level: "ok", what: `${database} can be written by ${role}`, fix: null }];
}
