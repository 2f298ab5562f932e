/** Which line of MySQL a run has: the newest, or the one that MILLRACE_TEST_MYSQL_VERSION names. */
import { chosenLine, isLineChosen, type ServerLine, versionOf } from "./server-line.ts";
import { versions } from "./versions.ts";

export interface MysqlLine extends ServerLine {
  /** Of Debian's packages; undefined: there are none, it is had as a container alone. */
  readonly suite: "sid" | undefined;
}

const { mysql, mysql84, mysql80 } = versions;

/** The one that every run has first. */
export const mysqlLines: readonly MysqlLine[] = [
  { ...mysql, version: versionOf(mysql.image) },
  ...[mysql84, mysql80].map(({ image }) => ({ image, version: versionOf(image), suite: undefined })),
];

const VARIABLE = "MILLRACE_TEST_MYSQL_VERSION";

/** Whether the run is for one line of MySQL alone. */
export function isMysqlChosen(): boolean {
  return isLineChosen(VARIABLE);
}

export function mysqlLine(): MysqlLine {
  return chosenLine("MySQL", VARIABLE, mysqlLines);
}
