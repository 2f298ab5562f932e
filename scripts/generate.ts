/**
 * `node scripts/generate.ts` writes the files that are derived from the sources. With `--check` it exits 1 if one is
 * stale.
 */
import { existsSync, globSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { configKeys, withConfigKeys } from "./generated/config-keys.ts";
import { configSchemaDocument } from "./generated/config-schema.ts";
import { errorPagesDocument } from "./generated/error-pages.ts";
import { metricsPageDocument } from "./generated/metrics-page.ts";
import { statusPageDocument } from "./generated/status-page.ts";

const root = dirname(import.meta.dirname);
const isCheck = process.argv.includes("--check");

const keys = await configKeys();
const pages = globSync(["docs/*.md", "connectors/**/*.md"], { cwd: root });
const listing = pages.map((file) => {
  const text = readFileSync(join(root, file), "utf8");
  return [file, withConfigKeys(text, keys)] as const;
});

const documents = {
  ...Object.fromEntries(listing),
  "docs/errors.md": await errorPagesDocument(root),
  "docs/metrics.md": metricsPageDocument(),
  "docs/status.md": statusPageDocument(),
  "millrace.schema.json": await configSchemaDocument(),
};

for (const [file, text] of Object.entries(documents)) {
  const path = join(root, file);
  if (existsSync(path) && readFileSync(path, "utf8") === text) continue;
  if (isCheck) {
    process.stderr.write(`${file} is stale: run "node scripts/generate.ts"\n`);
    process.exitCode = 1;
  } else {
    writeFileSync(path, text);
    process.stdout.write(`wrote ${file}\n`);
  }
}
