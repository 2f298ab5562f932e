/** What DuckLake says of the catalogue and the files of a lake. */
import type { Rule } from "../rule.ts";

const POSTGRES =
  /Unable to connect to Postgres|Failed to (?:execute|prepare|copy) .*Postgres|server closed the connection|terminating connection|connection to server|Failed to execute query "[A-Z ]+":\s*$/i;

/**
 * What an engine says that has seen the catalogue before maintenance moved rows from it into files, and removed the table of
 * a former shape in which they lay. With a catalogue in Postgres it may give up the instance over it.
 */
export const MOVED =
  /Failed to read inlined data|from an unsuccessful query result|Current transaction is aborted|access index 0 within vector of size 0/;

/** What DuckDB says of a file that is no Parquet file, or no whole one. Anchored: further on a message can hold staged rows. */
export const SPOILED = new RegExp(
  "^(?:IO Error: Could not read enough bytes from file|Invalid Input Error: (?:Failed to read file|File|No magic bytes found at end of file|" +
    `Invalid footer length provided for file)) ["'][^"'\\n]*\\.parquet["']` +
    "|^Invalid Input Error: Parquet (?:file|footer)|^Invalid Error: (?:don't know what type|TProtocolException)",
);

/** S3's answers, as DuckDB prints them: their codes are what tells them apart. */
const S3_RULES: readonly Rule[] = [
  {
    text: /HTTP Error[^]*(?:RequestTimeTooSkewed|RequestExpired)/,
    code: "MR3230",
    kind: "blocked",
    part: "bucket",
    says: (doing) => `S3 finds this machine's clock wrong (${doing})`,
    hint: "set the clock, and keep it by NTP",
  },
  {
    text: /HTTP Error[^]*(?:NoSuchBucket|PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraint|HTTP (?:code )?301)/,
    code: "MR3229",
    kind: "blocked",
    part: "bucket",
    says: (doing) => `the bucket of the lake's data can't be used (${doing})`,
    hint: "see whether it exists, and that `s3.region` and `s3.endpoint` are right",
  },
  {
    // A policy may forbid the folder of one table.
    text: /HTTP Error[^]*AccessDenied/,
    code: "MR2008",
    kind: "blocked",
    part: "bucket",
    says: (doing) => `S3 lacks a right of the lake's user (${doing})`,
    reason: "privilege",
    hint: "give the user s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket on all that is below `data`",
  },
  {
    text: /HTTP Error[^]*(?:SignatureDoesNotMatch|InvalidAccessKeyId|XAdminUserNotFound|ExpiredToken|InvalidToken|HTTP (?:code )?40[13])/,
    code: "MR2002",
    kind: "blocked",
    part: "bucket",
    says: (doing) => `S3 refuses the credentials of the lake (${doing})`,
    reason: "login",
    hint: "correct `s3.accessKeyId` and `s3.secretAccessKey`; a policy of the bucket may also refuse the user",
  },
  {
    // Of both HTTP clients of DuckDB. A handshake that merely ends, as with a server that speaks no TLS, is not told apart from a lost connection.
    text: /SSL (?:peer certificate|CA cert|server|certificate loading)[^'"\n]* error for HTTP [A-Z]+ to /,
    code: "MR2003",
    kind: "blocked",
    part: "bucket",
    says: (doing) => `the certificate of the S3 that holds the lake's data is not trusted (${doing})`,
  },
  {
    text: / error for HTTP [A-Z]+ to |HTTP Error[^]*(?:SlowDown|HTTP (?:code )?(?:5\d\d|429))/,
    code: "MR2001",
    kind: "retryable",
    part: "bucket",
    reason: "lost",
    says: (doing) => `the S3 that holds the lake's data can't be reached, or is busy (${doing})`,
    hint: "see whether it runs, and `s3.endpoint`",
  },
  {
    text: /CredentialsProviderError|Could not load credentials|Region is missing/,
    code: "MR2002",
    kind: "blocked",
    part: "bucket",
    says: (doing) => `no credentials or region for the lake's bucket were found (${doing})`,
    reason: "login",
    hint: "set `s3.accessKeyId`, `s3.secretAccessKey` and `s3.region`, or AWS' own variables, profile or role",
  },
];

export const LAKE_RULES: readonly Rule[] = [
  ...S3_RULES,
  {
    text: /unable to open database file|: attempt to write a readonly database/,
    code: "MR3203",
    kind: "blocked",
    part: "catalogue",
    says: () => "the lake's catalogue can't be opened",
    hint: "its folder must exist and its disk take writes, and the user that Millrace runs as must be able to write there",
  },
  {
    text: /": ERROR: +cannot execute [A-Z ]+ in a read-only transaction/,
    code: "MR2031",
    kind: "blocked",
    part: "catalogue",
    says: (doing) => `the Postgres that holds the lake's catalogue takes no writes (${doing})`,
    hint: "promote it, or point `catalog` at the primary; Millrace goes on by itself",
  },
  {
    text: /": ERROR: +(?:permission denied for|must be owner of) /,
    code: "MR2008",
    kind: "blocked",
    part: "catalogue",
    says: (doing) => `the Postgres that holds the lake's catalogue lacks a right of this user (${doing})`,
    hint: "make the user of `catalog` the owner of the tables there; Millrace goes on by itself",
  },
  {
    text: /DATA_PATH parameter .* does not match/,
    code: "MR2004",
    kind: "fatal",
    says: () => "the lake's data are in another folder than `data` says",
    hint: "set `data` to the folder with which the lake was made",
  },
  {
    text: /\.parquet"?: No such file|\.parquet.*does not exist|HTTP Error[^]*\.parquet[^]*(?:NoSuchKey|HTTP (?:code )?404)/,
    code: "MR3226",
    kind: "blocked",
    says: (doing, text) => `${dataFileIn(text)} of the lake is missing (${doing})`,
  },
  {
    text: SPOILED,
    code: "MR3226",
    kind: "blocked",
    says: (doing, text) => `${dataFileIn(text)} of the lake can't be read (${doing})`,
  },
  {
    text: /Unable to connect to Postgres[^]*(?:authentication failed|no pg_hba|role "|database ")/,
    code: "MR2002",
    kind: "blocked",
    part: "catalogue",
    says: (doing) => `the Postgres that holds the lake's catalogue refuses the login (${doing})`,
    reason: "login",
    hint: "correct user, password and database in `catalog`, or pg_hba.conf on that server",
  },
  {
    text: POSTGRES,
    code: "MR2001",
    kind: "retryable",
    part: "catalogue",
    reason: "lost",
    says: (doing) => `the Postgres that holds the lake's catalogue can't be reached (${doing})`,
    hint: "start it, or correct the host and port in `catalog`; Millrace goes on by itself",
  },
  {
    text: /database is locked/,
    code: "MR2026",
    kind: "retryable",
    part: "catalogue",
    reason: "lock",
    says: (doing) => `another program writes to the lake's catalogue (${doing})`,
    hint: "end what writes there for long; Millrace tries again by itself",
  },
  {
    text: new RegExp(`Failed to commit DuckLake transaction|Transaction conflict - attempting|${MOVED.source}`),
    code: "MR3220",
    kind: "retryable",
    says: (doing) => `transactions met in the lake while ${doing}`,
  },
  {
    text: /file is not a database/,
    code: "MR3202",
    kind: "fatal",
    part: "catalogue",
    says: () => "the file is not a SQLite database",
    hint: "give another path in `catalog`",
  },
  {
    text: /database disk image is malformed/,
    code: "MR3202",
    kind: "fatal",
    part: "catalogue",
    says: (doing) => `the lake's catalogue is damaged (${doing})`,
    hint: "Restore it from a backup that belongs to the data; or move it and the folder of the data away: `millrace snapshot start --sink NAME` fills a new lake.",
  },
];

function dataFileIn(text: string): string {
  const [, path] = /([^"'\s]*\.parquet)/.exec(text) ?? [];
  return path === undefined ? "a data file" : `the data file ${path}`;
}
