/** Compiles Java sources of this repository against fetched jars. A JRE has no compiler, so one comes from a jar. */
import { globSync } from "node:fs";
import { join } from "node:path";
import { cached, isCached } from "./cache.ts";
import { command } from "../processes/command.ts";
import type { Java } from "./java.ts";
import { fetchJars, readJarList } from "./maven.ts";
import type { Download, ProgressListener } from "../service.ts";
import { versions } from "../versions.ts";

const ECJ = `ecj-${versions.ecj}`;

/** The downloads that it needs. */
export function compilerMissing(): readonly Download[] {
  return isCached(ECJ) ? [] : [{ what: ECJ, from: "Maven Central", megabytes: 3 }];
}

/** The compiler's folder in the cache. */
export async function provideCompiler(onProgress: ProgressListener): Promise<string> {
  return await cached(ECJ, async (dir) => fetchJars(ECJ, await readJarList(ECJ), dir, onProgress));
}

/** Compiles `sources` into the folder `classes`, against the jars of the folder `lib`. */
export async function compileJava(
  java: Java,
  compiler: string,
  sources: readonly string[],
  { lib, classes }: { readonly lib: string; readonly classes: string },
): Promise<void> {
  const [ecj] = globSync(join(compiler, "*.jar"));
  await command(java.command, [
    ...java.args,
    "-jar",
    ecj ?? "",
    "-source",
    "17",
    "-target",
    "17",
    "-proc:none",
    "-nowarn",
    "-encoding",
    "UTF-8",
    "-classpath",
    globSync(join(lib, "*.jar")).join(":"),
    "-d",
    classes,
    ...sources,
  ]);
}
