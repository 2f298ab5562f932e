import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { configSchemaDocument } from "../../scripts/generated/config-schema.ts";
import { definedPages, errorPagesDocument } from "../../scripts/generated/error-pages.ts";
import { pageOf } from "../../src/cli/commands/explain.ts";
import { errorPages } from "../../src/ops/error-pages.ts";

const root = join(import.meta.dirname, "../..");
const read = (file: string) => readFileSync(join(root, file), "utf8");

test("every error code that the sources use has a page, and no code has two", async () => {
  const codes = (await definedPages(root)).map(({ code }) => code);
  expect(codes.filter((code, i) => codes.indexOf(code) !== i)).toEqual([]);
  const known = new Set<string>(codes);
  const used = globSync("{src,connectors}/**/*.ts", { cwd: root }).flatMap((file) =>
    [...read(file).matchAll(/\bMR\d{4}\b/g)].map(([code]) => `${code} in ${file}`),
  );
  expect(used.length).toBeGreaterThan(20);
  expect(used.filter((entry) => !known.has(entry.slice(0, 6)))).toEqual([]);
});

test("a page says what happened and what to do", async () => {
  const poor = (await definedPages(root)).filter(({ page }) =>
    [page.title, page.cause, page.remedy].some((part) => part.trim() === ""),
  );
  expect(poor.map(({ code }) => code)).toEqual([]);
});

test("`explain` finds the page of every code", async () => {
  for (const { code, page } of await definedPages(root)) {
    const { title, remedy, cause } = page;
    expect(pageOf(code)).toEqual({ code, title, remedy, cause, see: expect.anything() });
    expect(pageOf(code).see.join("\n")).toMatch(/^[a-z][^:]*: \S{2}/);
  }
});

test("where an error shows itself follows from where and how it is raised", async () => {
  const seen = (code: string) => pageOf(code).see.join("\n");
  expect(seen("MR1004")).toMatch(/exit code 2/);
  expect(seen("MR1112")).toMatch(/exit code 4/);
  expect(seen("MR2003")).toMatch(/of the source/);
  expect(seen("MR3111")).toMatch(/dlq list/);
  expect(seen("MR2003")).toMatch(/MillraceSinkNeedsPerson/);
  const runbooks = new Set([...read("docs/runbooks.md").matchAll(/^### (\w+)$/gm)].map(([, alert]) => alert));
  const named = errorPages().flatMap(({ see }) => see.join("\n").match(/Millrace[A-Z]\w+/g) ?? []);
  expect(named.length).toBeGreaterThan(100);
  expect(named.filter((alert) => !runbooks.has(alert))).toEqual([]);
});

test("docs/errors.md and millrace.schema.json are fresh (node scripts/generate.ts)", async () => {
  expect(read("docs/errors.md")).toBe(await errorPagesDocument(root));
  expect(read("millrace.schema.json")).toBe(await configSchemaDocument());
});
