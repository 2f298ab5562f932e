import type { Config, SinkConfig } from "../config/config.ts";
import type { ConfigPart, Place, WantedSinks } from "../config/load.ts";
import type { Secrets } from "../config/secrets/secrets.ts";
import { type Clock, systemClock } from "../core/clock.ts";
import type { Logger, LogLevel } from "../core/contracts/telemetry.ts";
import { createLogger } from "../ops/logger.ts";
import { cliError } from "./errors.ts";
import { failureOf, printFailure } from "./failure.ts";
import { printable } from "./printable.ts";

export interface SessionOptions {
  /** From -c, MILLRACE_CONFIG or the default. */
  readonly configFile: string;
  readonly json: boolean;
  readonly logLevel: LogLevel;
  /** Texts that must not be printed, as far as the command line shows them. */
  readonly secrets: Secrets;
  /** From --share: the number of a share, from 1 on; null: none in particular. */
  readonly share: number | null;
}

/** A command's result: one JSON document, and text for people. */
export interface Printed {
  readonly document: object;
  readonly text: string;
}

/** One run of one command: its options, and where it prints. Only the result goes to stdout. */
export class Session {
  readonly options: SessionOptions;
  readonly log: Logger;
  readonly clock: Clock = systemClock;
  readonly #printed: (printed: Printed) => void;
  #whole: Promise<Config> | null = null;

  /** `printed`: receives results in place of stdout. */
  constructor(options: SessionOptions, log?: Logger, printed?: (printed: Printed) => void) {
    const { logLevel: level } = options;
    this.options = options;
    this.log = log ?? createLogger({ level, redact: (line) => this.secrets.redactJson(line) });
    this.#printed = printed ?? ((one) => this.#write(one));
  }

  get configFile(): string {
    return this.options.configFile;
  }

  get json(): boolean {
    return this.options.json;
  }

  get secrets(): Secrets {
    return this.options.secrets;
  }

  /** The daemon's logs and its stored errors are free of secrets too. */
  get daemon(): { readonly logger: Logger; readonly redact: (json: string) => string } {
    return { logger: this.log, redact: (json) => this.secrets.redactJson(json) };
  }

  /** The same command on one share alone. */
  ofShare(share: number, printed: (printed: Printed) => void): Session {
    const one = new Session({ ...this.options, share }, this.log.child({ share }), printed);
    one.#whole = this.#whole;
    return one;
  }

  /** The same command with another log. */
  ofLog(log: Logger): Session {
    const one = new Session(this.options, log, this.#printed);
    one.#whole = this.#whole;
    return one;
  }

  /** Of the chosen share, if one is chosen. */
  async config(): Promise<Config> {
    const { share } = this.options;
    const whole = await this.whole();
    if (share === null) return whole;
    const count = whole.shares?.division.count ?? null;
    if (count === null) throw cliError("MR1110", "--share: `source.shares` of this configuration is not set");
    if (share > count) throw cliError("MR1110", `--share: the shares are 1 to ${count}`);
    return await this.configOf(share);
  }

  /**
   * Where the daemon of the config is, or that of the chosen share, and what the file names. It needs no variables of
   * source and sinks, which the daemon has already. A file that does not even say that is wrong as a whole.
   */
  async place(): Promise<Place> {
    const { share } = this.options;
    const { loadPlace, placedNest, options } = await this.#loader();
    try {
      const place = loadPlace(this.configFile, { ...options, share });
      if (share === null || share <= (place.shareCount ?? 0)) return place;
    } catch {
      // The whole has all of its problems.
    }
    const { name, state, shares, source, sinks, documents: wanted, rules } = await this.config();
    return {
      name,
      owner: shares?.name ?? name,
      state,
      shareCount: shares?.division.count ?? null,
      source,
      sinks: sinks.map(({ name: sink, kind, documents }) => ({ name: sink, kind, isOfDocuments: documents !== null })),
      nestSink: placedNest(wanted.length > 0),
      rules,
    };
  }

  /**
   * The source and these sinks, for which no variable may be missing; all of the file where the tables have shares, because
   * all sinks say who has which table.
   */
  async part(wanted: WantedSinks): Promise<ConfigPart> {
    if ((await this.place()).shareCount !== null) return await this.config();
    const { loadPart, options } = await this.#loader();
    return await loadPart(this.configFile, options, wanted);
  }

  /** These sinks alone, for which no variable may be missing. */
  async sinks(names: readonly string[]): Promise<readonly SinkConfig[]> {
    if ((await this.place()).shareCount !== null)
      return (await this.config()).sinks.filter(({ name }) => names.includes(name));
    const { loadSinks, options } = await this.#loader();
    return await loadSinks(this.configFile, options, names);
  }

  /** Of the daemon of a share, also one beyond the number of shares; null: of the daemon that had all tables. */
  async configOf(share: number | null): Promise<Config> {
    return await this.#load(share);
  }

  /** What the file says, whichever share is chosen. */
  async whole(): Promise<Config> {
    return await (this.#whole ??= this.#load(null));
  }

  async #load(share: number | null): Promise<Config> {
    const { loadConfig, options } = await this.#loader();
    return await loadConfig(this.configFile, { ...options, share });
  }

  /** Loads the code that reads the file, so that commands without a config start faster. */
  async #loader() {
    const [{ connectors }, load] = await Promise.all([
      import("../../connectors/registry.ts"),
      import("../config/load.ts"),
    ]);
    return { ...load, options: { connectors, environment: process.env, secrets: this.secrets } };
  }

  /** Prints an error: as text or, with `--json`, as the one document. */
  fail(error: unknown): void {
    const { json, secrets } = this;
    printFailure(error, { json, showStack: this.options.logLevel === "debug", secrets });
  }

  /** Prints the error that ended a daemon. If machines read its log, this is a log entry like the others. */
  failDaemon(error: unknown): void {
    if (this.json || process.stderr.isTTY || this.options.logLevel === "silent") return this.fail(error);
    const { code, message } = failureOf(error);
    this.log.error({ code, error }, `millrace ends over error ${code}: ${message}`);
  }

  /** The command's result: one JSON document, or text for people. */
  print(document: object, text: string): void {
    this.#printed({ document, text });
  }

  #write({ document, text }: Printed): void {
    const { secrets } = this;
    const output = this.json
      ? secrets.redactJson(JSON.stringify(document, null, 2))
      : secrets.redact(printable(text.trimEnd()));
    process.stdout.write(`${output}\n`);
  }
}
