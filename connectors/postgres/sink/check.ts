import type { CheckedTable, Finding } from "../../../src/core/contracts/connector.ts";
import { failed, ok, takenFrom, warning, wrong } from "../../kit/findings.ts";
import { findMillraceError } from "../../../src/core/errors.ts";
import { quoteIdentifier, quoteLiteral, quoteTable, quoteTextArray } from "../../../src/postgres/quote.ts";
import { FOREIGN_TABLE_FIX, ofAnother, postgresError, stateOf, UNTRANSLATABLE } from "./errors.ts";
import { successorOf } from "../../warehouse/following.ts";
import { checkedParts, refusedParts } from "../../warehouse/scopes.ts";
import { adoptionRefusals, isAdoptable, refusalOf } from "../../warehouse/table-change.ts";
import { adoptionObstacles, hiddenRows, shownColumns } from "./tables/adoption.ts";
import { findTable, type FoundTable, obstaclesOf } from "./tables/found-table.ts";
import { fitted, targetName, type TargetName } from "./tables/names.ts";
import { resolveTypes } from "./tables/types.ts";
import { KEY_NAME, PLACE, refusalAt } from "./tables/warehouse.ts";
import { METADATA_SCHEMA } from "../own-tables.ts";
import { CHECKPOINT_NAME, MAY_USE_SCOPES, SCOPES, SCOPES_TABLE } from "./wire/checkpoint.ts";
import { Session } from "./wire/session.ts";
import type { PostgresSinkOptions } from "./sink.ts";
import { Frames } from "./wire/frames.ts";
import { DEFAULT_FORM, type TargetForm, VERSION_COLUMN } from "../../warehouse/own-columns.ts";

const VERSION_MIN = 140_000;
/** Six digits are all that a time can have. */
const WHOLE_TIME = /^time(stamp)?\(6\)/;

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
  /** For whose names the database's encoding lacks characters. */
  readonly unnamed: readonly TargetName[];
  readonly altered: readonly Omit<Finding, "id">[];
}

interface CheckedTarget extends TargetName {
  readonly source: CheckedTable;
}

/** The targets of rows and checkpoint. */
interface CheckedTargets {
  readonly schemas: readonly string[];
  readonly tables: readonly CheckedTarget[];
  /** True if the tables' schemas are unknown, so that one may have to be created. */
  readonly isUnknown: boolean;
  readonly form: TargetForm;
  /** Takes over what another program made. */
  readonly adopts: boolean;
  /** See TargetNote. */
  readonly owner: string;
}

/** Checks whether the sink would work. Connects, reads, and changes nothing. */
export async function checkTarget(
  options: PostgresSinkOptions,
  signal: AbortSignal,
  tables: readonly CheckedTable[] | undefined,
): Promise<readonly Finding[]> {
  const id = `postgres.${options.name}`;
  const names = (tables ?? []).map((source) => ({ ...targetName(source, options.schema), source }));
  const known = options.schema === undefined ? names.map(({ schema }) => schema) : [fitted(options.schema)];
  const wanted = {
    schemas: [...new Set([METADATA_SCHEMA, ...known])],
    tables: names,
    isUnknown: tables === undefined && options.schema === undefined,
    form: options.form ?? DEFAULT_FORM,
    adopts: options.adopts === true,
    owner: options.checkpointName,
  };
  let session: Session;
  try {
    session = await Session.open(options.address, new Frames(), signal);
  } catch (error) {
    const failure = findMillraceError(error);
    if (failure === undefined) throw error;
    return [failed(`${id}.connect`, failure)];
  }
  try {
    return findings(id, await look(session, wanted, signal), wanted);
  } finally {
    await session.end();
  }
}

