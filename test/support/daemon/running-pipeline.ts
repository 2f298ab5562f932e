/** The real daemon between a database of its own and sinks of its own, for tests of what reaches the sinks. */
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { expect } from "vitest";
import type { TableName } from "../compare/compare.ts";
import { type CommandResult, type Daemon, Installation } from "./daemon-process.ts";
import { type FreshDatabase, freshDatabase, redisUrl } from "../run/services.ts";
import { CHOSEN_KINDS, type SinkKind, SinkSet } from "./sink-set.ts";
import { patient } from "../run/waiting.ts";

export interface PipelineOptions {
  /** By default `CHOSEN_KINDS`. */
  readonly kinds?: readonly SinkKind[];
  /** By default one on the shared server. */
  readonly source?: FreshDatabase;
  /** Adds to, and replaces parts of, the configuration. */
  readonly configure?: (config: PipelineConfig) => PipelineConfig;
  /** Whether the daemon reaches its sinks through proxies. Default: false. */
  readonly isProxied?: boolean;
  /** By default the shared one. */
  readonly broker?: string;
  /** The URL of a search engine. By default that of the shared one. */
  readonly search?: string;
  /** Waits for the daemon to stream before it returns. Default: true. */
  readonly untilStreaming?: boolean;
  /** Of the first daemon. */
  readonly environment?: Readonly<Record<string, string>>;
}

export interface PipelineConfig {
  readonly name: string;
  readonly source: object;
  readonly state?: string;
  readonly sinks: Readonly<Record<string, object>>;
  readonly tables?: object;
  readonly documents?: object;
  readonly reconcile?: object;
  readonly notify?: object;
  readonly telemetry?: object;
  readonly maskKey?: string;
  readonly admin?: object;
}

/** Of a table, beside the stream, for one sink. */
interface Read {
  readonly id: number;
  readonly tableId: string;
  readonly sink: string;
  readonly rowsDone: number;
}

const SETTLED_WITHIN_MS = 90_000;
const KILLED_WITHIN_MS = 150_000;

export class RunningPipeline implements AsyncDisposable {
  readonly source: FreshDatabase;
  readonly sinks: SinkSet;
  readonly installation: Installation;
  daemon: Daemon;

  private constructor(
    source: FreshDatabase,
    sinks: SinkSet,
    installation: Installation,
    environment?: Readonly<Record<string, string>>,
  ) {
    this.source = source;
    this.sinks = sinks;
    this.installation = installation;
    this.daemon = installation.run(environment);
  }

  /** `prepare` makes what the database holds before the daemon starts. */
  static async start(
    prepare: string | ((source: FreshDatabase) => Promise<unknown>),
    options: PipelineOptions = {},
  ): Promise<RunningPipeline> {
    const source = options.source ?? (await freshDatabase());
    try {
      await (typeof prepare === "string" ? source.query(prepare) : prepare(source));
    } catch (error) {
      await source[Symbol.asyncDispose]();
      throw error;
    }
    const sinks = await SinkSet.create(options.kinds ?? CHOSEN_KINDS, options.isProxied ?? false, options);
    const config = {
      name: source.name,
      source: { kind: "postgres", url: source.url, heartbeat: "500ms" },
      sinks: sinks.config,
    };
    const pipeline = new RunningPipeline(
      source,
      sinks,
      new Installation((options.configure ?? ((c) => c))({ ...config })),
      options.environment,
    );
    try {
      if (options.untilStreaming ?? true) await pipeline.daemon.streaming();
    } catch (error) {
      await pipeline[Symbol.asyncDispose]();
      throw error;
    }
    return pipeline;
  }

  /** For the configuration of another daemon that writes into the same sinks. */
  get sharedSinks(): PipelineConfig["sinks"] {
    return JSON.parse(JSON.stringify(this.sinks.config).replaceAll("./", `${this.installation.folder}/`));
  }

  /** Statements that form one transaction where there are several. */
  async run(sql: string): Promise<void> {
    await this.source.query(sql);
  }

  /** Resolves when all that was committed is in every sink; fails with what is missing. */
  async settled(withinMs = SETTLED_WITHIN_MS): Promise<void> {
    await this.daemon.settled(withinMs);
  }

  /** Waits until all has arrived, then compares every sink with the source. */
  async expectEqual(tables: readonly (string | TableName)[]): Promise<void> {
    await this.settled();
    const differences = await this.sinks.differences(this.source.url, this.installation.folder, tables);
    this.daemon.expectNone(differences);
  }

  /** `snapshot start --tables`, by table ids; without the start of a command line. */
  async readAgain(...tables: readonly string[]): Promise<void> {
    const answer = await this.installation.ask<object>("POST", "/api/v1/snapshots", { tables });
    expect(answer).toEqual({ tables });
  }

  /** Which sinks have read rows of each table, of the reads that were begun after the one of number `since`. */
  async readers(since: number): Promise<Readonly<Record<string, readonly string[]>>> {
    const read = (await this.#reads()).filter(({ id, rowsDone }) => id > since && rowsDone > 0);
    const byTable = Map.groupBy(read, ({ tableId }) => tableId.replace("public.", ""));
    return Object.fromEntries(
      [...byTable].map(([table, reads]) => [table, [...new Set(reads.map(({ sink }) => sink))].toSorted()]),
    );
  }

  /** The number of the read that was begun last. */
  async lastRead(): Promise<number> {
    return Math.max(0, ...(await this.#reads()).map(({ id }) => id));
  }

  async #reads(): Promise<readonly Read[]> {
    return (await this.installation.ask<readonly Read[]>("GET", "/api/v1/snapshots"))!;
  }

  async kill(): Promise<CommandResult> {
    return await this.daemon.kill();
  }

  /** Waits until a failpoint has killed the daemon; returns what it logged. */
  async killed(where: string): Promise<string> {
    const { daemon } = this;
    await Promise.race([daemon.ended, sleep(patient(KILLED_WITHIN_MS), undefined, { ref: false })]);
    expect({ where, exited: daemon.exited }, daemon.said.slice(-3_000)).toEqual({ where, exited: true });
    const { signal, stderr } = await daemon.ended;
    expect({ where, signal }, stderr.slice(-3_000)).toEqual({ where, signal: "SIGKILL" });
    return stderr;
  }

  async start(untilStreaming = true, environment: Readonly<Record<string, string>> = {}): Promise<void> {
    this.daemon = this.installation.run(environment);
    if (untilStreaming) await this.daemon.streaming();
  }

  async restart(): Promise<void> {
    await this.daemon.stop();
    await this.start();
  }

  /** What the daemon logged above `info`. */
  complaints(): string[] {
    return this.daemon.complaints();
  }

  /** A client of the cache; the rows' keys begin with `sinks.keyPrefix`. */
  cache(): Redis & Disposable {
    const client = new Redis(redisUrl());
    return Object.assign(client, { [Symbol.dispose]: () => client.disconnect() });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.installation[Symbol.asyncDispose]();
    await this.sinks[Symbol.asyncDispose]();
    await this.source[Symbol.asyncDispose]();
  }
}
