import { globSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { howToSee, PLACES, raisedIn } from "./how-to-see.ts";
import { pages as meanings } from "../../src/core/meanings.ts";
import type { ErrorCode, ErrorPage, ErrorPages } from "../../src/core/errors.ts";

/** A code, its page and the file that defines it. */
export interface DefinedPage {
  readonly code: ErrorCode;
  readonly page: ErrorPage;
  readonly file: string;
}

/** Headings, and the first number below each. */
const AREAS: readonly (readonly [from: number, title: string])[] = [
  [1000, "Configuration"],
  [1100, "Command line and admin interface"],
  [1200, "State and lease"],
  [1300, "Sinks and tables"],
  [1400, "Comparing sinks with the source"],
  [2000, "Servers and logs"],
  [3000, "Targets"],
];

/** All pages: the shared meanings, and what each errors.ts exports as `pages`, in the order of the codes. */
export async function definedPages(root: string): Promise<readonly DefinedPage[]> {
  const files = globSync("{src,connectors}/**/errors.ts", { cwd: root }).toSorted();
  const own = await Promise.all(
    files.map(async (file) => {
      const { pages = {} }: { pages?: ErrorPages } = await import(pathToFileURL(join(root, file)).href);
      return { file, pages };
    }),
  );
  const found = [{ file: "src/core/meanings.ts", pages: meanings }, ...own].flatMap(({ file, pages }) =>
    Object.entries(pages).map(([code, page]: [string, ErrorPage]) => ({ code: codeOf(code), page, file })),
  );
  return found.toSorted((a, b) => a.code.localeCompare(b.code));
}

export async function errorPagesDocument(root: string): Promise<string> {
  const pages = await definedPages(root);
  const raised = raisedIn(root);
  const sections = AREAS.map(([from, title], i) => {
    const until = AREAS[i + 1]?.[0] ?? 10_000;
    const inArea = pages.filter(({ code }) => Number(code.slice(2)) >= from && Number(code.slice(2)) < until);
    return [
      `## ${title}\n`,
      ...inArea.map(({ code, page }) => section(code, page, howToSee(code, page, raised.get(code)))),
    ].join("\n");
  });
  const head = `# Error codes

Every error that Millrace raises on purpose has a number. One meaning has one number, whichever source or sink meets it;
message and hint name the connector and what to do there.

<!-- Generated from src/core/meanings.ts and the \`pages\` of every errors.ts by scripts/generate.ts; do not edit. -->

## Where an error shows itself

A page says what to do, when the error comes, and where it is seen. A \`retryable\` error may
pass by itself, of a \`blocked\` one somebody has to remove the cause; Millrace goes on by itself after both.

${Object.entries(PLACES)
  .map(([place, text]) => `- **${place}**: ${text}`)
  .join("\n")}
`;
  return [head, ...sections].join("\n");
}

function section(code: ErrorCode, { title, remedy, cause }: ErrorPage, seen: string): string {
  return `### ${code}\n\n**${title}**\n\n${remedy}\n\n*When:* ${cause}\n\n*Seen:* ${seen}\n`;
}

/** The types of `pages` say that each of its keys is one. */
function codeOf(key: string): ErrorCode {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- see above
  return key as ErrorCode;
}
