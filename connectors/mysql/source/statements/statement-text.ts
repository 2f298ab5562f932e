/** A statement's words: without comments, but with text that servers execute although it is written as a comment. */

/** Texts and names in quotes, which are kept; then comments, and the beginning and end of one that is executed. */
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
/** MariaDB: settings for the one statement that follows. */
const SETTINGS = /^SET\s+STATEMENT\s(?:'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"|[^'"])*?\sFOR\s+/i;

/**
 * Servers log what a client sent. A comment for a newer version, which they did not execute, was already turned into a
 * plain comment.
 */
export function statementText(sql: string): string {
  const words = MAY_HAVE_COMMENTS.test(sql)
    ? sql.replaceAll(PARTS, (part) => (IS_QUOTED.test(part) ? part : " "))
    : sql;
  return words.trim().replace(SETTINGS, "");
}
