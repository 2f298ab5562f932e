/** What commands without a source load of it, to write positions as people read them. */
import type { Positions } from "../../../src/core/contracts/positions.ts";
import { GtidSet } from "./events/gtid-set.ts";
import { ReadTransactions } from "./transactions/read-transactions.ts";
import type { LogFiles } from "./wire/log-files.ts";
import { bytesBetween, LogNames } from "./wire/position.ts";

/** As far as the log was looked at, or recalled. */
export function positions(
  names = new LogNames("binlog"),
  read = new ReadTransactions(),
  files: Pick<LogFiles, "sizes"> = { sizes: [] },
): Positions {
  return {
    format: (commit) => names.format(commit),
    parse: (text) => names.parse(text),
    fields: (commit) => names.fields(commit),
    distance: (a, b) => (a < b ? bytesBetween(files.sizes, a, b) : bytesBetween(files.sizes, b, a)),
    recall: (identity) => {
      const base = identity["base"];
      if (base !== undefined) names.use(base);
      read.load(identity["read"]);
    },
    locate: (token) => (names.isPlace(token) ? names.parse(token) : read.locate(setOf(token))),
    namesBefore: (commit) => read.at(commit)?.set.spelled,
  };
}

const MYSQL_SET = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}:/i;

/** Of a token: one name of a transaction, or several. */
function setOf(token: string): GtidSet {
  const set = MYSQL_SET.test(token) ? GtidSet.parse(token) : GtidSet.ofServer(token, "mariadb");
  if (set === undefined || set.isEmpty) throw new RangeError("no position, and no name of a transaction");
  return set;
}
