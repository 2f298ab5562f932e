/** The server: its version, identity, and whether it can be captured from at all. */
import type { ErrorCode, MillraceError } from "../../../../src/core/errors.ts";
import { poolerError, sourceError } from "../errors.ts";
import { quoteIdentifier } from "../../../../src/postgres/quote.ts";
import type { SourceContext } from "../wire/context.ts";

const VERSION_MIN = 140_000;
const STANDBY_VERSION_MIN = 160_000;

export interface ServerFacts {
  readonly version: number;
  readonly inRecovery: boolean;
  /** When its process was started. */
  readonly started: string;
  readonly walLevel: string;
  readonly database: string;
  readonly databaseOid: string;
  readonly user: string;
  readonly mayReplicate: boolean;
  readonly encoding: string;
}

export async function readServer(context: SourceContext, signal: AbortSignal): Promise<ServerFacts> {
  const [row] = await context.database.rows<ServerFacts>(
    "reading the server's settings",
    `select current_setting('server_version_num')::int as version, pg_is_in_recovery() as "inRecovery",
       extract(epoch from pg_postmaster_start_time())::text as started,
       current_setting('wal_level') as "walLevel", current_database() as database, current_setting('server_encoding') as encoding,
       (select oid::text from pg_database where datname = current_database()) as "databaseOid", current_user as user,
       (select rolreplication or rolsuper from pg_roles where rolname = current_user)
         or coalesce((select pg_has_role(oid, 'MEMBER') from pg_roles where rolname = 'rds_replication'), false) as "mayReplicate"`,
    [],
    signal,
  );
  if (row === undefined) throw poolerError();
  return row;
}

export function checkServer(facts: ServerFacts): void {
  const [first] = serverProblems(facts);
  if (first !== undefined) throw first.error;
}

interface ServerProblem {
  /** Its name in `millrace check`. */
  readonly id: string;
  readonly error: MillraceError;
}

/** Everything about the server and the role that prevents capture. */
export function serverProblems(facts: ServerFacts): readonly ServerProblem[] {
  const problems: ServerProblem[] = [];
  const add = (what: string, code: ErrorCode, message: string, hint: string): void => {
    problems.push({ id: `postgres.${what}`, error: sourceError(code, "fatal", message, { hint }) });
  };
  if (facts.version < VERSION_MIN) {
    const name = `Postgres ${Math.floor(facts.version / 10_000)}`;
    add("version", "MR2005", `the server is ${name}`, "Millrace needs Postgres 14 or newer.");
  }
  if (facts.inRecovery && facts.version < STANDBY_VERSION_MIN) {
    const message = `the source is a standby of Postgres ${Math.floor(facts.version / 10_000)}, which can't decode its log`;
    add("standby", "MR2031", message, "Point source.url at the primary; a standby can be read from Postgres 16 on.");
  }
  if (facts.walLevel !== "logical") {
    const fix = "ALTER SYSTEM SET wal_level = logical; then restart the server.";
    add("wal_level", "MR2005", `wal_level is ${facts.walLevel}`, fix);
  }
  if (!facts.mayReplicate)
    add("role", "MR2008", "the role may not replicate", `ALTER ROLE ${quoteIdentifier(facts.user)} REPLICATION;`);
  return problems;
}
