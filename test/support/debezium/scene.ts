/** One database, captured by Debezium and by a daemon with a Kafka sink: the records of both. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { expect } from "vitest";
import { Installation } from "../daemon/daemon-process.ts";
import { KafkaTopics } from "../kafka/kafka-topics.ts";
import { kafkaBroker } from "../run/services.ts";
import { eventually } from "../run/waiting.ts";
import { type DebeziumProgram, provideDebezium } from "../../../scripts/services/tools/debezium.ts";

/** What Debezium's own connector makes of a source: the oracle for the formats that follow it. */
interface ToldRecord {
  readonly topic: string;
  readonly key: string | null;
  readonly value: string | null;
}

const SOURCE = join(import.meta.dirname, "DebeziumRecords.java");

/** One run of the engine: from its start to the first record of a topic that ends with `last`. */
class DebeziumEngine implements AsyncDisposable {
  readonly #program: DebeziumProgram;
  readonly #process: ChildProcess;
  readonly #ended: Promise<unknown>;
  #told = "";
  #said = "";

  private constructor(program: DebeziumProgram, process: ChildProcess) {
    this.#program = program;
    this.#process = process;
    this.#ended = once(process, "close");
    process.stdout!.on("data", (bytes: Buffer) => (this.#told += bytes.toString("latin1")));
    process.stderr!.on("data", (bytes: Buffer) => (this.#said += bytes.toString()));
  }

  static async start(
    form: "json" | "cloudevents",
    last: string,
    properties: Readonly<Record<string, string>>,
  ): Promise<DebeziumEngine> {
    const program = await provideDebezium(SOURCE);
    const given = Object.entries(properties).map(([name, value]) => `${name}=${value}`);
    const { java, classpath } = program;
    const log = "-Dorg.slf4j.simpleLogger.defaultLogLevel=error";
    const args = [...java.args, log, "-cp", classpath, "DebeziumRecords", form, last, ...given];
    return new DebeziumEngine(program, spawn(java.command, args, { stdio: ["ignore", "pipe", "pipe"] }));
  }

  /** What it printed to its error stream; empty while all is well. */
  get said(): string {
    return this.#process.exitCode === null ? "" : this.#said.slice(0, 3000);
  }

  /** Whether it has told a record of a topic that ends with this. */
  hasTold(topicEnd: string): boolean {
    return this.#told.split("\n").some((line) => decoded(line.split(" ")[0]!)?.endsWith(topicEnd) === true);
  }

  async records(): Promise<readonly ToldRecord[]> {
    await this.#ended;
    if (this.#process.exitCode !== 0) throw new Error(`Debezium has failed: ${this.said}`);
    return this.#told
      .trim()
      .split("\n")
      .map((line) => {
        const [topic, key, value] = line.split(" ").map(decoded);
        return { topic: topic ?? "", key: key ?? null, value: value ?? null };
      });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#ended;
    await this.#program[Symbol.asyncDispose]();
  }
}

function decoded(text: string): string | null {
  return text === "-" ? null : Buffer.from(text, "base64").toString("utf8");
}

type Plain = null | boolean | number | string | readonly Plain[] | Fields;
interface Fields {
  readonly [name: string]: Plain;
}

const OWN_WORDS = ["version", "lsn", "sequence", "pos", "row", "thread"];
const READ_WORDS = ["file", "server_id", "gtid", "snapshot", "txId", "ts_ms", "ts_us", "ts_ns"];

/** `name`: what the names of topics begin with. */
function sameAs(records: readonly ToldRecord[], name: string): readonly unknown[] {
  const read = records.map(({ key, value }) => ({ key: parsed(key, name), value: parsed(value, name) }));
  const whole = new Set(read.flatMap(({ value }) => wholeTransaction(value)));
  // The engine also tells of transactions that change nothing here, and ends behind the begin of one.
  return read
    .filter(({ value }) => transactionOf(value)["status"] === undefined || whole.has(transactionOf(value)["id"]))
    .map(({ key, value }) => ({ key, value: told(value) }));
}

function parsed(text: string | null, name: string): Plain {
  if (text === null) return null;
  return withoutNames(JSON.parse(text, unrounded), name);
}

/** A number that JavaScript would round is compared by its digits. */
function unrounded(this: unknown, _: string, value: Plain, context?: { readonly source?: string }): Plain {
  const digits = context?.source ?? "";
  return typeof value === "number" && !Number.isSafeInteger(value) && /^-?\d+$/.test(digits) ? digits : value;
}

function withoutNames(plain: Plain, name: string): Plain {
  if (typeof plain === "string") return plain.startsWith(`${name}.`) ? plain.slice(name.length) : plain;
  if (plain === null || typeof plain !== "object") return plain;
  if (isList(plain)) return plain.map((item) => withoutNames(item, name));
  return Object.fromEntries(
    Object.entries(plain).map(([key, value]) => [key, shown(key, withoutNames(value, name), name)]),
  );
}

/** JSON as text, whose order and spaces are open, and the names that are not the same. */
function shown(key: string, value: Plain, name: string): Plain {
  if (/^(iodebezium)?name$/.test(key) && value === name) return "";
  if (key === "id" && typeof value === "string") return value.replace(/^(\d+):\d+$/, "$1").replace(/^file=.*/, "");
  if (typeof value !== "string" || !value.startsWith('{"')) return value;
  const json: Plain = JSON.parse(value);
  return json;
}

function told(value: Plain): Plain {
  const whole = fieldsOf(value);
  if (typeof whole["specversion"] === "string") return toldEvent(whole);
  const payload = fieldsOf(whole["payload"] ?? value);
  const shownPayload = "op" in payload ? toldChange(payload) : "__op" in payload ? toldRow(payload) : null;
  if (shownPayload === null) return value;
  return "payload" in whole ? { ...whole, payload: shownPayload } : shownPayload;
}

function toldChange({ ts_ms: ms, ts_us: us, ts_ns: ns, ...payload }: Fields): Plain {
  const isRead = payload["op"] === "r";
  const source = without(fieldsOf(payload["source"] ?? null), isRead ? [...OWN_WORDS, ...READ_WORDS] : OWN_WORDS);
  return {
    ...payload,
    source,
    times: [ms, us, ns].map((time) => /^\d+$/.test(JSON.stringify(time).replaceAll('"', ""))),
  };
}

function toldRow(payload: Fields): Plain {
  return without(payload, payload["__op"] === "r" ? ["__lsn", "__source_ts_ms"] : ["__lsn"]);
}

const OWN_ATTRIBUTES = ["id", "source", "iodebeziumversion", "iodebeziumlsn", "iodebeziumsequence", "iodebeziumtxId"];
const READ_ATTRIBUTES = ["time", "iodebeziumsnapshot", "iodebeziumtsms", "iodebeziumtsus", "iodebeziumtsns"];

/** An attribute that is null is none. Ours has a time in microseconds. */
function toldEvent(event: Fields): Plain {
  const isRead = event["iodebeziumop"] === "r";
  const kept = without(event, isRead ? [...OWN_ATTRIBUTES, ...READ_ATTRIBUTES] : OWN_ATTRIBUTES);
  const known = Object.entries(kept).filter(([, value]) => value !== null);
  return Object.fromEntries(known.map(([name, value]) => [name, name === "time" ? inMilliseconds(value) : value]));
}

function inMilliseconds(time: Plain): Plain {
  return typeof time === "string" ? time.replace(/(\.\d{3})\d*Z/, "$1Z") : time;
}

function without(fields: Fields, names: readonly string[]): Fields {
  return Object.fromEntries(Object.entries(fields).filter(([name]) => !names.includes(name)));
}

function transactionOf(value: Plain): Fields {
  return fieldsOf(fieldsOf(value)["payload"] ?? value);
}

function wholeTransaction(value: Plain): (Plain | undefined)[] {
  const { status, event_count: count, id } = transactionOf(value);
  return status === "END" && count !== 0 ? [id] : [];
}

function fieldsOf(plain: Plain): Fields {
  return plain !== null && typeof plain === "object" && !isList(plain) ? plain : {};
}

function isList(plain: object): plain is readonly Plain[] {
  return Array.isArray(plain);
}

const READY_WITHIN_MS = 60_000;

export interface Scene {
  /** As in millrace.yaml. */
  readonly source: object;
  readonly sink: object;
  readonly form: "json" | "cloudevents";
  /** Of the connector. */
  readonly properties: Readonly<Record<string, string>>;
  /** Whether what is written from now on comes to the connector as changes. */
  readonly isReady: (engine: DebeziumEngine) => Promise<boolean>;
  /** Ends with a row in the table `the_end`. */
  readonly work: () => Promise<void>;
}

export async function expectSame({ source, sink, form, properties, isReady, work }: Scene): Promise<void> {
  await using topics = new KafkaTopics(kafkaBroker());
  await using engine = await DebeziumEngine.start(form, ".the_end", properties);
  const stream = {
    kind: "kafka",
    brokers: [topics.broker],
    prefix: topics.prefix,
    topics: { partitions: 1, settings: { "max.message.bytes": 10_000_000 } },
    ...sink,
  };
  await using installation = new Installation({ name: "shop", source, sinks: { stream } });
  const daemon = installation.run();
  await daemon.streaming();
  await settled(installation);
  const ready = async (): Promise<void> => {
    expect({ isReady: await isReady(engine), said: engine.said }).toEqual({ isReady: true, said: "" });
  };
  await eventually(ready, { withinMs: READY_WITHIN_MS });
  await work();
  const theirs = Map.groupBy(await engine.records(), ({ topic }) => topic);
  await settled(installation);
  await daemon.stop();
  const ours = (await topics.names()).filter((topic) => !topic.includes("._"));
  expect(ours).toEqual([...theirs.keys()].map((topic) => `${topics.prefix}${topic}`).toSorted());
  for (const [topic, records] of theirs) {
    const own = await topics.read(`${topics.prefix}${topic}`);
    const told = sameAs(own.filter(isBeforeEnd), `${topics.prefix}shop`);
    expect.soft(told, topic).toEqual(sameAs(records.filter(isBeforeEnd), "shop"));
  }
}

/** The engine may be ended before it tells the end of the last transaction. */
function isBeforeEnd({ value }: ToldRecord): boolean {
  return value === null || !/"data_collection":"[^"]*\.the_end"/.test(value);
}

async function settled(installation: Installation): Promise<void> {
  const answer = await installation.ask<{ reached: boolean }>("POST", "/api/v1/wait", { timeoutMs: 60_000 });
  expect(answer).toMatchObject({ reached: true });
}
