import { globSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { ErrorPage, ErrorPages } from "../../src/core/errors.ts";

/** A code, its page and the file that defines it. */
export interface DefinedPage {
  readonly code: string;
  readonly page: ErrorPage;
  readonly file: string;
}

const AREAS = [
  { from: 1000, title: "Configuration" },
  { from: 1100, title: "Command line" },
  { from: 1200, title: "State and lease" },
  { from: 1300, title: "Runtime" },
  { from: 1400, title: "Comparing sinks with the source" },
  { from: 2000, title: "Postgres as a source" },
  { from: 2100, title: "MySQL and MariaDB as sources" },
  { from: 3100, title: "Postgres as a sink" },
  { from: 3200, title: "DuckDB" },
  { from: 3300, title: "Elasticsearch and OpenSearch" },
  { from: 3400, title: "Redis and Valkey" },
] as const;

/** Every `pages` that an errors.ts exports, in the order of the codes; a code that two files define is there twice. */
export async function definedPages(root: string): Promise<readonly DefinedPage[]> {
  const found: DefinedPage[] = [];
  for (const file of globSync("{src,connectors}/**/errors.ts", { cwd: root }).toSorted()) {
    const module: { readonly pages?: ErrorPages } = await import(pathToFileURL(join(root, file)).href);
    for (const [code, page] of Object.entries(module.pages ?? {})) found.push({ code, page, file });
  }
  return found.toSorted((a, b) => a.code.localeCompare(b.code));
}

export async function errorPagesDocument(root: string): Promise<string> {
  const pages = await definedPages(root);
  const sections = AREAS.map((area, i) => {
    const until = AREAS[i + 1]?.from ?? 10_000;
    const inArea = pages.filter(({ code }) => {
      const number = Number(code.slice(2));
      return number >= area.from && number < until;
    });
    return inArea.length === 0 ? "" : [`## ${area.title}\n`, ...inArea.map(section)].join("\n");
  });
  const head = `# Error codes

Every error that Millrace raises on purpose has a number that never changes its meaning. The command line prints it with
the message and a hint; \`--json\` gives it as \`error.code\`.

<!-- Generated from the \`pages\` of every errors.ts by scripts/generate.ts; do not edit. -->
`;
  return [head, ...sections.filter((text) => text !== "")].join("\n");
}

function section({ code, page }: DefinedPage): string {
  return `### ${code}\n\n**${page.title}**\n\n${page.cause}\n\n*What to do:* ${page.remedy}\n`;
}
