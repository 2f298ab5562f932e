/** Kafka of one node that is broker and controller (KRaft), out of its published jars. */
import { createConnection } from "node:net";
import { readFile, writeFile } from "node:fs/promises";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { cached } from "../packages/cache.ts";
import { command } from "../processes/command.ts";
import { startContainer } from "../processes/container.ts";
import { startGuarded } from "../processes/guarded.ts";
import type { Java } from "../packages/java.ts";
import { jarAvailability, javaFor, type JarService } from "../packages/jar-service.ts";
import { fetchJars, readJarList } from "../packages/maven.ts";
import { freePort } from "../processes/port.ts";
import { printProgress } from "../packages/progress.ts";
import { waitUntilReady } from "../processes/ready.ts";
import { ownFolder, temporaryHome } from "../processes/run-user.ts";
import { chosenLine, isLineChosen } from "../server-line.ts";
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

export interface KafkaOptions extends StartOptions {
  /** More lines of server.properties, or others than the usual ones. `port`: where clients come. */
  readonly settings?: (port: number) => Readonly<Record<string, string>>;
  /** Users that are there from the start, under both mechanisms of SASL/SCRAM. */
  readonly scram?: Readonly<Record<string, string>>;
  /** For brokers of one cluster; their settings say which. */
  readonly clusterId?: string;
}

const NAME = "kafka";
const VARIABLE = "MILLRACE_TEST_KAFKA_URL";
const DEFAULT_PORT = 9092;
const HEAP_MEGABYTES = 512;
const STOP_STEPS = [{ signal: "SIGTERM", waitMs: 20_000 }] as const;
/** The newest, and the oldest that the sink and the log between daemons work with. */
export const kafkaLines = [versions.kafka, versions.kafka31];
export const KAFKA_VERSION_VARIABLE = "MILLRACE_TEST_KAFKA_VERSION";

/** That of this run: the newest, or the one in MILLRACE_TEST_KAFKA_VERSION. */
function service(line = chosenLine("Kafka", KAFKA_VERSION_VARIABLE, kafkaLines)): JarService {
  const { version, javaMajor } = line;
  return { name: NAME, version, javaMajor, jars: `kafka-${version}` };
}

export function isOldKafka(): boolean {
  return service().version === versions.kafka31.version;
}

/** Of one node, which has all replicas that there are. Topics are made by those who want them. */
const ALONE: Readonly<Record<string, string>> = {
  "default.replication.factor": "1",
  "offsets.topic.replication.factor": "1",
  "offsets.topic.num.partitions": "4",
  "transaction.state.log.replication.factor": "1",
  "transaction.state.log.min.isr": "1",
  "transaction.state.log.num.partitions": "4",
  "share.coordinator.state.topic.replication.factor": "1",
  "share.coordinator.state.topic.min.isr": "1",
  "share.coordinator.state.topic.num.partitions": "1",
  "group.initial.rebalance.delay.ms": "0",
  "auto.create.topics.enable": "false",
};

async function locate(options: LocateOptions = {}): Promise<Availability> {
  const { image } = versions.kafka;
  const nativeOnly = options.nativeOnly === true || isLineChosen(KAFKA_VERSION_VARIABLE);
  return locateService(
    { variable: VARIABLE, image, native: () => jarAvailability(service()) },
    { ...options, nativeOnly },
  );
}

async function start(options: KafkaOptions = {}): Promise<RunningService> {
  const isOwnForm = [options.settings, options.scram, options.clusterId].some((own) => own !== undefined);
  const found = await locate({ ...options, nativeOnly: options.nativeOnly === true || isOwnForm });
  return await startFound(NAME, found, {
    defaultPort: DEFAULT_PORT,
    container: startInContainer,
    native: () => startNative(options),
  });
}

/** A client is told the address under which it has to come: the container's port is chosen before it starts. */
async function startInContainer(): Promise<RunningService> {
  const port = await freePort();
  return startContainer({
    name: NAME,
    image: versions.kafka.image,
    containerPort: port,
    port,
    environment: Object.fromEntries(
      Object.entries(properties(port, DEFAULT_PORT + 1, "/tmp/kafka-logs", "0.0.0.0")).map(([key, value]) => [
        `KAFKA_${key.replaceAll(".", "_").toUpperCase()}`,
        value,
      ]),
    ),
    url: (host, hostPort) => `kafka://${host}:${hostPort}`,
    ready: (url, signal) => waitUntilReady(() => answers(Number(new URL(url).port)), signal),
  });
}

