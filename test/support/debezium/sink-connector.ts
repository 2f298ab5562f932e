/** Debezium's JDBC sink connector in Kafka Connect: a consumer that knows nothing of Millrace. It needs Java 17. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cached } from "../../../scripts/services/packages/cache.ts";
import { findJava, provideJava } from "../../../scripts/services/packages/java.ts";
import { fetchJars, readJarList } from "../../../scripts/services/packages/maven.ts";
import { freePort } from "../../../scripts/services/processes/port.ts";
import { printProgress } from "../../../scripts/services/packages/progress.ts";
import { versions } from "../../../scripts/services/versions.ts";

const NAME = `debezium-jdbc-${versions.debeziumJdbc}`;
const JAVA_MAJOR = 17;
const CONVERTER = "org.apache.kafka.connect.json.JsonConverter";

export interface SinkConnectorOptions {
  readonly broker: string;
  /** A regular expression. */
  readonly topics: string;
  /** postgres:// */
  readonly target: string;
}

export class SinkConnector implements AsyncDisposable {
  readonly #folder: string;
  readonly #process: ChildProcess;
  readonly #ended: Promise<unknown>;
  #said = "";

  private constructor(folder: string, process: ChildProcess) {
    this.#folder = folder;
    this.#process = process;
    this.#ended = once(process, "close");
    for (const stream of [process.stdout!, process.stderr!]) {
      stream.on("data", (bytes: Buffer) => (this.#said = (this.#said + bytes.toString()).slice(-20_000)));
    }
  }

  static async start({ broker, topics, target }: SinkConnectorOptions): Promise<SinkConnector> {
    const found = await findJava(JAVA_MAJOR);
    if (found.kind === "missing") throw new Error(found.reason);
    const java = await provideJava(found, printProgress);
    const jars = await cached(NAME, async (dir) => fetchJars(NAME, await readJarList(NAME), dir, printProgress));
    const folder = await mkdtemp(join(tmpdir(), "millrace-connect-"));
    const { hostname, port, pathname, username } = new URL(target);
    const worker = await properties(folder, "worker.properties", {
      "bootstrap.servers": broker,
      "key.converter": CONVERTER,
      "value.converter": CONVERTER,
      "offset.storage.file.filename": join(folder, "offsets"),
      listeners: `http://127.0.0.1:${await freePort()}`,
      "plugin.discovery": "hybrid_warn",
      "consumer.isolation.level": "read_committed",
      "consumer.auto.offset.reset": "earliest",
      "consumer.metadata.max.age.ms": "1000",
      "offset.flush.interval.ms": "1000",
    });
    const sink = await properties(folder, "sink.properties", {
      name: `sink-${pathname.slice(1)}`,
      "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
      "tasks.max": "1",
      "topics.regex": topics,
      "connection.url": `jdbc:postgresql://${hostname}:${port}${pathname}`,
      "connection.username": username,
      "connection.password": "none",
      "insert.mode": "upsert",
      "delete.enabled": "true",
      "truncate.enabled": "true",
      "primary.key.mode": "record_key",
      "schema.evolution": "basic",
      "collection.name.format": "${source.table}",
    });
    const log = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn";
    const args = [...java.args, log, "-cp", join(jars, "*"), "org.apache.kafka.connect.cli.ConnectStandalone"];
    return new SinkConnector(
      folder,
      spawn(java.command, [...args, worker, sink], { stdio: ["ignore", "pipe", "pipe"] }),
    );
  }

  /** The last of what it logged. */
  get said(): string {
    return this.#said.slice(-4000);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#ended;
    await rm(this.#folder, { recursive: true, force: true });
  }
}

async function properties(folder: string, name: string, values: Readonly<Record<string, string>>): Promise<string> {
  const path = join(folder, name);
  const lines = Object.entries(values).map(([key, value]) => `${key}=${value.replaceAll("\\", "\\\\")}\n`);
  await writeFile(path, lines.join(""));
  return path;
}
