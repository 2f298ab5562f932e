/** Which line of MariaDB a run has: that of the machine's own release, or the one that MILLRACE_TEST_MARIADB_VERSION names. */
import { versions } from "./versions.ts";

export interface MariadbLine {
  /** 10.5, 10.11, 11.8 */
  readonly version: string;
  readonly image: string;
  readonly suite: "own" | "bullseye" | "trixie";
  /** The package that has it. */
  readonly server: string;
}

const { mariadb, mariadb105, mariadb118 } = versions;

/** The one that every run has first. */
export const mariadbLines: readonly MariadbLine[] = [mariadb, mariadb118, mariadb105].map((line) => ({
  ...line,
  version: line.image.replace(/^.*:/, ""),
  server: line === mariadb105 ? "mariadb-server-core-10.5" : "mariadb-server-core",
}));

const VARIABLE = "MILLRACE_TEST_MARIADB_VERSION";

/** Whether the run is for one line of MariaDB alone. */
export function isMariadbChosen(): boolean {
  return (process.env[VARIABLE] ?? "") !== "";
}

export function mariadbLine(): MariadbLine {
  const wanted = process.env[VARIABLE];
  const found = mariadbLines.find(({ version }) => wanted === undefined || wanted === "" || version === wanted);
  if (found !== undefined) return found;
  const known = mariadbLines.map(({ version }) => version).join(", ");
  throw new Error(`${VARIABLE}=${wanted}: there is no such MariaDB here; known are ${known}`);
}
