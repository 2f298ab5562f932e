/** OpenSearch without security: line 2, which runs on Java 17, and line 3. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { searchEngine } from "./search-engine.ts";
import { versions } from "../../versions.ts";

function openSearchOf(name: "opensearch" | "opensearch3", line: 2 | 3, variable: string) {
  const { version, image, javaMajor } = versions[name];
  return searchEngine({
    name,
    variable,
    image,
    version,
    javaMajor,
    jars: `opensearch-${version}`,
    launchers: ["opensearch", `opensearch${line}`],
    settingsFile: "opensearch.yml",
    containerEnvironment: {
      "discovery.type": "single-node",
      DISABLE_SECURITY_PLUGIN: "true",
      DISABLE_INSTALL_DEMO_CONFIG: "true",
      "cluster.routing.allocation.disk.threshold_enabled": "false",
      "path.repo": "/tmp",
      OPENSEARCH_JAVA_OPTS: "-Xms512m -Xmx512m",
    },
    // Its plugins are on the class path with everything else.
    async arrange() {},
    async prepareHome(home) {
      await mkdir(join(home, "modules"));
    },
    javaArguments: (_home, dir) => ["-cp", `${join(dir, "classes")}:${join(dir, "lib", "*")}`, "OpenSearchNode"],
  });
}

export const opensearch = openSearchOf("opensearch", 2, "MILLRACE_TEST_OPENSEARCH_URL");
export const opensearch3 = openSearchOf("opensearch3", 3, "MILLRACE_TEST_OPENSEARCH3_URL");
