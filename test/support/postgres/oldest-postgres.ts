/** A server of the oldest Postgres that is captured from, for one test. */
import { expect, type TestContext } from "vitest";
import type { RunningPostgres } from "../../../scripts/services/servers/postgres/postgres.ts";
import { ServiceUnavailableError } from "../../../scripts/services/service.ts";
import { ownPostgres } from "../run/services.ts";

export const OLDEST = 14;

export async function oldestPostgres({ skip }: Pick<TestContext, "skip">): Promise<RunningPostgres> {
  try {
    const server = await ownPostgres({ major: OLDEST });
    expect(server.major).toBe(OLDEST);
    return server;
  } catch (error) {
    if (process.env["CI"] === "true" || !(error instanceof ServiceUnavailableError)) throw error;
    return skip(error.message);
  }
}