async function look(session: Session, wanted: CheckedTargets, signal: AbortSignal): Promise<Facts> {
  const general = await session.query(
    `SELECT current_setting('server_version_num'), pg_is_in_recovery(), current_setting('server_encoding'),
       has_database_privilege(current_database(), 'CREATE'), has_database_privilege(current_database(), 'TEMPORARY'),
       current_database(), current_user`,
    signal,
  );
  const [version, standby, encoding, create, temporary, database, role] = general.rows[0] ?? [];
  const isHeld = async (text: string): Promise<boolean> => encoding === "UTF8" || (await holds(session, text, signal));
  const known: string[] = [];
  for (const name of wanted.schemas) if (await isHeld(name)) known.push(name);
  const named: TargetName[] = [];
  const unnamed: TargetName[] = [];
  for (const name of wanted.tables)
    (known.includes(name.schema) && (await isHeld(name.table)) ? named : unnamed).push(name);
  // One call with several privileges is true if the role has any of them, so each is asked separately.
  const schemas = await session.query(
    `SELECT nspname, has_schema_privilege(oid, 'CREATE') AND has_schema_privilege(oid, 'USAGE') FROM pg_namespace
     WHERE nspname = ANY (${quoteTextArray(known)})`,
    signal,
  );
  const isShared = wanted.tables.some(({ source }) => source.scope !== undefined);
  const all = [...named, CHECKPOINT_NAME, ...(isShared ? [SCOPES_TABLE] : [])];
  const tables = await session.query(
    `SELECT n.nspname, c.relname, pg_has_role(c.relowner, 'USAGE') OR (SELECT bool_and(has_table_privilege(c.oid, p))
         FROM unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE}'::text[]) AS p),
       EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = '${VERSION_COLUMN}' AND NOT a.attisdropped)
     FROM unnest(${quoteTextArray(all.map(({ schema }) => schema))}, ${quoteTextArray(all.map(({ table }) => table))}) AS w (s, t)
     JOIN pg_namespace n ON n.nspname = w.s JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t`,
    signal,
  );
  const found = tables.rows.map(([schema, table, mayWrite, isOurs]) => {
    const name = { schema: schema ?? "", table: table ?? "" };
    return { name, mayWrite: mayWrite === "t", isOurs: isOurs === "t" || schema === METADATA_SCHEMA };
  });
  const altered: Omit<Finding, "id">[] = isShared ? [...(await takenParts(session, wanted, signal))] : [];
  const foreign: TargetName[] = [];
  for (const { name, isOurs } of found) {
    const source = wanted.tables.find(({ schema, table }) => schema === name.schema && table === name.table)?.source;
    if (isOurs && name.schema !== METADATA_SCHEMA)
      altered.push(...(await alteredIn(session, { ...name, scope: source?.scope }, wanted, role ?? "", signal)));
    if (isOurs) continue;
    const adopted =
      wanted.adopts && source !== undefined && source.scope === undefined
        ? await adoptedIn(session, name, source, signal)
        : null;
    if (adopted === null) foreign.push(name);
    else altered.push(...adopted);
  }
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
    foreign,
    altered,
    unnamed,
  };
}

async function holds(session: Session, text: string, signal: AbortSignal): Promise<boolean> {
  try {
    await session.query(`SELECT ${quoteLiteral(text)}`, signal);
    return true;
  } catch (error) {
    if (stateOf(error) !== UNTRANSLATABLE) throw error;
    return false;
  }
}

/** Of tables that share targets. */
async function takenParts(
  session: Session,
  { tables, owner }: Pick<CheckedTargets, "tables" | "owner">,
  signal: AbortSignal,
): Promise<readonly Omit<Finding, "id">[]> {
  const targets = new Map(tables.map(({ schema, table, source }) => [source, quoteTable(schema, table)]));
  const parts = checkedParts([...targets.keys()], (table) => targets.get(table)!);
  const rows = async (sql: string) => (await session.query(sql, signal)).rows;
  const [[mayUse] = []] = await rows(MAY_USE_SCOPES);
  if (mayUse !== "t") return [];
  const scopes = parts.map(({ scope }) => scope);
  return refusedParts(postgresError, owner, parts, await SCOPES.find(scopes, rows)).map((error) => failed("", error));
}

/** What somebody has made of a table of ours that keeps rows from it. */
async function alteredIn(
  session: Session,
  name: TargetName & Pick<CheckedTable, "scope">,
  { form, owner }: Pick<CheckedTargets, "form" | "owner">,
  role: string,
  signal: AbortSignal,
): Promise<readonly Omit<Finding, "id">[]> {
  const table = quoteTable(name.schema, name.table);
  const found = await findTable(session, name, signal);
  if (found === null) return [];
  const altered = obstaclesOf(table, found, Object.keys(found.note?.columns ?? {}));
  const errors: Omit<Finding, "id">[] = altered.map((obstacle) => ({ level: "error", ...obstacle }));
  const dialect = dialectOf(table);
  const refused = refusalOf(dialect, { table: name, form }, found);
  if (refused !== null) errors.push(failed("", refused));
  if (found.isSecured) errors.push({ level: "error", ...hiddenRows(table, quoteIdentifier(role)) });
  const other = successorOf(owner, found.note);
  if (refused === null && !found.isOwned && other !== null) errors.push({ level: "error", ...ofAnother(table, other) });
  const taken = refused === null && found.isOwned ? takenFrom("", table, other, form.mode) : [];
  return [...errors, ...taken, ...triggerWarnings(table, found)];
}

