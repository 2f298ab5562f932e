/** Which line of Postgres a run has: the newest, or the one that MILLRACE_TEST_POSTGRES_VERSION names. */
import { versions } from "./versions.ts";

export interface PostgresLine {
  /** 14, 15, … */
  readonly major: number;
  readonly image: string;
  readonly embedded: string;
}

const { postgres, postgres17, postgres16, postgres15, postgres14 } = versions;

/** Newest first. */
export const postgresLines: readonly PostgresLine[] = [postgres, postgres17, postgres16, postgres15, postgres14].map(
  (line) => ({ ...line, major: Number.parseInt(line.embedded, 10) }),
);

const VARIABLE = "MILLRACE_TEST_POSTGRES_VERSION";

/** The line of that major version; by default that of the run. */
export function postgresLine(major = process.env[VARIABLE]): PostgresLine {
  const found = postgresLines.find((line) => major === undefined || major === "" || String(line.major) === major);
  if (found !== undefined) return found;
  const known = postgresLines.map((line) => line.major).join(", ");
  throw new Error(`${VARIABLE}=${major}: there is no such Postgres here; known are ${known}`);
}
