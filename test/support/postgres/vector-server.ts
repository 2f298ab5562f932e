/** A server with pgvector, for one test. */
import type { TestContext } from "vitest";
import type { RunningPostgres } from "../../../scripts/services/servers/postgres/postgres.ts";
import { ServiceUnavailableError } from "../../../scripts/services/service.ts";
import { ownPostgres } from "../run/services.ts";

export async function vectorServer({ skip }: Pick<TestContext, "skip">): Promise<RunningPostgres> {
  try {
    return await ownPostgres({ extension: "pgvector" });
  } catch (error) {
    if (process.env["CI"] === "true" || !(error instanceof ServiceUnavailableError)) throw error;
    return skip(error.message);
  }
}
