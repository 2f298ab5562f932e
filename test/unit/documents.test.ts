/** What the documents say about files, versions and configuration is so. */
import { existsSync, globSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { connectors } from "../../connectors/registry.ts";
import { versions } from "../../scripts/services/versions.ts";
import { loadConfig } from "../../src/config/load.ts";
import { Secrets } from "../../src/config/secrets/secrets.ts";
import { type Levels, PrometheusMetrics } from "../../src/ops/metrics.ts";
import { runCli } from "../support/cli.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const root = join(import.meta.dirname, "../..");
const text = (file: string) => readFileSync(join(root, file), "utf8");

test("every link within the repository leads somewhere", () => {
  const documents = globSync("{*.md,{docs,connectors,scripts,examples}/**/*.md}", { cwd: root });
  expect(documents.length).toBeGreaterThan(10);
  const dead = documents.flatMap((document) =>
    [...text(document).matchAll(/\]\((?!https?:)([^)#\s]+)/g)]
      .map(([, link = ""]) => link)
      .filter((link) => !existsSync(join(root, dirname(document), link)))
      .map((link) => `${document}: ${link}`),
  );
  expect(dead).toEqual([]);
});

test("every link to a heading within the repository has that heading", () => {
  const documents = globSync("{*.md,{docs,connectors,scripts}/**/*.md}", { cwd: root });
  const dead = documents.flatMap((document) =>
    [...text(document).matchAll(/\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)/g)]
      .filter(([, file = "", anchor = ""]) => {
        const target = file === "" ? document : join(dirname(document), file);
        return target.endsWith(".md") && !anchorsOf(text(target)).includes(anchor);
      })
      .map(([link]) => `${document}: ${link}`),
  );
  expect(dead).toEqual([]);
});

/** As code hosts make them of headings. */
function anchorsOf(markdown: string): readonly string[] {
  return [...markdown.matchAll(/^#+ (.+)$/gm)].map(([, heading = ""]) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );
}

/** Of what is read by people who look for it: documents, and comments and messages of the product. */
const READ = [
  "*.md",
  "{docs,connectors,scripts,examples}/**/*.md",
  "{src,connectors,scripts,bench,deploy}/**/*",
  "Dockerfile",
];
const NAMED_PATH =
  /(?<![\w./*@-])(?:src|connectors|test|scripts|bench|docs|deploy|migrations|runtime|core|cli)\/[\w./-]*\w/g;
/** Source files of a server and of others' packages. */
const ELSEWHERE = new Set(["src/listpack.c", "src/rdb.h"]);

test("every file, script and command that is named exists", async () => {
  const files = globSync(READ, { cwd: root }).filter((file) => statSync(join(root, file)).isFile());
  expect(files.length).toBeGreaterThan(500);
  const { scripts }: { scripts: object } = JSON.parse(text("package.json"));
  using folder = temporaryFolder();
  const { stdout: help } = await runCli(["help"], { folder: folder.path });
  const commands = new Set([...help.matchAll(/^ {2}([a-z]+)/gm)].map(([, name = ""]) => name));
  expect(commands.size).toBeGreaterThan(15);
  const dead = files.flatMap((file) => {
    const whole = text(file);
    const paths = [...whole.matchAll(NAMED_PATH)].map(([path]) => path).filter((path) => !isThere(path));
    // Of code's own texts a beginning may look the same; those of errors stand in docs/errors.md.
    const named = file.endsWith(".md") ? [...whole.matchAll(/`millrace ([a-z]+)/g)] : [];
    const unknown = named.flatMap(([, name = ""]) => (commands.has(name) ? [] : [name]));
    const missing = [...whole.matchAll(/\bnpm run (?:--silent )?([a-z][a-z:]*)/g)].flatMap(([, name = ""]) =>
      name in scripts ? [] : [name],
    );
    return [...paths, ...unknown, ...missing].map((name) => `${file}: ${name}`);
  });
  expect(dead).toEqual([]);
});

/** With the ending that a comment leaves out, or as a beginning of several; product folders are named without src/. */
function isThere(path: string): boolean {
  if (ELSEWHERE.has(path)) return true;
  return [path, `src/${path}`].some(
    (one) => existsSync(join(root, one)) || globSync(`${one}*`, { cwd: root }).length > 0,
  );
}

test("docs/config.md names every key that a millrace.yaml may have", () => {
  const page = text("docs/config.md");
  const keys = new Set(keysOf(JSON.parse(text("millrace.schema.json"))));
  expect(keys.size).toBeGreaterThan(40);
  expect([...keys].filter((key) => !new RegExp(`[\`.{ ]${key}[\`.:]`).test(page))).toEqual([]);
});

/** The names of all properties that are not just a map to others. */
function keysOf(schema: unknown): readonly string[] {
  if (typeof schema !== "object" || schema === null) return [];
  return Object.entries(schema).flatMap(([name, value]) => {
    if (name !== "properties" || typeof value !== "object" || value === null) return keysOf(value);
    const inner = keysOf(Object.values(value));
    return [...Object.entries(value).flatMap(([key, one]) => (isGroup(one) ? [] : [key])), ...inner];
  });
}

function isGroup(schema: unknown): boolean {
  if (typeof schema !== "object" || schema === null) return false;
  return (
    "properties" in schema || ("additionalProperties" in schema && typeof schema.additionalProperties === "object")
  );
}

test("docs/metrics.md names every metric of a scrape, and none more", async () => {
  const scrape = await new PrometheusMetrics().text(NOTHING_KNOWN);
  const scraped = [...scrape.matchAll(/^# TYPE (\S+) /gm)].map(([, name = ""]) => name);
  const named = [...text("docs/metrics.md").matchAll(/`((?:millrace|process|nodejs)_[a-z0-9_]+)`/g)];
  const known = new Set(named.map(([, name = ""]) => name));
  expect(scraped.length).toBeGreaterThan(40);
  expect(scraped.filter((name) => !known.has(name))).toEqual([]);
  if (process.platform === "linux") expect([...known].filter((name) => !scraped.includes(name))).toEqual([]);
  // As promtool has it: that ending is for counters.
  const misnamed = [...scrape.matchAll(/^# TYPE (\S+_total) (?!counter$)/gm)].map(([, name]) => name);
  expect(misnamed).toEqual([]);
});

const NOTHING_KNOWN: Levels = {
  sourceUp: false,
  sourceNeedsPerson: false,
  suspendedCount: 0,
  unreadableCount: 0,
  sourceLagBytes: null,
  sourceLagSeconds: null,
  slotRetainedBytes: null,
  zeroDates: null,
  sinks: [],
  schemas: [],
  drift: [],
  lastEqualSeconds: null,
};

test("the README names the lines of servers that the tests run", () => {
  const readme = text("README.md");
  const { postgres, redis, redis8, valkey, elasticsearch, elasticsearch9, opensearch, opensearch3 } = versions;
  const { mysql, mariadb, mariadb105, mariadb118 } = versions;
  const others = [redis, redis8, valkey, elasticsearch, elasticsearch9, opensearch, opensearch3];
  for (const { image } of [postgres, mysql, mariadb, mariadb105, mariadb118, ...others])
    expect(readme).toContain(/:(\d+\.\d+)/.exec(image)?.[1]);
});

test("the config in the README is the example's, and both are valid", async () => {
  const example = text("examples/shop/millrace.yaml").split("\n").slice(1).join("\n").trim();
  expect(text("README.md")).toContain(`\`\`\`yaml\n${example}\n\`\`\``);
  const config = await loadConfig(join(root, "examples/shop/millrace.yaml"), {
    connectors,
    environment: {
      SHOP_DATABASE_URL: "postgres://millrace@127.0.0.1/shop",
      REPLICA_URL: "postgres://millrace@127.0.0.1/r",
    },
    secrets: new Secrets(),
  });
  expect(config.sinks.map(({ kind }) => kind).toSorted()).toEqual(connectors.sinkKinds.toSorted());
});
