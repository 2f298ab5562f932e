/** The real daemon between a database of MySQL or MariaDB and sinks of its own. */
import { expect } from "vitest";
import type { TableName } from "../compare/compare.ts";
import { type CommandResult, type Daemon, Installation } from "../daemon/daemon-process.ts";
import { openMysqlDatabase } from "./mysql-database.ts";
import { type FreshMysqlDatabase, freshMysqlDatabase, mysqlUrl, type MysqlFlavour } from "../run/services.ts";
import { type SinkKind, SinkSet } from "../daemon/sink-set.ts";

export interface MysqlPipelineOptions {
  readonly kinds: readonly SinkKind[];
  /** By default the shared server's. */
  readonly url?: string;
  /** Further keys of `source:`. */
  readonly source?: object;
  /** The state's own server. */
  readonly state?: string;
  /** Rules for tables, by their names without the database. */
  readonly rules?: Readonly<Record<string, object>>;
  /** Changes options of the sinks of the first daemon. */
  readonly sinks?: (config: Readonly<Record<string, object>>) => Readonly<Record<string, object>>;
  readonly maskKey?: string;
  /** `documents:`, by the database's name. */
  readonly documents?: (database: string) => object;
  readonly untilStreaming?: boolean;
  /** Whether the daemon reaches its sinks through proxies. Default: false. */
  readonly isProxied?: boolean;
  /** Starts what lies between the database and the daemon; returns the daemon's own source. */
  readonly through?: (name: string, url: string) => Promise<object>;
  /** Of the first daemon. */
  readonly environment?: Readonly<Record<string, string>>;
}

const SETTLED_WITHIN_MS = 40_000;

export class MysqlPipeline implements AsyncDisposable {
  source: FreshMysqlDatabase;
  /** The source's URL with its database. */
  readonly url: string;
  readonly sinks: SinkSet;
  readonly installation: Installation;
  daemon: Daemon;
  /** Of `source:`, by default the keys that every daemon here has. */
  readonly #own: object;

  private constructor(
    source: FreshMysqlDatabase,
    url: string,
    own: object,
    sinks: SinkSet,
    installation: Installation,
    environment?: Readonly<Record<string, string>>,
  ) {
    this.source = source;
    this.url = url;
    this.#own = own;
    this.sinks = sinks;
    this.installation = installation;
    this.daemon = installation.run(environment);
  }

  /** `prepare`: statements that make what the database holds before the daemon starts. */
  static async start(
    flavour: MysqlFlavour,
    prepare: readonly string[],
    options: MysqlPipelineOptions,
  ): Promise<MysqlPipeline> {
    const server = options.url ?? mysqlUrl(flavour);
    const source = await freshMysqlDatabase(server);
    const sinks = await SinkSet.create(options.kinds, options.isProxied ?? false);
    const url = withDatabase(server, source.name);
    let own: object = { kind: "mysql", url, heartbeat: "500ms" };
    try {
      for (const sql of prepare) await source.connection.query(sql);
      if (options.through !== undefined) own = await options.through(source.name, url);
    } catch (error) {
      await source[Symbol.asyncDispose]();
      throw error;
    }
    const installation = new Installation({
      name: options.through === undefined ? source.name : `${source.name}_a`,
      source: { ...own, ...options.source },
      ...(options.state === undefined ? {} : { state: options.state }),
      sinks: (options.sinks ?? ((config) => config))(sinks.config),
      tables: rulesIn(source.name, options.rules ?? {}),
      ...(options.documents === undefined ? {} : { documents: options.documents(source.name) }),
      ...(options.maskKey === undefined ? {} : { maskKey: options.maskKey }),
    });
    const pipeline = new MysqlPipeline(source, url, own, sinks, installation, options.environment);
    try {
      if (options.untilStreaming ?? true) await pipeline.daemon.streaming();
    } catch (error) {
      await pipeline[Symbol.asyncDispose]();
      throw error;
    }
    return pipeline;
  }

  async run(...statements: readonly string[]): Promise<void> {
    for (const sql of statements) await this.source.connection.query(sql);
  }

  /** Resolves when all that was committed is in every sink; fails with what is missing. */
  async settled(withinMs = SETTLED_WITHIN_MS): Promise<void> {
    await this.daemon.settled(withinMs);
  }

  /** Waits until all has arrived, then compares every sink with the source. */
  async expectEqual(...tables: readonly (string | TableName)[]): Promise<void> {
    await this.settled();
    const names = tables.map((table) => (typeof table === "string" ? { schema: this.source.name, table } : table));
    const differences = await this.sinks.differences(this.url, this.installation.folder, names);
    this.daemon.expectNone(differences);
  }

  async readAgain(...tables: readonly string[]): Promise<void> {
    const ids = tables.map((table) => `${this.source.name}.${table}`);
    expect(await this.installation.ask<object>("POST", "/api/v1/snapshots", { tables: ids })).toEqual({ tables: ids });
  }

  /** Replaces further keys of `source:`, and all rules. */
  configure(source: object, rules: Readonly<Record<string, object>> = {}, maskKey?: string): void {
    this.installation.configure({
      name: this.installation.name,
      source: { ...this.#own, ...source },
      sinks: this.sinks.config,
      tables: rulesIn(this.source.name, rules),
      ...(maskKey === undefined ? {} : { maskKey }),
    });
  }

  /** How a start ends that must not succeed. */
  async refusal(): Promise<{ readonly exitCode: number | null; readonly code: string | undefined }> {
    const { exitCode, stderr } = await this.installation.run().ended;
    return {
      exitCode,
      code: /\bMR2\d{3}\b/.exec(stderr.split("\n").findLast((line) => /MR2\d{3}/.test(line)) ?? "")?.[0],
    };
  }

  /** The session of the tests, anew: the server was another process when that one was opened. */
  async reconnect(): Promise<void> {
    this.source.connection.destroy();
    this.source = await openMysqlDatabase(this.url, this.source.name);
  }

  async kill(): Promise<CommandResult> {
    return await this.daemon.kill();
  }

  async start(untilStreaming = true): Promise<void> {
    this.daemon = this.installation.run();
    if (untilStreaming) await this.daemon.streaming();
  }

  /** What the daemon logged above `info`. */
  complaints(): string[] {
    return this.daemon.complaints();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.installation[Symbol.asyncDispose]();
    await this.sinks[Symbol.asyncDispose]();
    await this.source[Symbol.asyncDispose]();
  }
}

function rulesIn(database: string, rules: Readonly<Record<string, object>>): object {
  return Object.fromEntries(Object.entries(rules).map(([table, rule]) => [`${database}.${table}`, rule]));
}

function withDatabase(server: string, name: string): string {
  const url = new URL(server);
  url.pathname = `/${name}`;
  return url.href;
}
