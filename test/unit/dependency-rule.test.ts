import { globSync, readFileSync } from "node:fs";
import { builtinModules } from "node:module";
import { dirname, join, relative, sep } from "node:path";
import { expect, test } from "vitest";

const root = join(import.meta.dirname, "../..");

/** Who may import what: folders or files of the repository, and packages. Everybody may use Node's own modules. */
interface Rule {
  readonly files: RegExp;
  readonly may: (file: string) => RegExp;
  readonly packages: readonly string[] | ((file: string) => readonly string[]);
  readonly sentence: string;
}

const CORE = "^src/core/";
const folderOf = (file: string) => file.split("/").slice(0, 2).join("/");
const coreAndOwnFolder = (file: string) => new RegExp(`${CORE}|^${folderOf(file)}/`);

/** Of connectors that need one. */
const DRIVERS: Readonly<Record<string, readonly string[]>> = {
  postgres: ["pg", "pg-logical-replication"],
  mysql: ["mysql2"],
  clickhouse: ["@clickhouse/client"],
  duckdb: ["@duckdb/node-api", "@aws-sdk/client-s3"],
  kit: ["@duckdb/node-api", "@aws-sdk/client-s3", "@aws-sdk/credential-provider-node"],
  elasticsearch: ["undici"],
  redis: ["ioredis"],
  kafka: ["@platformatic/kafka", "undici"],
  files: ["@aws-sdk/client-s3"],
  // Programs of users.
  library: ["millrace", "pg", "ioredis"],
};