function properties(port: number, controller: number, logs: string, bound: string): Readonly<Record<string, string>> {
  return {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.quorum.voters": `1@127.0.0.1:${controller}`,
    listeners: `PLAINTEXT://${bound}:${port},CONTROLLER://127.0.0.1:${controller}`,
    "advertised.listeners": `PLAINTEXT://127.0.0.1:${port}`,
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "log.dirs": logs,
    ...ALONE,
  };
}

async function startNative(options: KafkaOptions): Promise<RunningService> {
  const onProgress = options.onProgress ?? printProgress;
  const java = await javaFor(service(), onProgress);
  const dir = await fetched(NAME, install(service(), onProgress));
  const home = await temporaryHome(NAME, undefined);
  const dataDir = join(home, "data");
  const port = await freePort(2);
  const config = join(home, "server.properties");
  const logPath = join(home, "server.log");
  const classPath = join(dir, "lib", "*");
  return startGuarded({
    name: NAME,
    url: `kafka://127.0.0.1:${port}`,
    host: "127.0.0.1",
    port,
    dataDir,
    removeDirs: options.keepData === true ? [] : [home],
    process: {
      command: java.command,
      args: [
        ...java.args,
        "-Xms128m",
        `-Xmx${HEAP_MEGABYTES}m`,
        "-XX:+UseSerialGC",
        // One that lives for seconds is not worth the second compiler.
        ...(options.own === true ? ["-XX:TieredStopAtLevel=1"] : []),
        "-XX:-UsePerfData",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        `-Djava.io.tmpdir=${home}`,
        "-cp",
        classPath,
        "kafka.Kafka",
        config,
      ],
      env: { LC_ALL: "C.UTF-8", TZ: "UTC", PATH: process.env["PATH"] ?? "" },
      cwd: home,
      logPath,
      user: undefined,
    },
    stopSteps: STOP_STEPS,
    // Killed outright: it leaves nothing outside its home.
    endSteps: [],
    async prepare() {
      await ownFolder(dataDir, undefined);
      const all = { ...properties(port, port + 1, dataDir, "127.0.0.1"), ...options.settings?.(port) };
      await writeFile(
        config,
        Object.entries(all)
          .map(([key, value]) => `${key}=${value}\n`)
          .join(""),
      );
      await format(java, classPath, config, options);
    },
    ready: (signal) => waitUntilReady(() => started(logPath, port), signal),
  });
}

/** Gives the log its cluster id, without which no broker starts on it. */
async function format(
  java: Java,
  classPath: string,
  config: string,
  { scram = {}, clusterId = newClusterId() }: KafkaOptions,
): Promise<void> {
  const users = Object.entries(scram).flatMap(([name, password]) =>
    ["SCRAM-SHA-256", "SCRAM-SHA-512"].flatMap((mechanism) => [
      "--add-scram",
      `${mechanism}=[name=${name},password=${password}]`,
    ]),
  );
  await command(java.command, [
    ...java.args,
    "-Xmx128m",
    "-XX:TieredStopAtLevel=1",
    "-cp",
    classPath,
    "kafka.tools.StorageTool",
    "format",
    // It may begin with a hyphen.
    `--cluster-id=${clusterId}`,
    "--config",
    config,
    ...users,
  ]);
}

export function newClusterId(): string {
  return Buffer.from(randomUUID().replaceAll("-", ""), "hex").toString("base64url");
}

/** The folder of the newest one's jars, of which the client for Java is one. */
export async function kafkaJars(onProgress: ProgressListener = printProgress): Promise<string> {
  return join(await install(service(versions.kafka), onProgress), "lib");
}

async function install({ jars }: JarService, onProgress: ProgressListener): Promise<string> {
  return cached(jars, async (dir) => {
    await fetchJars(jars, await readJarList(jars), join(dir, "lib"), onProgress);
  });
}

/** It says so in its log, once for each start. A port that is open already may be refused work yet. */
async function started(logPath: string, port: number): Promise<void> {
  const log = await readFile(logPath, "utf8");
  if (!log.slice(log.lastIndexOf("Registered signal handlers")).includes("Kafka Server started")) {
    throw new Error("not started");
  }
  await answers(port);
}

function answers(port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ host: "127.0.0.1", port, timeout: 1_000 });
    socket.once("connect", () => {
      socket.destroy();
      resolve();
    });
    socket.once("timeout", () => socket.destroy(new Error("no answer")));
    socket.once("error", reject);
  });
}

export const kafka: ServiceDefinition<KafkaOptions> = { name: NAME, locate, start };
