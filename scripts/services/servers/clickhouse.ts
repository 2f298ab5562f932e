/**
 * ClickHouse. In a container it is the server; natively it is the same engine from npm (chDB) behind an HTTP front of
 * our own (launchers/clickhouse/front.ts), because no package index has a current server.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cached, isCached } from "../packages/cache.ts";
import { command, onPath } from "../processes/command.ts";
import { startContainer } from "../processes/container.ts";
import { startOnePort } from "../processes/one-port.ts";
import { printProgress } from "../packages/progress.ts";
import { isThere, waitUntilReady } from "../processes/ready.ts";
import {
  fetched,
  locateService,
  type Availability,
  type LocateOptions,
  type ProgressListener,
  type RunningService,
  type ServiceDefinition,
  type StartOptions,
} from "../service.ts";
import { startFound } from "../start-found.ts";
import { versions } from "../versions.ts";

const NAME = "clickhouse";
const VARIABLE = "MILLRACE_TEST_CLICKHOUSE_URL";
const DEFAULT_PORT = 8123;
const MEGABYTES = 150;
const PLATFORMS = new Set(["linux-x64", "linux-arm64", "darwin-x64", "darwin-arm64"]);
const { image, chdb } = versions.clickhouse;

const platform = `${process.platform}-${process.arch}`;
const cacheName = `chdb-${chdb}-${platform}`;
const download = { what: `chDB ${chdb}`, from: "npm", megabytes: MEGABYTES };

async function locate(options: LocateOptions = {}): Promise<Availability> {
  return locateService({ variable: VARIABLE, image, native: async () => engine() }, options);
}

function engine(): Extract<Availability, { kind: "native" | "unavailable" }> {
  if (!PLATFORMS.has(platform)) return { kind: "unavailable", reason: `no engine of ClickHouse for ${platform}` };
  const version = `chDB ${chdb} behind a front`;
  if (isCached(cacheName)) return { kind: "native", version, missing: [] };
  if (onPath("npm") === undefined) return { kind: "unavailable", reason: "npm is not on the PATH" };
  return { kind: "native", version, missing: [download] };
}

async function start(options: StartOptions = {}): Promise<RunningService> {
  return await startFound(NAME, await locate(options), {
    defaultPort: DEFAULT_PORT,
    container: () =>
      startContainer({
        name: NAME,
        image,
        containerPort: DEFAULT_PORT,
        // Without one the server lets its default user in from the container alone.
        environment: { CLICKHOUSE_USER: NAME, CLICKHOUSE_PASSWORD: NAME, CLICKHOUSE_DEFAULT_ACCESS_MANAGEMENT: "1" },
        url: (host, port) => `http://${NAME}:${NAME}@${host}:${port}`,
        ready: (url, signal) => waitUntilReady(() => isThere(new URL("/ping", url)), signal),
      }),
    native: () => startNative(options),
  });
}

async function startNative(options: StartOptions): Promise<RunningService> {
  const chdbFolder = await fetched(NAME, install(options.onProgress ?? printProgress));
  return await startOnePort({
    name: NAME,
    keepData: options.keepData,
    command: process.execPath,
    args: ({ dataDir, port }) => [
      fileURLToPath(new URL("../launchers/clickhouse/front.ts", import.meta.url)),
      String(port),
      dataDir,
      join(chdbFolder, "node_modules", "chdb"),
    ],
    env: ({ home }) => ({ HOME: home, TMPDIR: home }),
    answers: (url) => isThere(new URL("/?query=SELECT%201", url)),
  });
}

async function install(onProgress: ProgressListener): Promise<string> {
  return cached(cacheName, async (dir) => {
    const progress = { what: download.what, receivedBytes: 0, totalBytes: MEGABYTES * 1_000_000 };
    onProgress({ ...progress, done: false });
    await writeFile(join(dir, "package.json"), `{ "private": true }\n`);
    const flags = ["--prefix", dir, "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund", "--save-exact"];
    await command("npm", ["install", ...flags, `chdb@${chdb}`], { cwd: dir });
    onProgress({ ...progress, receivedBytes: progress.totalBytes, done: true });
  });
}

export const clickhouse: ServiceDefinition = { name: NAME, locate, start };
