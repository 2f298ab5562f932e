/** A Postgres of our own: fast to start, bound to 127.0.0.1 and a Unix socket, ready for logical replication. */
import { join } from "node:path";
import { Client, type ClientConfig } from "pg";
import { borrowed } from "../../borrowed.ts";
import { startContainer } from "../../processes/container.ts";
import { startGuarded } from "../../processes/guarded.ts";
import { freePort } from "../../processes/port.ts";
import {
  copyPrimary,
  createCluster,
  writeConfiguration,
  type Settings,
  type StandbyOptions,
} from "./postgres-cluster.ts";
import { installPostgres, postgresPackage, type PostgresPrograms } from "./postgres-package.ts";
import { postgresLine } from "./postgres-version.ts";
import { type Extension, withExtension } from "./extensions.ts";
import { printProgress } from "../../packages/progress.ts";
import { temporaryHome, unprivilegedUser } from "../../processes/run-user.ts";
import {
  fetched,
  locateService,
  ServiceUnavailableError,
  type LocateOptions,
  type RunningService,
  type ServiceDefinition,
  type StartOptions,
} from "../../service.ts";
import { waitUntilReady } from "../../processes/ready.ts";

export interface PostgresOptions extends StartOptions {
  /** 14, 15, …; default: the line of the run. */
  readonly major?: number;
  /** Lines of postgresql.conf that replace or join the defaults. */
  readonly settings?: Settings;
  /** Makes it a streaming standby of another native server, from a base backup taken now. */
  readonly standbyOf?: StandbyOptions;
  /** Files for ssl=on; they are copied, so that the server's user can read them. */
  readonly tls?: { readonly keyPath: string; readonly certificatePath: string; readonly caPath?: string };
  /** With this extension of Debian's. Only of the line that the run has by default. */
  readonly extension?: Extension;
  /** Lines of pg_hba.conf for TCP, in place of trusting 127.0.0.1. The Unix socket stays trusted. */
  readonly auth?: readonly string[];
}

export interface RunningPostgres extends RunningService {
  /** The folder of the Unix socket, for `host=` or `?host=`; undefined in a container and for a borrowed server. */
  readonly socketDir: string | undefined;
  /** Present with the native server only. */
  readonly programs: PostgresPrograms | undefined;
  /** Undefined for a borrowed server. */
  readonly major: number | undefined;
}

const DEFAULT_SETTINGS: Settings = {
  wal_level: "logical",
  max_replication_slots: 50,
  max_wal_senders: 50,
  max_connections: 200,
  max_prepared_transactions: 20,
  // A killed server loses nothing by these; only a crash of the machine would, and the server's data does not outlive
  // that.
  fsync: "off",
  full_page_writes: "off",
  // With the database and the SQLSTATE.
  log_line_prefix: "%m [%p] %d %e ",
  // Segments in the data folder are deleted with it, also after SIGKILL; those in /dev/shm would stay.
  dynamic_shared_memory_type: "mmap",
};

// SIGINT ends sessions and shuts down with a checkpoint, SIGQUIT without one; SIGTERM would wait for clients.
const STOP_STEPS = [
  { signal: "SIGINT", waitMs: 20_000 },
  { signal: "SIGQUIT", waitMs: 5_000 },
] as const;
const END_STEPS = [{ signal: "SIGQUIT", waitMs: 5_000 }] as const;

async function locate(options: LocateOptions & Pick<PostgresOptions, "major"> = {}) {
  const line = lineOf(options);
  return locateService(
    { variable: "MILLRACE_TEST_POSTGRES_URL", image: line.image, native: async () => postgresPackage(line) },
    options,
  );
}

function lineOf({ major }: { readonly major?: number | undefined }) {
  return major === undefined ? postgresLine() : postgresLine(String(major));
}

