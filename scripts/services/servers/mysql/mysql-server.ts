/**
 * The common parts of MySQL and MariaDB: binaries from Debian's packages, a data folder that is created once and copied
 * for each start, `root` without a password on 127.0.0.1, and a log as a source needs it (row events, whole images and
 * metadata).
 */
import { stat } from "node:fs/promises";
import { createConnection } from "node:net";
import { join } from "node:path";
import { cached } from "../../packages/cache.ts";
import { command } from "../../processes/command.ts";
import { startContainer } from "../../processes/container.ts";
import { debianAvailability, installDebian, type DebianFolder, type DebianRecipe } from "../../packages/debian.ts";
import { startGuarded } from "../../processes/guarded.ts";
import { freePort } from "../../processes/port.ts";
import { printProgress } from "../../packages/progress.ts";
import { waitUntilReady } from "../../processes/ready.ts";
import { ownFolder, temporaryHome, unprivilegedUser, type RunUser } from "../../processes/run-user.ts";
import {
  fetched,
  locateService,
  ServiceUnavailableError,
  type Availability,
  type LocateOptions,
  type RunningService,
  type ServiceDefinition,
  type StartOptions,
} from "../../service.ts";
import { startFound } from "../../start-found.ts";

export interface MysqlOptions extends StartOptions {
  /** Command line options without dashes that replace or extend the defaults; null: omitted. */
  readonly settings?: Settings;
}

export type Settings = Readonly<Record<string, string | number | null>>;

export interface MysqlServer {
  readonly name: "mysql" | "mariadb";
  readonly variable: string;
  readonly image: string;
  readonly containerEnvironment: Readonly<Record<string, string>>;
  /** `missing`: why no packages are available. */
  readonly recipe: DebianRecipe | { readonly missing: string };
  /** Path of the server in its package. */
  readonly program: string;
  readonly settings: Settings;
  /** Only for the native server, from the creation of its data on: a small log, because it is copied at each start. */
  readonly nativeSettings: Settings;
  /** Options that tell it the paths of its own files, instead of those of an installation. */
  places(root: string): Settings;
  /** Fills an empty data folder; must create the account `root` for all hosts, without a password. */
  initialise(server: Initialising): Promise<void>;
}

export interface Initialising {
  readonly root: string;
  readonly dataDir: string;
  /** Runs the server with these flags to its end, a file as its standard input. */
  readonly run: (flags: readonly string[], inputPath?: string) => Promise<void>;
}

const COMMON_SETTINGS: Settings = {
  "server-id": 1,
  "log-bin": "binlog",
  "binlog-row-image": "FULL",
  "binlog-row-metadata": "FULL",
  "max-connections": 200,
  "max-allowed-packet": "64M",
  "local-infile": 1,
};

/** These lose nothing when the process is killed: written data is in the system's hands. */
const NATIVE_SETTINGS: Settings = {
  "performance-schema": "OFF",
  "innodb-buffer-pool-size": "64M",
  "innodb-flush-log-at-trx-commit": 2,
  "innodb-doublewrite": 0,
  "sync-binlog": 0,
  "secure-file-priv": "",
};

const STOP_STEPS = [{ signal: "SIGTERM", waitMs: 30_000 }] as const;
/** Part of the name of prepared data; increase it when the content changes. */
const DATA_FORM = 1;
/** The first byte of a server's greeting; a server that is not ready or refuses sends another byte or nothing. */
const PROTOCOL_VERSION = 10;
const PACKET_HEADER_BYTES = 4;

export function mysqlServer(server: MysqlServer): ServiceDefinition<MysqlOptions> {
  const { name, variable } = server;

  async function locate(options: LocateOptions = {}) {
    const native = async (): Promise<Extract<Availability, { kind: "native" | "unavailable" }>> =>
      "missing" in server.recipe
        ? { kind: "unavailable", reason: server.recipe.missing }
        : await debianAvailability(server.recipe);
    return locateService({ variable, image: server.image, native }, options);
  }

  async function start(options: MysqlOptions = {}): Promise<RunningService> {
    const found = await locate(options);
    return await startFound(name, found, {
      defaultPort: 3306,
      container: () => startInContainer(server, options),
      native: () => startNative(server, options),
    });
  }

  return { name, locate, start };
}

