import { quoteIdentifier } from "./quote.ts";

/** Statements that make a role, or give an existing one what it must be able to do. */
export function makeRole(name: string, abilities: string): readonly string[] {
  const role = quoteIdentifier(name);
  return [
    `DO $role$ BEGIN CREATE ROLE ${role} ${abilities}; EXCEPTION WHEN duplicate_object THEN ALTER ROLE ${role} ${abilities}; END $role$;`,
    `-- Its password: \\password ${role} in psql.`,
  ];
}
