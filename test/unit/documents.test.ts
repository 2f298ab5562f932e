/** What the documents say about versions, metrics and configuration is so; what they refer to: references.test.ts. */
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { connectors } from "../../connectors/registry.ts";
import { everyCommand } from "../../src/cli/cli.ts";
import { versions } from "../../scripts/services/versions.ts";
import { loadConfig } from "../../src/config/load.ts";
import { Secrets } from "../../src/config/secrets/secrets.ts";
import { PrometheusMetrics } from "../../src/ops/metrics.ts";
import { scrapedWith, statusDocument } from "../support/daemon/status-document.ts";

const root = join(import.meta.dirname, "../..");
const text = (file: string) => readFileSync(join(root, file), "utf8");

test("the pages list every key that a millrace.yaml may have", () => {
  const pages = ["docs/config.md", "docs/documents.md", ...globSync("connectors/**/README.md", { cwd: root })]
    .map(text)
    .join("\n");
  const keys = new Set(keysOf(JSON.parse(text("millrace.schema.json"))));
  expect(keys.size).toBeGreaterThan(40);
  expect([...keys].filter((key) => !new RegExp(`[\`.{ ]${key}[\`.:]`).test(pages))).toEqual([]);
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
  const scrape = await new PrometheusMetrics().text(scrapedWith(statusDocument()));
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

test("runbooks and docs/operate.md name only metrics that there are", () => {
  const known = text("docs/metrics.md");
  const pages = ["docs/operate.md", "docs/runbooks.md"];
  const named = pages.flatMap((page) =>
    [...text(page).matchAll(/millrace_[a-z0-9_]+/g)].map(([name]) => ({ page, name })),
  );
  expect(named.filter(({ name }) => !known.includes(`\`${name}\``))).toEqual([]);
});

/** By the product's name: the versions of servers that tests run, or that were run by hand as docs/testing.md says. */
const RUN = new Map(
  ["Postgres", "MySQL", "MariaDB", "Redis", "Valkey", "Elasticsearch", "OpenSearch", "Kafka", "ClickHouse"].map(
    (product) => {
      const isOf = new RegExp(`(?:^|/)${product}(?:-server)?:(\\d[\\d.]*)`, "i");
      const images = Object.entries(versions).flatMap(([name, one]) => {
        if (typeof one !== "object") return [];
        if ("image" in one) return [isOf.exec(one.image)?.[1] ?? []].flat();
        return "version" in one && name.startsWith(product.toLowerCase()) ? [one.version] : [];
      });
      const [, byHand = ""] = /By hand, once: (.*?)\. /.exec(text("docs/testing.md")) ?? [];
      return [product, [...images, ...versionsIn(byHand, product)]] as const;
    },
  ),
);

/** `Redis 7.0 and 8.0`, `MySQL (8.0 or newer)`: all versions behind the product's name. */
function versionsIn(sentence: string, product: string): readonly string[] {
  const one = String.raw`\d+(?:\.\d+)*`;
  const lists = sentence.matchAll(
    new RegExp(String.raw`\b${product} \(?(${one}(?:(?:, | and | or |, and )${one})*)`, "g"),
  );
  return [...lists].flatMap(([, list = ""]) => list.split(/, and |, | and | or /));
}

test("the README names the lines of servers that the tests run", () => {
  const readme = text("README.md");
  // Of MySQL only what needs no container engine.
  const { mysql80: _, mysql84: __, ...others } = versions;
  const run = Object.values(others).flatMap((one) => (typeof one === "object" && "image" in one ? [one.image] : []));
  const servers = run.filter((image) => !/registry|versitygw/.test(image));
  const known = servers.map((image) => /:v?(\d+\.\d+)/.exec(image)?.[1] ?? image);
  expect(known.length).toBeGreaterThan(15);
  const isNamed = (version: string): boolean =>
    readme.includes(version) || readme.includes(`, ${Number.parseInt(version, 10)}`);
  expect(known.filter((version) => !isNamed(version))).toEqual([]);
});

test("pages and hints name no version of a server that was not run, unless they say so", () => {
  const pages = globSync(["README.md", "docs/**/*.md", "connectors/**/*.md", "connectors/**/{check,errors}.ts"], {
    cwd: root,
    exclude: ["docs/decisions/**", "docs/benchmarks.md", "docs/compare.md"],
  });
  const isRun = (product: string, version: string): boolean =>
    RUN.get(product)!.some((run) => run === version || run.startsWith(`${version}.`));
  const named = pages.flatMap((page) =>
    text(page)
      .replaceAll(/\n(?!\n|[-|])/g, " ")
      .split(/(?<=[.;"])\s|\n/)
      .filter(
        (sentence) =>
          /tested|\bruns?\b|newer|oldest|^\| `/i.test(sentence) && !/was(?: not)? run|not run/.test(sentence),
      )
      .flatMap((sentence) =>
        [...RUN.keys()].flatMap((product) =>
          versionsIn(sentence, product).map((version) => ({ page, product, version })),
        ),
      ),
  );
  expect(named.length).toBeGreaterThan(40);
  expect(named.filter(({ product, version }) => !isRun(product, version))).toEqual([]);
});

test("the example's config is valid", async () => {
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

test("docs/cli.md names every command", async () => {
  const page = text("docs/cli.md");
  const names = (await everyCommand()).commands
    .map((command) => command.name())
    .filter(
      // `complete` is what the shells' scripts call.
      (name) => !["help", "complete"].includes(name),
    );
  expect(names.length).toBeGreaterThan(20);
  expect(names.filter((name) => !new RegExp(`millrace ${name}\\b|, \`${name}\``).test(page))).toEqual([]);
});

test("the README and the page beside other tools name every kind of source and sink", () => {
  const kinds = [...new Set([...connectors.sourceKinds, ...connectors.sinkKinds])];
  expect(kinds.filter((kind) => !text("README.md").includes(`| \`${kind}\``))).toEqual([]);
  const compared = text("docs/compare.md").toLowerCase();
  expect(connectors.sinkKinds.filter((kind) => !compared.includes(kind))).toEqual([]);
});

test("docs/connectors.md names the capabilities of a sink, and none more", () => {
  const contract = text("src/core/contracts/sink.ts");
  const body = /export interface Sink \{([\s\S]*?)\n\}/.exec(contract)?.[1] ?? "";
  const capabilities = [...body.matchAll(/^ {2}readonly (\w+)\?: (?:Target|BatchPrefetch|SourceRelay)/gm)].map(
    ([, name]) => name!,
  );
  const [, table = ""] = /Capabilities are properties([\s\S]*?)\n\n[^|\n]/.exec(text("docs/connectors.md")) ?? [];
  const named = [...table.matchAll(/^\| `(\w+)`/gm)].map(([, name]) => name!);
  expect(named.toSorted()).toEqual(capabilities.toSorted());
});
