/** The line of Postgres in this run: the newest, or the one in MILLRACE_TEST_POSTGRES_VERSION. */
import { chosenLine, type ServerLine } from "../../server-line.ts";
import { versions } from "../../versions.ts";

export interface PostgresLine extends ServerLine {
  /** 14, 15, … */
  readonly major: number;
  readonly embedded: string;
}

const { postgres, postgres17, postgres16, postgres15, postgres14 } = versions;

/** Newest first. */
export const postgresLines: readonly PostgresLine[] = [postgres, postgres17, postgres16, postgres15, postgres14].map(
  (line) => {
    const major = Number.parseInt(line.embedded, 10);
    return { ...line, major, version: String(major) };
  },
);

export const POSTGRES_VERSION_VARIABLE = "MILLRACE_TEST_POSTGRES_VERSION";

/** The line of that major version; default: the run's line. */
export function postgresLine(major?: string): PostgresLine {
  return chosenLine("Postgres", POSTGRES_VERSION_VARIABLE, postgresLines, major);
}