async function start(options: PostgresOptions = {}): Promise<RunningPostgres> {
  const nativeOnly =
    options.standbyOf !== undefined ||
    options.tls !== undefined ||
    options.auth !== undefined ||
    options.extension !== undefined;
  const found = await locate({ ...options, ...(nativeOnly ? { own: true, nativeOnly } : {}) });
  switch (found.kind) {
    case "environment":
      return { ...borrowed("postgres", found.variable, found.url, 5432), ...NOTHING_KNOWN };
    case "container":
      return startInContainer(options);
    case "native":
      return startNative(options);
    case "unavailable":
      throw new ServiceUnavailableError("postgres", found.reason);
    default: {
      const unknown: never = found;
      return unknown;
    }
  }
}

const NOTHING_KNOWN = { socketDir: undefined, programs: undefined, major: undefined };

async function startNative(options: PostgresOptions): Promise<RunningPostgres> {
  const line = lineOf({ major: options.major ?? options.standbyOf?.primary.major });
  const programs = await fetched("postgres", installPostgres(line, options.onProgress ?? printProgress));
  const extended =
    options.extension === undefined
      ? null
      : await withExtension(programs.postgres, options.extension, line.major, options.onProgress ?? printProgress);
  const user = unprivilegedUser();
  const home = await temporaryHome("postgres", user);
  const dataDir = join(home, "data");
  const port = await freePort();

  const prepare = async (): Promise<void> => {
    if (options.standbyOf === undefined) await createCluster(programs.initdb, line.major, dataDir, user);
    else await copyPrimary(options.standbyOf, dataDir, user);
    const own = { port, listen_addresses: "127.0.0.1", unix_socket_directories: home };
    await writeConfiguration({
      dataDir,
      user,
      settings: { ...DEFAULT_SETTINGS, ...extended?.settings, ...options.settings, ...own },
      auth: options.auth,
      tls: options.tls,
      standbyOf: options.standbyOf,
    });
  };
  const service = await startGuarded({
    name: "postgres",
    url: `postgres://postgres@127.0.0.1:${port}/postgres`,
    host: "127.0.0.1",
    port,
    dataDir,
    removeDirs: options.keepData === true ? [] : [home],
    process: {
      command: extended?.command ?? programs.postgres,
      args: [...(extended?.args ?? []), "-D", dataDir],
      // The packaged libraries were built elsewhere; the C locale makes messages and sorting the same everywhere.
      env: { LC_ALL: "C", TZ: "UTC", PATH: process.env["PATH"] ?? "" },
      cwd: home,
      logPath: join(home, "server.log"),
      user,
    },
    stopSteps: STOP_STEPS,
    endSteps: END_STEPS,
    prepare,
    ready: (signal) => answers({ host: home, port, user: "postgres", database: "postgres" }, signal),
  });
  return Object.assign(service, { socketDir: home, programs, major: line.major });
}

async function startInContainer(options: PostgresOptions): Promise<RunningPostgres> {
  const settings = { ...DEFAULT_SETTINGS, ...options.settings };
  const { image, major } = lineOf(options);
  const service = await startContainer({
    name: "postgres",
    image,
    containerPort: 5432,
    environment: { POSTGRES_HOST_AUTH_METHOD: "trust" },
    command: ["postgres", ...Object.entries(settings).flatMap(([key, value]) => ["-c", `${key}=${value}`])],
    url: (host, port) => `postgres://postgres@${host}:${port}/postgres`,
    ready: (url, signal) => answers({ connectionString: url }, signal),
  });
  return Object.assign(service, { ...NOTHING_KNOWN, major });
}

function answers(config: ClientConfig, signal: AbortSignal): Promise<void> {
  return waitUntilReady(async () => {
    const client = new Client({ ...config, connectionTimeoutMillis: 2_000 });
    // Without a listener, an idle client would throw if the server goes down while it starts.
    client.on("error", () => {});
    try {
      await client.connect();
      await client.query("select 1");
    } finally {
      await client.end();
    }
  }, signal);
}

export const postgres: ServiceDefinition<PostgresOptions, RunningPostgres> = { name: "postgres", locate, start };
