import { globSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { howToSee, type Raised, raisedIn } from "./how-to-see.ts";
import type { ErrorArea, ErrorCode, ErrorPage, ErrorPages } from "../../src/core/errors.ts";

/** A code, its page and the file that defines it. */
export interface DefinedPage {
  readonly code: ErrorCode;
  readonly page: ErrorPage;
  readonly file: string;
}

/** The areas of src/; a connector's errors.ts exports its own as `area`. */
const AREAS: readonly ErrorArea[] = [
  { from: 1000, title: "Configuration" },
  { from: 1100, title: "Command line" },
  { from: 1200, title: "State and lease" },
  { from: 1300, title: "Runtime" },
  { from: 1400, title: "Comparing sinks with the source" },
];

interface ErrorsFile {
  readonly file: string;
  readonly pages?: ErrorPages;
  readonly area?: ErrorArea;
}

/** All `pages` that an errors.ts exports, in the order of the codes; a code that two files define appears twice. */
export async function definedPages(root: string): Promise<readonly DefinedPage[]> {
  return pagesOf(await errorsFiles(root));
}

async function errorsFiles(root: string): Promise<readonly ErrorsFile[]> {
  const files = globSync("{src,connectors}/**/errors.ts", { cwd: root }).toSorted();
  return Promise.all(
    files.map(async (file) => {
      const { pages, area }: Omit<ErrorsFile, "file"> = await import(pathToFileURL(join(root, file)).href);
      return { file, ...(pages === undefined ? {} : { pages }), ...(area === undefined ? {} : { area }) };
    }),
  );
}

function pagesOf(files: readonly ErrorsFile[]): readonly DefinedPage[] {
  const found = files.flatMap(({ file, pages = {} }) =>
    Object.entries(pages).map(([code, page]) => ({ code: codeOf(code), page, file })),
  );
  return found.toSorted((a, b) => a.code.localeCompare(b.code));
}

export async function errorPagesDocument(root: string): Promise<string> {
  const files = await errorsFiles(root);
  const pages = pagesOf(files);
  const raised = raisedIn(root);
  const areas = [...AREAS, ...files.flatMap(({ area = [] }) => area)].toSorted((a, b) => a.from - b.from);
  const sections = areas.map((area, i) => {
    const until = areas[i + 1]?.from ?? 10_000;
    const inArea = pages.filter(({ code }) => {
      const number = Number(code.slice(2));
      return number >= area.from && number < until;
    });
    return inArea.length === 0
      ? ""
      : [`## ${area.title}\n`, ...inArea.map((defined) => section(defined, raised))].join("\n");
  });
  const head = `# Error codes

Every error that Millrace raises on purpose has a number that never changes its meaning. The command line prints it with
the message and a hint; \`--json\` gives it as \`error.code\`.

<!-- Generated from the \`pages\` of every errors.ts by scripts/generate.ts; do not edit. -->
`;
  return [head, ...sections.filter((text) => text !== "")].join("\n");
}

function section({ code, page }: DefinedPage, raised: ReadonlyMap<string, Raised>): string {
  const seen = howToSee(code, raised.get(code));
  return `### ${code}\n\n**${page.title}**\n\n${page.cause}\n\n*How to see it:* ${seen}\n\n*What to do:* ${page.remedy}\n`;
}

/** The types of `pages` say that each of its keys is one. */
function codeOf(key: string): ErrorCode {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- see above
  return key as ErrorCode;
}
