/** What Debezium's own connector makes of a source: the oracle for the formats that follow it. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { type DebeziumProgram, provideDebezium } from "../../../scripts/services/tools/debezium.ts";

export interface ToldRecord {
  readonly topic: string;
  readonly key: string | null;
  readonly value: string | null;
}

const SOURCE = join(import.meta.dirname, "DebeziumRecords.java");

/** One run of the engine: from its start to the first record of a topic that ends with `last`. */
export class DebeziumEngine implements AsyncDisposable {
  readonly #program: DebeziumProgram;
  readonly #process: ChildProcess;
  readonly #ended: Promise<unknown>;
  #told = "";
  #said = "";

  private constructor(program: DebeziumProgram, process: ChildProcess) {
    this.#program = program;
    this.#process = process;
    this.#ended = once(process, "close");
    process.stdout!.on("data", (bytes: Buffer) => (this.#told += bytes.toString("latin1")));
    process.stderr!.on("data", (bytes: Buffer) => (this.#said += bytes.toString()));
  }

  static async start(
    form: "json" | "cloudevents",
    last: string,
    properties: Readonly<Record<string, string>>,
  ): Promise<DebeziumEngine> {
    const program = await provideDebezium(SOURCE);
    const given = Object.entries(properties).map(([name, value]) => `${name}=${value}`);
    const { java, classpath } = program;
    const log = "-Dorg.slf4j.simpleLogger.defaultLogLevel=error";
    const args = [...java.args, log, "-cp", classpath, "DebeziumRecords", form, last, ...given];
    return new DebeziumEngine(program, spawn(java.command, args, { stdio: ["ignore", "pipe", "pipe"] }));
  }

  /** What it printed to its error stream; empty while all is well. */
  get said(): string {
    return this.#process.exitCode === null ? "" : this.#said.slice(0, 3000);
  }

  /** Whether it has told a record of a topic that ends with this. */
  hasTold(topicEnd: string): boolean {
    return this.#told.split("\n").some((line) => decoded(line.split(" ")[0]!)?.endsWith(topicEnd) === true);
  }

  async records(): Promise<readonly ToldRecord[]> {
    await this.#ended;
    if (this.#process.exitCode !== 0) throw new Error(`Debezium has failed: ${this.said}`);
    return this.#told
      .trim()
      .split("\n")
      .map((line) => {
        const [topic, key, value] = line.split(" ").map(decoded);
        return { topic: topic ?? "", key: key ?? null, value: value ?? null };
      });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#ended;
    await this.#program[Symbol.asyncDispose]();
  }
}

function decoded(text: string): string | null {
  return text === "-" ? null : Buffer.from(text, "base64").toString("utf8");
}
