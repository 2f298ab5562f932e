/** Of a longer statement the beginning tells what it is. */
const SHOWN_MAX = 160;

const COMMENTS = /--[^\n]*|\/\*[^]*?\*\//g;
const TEXTS = /\$(\w*)\$[^]*?(?:\$\1\$|$)|[a-zA-Z]?'(?:[^'\\]|''|\\[^])*(?:'|$)/g;
/** Names in MySQL are quoted by backticks; texts may have these. */
const QUOTED = /"(?:[^"\\]|""|\\[^])*(?:"|$)/g;
const NUMBERS = /(?<![\w$."`])-?\d[\w.]*/g;

/** A statement of another session as it may be shown: its values are left out. */
export function shownStatement(sql: string, quotes: "names" | "texts"): string {
  const withoutTexts = sql.replaceAll(COMMENTS, " ").replaceAll(TEXTS, "?");
  const plain = quotes === "texts" ? withoutTexts.replaceAll(QUOTED, "?") : withoutTexts;
  const text = plain.replaceAll(NUMBERS, "?").replaceAll(/\s+/g, " ").trim();
  return text.length <= SHOWN_MAX ? text : `${text.slice(0, SHOWN_MAX)}…`;
}
