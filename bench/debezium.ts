/**
 * Debezium's embedded engine as a peer, in its fastest form: records as objects, counted and dropped, not rendered. It
 * needs Java 17 and its jars (Maven Central, listed in scripts/services/jars); without them it is left out.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { cached } from "../scripts/services/cache.ts";
import { command } from "../scripts/services/command.ts";
import { compileJava, provideCompiler } from "../scripts/services/compile-java.ts";
import { findJava, type Java, provideJava } from "../scripts/services/java.ts";
import { fetchJars, readJarList } from "../scripts/services/maven.ts";
import { printProgress } from "../scripts/services/progress.ts";
import { versions } from "../scripts/services/versions.ts";
import type { BenchOptions } from "./report.ts";

export const DEBEZIUM = `Debezium ${versions.debezium}, engine`;
const NAME = `debezium-${versions.debezium}`;
const JAVA_MAJOR = 17;
const HEAP_MEGABYTES = 1024;
/** Larger than its defaults, which makes it faster. */
const BATCHES = { "max.batch.size": "8192", "max.queue.size": "32768", "poll.interval.ms": "50" };
const RUN_SECONDS_MAX = 300;
const SOURCE = join(import.meta.dirname, "debezium", "DebeziumCounter.java");

/** The counter's output for one run. Times are from its first row to its last, without its start. */
const Counted = z.object({ rows: z.number(), seconds: z.number(), cpuSeconds: z.number(), memoryMiB: z.number() });
export type Counted = z.infer<typeof Counted>;

export class Debezium implements AsyncDisposable {
  readonly #java: Java;
  readonly #jars: string;
  readonly #classes: string;

  private constructor(java: Java, jars: string, classes: string) {
    this.#java = java;
    this.#jars = jars;
    this.#classes = classes;
  }

  /** Undefined if it is not available; the reason is printed. */
  static async provide(log: BenchOptions["log"]): Promise<Debezium | undefined> {
    try {
      const found = await findJava(JAVA_MAJOR);
      if (found.kind === "missing") throw new Error(found.reason);
      const java = await provideJava(found, printProgress);
      const compiler = await provideCompiler(printProgress);
      const jars = await cached(NAME, async (dir) => fetchJars(NAME, await readJarList(NAME), dir, printProgress));
      const classes = await mkdtemp(join(tmpdir(), "millrace-bench-"));
      await compileJava(java, compiler, [SOURCE], { lib: jars, classes });
      return new Debezium(java, jars, classes);
    } catch (error) {
      log(`${DEBEZIUM} is left out: ${error instanceof Error ? error.message : String(error)}`);
      return undefined;
    }
  }

  /** Runs the engine until it has returned this many rows; `closes` makes it store its position. */
  async count(
    rowCount: number,
    properties: Readonly<Record<string, string>>,
    { closes = false }: { readonly closes?: boolean } = {},
  ): Promise<Counted> {
    const { command: java, args } = this.#java;
    const answer = await command(java, [
      ...args,
      `-Xmx${HEAP_MEGABYTES}m`,
      "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
      `-Dcounter.close=${closes}`,
      "-cp",
      `${this.#classes}:${join(this.#jars, "*")}`,
      "DebeziumCounter",
      String(rowCount),
      String(RUN_SECONDS_MAX),
      ...Object.entries({ ...BATCHES, ...properties }).map(([name, value]) => `${name}=${value}`),
    ]);
    const counted = Counted.parse(JSON.parse(answer.trim().split("\n").at(-1) ?? ""));
    if (!closes && counted.rows !== rowCount)
      throw new Error(`${counted.rows} of ${rowCount} rows came by ${DEBEZIUM}`);
    return counted;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#classes, { recursive: true, force: true });
  }
}