const RULES: readonly Rule[] = [
  {
    files: /^src\/core\//,
    may: () => new RegExp(CORE),
    packages: ["zod"],
    sentence: "core imports itself, and zod for keys of the configuration",
  },
  {
    files: /^src\/runtime\//,
    may: coreAndOwnFolder,
    packages: [],
    sentence: "the runtime sees core, and no connector, no SQL and no vendor's package",
  },
  {
    files: /^src\/state\//,
    may: () => /^src\/(core|state|postgres)\//,
    packages: ["pg"],
    sentence: "state sees core and itself, and the Postgres client for a state on a server",
  },
  {
    files: /^src\/reconcile\//,
    may: () => /^src\/(core|reconcile|html)\//,
    packages: ["cli-table3", "croner"],
    sentence: "reconcile sees core and itself, and writes its reports as tables and as pages of html",
  },
  {
    files: /^src\/html\//,
    may: () => /^src\/html\//,
    packages: ["d3-scale"],
    sentence: "html draws what it is given and sees itself alone",
  },
  {
    files: /^src\/tls\//,
    may: coreAndOwnFolder,
    packages: ["zod"],
    sentence: "tls sees core and itself; connectors that open their own connections use it",
  },
  {
    files: /^src\/passwords\//,
    may: coreAndOwnFolder,
    packages: ["zod"],
    sentence: "passwords sees core and itself; the configuration and connectors use it",
  },
  {
    files: /^src\/rules\//,
    may: coreAndOwnFolder,
    packages: ["fastest-levenshtein"],
    sentence: "the rules see core and themselves",
  },
  {
    files: /^src\/routes\//,
    may: coreAndOwnFolder,
    packages: [],
    sentence: "routes see core and themselves",
  },
  {
    files: /^src\/documents\//,
    may: () => /^src\/(core|rules|documents)\//,
    packages: [],
    sentence: "what documents are made of is said in words of core and of the rules",
  },
  {
    files: /^src\/sharing\//,
    may: () => /^src\/(core|sharing|state)\/|^src\/runtime\/errors\.ts$/,
    packages: [],
    sentence: "sharing sees core, the state and itself, and the runtime's errors",
  },
  {
    files: /^src\/config\//,
    may: () => /^src\/(core|config|documents|rules|routes|passwords|tls)\//,
    packages: ["zod", "yaml", "fastest-levenshtein", "croner"],
    sentence: "config sees core, the rules, routes, documents, passwords, tls and itself; connectors are given to it",
  },
  {
    files: /^src\/ops\//,
    may: () => /^src\/(core|ops|tls)\//,
    packages: [
      "undici",
      "pino",
      "prom-client",
      "fastify",
      "zod",
      "cockatiel",
      "@opentelemetry/api",
      "@opentelemetry/exporter-metrics-otlp-proto",
      "@opentelemetry/exporter-trace-otlp-proto",
      "@opentelemetry/resources",
      "@opentelemetry/sdk-metrics",
    ],
    sentence: "ops sees core, tls and itself",
  },
  {
    files: /^src\/dashboard\//,
    may: () => /^src\/(core|dashboard)\/|^src\/ops\/dashboard\/view\.ts$/,
    packages: ["preact"],
    sentence: "the dashboard's page runs in a browser: it sees itself and the types of what the daemon answers",
  },
  {
    files: /^src\/(cli\/|daemon\/|library\/|[a-z-]+\.ts$)/,
    may: () => /^(src|connectors)\//,
    packages: ["commander", "cli-table3", "properties-file", "yaml", "zod"],
    sentence: "only daemon/, cli/ and library/ know everything, and none imports tests, benchmarks or scripts",
  },
  {
    files: /^connectors\/registry\.ts$/,
    may: () => /^connectors\/[a-z]+\/([a-z]+\/)?config\.ts$|^src\/config\/connectors\.ts$/,
    packages: [],
    sentence: "the registry sees each connector's config.ts and binds it to the configuration",
  },
  {
    files: /^src\/postgres\//,
    may: () => /^src\/(core|tls|postgres)\//,
    packages: ["pg"],
    sentence: "the Postgres client sees core, tls and its driver; source, sink and state use it",
  },
  {
    files: /^connectors\/kafka\/client\//,
    may: () => /^src\/(core|tls)\/|^connectors\/kafka\/(client\/|errors\.ts$)/,
    packages: ["@platformatic/kafka"],
    sentence: "Kafka's client sees core, tls, its driver and what errors mean; all else of Kafka stands on it",
  },
  {
    files: /^connectors\/kafka\/writer\//,
    may: () => /^src\/core\/|^connectors\/kafka\/((client|writer)\/|(errors|names)\.ts$)/,
    packages: ["zod"],
    sentence: "what Kafka's two sinks share sees core and the client, and neither of them, nor a format",
  },
  {
    files: /^connectors\/kafka\/formats\//,
    may: () => /^src\/core\/|^connectors\/kafka\/((client|formats|registry)\/|names\.ts$)/,
    packages: [],
    sentence: "Kafka's formats see core, the client's records and the schema registry, and write to no topic",
  },
  {
    files: /^connectors\/kafka\/sink\//,
    may: () =>
      /^src\/core\/|^connectors\/kit\/|^connectors\/kafka\/((client|writer|formats|registry|sink)\/|(errors|names)\.ts$)/,
    packages: ["zod"],
    sentence: "Kafka's sink of topics sees the client, the writer and the formats, and not the log between daemons",
  },
  {
    files: /^connectors\/kafka\/log\//,
    may: () => /^src\/core\/|^connectors\/kafka\/((client|writer|log)\/|(errors|names)\.ts$)/,
    packages: ["zod"],
    sentence: "Kafka's log between daemons sees the client and the writer, and not the sink of topics or a format",
  },
  {
    files: /^connectors\/kafka\/source\//,
    may: () =>
      /^src\/core\/|^connectors\/kit\/|^connectors\/kafka\/((client|writer|log|source)\/|(errors|names|connection|acls)\.ts$)/,
    packages: ["zod"],
    sentence:
      "the source behind Kafka's log sees the client, the writer and the log, and not the sink of topics or a format",
  },
  {
    files: /^connectors\/nest\//,
    may: () => /^src\/(core|documents)\/|^src\/rules\/where\/|^connectors\/(nest|sqlite|warehouse|kit)\//,
    packages: [],
    sentence: "the nest is the SQLite sink and more: it sees that one, documents, and the conditions of rules",
  },
  {
    files: /^connectors\/warehouse\//,
    may: coreAndOwnFolder,
    packages: [],
    sentence: "the warehouse kit plans tables, sees core and itself, and no engine",
  },
  {
    files: /^examples\/documents\//,
    may: () => /^$/,
    packages: ["millrace/rules"],
    sentence: "functions of documents see the types that the package ships, and nothing else",
  },
  {
    files: /^(connectors\/[a-z]+|examples\/[a-z]+)\//,
    may: (file) =>
      new RegExp(`${coreAndOwnFolder(file).source}|^src/(tls|passwords|postgres)/|^connectors/(kit|warehouse)/`),
    packages: (file) => [...(DRIVERS[file.split("/")[1] ?? ""] ?? []), "zod"],
    sentence:
      "a connector sees core, tls, passwords, the Postgres client, its own folder, the kits and its driver, never another connector or the runtime",
  },
];

/** Folders that lie on each other, the lowest first: each sees itself, those below it, and the errors. */
const LAYERS: Readonly<Record<string, readonly string[]>> = {
  "connectors/postgres/source": ["wire", "log", "catalog", "snapshot", "stream"],
  "connectors/postgres/sink": ["wire", "values", "tables", "write"],
  "connectors/mysql/source": ["wire", "values", "statements", "events", "rows", "catalog", "snapshot", "transactions"],
};

