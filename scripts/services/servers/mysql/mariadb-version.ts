/** The line of MariaDB in this run: that of the machine's own release, or the one in MILLRACE_TEST_MARIADB_VERSION. */
import { chosenLine, isLineChosen, type ServerLine, versionOf } from "../../server-line.ts";
import { versions } from "../../versions.ts";

export interface MariadbLine extends ServerLine {
  readonly suite: "own" | "bullseye" | "trixie";
  /** The package that has it. */
  readonly server: string;
}

const { mariadb, mariadb105, mariadb118 } = versions;

/** Every run uses this one first. */
export const mariadbLines: readonly MariadbLine[] = [mariadb, mariadb118, mariadb105].map((line) => ({
  ...line,
  version: versionOf(line.image),
  server: line === mariadb105 ? "mariadb-server-core-10.5" : "mariadb-server-core",
}));

export const MARIADB_VERSION_VARIABLE = "MILLRACE_TEST_MARIADB_VERSION";

/** Whether the run is only for one line of MariaDB. */
export function isMariadbChosen(): boolean {
  return isLineChosen(MARIADB_VERSION_VARIABLE);
}

export function mariadbLine(): MariadbLine {
  return chosenLine("MariaDB", MARIADB_VERSION_VARIABLE, mariadbLines);
}
