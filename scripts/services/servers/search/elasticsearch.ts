/** Elasticsearch without security: line 8, which runs on Java 17, and line 9. */
import { mkdir, rename, rm, symlink, writeFile } from "node:fs/promises";
import { globSync } from "node:fs";
import { basename, join } from "node:path";
import { command } from "../../processes/command.ts";
import type { Java } from "../../packages/java.ts";
import { searchEngine, type Engine } from "./search-engine.ts";
import { versions } from "../../versions.ts";

function elasticsearchOf(name: "elasticsearch" | "elasticsearch9", line: 8 | 9, variable: string) {
  const { version, image, javaMajor } = versions[name];
  const engine: Engine = {
    name,
    variable,
    image,
    version,
    javaMajor,
    jars: `elasticsearch-${version}`,
    launchers: ["elasticsearch", `elasticsearch${line}`],
    settingsFile: "elasticsearch.yml",
    containerEnvironment: {
      "discovery.type": "single-node",
      "xpack.security.enabled": "false",
      "cluster.routing.allocation.disk.threshold_enabled": "false",
      "path.repo": "/tmp",
      ES_JAVA_OPTS: "-Xms512m -Xmx512m",
    },
    async arrange(dir, java) {
      await arrangeTransport(dir, version, javaMajor);
      await arrangeRoot(dir, version, javaMajor, java);
    },
    async prepareHome(home, dir) {
      for (const folder of ["lib", "modules"]) await symlink(join(dir, folder), join(home, folder));
    },
    javaArguments: (home, dir) => [
      `--module-path=${join(home, "lib")}`,
      "--add-modules=ALL-MODULE-PATH,jdk.net",
      "--enable-native-access=org.elasticsearch.nativeaccess,org.apache.lucene.core",
      `--class-path=${join(dir, "classes")}`,
      "ElasticsearchNode",
    ],
  };
  return searchEngine(engine);
}

/** Netty and its plugin are a module of the server, loaded apart from its own jars. */
async function arrangeTransport(dir: string, version: string, javaMajor: number): Promise<void> {
  const module = join(dir, "modules", "transport-netty4");
  await mkdir(module, { recursive: true });
  for (const jar of globSync(["transport-netty4-*.jar", "netty-*.jar"], { cwd: join(dir, "lib") })) {
    await rename(join(dir, "lib", jar), join(module, basename(jar)));
  }
  await writeDescriptor(module, version, javaMajor, {
    name: "transport-netty4",
    classname: "org.elasticsearch.transport.netty4.Netty4Plugin",
    modulename: "org.elasticsearch.transport.netty4",
  });
}

/** A plugin's class has to come from a jar of its own, so it leaves the launcher's classes. */
async function arrangeRoot(dir: string, version: string, javaMajor: number, java: Java): Promise<void> {
  const module = join(dir, "modules", "root");
  await mkdir(module, { recursive: true });
  const classes = join(dir, "classes");
  const files = ["RootPlugin.class", "RootHandler.class"];
  await command(java.command, [...java.args, "-cp", classes, "MakeJar", join(module, "root.jar"), classes, ...files]);
  for (const file of files) await rm(join(classes, file));
  await writeDescriptor(module, version, javaMajor, { name: "root", classname: "RootPlugin" });
}

async function writeDescriptor(
  module: string,
  version: string,
  javaMajor: number,
  fields: Readonly<Record<string, string>>,
): Promise<void> {
  const all = {
    ...fields,
    description: fields["name"],
    version,
    "elasticsearch.version": version,
    "java.version": javaMajor,
  };
  const lines = Object.entries(all).map(([key, value]) => `${key}=${value}\n`);
  await writeFile(join(module, "plugin-descriptor.properties"), lines.join(""));
}

export const elasticsearch = elasticsearchOf("elasticsearch", 8, "MILLRACE_TEST_ELASTICSEARCH_URL");
export const elasticsearch9 = elasticsearchOf("elasticsearch9", 9, "MILLRACE_TEST_ELASTICSEARCH9_URL");
