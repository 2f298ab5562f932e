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

/** In one pass, for each of these may be inside another: comments, texts, quoted names, numbers. */
const PARTS =
  /(?<comment>--[^\n]*|\/\*[^]*?(?:\*\/|$))|(?<text>\$(?<tag>\w*)\$[^]*?(?:\$\k<tag>\$|$)|\b[eEbBxXnN]?'(?:[^'\\]|''|\\[^])*(?:'|$)|'(?:[^'\\]|''|\\[^])*(?:'|$))|(?<quoted>"(?:[^"\\]|""|\\[^])*(?:"|$))|(?<name>`[^`]*(?:`|$))|(?<number>(?<![\w$.])\d[\w.]*)/g;

/** A statement of another session as it may be shown: its values are left out. What double quotes enclose depends on the server. */
export function shownStatement(sql: string, quotes: "names" | "texts"): string {
  const plain = sql.replaceAll(PARTS, (whole, ...rest) => {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the last argument is the named groups
    const { comment, quoted, name } = rest.at(-1) as Readonly<Record<string, string | undefined>>;
    if (comment !== undefined) return " ";
    return name !== undefined || (quoted !== undefined && quotes === "names") ? whole : "?";
  });
  const text = plain.replaceAll(/\s+/g, " ").trim();
  return text.length <= SHOWN_MAX ? text : `${text.slice(0, SHOWN_MAX)}…`;
}
