/** What DuckLake says of the catalogue and the files of a lake. */
import type { Rule } from "../rule.ts";

const POSTGRES =
  /Unable to connect to Postgres|Failed to (?:execute|prepare|copy) .*Postgres|server closed the connection|terminating connection|connection to server/i;

export const LAKE_RULES: readonly Rule[] = [
  {
    text: /DATA_PATH parameter .* does not match/,
    code: "MR3225",
    kind: "fatal",
    says: () => "the lake's data are in another folder than `data` says",
    hint: "set `data` to the folder with which the lake was made",
  },
  {
    text: /\.parquet"?: No such file|\.parquet.*does not exist/,
    code: "MR3226",
    kind: "blocked",
    says: (doing) => `a data file of the lake is missing (${doing})`,
    hint: "put the folder `data` back, or fill a new lake: millrace snapshot start --sink NAME",
  },
  {
    text: /Unable to connect to Postgres[^]*(?:authentication failed|no pg_hba|role "|database ")/,
    code: "MR3227",
    kind: "blocked",
    says: (doing) => `the Postgres that holds the lake's catalogue refuses the login (${doing})`,
    hint: "correct `catalog`",
  },
  {
    text: POSTGRES,
    code: "MR3227",
    kind: "retryable",
    reason: "lost",
    says: (doing) => `the Postgres that holds the lake's catalogue can't be reached (${doing})`,
    hint: "see whether it runs",
  },
  {
    text: /database is locked|Failed to commit DuckLake transaction|Transaction conflict - attempting/,
    code: "MR3220",
    kind: "retryable",
    says: (doing) => `another writer changed the lake while ${doing}`,
  },
  {
    text: /unable to open database file/,
    code: "MR3203",
    kind: "blocked",
    says: () => "the lake's catalogue can't be opened",
    hint: "its folder must exist, and the user that Millrace runs as must be able to write there",
  },
  {
    text: /file is not a database/,
    code: "MR3202",
    kind: "fatal",
    says: () => "the file is not a SQLite database",
    hint: "give another path in `catalog`",
  },
];
