/**
 * Debezium's embedded engine as a peer, in its fastest form: records as objects, counted and dropped, not rendered. It
 * needs Java 17 and its jars (Maven Central, listed in scripts/services/jars); without them it is left out.
 */
import { join } from "node:path";
import { z } from "zod";
import { command } from "../scripts/services/processes/command.ts";
import { type DebeziumProgram, provideDebezium } from "../scripts/services/tools/debezium.ts";
import { versions } from "../scripts/services/versions.ts";
import type { BenchOptions } from "./report.ts";

export const DEBEZIUM = `Debezium ${versions.debezium}, engine`;
const HEAP_MEGABYTES = 1024;
/** Larger than its defaults, which makes it faster. */
const BATCHES = { "max.batch.size": "8192", "max.queue.size": "32768", "poll.interval.ms": "50" };
const RUN_SECONDS_MAX = 300;
const SOURCE = join(import.meta.dirname, "debezium", "DebeziumCounter.java");

/** The counter's output for one run. Times are from its first row to its last, without its start. */
const Counted = z.object({ rows: z.number(), seconds: z.number(), cpuSeconds: z.number(), memoryMiB: z.number() });
export type Counted = z.infer<typeof Counted>;

export class Debezium implements AsyncDisposable {
  readonly #program: DebeziumProgram;

  private constructor(program: DebeziumProgram) {
    this.#program = program;
  }

  /** Undefined if it is not available; the reason is printed. */
  static async provide(log: BenchOptions["log"]): Promise<Debezium | undefined> {
    try {
      return new Debezium(await provideDebezium(SOURCE));
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
    const {
      java: { command: java, args },
      classpath,
    } = this.#program;
    const answer = await command(java, [
      ...args,
      `-Xmx${HEAP_MEGABYTES}m`,
      "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
      `-Dcounter.close=${closes}`,
      "-cp",
      classpath,
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
    await this.#program[Symbol.asyncDispose]();
  }
}
