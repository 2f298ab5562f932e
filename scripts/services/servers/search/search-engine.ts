/**
 * A search engine with one node from its published jars, started by our own launcher, which is compiled once, when the
 * engine is fetched. `Engine` has the differences between Elasticsearch and OpenSearch.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { globSync } from "node:fs";
import { join } from "node:path";
import { cached } from "../../packages/cache.ts";
import { compileJava, compilerMissing, provideCompiler } from "../../packages/compile-java.ts";
import { startContainer } from "../../processes/container.ts";
import { startGuarded } from "../../processes/guarded.ts";
import { jarAvailability, javaFor, type JarService } from "../../packages/jar-service.ts";
import type { Java } from "../../packages/java.ts";
import { fetchJars, readJarList } from "../../packages/maven.ts";
import { freePort } from "../../processes/port.ts";
import { printProgress } from "../../packages/progress.ts";
import { waitUntilReady } from "../../processes/ready.ts";
import { temporaryHome } from "../../processes/run-user.ts";
import {
  fetched,
  locateService,
  type Availability,
  type LocateOptions,
  type ProgressListener,
  type RunningService,
  type ServiceDefinition,
  type StartOptions,
} from "../../service.ts";
import { startFound } from "../../start-found.ts";

const LAUNCHERS = join(import.meta.dirname, "../../launchers");

export interface SearchEngineOptions extends StartOptions {
  /** Uses Java's full compiler. In test runs of minutes that is a third slower; benchmarks need it. */
  readonly optimized?: boolean;
}

export interface Engine extends JarService {
  readonly variable: string;
  readonly image: string;
  /** Folders of launchers/ whose sources are compiled against the jars. */
  readonly launchers: readonly string[];
  /** The settings with which the official image starts as a single node, on http. */
  readonly containerEnvironment: Readonly<Record<string, string>>;
  /** The node's own file of settings, in its home's `config`. */
  readonly settingsFile: string;
  /** Completes the installed folder, which has `lib` and `classes`. */
  arrange(dir: string, java: Java): Promise<void>;
  /** Creates links or folders that a node's home needs besides the usual ones. */
  prepareHome(home: string, dir: string): Promise<void>;
  /** Java's arguments from the class path to the main class. */
  javaArguments(home: string, dir: string): readonly string[];
}

const HEAP_MEGABYTES = 512;
const STOP_STEPS = [{ signal: "SIGTERM", waitMs: 20_000 }] as const;

export function searchEngine(engine: Engine): ServiceDefinition<SearchEngineOptions> {
  const { name, variable, image } = engine;

  async function locate(options: LocateOptions = {}): Promise<Availability> {
    const native = () => jarAvailability(engine, compilerMissing());
    return locateService({ variable, image, native }, options);
  }

  async function start(options: SearchEngineOptions = {}): Promise<RunningService> {
    const found = await locate(options);
    return await startFound(name, found, {
      defaultPort: 9200,
      container: () => startInContainer(engine),
      native: () => startNative(engine, options),
    });
  }

  return { name, locate, start };
}

async function startInContainer(engine: Engine): Promise<RunningService> {
  return startContainer({
    name: engine.name,
    image: engine.image,
    containerPort: 9200,
    environment: engine.containerEnvironment,
    url: (host, port) => `http://${host}:${port}`,
    ready: (url, signal) => waitUntilReady(() => healthy(url), signal),
  });
}

async function startNative(engine: Engine, options: SearchEngineOptions): Promise<RunningService> {
  const onProgress = options.onProgress ?? printProgress;
  const java = await javaFor(engine, onProgress);
  const dir = await fetched(engine.name, install(engine, java, onProgress));
  const home = await temporaryHome(engine.name, undefined);
  const port = await freePort(2);
  const url = `http://127.0.0.1:${port}`;
  return startGuarded({
    name: engine.name,
    url,
    host: "127.0.0.1",
    port,
    dataDir: join(home, "data"),
    removeDirs: options.keepData === true ? [] : [home],
    process: {
      command: java.command,
      args: [
        ...java.args,
        `-Xms${HEAP_MEGABYTES}m`,
        `-Xmx${HEAP_MEGABYTES}m`,
        // One collector thread and quick compilation: it shares two cores with the tests.
        "-XX:+UseSerialGC",
        ...(options.optimized === true ? [] : ["-XX:TieredStopAtLevel=1"]),
        // When it is killed, its performance data would stay in the temporary folder.
        "-XX:-UsePerfData",
        `-Djava.io.tmpdir=${join(home, "logs")}`,
        ...engine.javaArguments(home, dir),
        home,
        String(port),
        String(port + 1),
      ],
      env: { LC_ALL: "C.UTF-8", TZ: "UTC", PATH: process.env["PATH"] ?? "" },
      cwd: home,
      logPath: join(home, "server.log"),
      user: undefined,
    },
    stopSteps: STOP_STEPS,
    // Killed outright: it leaves nothing outside its home.
    endSteps: [],
    async prepare() {
      for (const folder of ["config", "data", "logs", "plugins"]) await mkdir(join(home, folder));
      // Snapshots may lie there.
      await writeFile(join(home, "config", engine.settingsFile), `path.repo: ["${join(home, "repo")}"]\n`);
      await engine.prepareHome(home, dir);
    },
    ready: (signal) => waitUntilReady(() => healthy(url), signal),
  });
}

async function install(engine: Engine, java: Java, onProgress: ProgressListener): Promise<string> {
  const compiler = await provideCompiler(onProgress);
  const sources = globSync(engine.launchers.map((folder) => join(LAUNCHERS, folder, "*.java")));
  return cached(engine.jars, async (dir) => {
    await fetchJars(engine.jars, await readJarList(engine.jars), join(dir, "lib"), onProgress);
    await compileJava(java, compiler, sources, { lib: join(dir, "lib"), classes: join(dir, "classes") });
    await engine.arrange(dir, java);
  });
}

async function healthy(url: string): Promise<void> {
  const answer = await fetch(`${url}/_cluster/health?wait_for_status=yellow&timeout=1s`, {
    signal: AbortSignal.timeout(3_000),
  });
  await answer.body?.cancel();
  if (!answer.ok) throw new Error(`health answered ${answer.status}`);
}
