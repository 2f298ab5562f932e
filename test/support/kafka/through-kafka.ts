/** Two daemons with Kafka between them: one captures a database into a log, the other follows the log into sinks of its own. */
import { type Daemon, Installation, type InstallationConfig } from "../daemon/daemon-process.ts";
import { KafkaTopics } from "./kafka-topics.ts";
import { type PipelineOptions, RunningPipeline } from "../daemon/running-pipeline.ts";
import { type FreshDatabase, freshDatabase, kafkaBroker } from "../run/services.ts";

const HEARTBEAT = "500ms";

export interface ThroughOptions extends Pick<PipelineOptions, "kinds"> {
  /** Of the capturing daemon, beside source and sinks. */
  readonly capture?: Partial<InstallationConfig>;
  /** Of the applying side; then it streams later than this returns. */
  readonly shares?: number;
  readonly state?: string;
  /** By default the shared one. */
  readonly broker?: string;
  /** Adds to, and replaces parts of, the applying side's configuration. */
  readonly apply?: NonNullable<PipelineOptions["configure"]>;
  /** Further keys of the applying side's source. */
  readonly source?: object;
}

export class ThroughKafka implements AsyncDisposable {
  readonly topics: KafkaTopics;
  readonly capture: Installation;
  capturing: Daemon;
  /** The applying side; its `source` is the database. */
  readonly applying: RunningPipeline;
  readonly #captureConfig: InstallationConfig;
  readonly #log: object;

  private constructor(
    topics: KafkaTopics,
    capture: {
      readonly installation: Installation;
      readonly daemon: Daemon;
      readonly config: InstallationConfig;
      readonly log: object;
    },
    applying: RunningPipeline,
  ) {
    this.topics = topics;
    this.capture = capture.installation;
    this.capturing = capture.daemon;
    this.applying = applying;
    this.#captureConfig = capture.config;
    this.#log = capture.log;
  }

  /** `prepare` makes what the database holds before the daemons start. */
  static async start(
    prepare: string | ((source: FreshDatabase) => Promise<unknown>),
    options: ThroughOptions = {},
  ): Promise<ThroughKafka> {
    const topics = new KafkaTopics(options.broker ?? kafkaBroker());
    const { broker, prefix } = topics;
    const database = await freshDatabase();
    let capture: Installation | undefined;
    try {
      await (typeof prepare === "string" ? database.query(prepare) : prepare(database));
      const log = { kind: "kafka", brokers: [broker], prefix, format: "log" };
      const config: InstallationConfig = {
        name: database.name,
        source: { kind: "postgres", url: database.url, heartbeat: HEARTBEAT },
        sinks: { log },
        ...options.capture,
      };
      capture = new Installation(config);
      const capturing = capture.run();
      await capturing.streaming();
      const { shares, state } = options;
      const source = { kind: "kafka", brokers: [broker], prefix, from: database.name, heartbeat: HEARTBEAT };
      const applying = await RunningPipeline.start("", {
        ...(options.kinds === undefined ? {} : { kinds: options.kinds }),
        source: database,
        untilStreaming: shares === undefined,
        configure: (config) => {
          const own = {
            ...config,
            name: `${config.name}_a`,
            source: { ...source, ...(shares === undefined ? {} : { shares }), ...options.source },
            ...(state === undefined ? {} : { state }),
          };
          return options.apply?.(own) ?? own;
        },
      });
      return new ThroughKafka(topics, { installation: capture, daemon: capturing, config, log }, applying);
    } catch (error) {
      await capture?.[Symbol.asyncDispose]();
      await database[Symbol.asyncDispose]();
      await topics[Symbol.asyncDispose]();
      throw error;
    }
  }

  get source(): FreshDatabase {
    return this.applying.source;
  }

  /** Starts the capturing daemon again, with further keys of its configuration and of its sink. */
  async captureAgain(further: Partial<InstallationConfig>, log: object = {}): Promise<void> {
    await this.capturing.stop();
    this.capture.configure({ ...this.#captureConfig, sinks: { log: { ...this.#log, ...log } }, ...further });
    this.capturing = this.capture.run();
    await this.capturing.streaming();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // The daemons before the database.
    await this.applying.installation[Symbol.asyncDispose]();
    await this.capture[Symbol.asyncDispose]();
    await this.applying[Symbol.asyncDispose]();
    await this.topics[Symbol.asyncDispose]();
  }
}
