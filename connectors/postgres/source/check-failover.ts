/** Preflight of failovers: whether a promoted standby would have what Millrace needs. */
import type { Finding } from "../../../src/core/contracts/connector.ts";
import { quoteIdentifier, quoteLiteral } from "../../../src/postgres/quote.ts";
import type { SourceContext } from "./context.ts";
import { ABSENT_FIX, ABSENT_STANDBYS_SQL, saysAbsent } from "./log/health.ts";
import type { ServerFacts } from "./log/server.ts";

/** Postgres 17: in older versions no slot survives a promotion. */
const VERSION_MIN = 170_000;
const ID = "postgres.failover";

interface Row {
  /** Null if our slot does not exist. */
  readonly failover: string | null;
  /** Physical slots in use: those of standbys, and of programs that store the log. */
  readonly standbys: readonly string[];
  readonly waited: string | null;
  readonly absent: string | null;
}

const SQL = `
select (select to_jsonb(s) ->> 'failover' from pg_replication_slots s where slot_name = $1) as failover,
  (select coalesce(array_agg(slot_name::text order by slot_name), '{}') from pg_replication_slots
   where slot_type = 'physical' and active) as standbys,
  nullif(current_setting('synchronized_standby_slots', true), '') as waited, (${ABSENT_STANDBYS_SQL}) as absent`;

export async function checkFailover(
  context: SourceContext,
  facts: ServerFacts,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  if (facts.version < VERSION_MIN || facts.inRecovery) return [];
  const [row] = await context.database.rows<Row>("looking for standbys", SQL, [context.slot], signal);
  const findings: Finding[] = [];
  if (row?.failover === "false") {
    findings.push({
      id: ID,
      level: "warning",
      what: `the slot ${context.slot} is no failover slot: a standby that is promoted will not have it`,
      fix: `While Millrace is stopped, by psql "dbname=… replication=database": ALTER_REPLICATION_SLOT ${quoteIdentifier(context.slot)} (FAILOVER true);`,
    });
  }
  if (row !== undefined && row.absent !== null && row.failover !== "false")
    findings.push({ id: ID, level: "warning", what: saysAbsent(row.absent), fix: ABSENT_FIX });
  if (row !== undefined && row.standbys.length > 0 && row.waited === null) {
    findings.push({
      id: ID,
      level: "warning",
      what: `Millrace may be sent what the standbys (slots ${row.standbys.join(", ")}) do not have yet: one that is promoted then is no way to go on`,
      fix: `ALTER SYSTEM SET synchronized_standby_slots = ${quoteLiteral(row.standbys.join(", "))}; SELECT pg_reload_conf(); naming the slots of those standbys only that may be promoted. \`millrace explain MR2031\` says what the standby needs.`,
    });
  }
  return findings;
}