function startInContainer(server: MysqlServer, options: MysqlOptions): Promise<RunningService> {
  const settings = { ...COMMON_SETTINGS, ...server.settings, ...options.settings };
  return startContainer({
    name: server.name,
    image: server.image,
    containerPort: 3306,
    environment: server.containerEnvironment,
    command: asArguments(settings),
    url: (host, port) => `mysql://root@${host}:${port}`,
    ready: (url, signal) => waitUntilReady(() => greets(new URL(url)), signal),
  });
}

async function startNative(server: MysqlServer, options: MysqlOptions): Promise<RunningService> {
  const { name, recipe } = server;
  if ("missing" in recipe) throw new ServiceUnavailableError(name, recipe.missing);
  const folder = await fetched(name, installDebian(recipe, options.onProgress ?? printProgress));
  const user = unprivilegedUser();
  const fixed = fixedSettings(options.settings ?? {});
  const prepared = await preparedData(server, folder, user, fixed);
  const home = await temporaryHome(name, user);
  const dataDir = join(home, "data");
  const port = await freePort();
  const url = `mysql://root@127.0.0.1:${port}`;
  const program = folder.run(server.program, join(folder.root, server.program));
  const settings = {
    ...server.places(folder.root),
    ...COMMON_SETTINGS,
    ...NATIVE_SETTINGS,
    ...server.nativeSettings,
    ...server.settings,
    "bind-address": "127.0.0.1",
    ...options.settings,
    datadir: dataDir,
    tmpdir: home,
    socket: join(home, "server.sock"),
    "pid-file": join(home, "server.pid"),
    port,
  };
  return startGuarded({
    name,
    url,
    host: "127.0.0.1",
    port,
    dataDir,
    removeDirs: options.keepData === true ? [] : [home],
    process: {
      command: program.command,
      args: [...program.args, "--no-defaults", "--skip-name-resolve", ...asArguments(settings)],
      env: { LC_ALL: "C", TZ: "UTC" },
      cwd: home,
      logPath: join(home, "server.log"),
      user,
    },
    stopSteps: STOP_STEPS,
    // Killed outright: it leaves nothing outside its home.
    endSteps: [],
    // Copied as the server's user, who then owns the files. The logs in them are mostly holes.
    prepare: async () => void (await command("cp", ["-R", "--sparse=always", prepared, dataDir], { user })),
    ready: (signal) => waitUntilReady(() => greets(new URL(url)), signal),
  });
}

/** Settings that MySQL accepts only when its data is created, and checks at each start. */
function fixedSettings(settings: Settings): Settings {
  return Object.fromEntries(Object.entries(settings).filter(([name]) => name === "lower-case-table-names"));
}

/** The data folder of a new server, created once for each build of the server and kept in the cache. */
async function preparedData(
  server: MysqlServer,
  folder: DebianFolder,
  user: RunUser | undefined,
  fixed: Settings,
): Promise<string> {
  const built = (await stat(join(folder.root, server.program))).mtimeMs;
  const kind = asArguments(fixed).join("");
  const cache = await cached(`${server.name}-data-${DATA_FORM}-${built.toString(36)}${kind}`, async (dir) => {
    const dataDir = join(dir, "data");
    await ownFolder(dataDir, user);
    const program = folder.run(server.program, join(folder.root, server.program));
    await server.initialise({
      root: folder.root,
      dataDir,
      async run(flags, inputPath) {
        const settings = {
          ...server.places(folder.root),
          ...NATIVE_SETTINGS,
          ...server.nativeSettings,
          ...fixed,
          datadir: dataDir,
        };
        await command(program.command, [...program.args, "--no-defaults", ...asArguments(settings), ...flags], {
          cwd: dataDir,
          env: { LC_ALL: "C", TZ: "UTC" },
          user,
          ...(inputPath === undefined ? {} : { inputPath }),
        });
      },
    });
  });
  return join(cache, "data");
}

function asArguments(settings: Settings): string[] {
  return Object.entries(settings).flatMap(([key, value]) => (value === null ? [] : [`--${key}=${value}`]));
}

function greets({ hostname, port }: URL): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ host: hostname, port: Number(port), timeout: 1_000 });
    socket.once("data", (greeting) => {
      socket.destroy();
      if (greeting[PACKET_HEADER_BYTES] === PROTOCOL_VERSION) resolve();
      else reject(new Error("not ready"));
    });
    socket.once("timeout", () => socket.destroy(new Error("no answer")));
    socket.once("error", reject);
    socket.once("close", () => reject(new Error("closed without a greeting")));
  });
}
