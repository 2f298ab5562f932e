/** Redis, and Valkey as its variant: one process, nothing on disk unless asked for. */
import { createConnection } from "node:net";
import { startContainer } from "../processes/container.ts";
import { debianAvailability, installDebian, type DebianRecipe } from "../packages/debian.ts";
import { startOnePort } from "../processes/one-port.ts";
import { printProgress } from "../packages/progress.ts";
import { waitUntilReady } from "../processes/ready.ts";
import {
  fetched,
  locateService,
  type LocateOptions,
  type RunningService,
  type ServiceDefinition,
  type StartOptions,
} from "../service.ts";
import { startFound } from "../start-found.ts";
import { versions } from "../versions.ts";

export interface RedisOptions extends StartOptions {
  /** More settings of redis.conf, such as `{ maxmemory: "50mb", "maxmemory-policy": "allkeys-lru" }`. */
  readonly settings?: Readonly<Record<string, string>>;
}

type RedisName = "redis" | "redis60" | "redis8" | "valkey";

// By default it forgets everything at a restart, as a cache may.
const DEFAULT_SETTINGS = { save: "", appendonly: "no" };

function redisLike(name: RedisName, program: "redis" | "valkey", variable: string): ServiceDefinition<RedisOptions> {
  const { image, suite } = versions[name];
  const recipe: DebianRecipe = {
    what: name,
    version: suite === "own" ? "of this release" : `of Debian ${suite}`,
    suite,
    packages: [`${program}-server`, `${program}-tools`],
    megabytes: 20,
  };

  async function locate(options: LocateOptions = {}) {
    return locateService({ variable, image, native: () => debianAvailability(recipe) }, options);
  }

  async function start(options: RedisOptions = {}): Promise<RunningService> {
    const settings = { ...DEFAULT_SETTINGS, ...options.settings };
    const found = await locate(options);
    return await startFound(name, found, {
      defaultPort: 6379,
      container: () => startInContainer(settings),
      native: () => startNative(options, settings),
    });
  }

  function startInContainer(settings: Record<string, string>): Promise<RunningService> {
    return startContainer({
      name,
      image,
      containerPort: 6379,
      command: [`${program}-server`, ...asArguments(settings)],
      url: (host, port) => `redis://${host}:${port}`,
      ready: (url, signal) => waitUntilReady(() => ping(new URL(url)), signal),
    });
  }

  async function startNative(options: RedisOptions, settings: Record<string, string>): Promise<RunningService> {
    const folder = await fetched(name, installDebian(recipe, options.onProgress ?? printProgress));
    const server = folder.run(`usr/bin/${program}-server`, `${program}-server`);
    return await startOnePort({
      name,
      scheme: "redis",
      keepData: options.keepData,
      command: server.command,
      args: ({ dataDir, port }) => [
        ...server.args,
        ...asArguments({ port: String(port), bind: "127.0.0.1", dir: dataDir, daemonize: "no", ...settings }),
      ],
      env: () => ({}),
      answers: (url) => ping(new URL(url)),
    });
  }

  return { name, locate, start };
}

function asArguments(settings: Readonly<Record<string, string>>): string[] {
  return Object.entries(settings).flatMap(([key, value]) => [`--${key}`, value]);
}

/** Resolves when the server answers a PING; while it loads its data it answers -LOADING. */
function ping({ hostname, port }: URL): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ host: hostname, port: Number(port), timeout: 1_000 });
    socket.once("connect", () => socket.write("PING\r\n"));
    socket.once("data", (answer) => {
      socket.destroy();
      if (answer.toString("latin1").startsWith("+PONG")) resolve();
      else reject(new Error("not ready"));
    });
    socket.once("timeout", () => socket.destroy(new Error("no answer")));
    socket.once("error", reject);
  });
}

export const redis = redisLike("redis", "redis", "MILLRACE_TEST_REDIS_URL");
export const redis60 = redisLike("redis60", "redis", "MILLRACE_TEST_REDIS60_URL");
export const redis8 = redisLike("redis8", "redis", "MILLRACE_TEST_REDIS8_URL");
export const valkey = redisLike("valkey", "valkey", "MILLRACE_TEST_VALKEY_URL");
