/** What people read of an error: its number, what to do, and where more is to be had, in an installation too. */
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { definedPages } from "../../scripts/generated/error-pages.ts";
import { printFailure } from "../../src/cli/failure.ts";
import { Secrets } from "../../src/config/secrets/secrets.ts";
import { MillraceError, type ErrorCode } from "../../src/core/errors.ts";

const root = join(import.meta.dirname, "../..");

function printed(error: unknown, showStack: boolean): string {
  const written = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  try {
    printFailure(error, { json: false, showStack, secrets: new Secrets() });
    return written.mock.calls.map(([text]) => String(text)).join("");
  } finally {
    written.mockRestore();
  }
}

test("the output of every error ends with the command that shows its page, and names it once", async () => {
  for (const { code, page } of await definedPages(root)) {
    const error = new MillraceError({ code: codeOf(code), kind: "fatal", message: page.title, hint: page.remedy });
    for (const showStack of [false, true]) {
      const output = printed(error, showStack);
      expect(output.endsWith(`\n  More: millrace explain ${code}\n`)).toBe(true);
      expect(output.split(`millrace explain ${code}`)).toHaveLength(2);
    }
  }
});

test("a defect ends with the page of defects", () => {
  expect(printed(new TypeError("no such thing"), false)).toMatch(
    /^error MR1119: .*\n.*\n {2}More: millrace explain MR1119\n$/,
  );
});

/** An installation has none of the documents but the errors' pages, which only `explain` reads. */
test("no text of the program points at a document of the repository", () => {
  const files = globSync("{src,connectors,bin}/**/*.{ts,js}", { cwd: root });
  expect(files.length).toBeGreaterThan(300);
  const found = files.flatMap((file) =>
    withoutComments(readFileSync(join(root, file), "utf8"))
      .split("\n")
      .filter((line) => /\bdocs\/|\b[\w-]+\.md\b/.test(line) && !line.includes('installed("docs/errors.md")'))
      .map((line) => `${file}: ${line.trim()}`),
  );
  expect(found).toEqual([]);
});

function withoutComments(source: string): string {
  return source.replaceAll(/\/\*[^]*?\*\//g, "").replaceAll(/(?<!["'`:\w])\/\/.*$/gm, "");
}

function codeOf(text: string): ErrorCode {
  return `MR${Number(text.slice(2))}`;
}
