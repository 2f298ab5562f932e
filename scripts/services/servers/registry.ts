/** A schema registry with Confluent's interface: Apicurio, which keeps its schemas in memory. */
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { cached } from "../packages/cache.ts";
import { command } from "../processes/command.ts";
import { startContainer } from "../processes/container.ts";
import { jarAvailability, javaFor, type JarService } from "../packages/jar-service.ts";
import { fetchJars, readJarList } from "../packages/maven.ts";
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

const NAME = "registry";
const VARIABLE = "MILLRACE_TEST_REGISTRY_URL";
const DEFAULT_PORT = 8080;
/** Confluent's interface. */
const PATH = "/apis/ccompat/v7";
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
  return await startOnePort({
    name: NAME,
    path: PATH,
    command: java.command,
    args: ({ home, port }) => [
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
    env: () => ({ PATH: process.env["PATH"] ?? "" }),
    answers,
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
  await isThere(`${url}/subjects`);
}

export const registry: ServiceDefinition = { name: NAME, locate, start };
