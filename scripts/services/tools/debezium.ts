/** Debezium's embedded engine, below programs of this repository: a peer in benchmarks, an oracle in tests. It needs Java 17. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cached } from "../packages/cache.ts";
import { compileJava, provideCompiler } from "../packages/compile-java.ts";
import { findJava, type Java, provideJava } from "../packages/java.ts";
import { fetchJars, readJarList } from "../packages/maven.ts";
import { printProgress } from "../packages/progress.ts";
import { versions } from "../versions.ts";

const NAME = `debezium-${versions.debezium}`;
const JAVA_MAJOR = 17;

export interface DebeziumProgram extends AsyncDisposable {
  readonly java: Java;
  readonly classpath: string;
}

/** Fetches the jars of Maven Central that scripts/services/jars lists, and compiles the program against them. */
export async function provideDebezium(source: string): Promise<DebeziumProgram> {
  const found = await findJava(JAVA_MAJOR);
  if (found.kind === "missing") throw new Error(found.reason);
  const java = await provideJava(found, printProgress);
  const compiler = await provideCompiler(printProgress);
  const jars = await cached(NAME, async (dir) => fetchJars(NAME, await readJarList(NAME), dir, printProgress));
  const classes = await mkdtemp(join(tmpdir(), "millrace-debezium-"));
  await compileJava(java, compiler, [source], { lib: jars, classes });
  return {
    java,
    classpath: `${classes}:${join(jars, "*")}`,
    [Symbol.asyncDispose]: () => rm(classes, { recursive: true, force: true }),
  };
}
