/**
 * The shape that every server of tests, demo and benchmarks has, and the order in which one is looked for:
 * an address in the environment, a container where an engine answers, a native server in the cache folder.
 */
import { containerEngine } from "./processes/container.ts";

export type ServiceName =
  | "postgres"
  | "mysql"
  | "mariadb"
  | "redis"
  | "redis60"
  | "redis8"
  | "valkey"
  | "elasticsearch"
  | "elasticsearch9"
  | "opensearch"
  | "opensearch3"
  | "kafka"
  | "clickhouse"
  | "chromium"
  | "registry"
  | "prometheus"
  | "s3";

/**
 * A server that is up. Whoever started it owns it: disposing stops it and deletes its data. When the owner's process
 * ends in any way, SIGKILL included, the server is stopped and its data deleted all the same.
 */
export interface RunningService extends AsyncDisposable {
  readonly name: string;
  readonly url: string;
  readonly host: string;
  readonly port: number;
  /** The server's process; undefined in a container, for a borrowed server and while it is down. */
  readonly pid: number | undefined;
  readonly dataDir: string | undefined;
  readonly logPath: string | undefined;
  /** An orderly shutdown; data and port stay for `start`. */
  stop(): Promise<void>;
  /** SIGKILL to the server and all its children, as a crash would; data and port stay for `start`. */
  kill(): Promise<void>;
  /** Brings it up again with the same data on the same port. */
  start(): Promise<void>;
  /** Freezes all its processes: connections stay open and nothing answers. */
  pause(): Promise<void>;
  resume(): Promise<void>;
}

export type Availability =
  | { readonly kind: "environment"; readonly variable: string; readonly url: string }
  | { readonly kind: "container"; readonly image: string }
  | { readonly kind: "native"; readonly version: string; readonly missing: readonly Download[] }
  | { readonly kind: "unavailable"; readonly reason: string };

/** Something that a native server still needs fetched into the cache folder; the size is a round figure for people. */
export interface Download {
  readonly what: string;
  readonly from: string;
  readonly megabytes: number;
}

export interface Progress {
  readonly what: string;
  readonly receivedBytes: number;
  /** Undefined where the sender does not say it beforehand. */
  readonly totalBytes: number | undefined;
  readonly done: boolean;
}

export type ProgressListener = (progress: Progress) => void;

export interface LocateOptions {
  /** A server for the caller alone, to be killed and paused at will: never the one of the environment. */
  readonly own?: boolean;
  /** The options asked for exist only with the native server. */
  readonly nativeOnly?: boolean;
}

export interface StartOptions extends LocateOptions {
  readonly onProgress?: ProgressListener;
  /** Leaves the data folder after the end, to look at it. */
  readonly keepData?: boolean;
}

export interface ServiceDefinition<
  Options extends StartOptions = StartOptions,
  Running extends RunningService = RunningService,
> {
  readonly name: ServiceName;
  locate(options?: LocateOptions): Promise<Availability>;
  start(options?: Options): Promise<Running>;
}

export class ServiceUnavailableError extends Error {
  override readonly name = "ServiceUnavailableError";
  readonly service: ServiceName;
  readonly reason: string;

  constructor(service: ServiceName, reason: string, options?: ErrorOptions) {
    super(`${service} is not available: ${reason}`, options);
    this.service = service;
    this.reason = reason;
  }
}

/** A server that can't be fetched, on a machine without network for one, is a missing server and not a broken run. */
export async function fetched<T>(service: ServiceName, fetching: Promise<T>): Promise<T> {
  try {
    return await fetching;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ServiceUnavailableError(service, `it could not be fetched: ${reason}`, { cause: error });
  }
}

export interface Ways {
  readonly variable: string;
  readonly image: string;
  /** What the native recipe would do here, or why it can't. */
  native(): Promise<Extract<Availability, { kind: "native" | "unavailable" }>>;
}

/** The one order of looking for a server. */
export async function locateService(ways: Ways, options: LocateOptions = {}): Promise<Availability> {
  const url = process.env[ways.variable];
  if (url !== undefined && url !== "" && options.own !== true && options.nativeOnly !== true) {
    return { kind: "environment", variable: ways.variable, url };
  }
  if (options.nativeOnly !== true && (await containerEngine()).kind === "answers") {
    return { kind: "container", image: ways.image };
  }
  const native = await ways.native();
  if (native.kind === "native" || options.nativeOnly === true) return native;
  return { kind: "unavailable", reason: `${native.reason}; no container engine answers; ${ways.variable} is not set` };
}
