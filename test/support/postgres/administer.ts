/** An administrator who runs what `check` prints. */
import type { Finding } from "../../../src/core/contracts/connector.ts";

export interface Checked {
  readonly ok: boolean;
  readonly findings: readonly (Finding & { readonly part: string })[];
}

/** What an administrator is asked for; settings of the server and the tables' own keys are other people's decisions. */
const OF_PRIVILEGES = /^(GRANT|ALTER ROLE|CREATE PUBLICATION|ALTER PUBLICATION|ALTER TABLE .+ OWNER TO) /;

/** Runs the statements of the findings, each in the database of its part, exactly as they are printed. */
export async function administer(
  findings: Checked["findings"],
  databases: Readonly<Record<string, { query(sql: string): Promise<unknown> }>>,
): Promise<readonly string[]> {
  const ran: string[] = [];
  for (const { part, level, fix } of findings) {
    const database = databases[part];
    if (level === "ok" || fix === null || database === undefined || !OF_PRIVILEGES.test(fix)) continue;
    await database.query(fix);
    ran.push(fix);
  }
  return ran;
}
