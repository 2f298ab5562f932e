import { quoteIdentifier, quoteLiteral } from "./quote.ts";

/**
 * Statements that make a role that may log in, where it is missing. To let it read the log, on RDS a role of the vendor's
 * stands for REPLICATION, which only a superuser may give.
 */
export function makeRole(name: string, abilities: "logs in" | "reads the log"): readonly string[] {
  const role = quoteIdentifier(name);
  const text = quoteLiteral(name);
  const replicate =
    abilities === "logs in"
      ? ""
      : `
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_replication') THEN GRANT rds_replication TO ${role};
  ELSE ALTER ROLE ${role} REPLICATION; END IF;`;
  return [
    `DO $role$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = ${text}) THEN CREATE ROLE ${role} LOGIN; END IF;${replicate}
END $role$;`,
    `-- Its password: \\password ${role} in psql.`,
  ];
}
