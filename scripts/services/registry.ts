/** A schema registry with Confluent's interface: Apicurio, which keeps its schemas in memory. */
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { cached } from "./cache.ts";
import { command } from "./command.ts";
import { startContainer } from "./container.ts";
import { startGuarded } from "./guarded.ts";
import { jarAvailability, javaFor, type JarService } from "./jar-service.ts";
import { fetchJars, readJarList } from "./maven.ts";
import { freePort } from "./port.ts";
import { printProgress } from "./progress.ts";
import { waitUntilReady } from "./ready.ts";
import { temporaryHome } from "./run-user.ts";
import {
  fetched,
  locateService,
  type Availability,
  type LocateOptions,
  type ProgressListener,
  type RunningService,
  type ServiceDefinition,
  type StartOptions,
} from "./service.ts";
import { startFound } from "./start-found.ts";
import { versions } from "./versions.ts";

const NAME = "registry";
const VARIABLE = "MILLRACE_TEST_REGISTRY_URL";
const DEFAULT_PORT = 8080;
/** Confluent's interface. */
const PATH = "/apis/ccompat/v7";
const STOP_STEPS = [{ signal: "SIGTERM", waitMs: 10_000 }] as const;
const { version, image, javaMajor } = versions.registry;
const JARS = `registry-${version}`;
const SERVICE: JarService = { name: NAME, version, javaMajor, jars: JARS };

async function locate(options: LocateOptions = {}): Promise<Availability> {
  return locateService({ variable: VARIABLE, image, native: () => jarAvailability(SERVICE) }, options);
}

async function start(options: StartOptions = {}): Promise<RunningService> {
  return await startFound(NAME, await locate(options), {
    defaultPort: DEFAULT_PORT,
    container: () =>
      startContainer({
        name: NAME,
        image,
        containerPort: DEFAULT_PORT,
        environment: {},
        url: (host, port) => `http://${host}:${port}${PATH}`,
        ready: (url, signal) => waitUntilReady(() => answers(url), signal),
      }),
    native: () => startNative(options),
  });
}

async function startNative(options: StartOptions): Promise<RunningService> {
  const onProgress = options.onProgress ?? printProgress;
  const java = await javaFor(SERVICE, onProgress);
  const dir = await fetched(NAME, install(onProgress));
  const home = await temporaryHome(NAME, undefined);
  const port = await freePort();
  const url = `http://127.0.0.1:${port}${PATH}`;
  return startGuarded({
    name: NAME,
    url,
    host: "127.0.0.1",
    port,
    dataDir: home,
    removeDirs: [home],
    process: {
      command: java.command,
      args: [
        ...java.args,
        "-Xmx256m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:-UsePerfData",
        `-Djava.io.tmpdir=${home}`,
        "-Dquarkus.http.host=127.0.0.1",
        `-Dquarkus.http.port=${port}`,
        "-Dquarkus.http.access-log.enabled=false",
        "-jar",
        join(dir, "quarkus-run.jar"),
      ],
      env: { LC_ALL: "C.UTF-8", TZ: "UTC", PATH: process.env["PATH"] ?? "" },
      cwd: home,
      logPath: join(home, "server.log"),
      user: undefined,
    },
    stopSteps: STOP_STEPS,
    endSteps: [],
    prepare: async () => undefined,
    ready: (signal) => waitUntilReady(() => answers(url), signal),
  });
}

async function install(onProgress: ProgressListener): Promise<string> {
  return cached(JARS, async (dir) => {
    await fetchJars(JARS, await readJarList(JARS), dir, onProgress);
    const [archive = ""] = await readdir(dir);
    await command("tar", ["xzf", join(dir, archive), "-C", dir]);
    await rm(join(dir, archive));
  });
}

async function answers(url: string): Promise<void> {
  const { status } = await fetch(`${url}/subjects`, { signal: AbortSignal.timeout(2_000) });
  if (status !== 200) throw new Error(`the registry answered ${status}`);
}

export const registry: ServiceDefinition = { name: NAME, locate, start };
