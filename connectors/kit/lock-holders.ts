/** Who holds a lock that a statement of ours waits for, as errors tell it. */
import type { MillraceError } from "../../src/core/errors.ts";

export interface LockHolders {
  readonly what: string;
  readonly fix: string;
}

/** The error of a lock that was not granted, with who holds it. */
export function heldBy(error: MillraceError, { what, fix }: LockHolders): MillraceError {
  return error.with({ message: `${error.message}; ${what}`, hint: fix });
}

/** Of a longer statement the beginning tells what it is. */
const SHOWN_MAX = 160;

const TEXT = String.raw`\b[eEbBxXnN]?'(?:[^'\\]|''|\\[^])*(?:'|$)|'(?:[^'\\]|''|\\[^])*(?:'|$)`;
/** Behind a letter a dollar belongs to a name. */
const DOLLARS = String.raw`(?<![\w$\u0080-\uffff])\$(?<tag>[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$[^]*?(?:\$\k<tag>\$|$)`;
const QUOTED = String.raw`(?<quoted>"(?:[^"\\]|""|\\[^])*(?:"|$))`;
const BLOCK = String.raw`\/\*[^]*?(?:\*\/|$)`;
const NUMBER = String.raw`(?<number>(?<![\w$\u0080-\uffff])\.?\d[\w.]*)`;

/** In one pass, for each of these may be inside another: comments, texts, quoted names, numbers. */
const PARTS = {
  /** Postgres. */
  names: new RegExp(String.raw`(?<comment>--[^\n\r]*|${BLOCK})|(?<text>${DOLLARS}|${TEXT})|${QUOTED}|${NUMBER}`, "g"),
  /** MySQL and MariaDB. */
  texts: new RegExp(
    String.raw`(?<comment>--(?=\s|$)[^\n]*|#[^\n]*|${BLOCK})|(?<text>${DOLLARS}|${TEXT})|${QUOTED}|(?<name>` +
      String.raw`\`[^\`]*(?:\`|$))|${NUMBER}`,
    "g",
  ),
} as const;

/** Whether a backslash ends what is before it or goes on with it depends on the session. */
const MAY_END = { "'": /(?<!\\)(?:\\\\)*\\'/, '"': /(?<!\\)(?:\\\\)*\\"/ } as const;

/** Servers and settings differ in where such a part ends. */
function mayEndElsewhere(
  whole: string,
  { comment, text, quoted }: Readonly<Record<string, string | undefined>>,
): boolean {
  if (comment !== undefined) return comment.includes("/*", 2);
  if (quoted !== undefined) return MAY_END['"'].test(whole);
  // What follows `$` or, in Postgres, `E` is the same in every session.
  return text !== undefined && !/^[$eE]/.test(text) && MAY_END["'"].test(whole);
}

/**
 * A statement of another session as it may be shown: its values are left out, and the rest from where a value's end is not
 * certain. What double quotes enclose depends on the server.
 */
export function shownStatement(sql: string, quotes: "names" | "texts"): string {
  let plain = "";
  let end = 0;
  let isWhole = true;
  for (const match of sql.matchAll(PARTS[quotes])) {
    const [whole] = match;
    const groups = match.groups ?? {};
    plain += sql.slice(end, match.index);
    end = match.index + whole.length;
    isWhole = !mayEndElsewhere(whole, groups);
    const { comment, quoted, name } = groups;
    if (comment !== undefined) plain += " ";
    else plain += isWhole && (name !== undefined || (quoted !== undefined && quotes === "names")) ? whole : "?";
    if (!isWhole) break;
  }
  if (isWhole) plain += sql.slice(end);
  const shown = plain.replaceAll(/\s+/g, " ").trim();
  return isWhole && shown.length <= SHOWN_MAX ? shown : `${shown.slice(0, SHOWN_MAX)}…`;
}
