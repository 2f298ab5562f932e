/**
 * Writes jars/*.txt anew for the versions in versions.ts, with mvn; run by `npm run services -- jars [list…]` after a version
 * was changed. Everybody else only reads the lists, and needs no mvn.
 */
import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { copyDependencies, jarListPath } from "./maven.ts";
import { versions } from "../versions.ts";

const LISTS: Readonly<Record<string, readonly string[]>> = {
  ...elasticsearch(versions.elasticsearch.version),
  ...elasticsearch(versions.elasticsearch9.version),
  ...opensearch(versions.opensearch.version),
  ...opensearch(versions.opensearch3.version),
  ...debezium(versions.debezium),
  ...kafka(versions.kafka.version),
  ...kafka(versions.kafka31.version),
  [`debezium-jdbc-${versions.debeziumJdbc}`]: [
    without(coordinates("io.debezium", "debezium-connector-jdbc", versions.debeziumJdbc), [
      "com.oracle.database.jdbc",
      "com.oracle.database.ha",
      "com.oracle.database.security",
      "com.oracle.database.nls",
      "com.oracle.database.xml",
      "com.microsoft.sqlserver",
      "com.ibm.db2",
      "com.mysql",
      "org.mariadb.jdbc",
    ]),
    coordinates("org.apache.kafka", "connect-runtime", versions.kafka.version),
    coordinates("org.apache.kafka", "connect-json", versions.kafka.version),
    coordinates("org.slf4j", "slf4j-simple", versions.slf4j),
  ],
  [`ecj-${versions.ecj}`]: [coordinates("org.eclipse.jdt", "ecj", versions.ecj)],
};

/** `only`: names of lists; all where there are none. */
export async function writeJarLists(only: readonly string[]): Promise<void> {
  for (const [name, dependencies] of Object.entries(LISTS)) {
    if (only.length > 0 && !only.includes(name)) continue;
    const dir = await mkdtemp(join(tmpdir(), "millrace-jars-"));
    try {
      await copyDependencies(dependencies, dir);
      await writeFile(jarListPath(name), await describe(dir));
    } finally {
      await rm(dir, { recursive: true });
    }
  }
}

function elasticsearch(version: string): Record<string, readonly string[]> {
  return {
    [`elasticsearch-${version}`]: [
      coordinates("org.elasticsearch", "elasticsearch", version),
      coordinates("org.elasticsearch.plugin", "transport-netty4", version),
    ],
  };
}

function opensearch(version: string): Record<string, readonly string[]> {
  const plugins = ["transport-netty4-client", "reindex-client", "lang-painless"];
  return {
    [`opensearch-${version}`]: [
      coordinates("org.opensearch", "opensearch", version),
      ...plugins.map((plugin) => coordinates("org.opensearch.plugin", plugin, version)),
      coordinates("org.apache.logging.log4j", "log4j-core", versions.log4j),
    ],
  };
}

function kafka(version: string): Record<string, readonly string[]> {
  return {
    [`kafka-${version}`]: [
      coordinates("org.apache.kafka", "kafka_2.13", version),
      coordinates("org.slf4j", "slf4j-simple", versions.slf4j),
    ],
  };
}

/** slf4j, whose binding Debezium leaves open, in the line of its own. */
function debezium(version: string): Record<string, readonly string[]> {
  const modules = ["debezium-embedded", "debezium-connector-postgres", "debezium-connector-mysql"];
  return {
    [`debezium-${version}`]: [
      ...modules.map((module) => coordinates("io.debezium", module, version)),
      coordinates("org.slf4j", "slf4j-simple", versions.slf4j),
    ],
  };
}

function coordinates(group: string, artifact: string, version: string): string {
  return `<groupId>${group}</groupId><artifactId>${artifact}</artifactId><version>${version}</version>`;
}

/** Less the dependencies of these groups: drivers of databases that no test writes to. */
function without(dependency: string, groups: readonly string[]): string {
  const excluded = groups.map(
    (group) => `<exclusion><groupId>${group}</groupId><artifactId>*</artifactId></exclusion>`,
  );
  return `${dependency}<exclusions>${excluded.join("")}</exclusions>`;
}

async function describe(dir: string): Promise<string> {
  const paths = (await readdir(dir, { recursive: true })).filter((path) => path.endsWith(".jar")).toSorted();
  const lines: string[] = [];
  for (const path of paths) {
    const bytes = await readFile(join(dir, path));
    lines.push(`${createHash("sha256").update(bytes).digest("hex")} ${bytes.length} ${path}\n`);
  }
  return lines.join("");
}
