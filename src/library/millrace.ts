/** The package's entry: `import { follow, run } from "millrace"` (docs/library.md). Nothing here touches the process. */
import * as z from "zod";
import { configOf, loadConfig } from "../config/load.ts";
import { Secrets } from "../config/secrets/secrets.ts";
import { scopeOf, systemClock } from "../core/clock.ts";
import { MillraceError } from "../core/errors.ts";
import { checkpointFromTexts, checkpointTexts } from "../core/checkpoint.ts";
import { parsePosition, serializePosition } from "../core/model/position.ts";
import { connectors } from "../../connectors/registry.ts";
import type * as api from "./api.ts";
import type { Log, LogEntry } from "./api.ts";
import { changesOf as changesOfBatch } from "./changes.ts";
import { libraryError } from "./errors.ts";
import { runFollower } from "./follower.ts";
import { Handover } from "./handover.ts";
import { dividedSinks, OWN, withOwnSinks } from "./own-sinks.ts";
import { type Logger, SILENT } from "../core/contracts/telemetry.ts";

export type * from "./api.ts";
export { MillraceError };

export const changesOf: api.ChangesOf = changesOfBatch;

export const checkpointText: api.CheckpointText = (checkpoint) =>
  JSON.stringify({ position: serializePosition(checkpoint.position), ...checkpointTexts(checkpoint) });

export const checkpointOf: api.CheckpointOf = (text) => {
  const { position, tables, bond } = CHECKPOINT.parse(JSON.parse(text));
  return { position: parsePosition(position), ...checkpointFromTexts(tables, bond) };
};

const CHECKPOINT = z.object({ position: z.string(), tables: z.string(), bond: z.string() });

export const follow: api.Follow = (options) => new Followed(options);

export const run: api.Run = async (config, { signal, log, sinks = {} } = {}) => {
  const secrets = new Secrets();
  const redact = (json: string): string => secrets.redactJson(json);
  const logger = loggerTo(log, redact);
  const divided = typeof config === "string" ? { sinks: {}, own: {} } : dividedSinks(config.sinks);
  const given = dividedSinks(sinks);
  await using own = withOwnSinks(connectors, { ...divided.own, ...given.own });
  const options = { connectors: own.connectors, environment: process.env, secrets };
  const loaded =
    typeof config === "string"
      ? await loadConfig(config, options)
      : await configOf({ ...config, sinks: { ...divided.sinks, ...given.sinks } }, "config", options);
  if (loaded.shares !== null)
    throw libraryError("MR1171", "`source.shares` divides tables among processes: start them with `millrace run`");
  const [{ runDaemon }, { untilHealed }] = await Promise.all([
    import("../daemon/daemon.ts"),
    import("../daemon/until-healed.ts"),
  ]);
  using until = scopeOf(...(signal === undefined ? [] : [signal]));
  const daemon = { logger, redact };
  await untilHealed(
    { config: loaded, clock: systemClock, ...daemon },
    async (serves) => void (await runDaemon(loaded, { once: false, serves, ...daemon }, until.signal)),
    until.signal,
  );
};

const LIMITS = { rows: 10_000, bytes: "1MB" };
const DEFAULT_NAME = "follow";
const PROGRAM = "program";

class Followed implements api.Following {
  readonly #options: api.FollowOptions;
  readonly #handover = new Handover();
  readonly #stopping = new AbortController();
  /** Null: the program has not asked yet. */
  #running: Promise<void> | null = null;

  constructor(options: api.FollowOptions) {
    this.#options = options;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<api.Transaction, undefined>> {
    const { signal } = this.#options;
    if (this.#running === null) {
      if (signal?.aborted === true) this.#stop();
      else signal?.addEventListener("abort", this.#stop, { once: true });
      this.#running = this.#run();
    }
    // Who asks for the next one has done what he had, or will not.
    if (this.#stopping.signal.aborted) this.#handover.leave();
    const value = await this.#handover.take();
    if (value !== null) return { done: false, value };
    await this.#running;
    return { done: true, value: undefined };
  }

  async return(): Promise<IteratorReturnResult<undefined>> {
    this.#handover.leave();
    this.#stop();
    await this.#running;
    this.#handover.end(null);
    return { done: true, value: undefined };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  /** With a reason of ours: that of the program's signal may be any value. */
  readonly #stop = (): void => this.#stopping.abort(new DOMException("follow was ended", "AbortError"));

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    let failure: unknown = null;
    try {
      if (!signal.aborted) await this.#follow(signal);
    } catch (error) {
      failure = error;
    }
    this.#options.signal?.removeEventListener("abort", this.#stop);
    this.#handover.end(failure);
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const { source, tables, snapshot, state, unchanged, heartbeat, batch, log, name = DEFAULT_NAME } = this.#options;
    const hasState = state !== undefined;
    const completes = unchanged === "complete";
    if (completes && !hasState)
      throw libraryError("MR1171", '`unchanged: "complete"` needs `state`, which knows what is left to read');
    const secrets = new Secrets();
    const redact = (json: string): string => secrets.redactJson(json);
    const keys = typeof source === "string" ? { kind: kindOf(source), url: source } : source;
    const { rows, bytes } = { ...LIMITS, ...batch };
    const value = {
      name,
      source: { ...keys, tables, snapshot, heartbeat },
      state,
      sinks: { [PROGRAM]: { kind: OWN, batch: { rows, bytes } } },
    };
    const known = withOwnSinks(connectors, { [PROGRAM]: neverMade }).connectors;
    const config = await configOf(value, "options", { connectors: known, environment: {}, secrets });
    const limits = config.sinks[0]?.batch;
    await runFollower(
      {
        config,
        handover: this.#handover,
        hasState,
        from: hasState && !Object.hasOwn(this.#options, "from") ? undefined : (this.#options.from ?? null),
        completes,
        limits: { rowCountMax: limits?.rowCountMax ?? 0, byteCountMax: limits?.byteCountMax ?? 0 },
        logger: loggerTo(log, redact),
        redact,
      },
      signal,
    );
  }
}

/** The program itself is the sink: the configuration has its limits alone. */
function neverMade(): never {
  throw new Error("invariant broken: follow makes its sink itself");
}

function kindOf(url: string): string {
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(url)?.[1]?.toLowerCase();
  if (scheme === "postgres" || scheme === "postgresql") return "postgres";
  if (scheme === "mysql" || scheme === "mariadb") return "mysql";
  throw libraryError(
    "MR1171",
    "`source` expects postgres://…, mysql://…, or an object with the keys of `source` in millrace.yaml",
  );
}

/** `redact`: every entry, as JSON, passes through it. */
function loggerTo(log: Log | undefined, redact: (json: string) => string, fixed: object = {}): Logger {
  if (log === undefined) return SILENT;
  const at = (level: LogEntry["level"]) => (fields: object, message: string) => {
    const entry: LogEntry = { ...fixed, ...fields, level, message };
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the same entry with other texts
    log(JSON.parse(redact(JSON.stringify(entry, plain))) as LogEntry);
  };
  return {
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    child: (fields) => loggerTo(log, redact, { ...fixed, ...fields }),
  };
}

/** Of an error only what holds no values: a driver's text may quote cells and statements. */
function plain(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return String(value);
  if (value instanceof MillraceError) {
    const { code, kind, message, hint } = value;
    return { code, kind, message, hint };
  }
  return value instanceof Error ? { name: value.name, stack: value.stack } : value;
}
