/** A program of examples/library in a process of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

const FOLDER = fileURLToPath(new URL("../../../examples/library/", import.meta.url));

export class Example implements AsyncDisposable {
  readonly #process: ChildProcess;
  /** Resolves when the process has ended. */
  readonly ended: Promise<unknown>;
  output = "";

  constructor(file: string, environment: Readonly<Record<string, string>>) {
    const env = { ...process.env, NODE_COMPILE_CACHE: undefined, ...environment };
    this.#process = spawn(process.execPath, [`${FOLDER}${file}`], { env, stdio: ["ignore", "pipe", "pipe"] });
    this.#process.stdout?.on("data", (chunk: Buffer) => (this.output += chunk.toString()));
    this.#process.stderr?.on("data", (chunk: Buffer) => (this.output += chunk.toString()));
    this.ended = once(this.#process, "exit");
  }

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  get exit(): string | number | null {
    return this.#process.signalCode ?? this.#process.exitCode;
  }

  async end(signal: NodeJS.Signals = "SIGTERM"): Promise<string | number | null> {
    this.#process.kill(signal);
    await this.ended;
    return this.exit;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.exit === null) await this.end("SIGKILL");
  }
}
