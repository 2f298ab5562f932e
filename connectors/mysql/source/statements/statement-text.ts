/** A statement's words alone: without comments, and with what servers execute although it is written as a comment. */

/** Texts and names in quotes, which are kept; then comments, and where one that is executed begins and ends. */
const PARTS = new RegExp(
  [
    "'(?:[^'\\\\]|\\\\.|'')*'",
    '"(?:[^"\\\\]|\\\\.|"")*"',
    "`[^`]*`",
    "--(?=\\s|$)[^\\n]*",
    "#[^\\n]*",
    "/\\*M?!\\d*",
    "/\\*.*?\\*/",
    "\\*/",
  ].join("|"),
  "gs",
);
const MAY_HAVE_COMMENTS = /--|#|\*/;
const IS_QUOTED = /^['"`]/;
/** MariaDB: settings for one statement, which follows. */
const SETTINGS = /^SET\s+STATEMENT\s(?:'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"|[^'"])*?\sFOR\s+/i;

/**
 * Servers write into the log what a client sent; a comment for a newer version, which they did not execute, they have
 * turned into a plain one before.
 */
export function statementText(sql: string): string {
  const words = MAY_HAVE_COMMENTS.test(sql)
    ? sql.replaceAll(PARTS, (part) => (IS_QUOTED.test(part) ? part : " "))
    : sql;
  return words.trim().replace(SETTINGS, "");
}