/** What fires for each row that is written. */
function triggerWarnings(table: string, { triggers }: FoundTable): readonly Omit<Finding, "id">[] {
  if (triggers.length === 0) return [];
  const what = `${table} has BEFORE triggers (${triggers.join(", ")}): a row that they change differs from the source, and one that they keep from being written or deleted becomes a dead letter`;
  return [{ level: "warning", what, fix: "Let them return the row as it came, or make them AFTER triggers." }];
}

/** How a table that another program made would be taken over; null: it would not. */
async function adoptedIn(
  session: Session,
  name: TargetName,
  { schema, table, columns, key, dialect: source, hidden = [] }: CheckedTable,
  signal: AbortSignal,
): Promise<readonly Omit<Finding, "id">[] | null> {
  const found = await findTable(session, name, signal);
  if (found === null || !isAdoptable(found)) return null;
  const quoted = quoteTable(name.schema, name.table);
  const written = columns?.map((column) => fitted(column.name)) ?? [...found.columns.keys()];
  const obstacles = [
    ...obstaclesOf(quoted, found, written),
    ...shownColumns(name, found, hidden),
    ...(await adoptionObstacles(session, name, written, signal)),
  ];
  const errors = obstacles.map((obstacle): Omit<Finding, "id"> => ({ level: "error", ...obstacle }));
  if (columns !== undefined && key !== undefined && source !== undefined) {
    const rows = async (sql: string) => (await session.query(sql, signal)).rows;
    const types = await resolveTypes({ columns, key, dialect: source }, rows);
    const wanted = columns.map(({ identity }, i) => ({ name: written[i]!, identity, type: types[i]! }));
    const asked = { table: { schema, table }, columns: wanted, key: key.map((i) => written[i]!) };
    errors.push(...adoptionRefusals(dialectOf(quoted), asked, found).map((refused) => failed("", refused)));
  }
  if (errors.length > 0) return errors;
  const what = `${quoted} was not made by Millrace: it is taken over with its rows, and only what differs is written`;
  return [{ level: "ok", what, fix: null }, ...triggerWarnings(quoted, found)];
}

/** Types are compared by their names. */
function dialectOf(table: string): Parameters<typeof refusalOf>[0] {
  return {
    place: PLACE,
    keyName: KEY_NAME,
    shown: () => table,
    takes: ({ type: there }, { type }) =>
      there === type || there === type.replace(/\([^()"]*\)/, "") || there.replace(WHOLE_TIME, "time$1") === type,
    refusal: (refused) => refusalAt(table, refused),
  };
}

function findings(id: string, facts: Facts, wanted: CheckedTargets): readonly Finding[] {
  const database = quoteIdentifier(facts.database);
  const role = quoteIdentifier(facts.role);
  const found: Finding[] = [];
  const error = (name: string, what: string, fix: string): void => {
    found.push(wrong(`${id}.${name}`, what, fix));
  };
  if (facts.version < VERSION_MIN) error("version", "the target is older than Postgres 14", "Upgrade the server.");
  if (facts.standby) error("primary", "the target is a standby: it takes no writes", "Point the url at the primary.");
  if (!facts.mayUseTemporary) {
    const fix = `GRANT TEMPORARY ON DATABASE ${database} TO ${role};`;
    error("temporary", `role ${role} may not use temporary tables in ${database}`, fix);
  }
  const isNew = (name: string): boolean =>
    !facts.schemas.has(name) && !facts.unnamed.some(({ schema }) => schema === name);
  const mustCreate = wanted.isUnknown || wanted.schemas.some(isNew);
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
  for (const altered of facts.altered) found.push({ ...altered, id: `${id}.table` });
  for (const { schema, table } of facts.unnamed) {
    const what = `the target's encoding ${facts.encoding} lacks characters of the name ${quoteTable(schema, table)}`;
    error("name", what, "Use a database with encoding UTF8, or exclude the table.");
  }
  if (facts.encoding !== "UTF8") {
    const what = `the target's encoding is ${facts.encoding}: rows with characters that it lacks become dead letters`;
    found.push(warning(`${id}.encoding`, what, "Use a database with encoding UTF8."));
  }
  return found.length > 0 ? found : [ok(id, `${database} can be written by ${role}`)];
}