const IMPORT =
  /^\s*(?:import|export)\b[^"';]*?\bfrom\s*["']([^"']+)["']|^\s*import\s*["']([^"']+)["']|\bimport\(\s*["']([^"']+)["']/gm;

function violations(file: string, text: string): string[] {
  const rule = RULES.find((r) => r.files.test(file));
  if (rule === undefined) return [`${file}: no rule says what it may import; name its place in this test`];
  const may = rule.may(file);
  const packages = typeof rule.packages === "function" ? rule.packages(file) : rule.packages;
  return [...text.matchAll(IMPORT)].flatMap(([, from, bare, dynamic]) => {
    const specifier = from ?? bare ?? dynamic ?? "";
    const target = specifier.startsWith(".") ? inRepository(file, specifier) : undefined;
    const above = target === undefined ? undefined : layerAbove(file, target);
    if (above !== undefined) return [`${file} imports ${target}, but ${above}`];
    const isAllowed = target === undefined ? isPackageAllowed(specifier, packages) : may.test(target);
    return isAllowed ? [] : [`${file} imports ${target ?? specifier}, but ${rule.sentence}`];
  });
}

/** The sentence that forbids the import; undefined: it points down, or leaves the layers. */
function layerAbove(file: string, target: string): string | undefined {
  const root = Object.keys(LAYERS).find((one) => file.startsWith(`${one}/`) && target.startsWith(`${one}/`));
  if (root === undefined || target === `${root}/errors.ts`) return undefined;
  const layers = LAYERS[root]!;
  const layerOf = (path: string) => layers.indexOf(path.slice(root.length + 1).split("/")[0]!);
  const own = layerOf(file);
  // What lies on top sees all.
  if (own < 0) return undefined;
  const found = layerOf(target);
  return found >= 0 && found <= own ? undefined : `${layers[own]} sees nothing above it: ${layers.join(" < ")}`;
}

function inRepository(file: string, specifier: string): string {
  return relative(root, join(root, dirname(file), specifier))
    .split(sep)
    .join("/");
}

function isPackageAllowed(specifier: string, packages: readonly string[]): boolean {
  if (specifier.startsWith("node:") || builtinModules.includes(specifier)) return specifier.startsWith("node:");
  return packages.some((name) => specifier === name || specifier.startsWith(`${name}/`));
}

test("arrows point to core: who may import what", () => {
  const files = globSync("{src,connectors,examples}/**/*.{ts,tsx}", { cwd: root }).map((file) =>
    file.split(sep).join("/"),
  );
  expect(files.length).toBeGreaterThan(50);
  expect(files.flatMap((file) => violations(file, readFileSync(join(root, file), "utf8")))).toEqual([]);
});

test.each([
  ["src/core/a.ts", 'import { x } from "../runtime/x.ts";', "core imports itself, and zod"],
  ["src/core/a.ts", 'import Table from "cli-table3";', "core imports itself, and zod"],
  ["src/core/values/a.ts", 'export { x } from "../../state/x.ts";', "core imports itself, and zod"],
  ["src/runtime/a.ts", 'import type {\n  X,\n} from "../../connectors/redis/x.ts";', "no connector"],
  ["src/runtime/a.ts", 'import pg from "pg";', "no vendor's package"],
  ["src/config/a.ts", 'const m = await import("../../connectors/registry.ts");', "connectors are given to it"],
  ["src/cli/a.ts", 'import "../../test/support/x.ts";', "none imports tests"],
  ["connectors/redis/a.ts", 'import { x } from "../postgres/types.ts";', "never another connector"],
  ["connectors/redis/a.ts", 'import { x } from "../../src/runtime/x.ts";', "or the runtime"],
  ["connectors/redis/a.ts", 'import { Client } from "pg";', "its driver"],
  [
    "src/postgres/a.ts",
    'import { x } from "../../connectors/postgres/source/errors.ts";',
    "source, sink and state use it",
  ],
  ["connectors/kafka/client/a.ts", 'import { x } from "../writer/x.ts";', "all else of Kafka stands on it"],
  ["connectors/kafka/writer/a.ts", 'import { x } from "../log/x.ts";', "neither of them"],
  ["connectors/kafka/log/a.ts", 'import { x } from "../source/x.ts";', "the client and the writer"],
  ["connectors/kafka/source/a.ts", 'import { x } from "../sink/x.ts";', "not the sink of topics"],
  ["connectors/registry.ts", 'import { x } from "./redis/sink.ts";', "each connector's config.ts"],
  ["connectors/mysql/source/wire/a.ts", 'import { x } from "../rows/x.ts";', "wire sees nothing above it"],
  ["connectors/mysql/source/rows/a.ts", 'import { x } from "../source.ts";', "rows sees nothing above it"],
  ["connectors/postgres/source/log/a.ts", 'import { x } from "../catalog/x.ts";', "log sees nothing above it"],
  ["connectors/novel/a.ts", 'import { Redis } from "ioredis";', "its driver"],
  ["examples/connector/a.ts", 'import { x } from "../../connectors/redis/keys.ts";', "never another connector"],
  ["src/novel/a.ts", "", "no rule says"],
])("%s: %s is found", (file, text, sentence) => {
  expect(violations(file, text)).toEqual([expect.stringContaining(sentence)]);
});

test.each([
  ["src/core/a.ts", 'import { createHash } from "node:crypto";\nimport type { X } from "./values/x.ts";'],
  ["src/cli/a.ts", 'import { connectors } from "../../connectors/registry.ts";'],
  [
    "connectors/postgres/source/a.ts",
    'import pg from "pg";\nimport { x } from "../../../src/core/x.ts";\nimport "../quote.ts";',
  ],
  ["connectors/registry.ts", 'await import("./postgres/source/config.ts")'],
  [
    "connectors/mysql/source/rows/a.ts",
    'import "../wire/x.ts";\nimport "./y.ts";\nimport "../errors.ts";\nimport "../../errors.ts";',
  ],
])("%s may do what it does", (file, text) => {
  expect(violations(file, text)).toEqual([]);
});
