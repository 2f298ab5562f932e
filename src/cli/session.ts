import type { Config } from "../config/config.ts";
import type { Secrets } from "../config/secrets/secrets.ts";
import type { Logger, LogLevel } from "../core/contracts/telemetry.ts";
import { createLogger } from "../ops/logger.ts";
import { failureOf, printFailure } from "./failure.ts";
import { printable } from "./printable.ts";

export interface SessionOptions {
  /** From -c, MILLRACE_CONFIG or the default. */
  readonly configFile: string;
  readonly json: boolean;
  readonly logLevel: LogLevel;
  /** Texts that must not be printed, as far as the command line shows them. */
  readonly secrets: Secrets;
}

/** One run of one command: its options, and where it prints. Only the result goes to stdout. */
export class Session {
  readonly configFile: string;
  readonly json: boolean;
  readonly log: Logger;
  readonly secrets: Secrets;
  readonly #logLevel: LogLevel;

  constructor({ configFile, json, logLevel, secrets }: SessionOptions) {
    this.configFile = configFile;
    this.json = json;
    this.secrets = secrets;
    this.#logLevel = logLevel;
    this.log = createLogger({ level: logLevel, redact: (line) => this.secrets.redactJson(line) });
  }

  /** The daemon's logs and its stored errors are free of secrets too. */
  get daemon(): { readonly logger: Logger; readonly redact: (json: string) => string } {
    return { logger: this.log, redact: (json) => this.secrets.redactJson(json) };
  }

  /** Also loads the code that reads it, so that commands without a config start faster. */
  async config(): Promise<Config> {
    const [{ connectors }, { loadConfig }] = await Promise.all([
      import("../../connectors/registry.ts"),
      import("../config/load.ts"),
    ]);
    return await loadConfig(this.configFile, { connectors, environment: process.env, secrets: this.secrets });
  }

  /** Prints an error: as text or, with `--json`, as the one document. */
  fail(error: unknown): void {
    printFailure(error, { json: this.json, showStack: this.#logLevel === "debug", secrets: this.secrets });
  }

  /** Prints the error that ended a daemon. If machines read its log, this is a log entry like the others. */
  failDaemon(error: unknown): void {
    if (this.json || process.stderr.isTTY || this.#logLevel === "silent") return this.fail(error);
    const { code, message } = failureOf(error);
    this.log.error({ code, error }, `millrace ends over error ${code}: ${message}`);
  }

  /** The command's result: one JSON document, or text for people. */
  print(document: object, text: string): void {
    const { secrets } = this;
    const output = this.json
      ? secrets.redactJson(JSON.stringify(document, null, 2))
      : secrets.redact(printable(text.trimEnd()));
    process.stdout.write(`${output}\n`);
  }
}
