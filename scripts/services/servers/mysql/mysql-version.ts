/** The line of MySQL in this run: the newest, or the one in MILLRACE_TEST_MYSQL_VERSION. */
import { chosenLine, isLineChosen, type ServerLine, versionOf } from "../../server-line.ts";
import { versions } from "../../versions.ts";

export interface MysqlLine extends ServerLine {
  /** The suite of Debian's packages; undefined: there are none, only a container. */
  readonly suite: "sid" | undefined;
}

const { mysql, mysql84, mysql80 } = versions;

/** Every run uses this one first. */
export const mysqlLines: readonly MysqlLine[] = [
  { ...mysql, version: versionOf(mysql.image) },
  ...[mysql84, mysql80].map(({ image }) => ({ image, version: versionOf(image), suite: undefined })),
];

const VARIABLE = "MILLRACE_TEST_MYSQL_VERSION";

/** Whether the run is only for one line of MySQL. */
export function isMysqlChosen(): boolean {
  return isLineChosen(VARIABLE);
}

export function mysqlLine(): MysqlLine {
  return chosenLine("MySQL", VARIABLE, mysqlLines);
}
