/** A schema registry behind a login, TLS with an authority of its own, and client certificates. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { definition, factory } from "../../connectors/kafka/config.ts";
import type { Finding } from "../../src/core/contracts/connector.ts";
import { timeout } from "../conformance/stage.ts";
import { RegistryReader } from "../support/kafka/avro-records.ts";
import { type Certificate, selfSigned } from "../support/network/certificate.ts";
import { KafkaTopics } from "../support/kafka/kafka-topics.ts";
import { loginFront, type LoginFront } from "../support/network/http-gateway.ts";
import { RunningPipeline } from "../support/daemon/running-pipeline.ts";
import { kafkaBroker, registryUrl } from "../support/run/services.ts";
import { tlsFront, type TlsFront } from "../support/network/tls-front.ts";
import { eventually } from "../support/run/waiting.ts";

const PASSWORD = "secret-canary";
const REFUSAL = {
  status: 401,
  headers: { "content-type": "application/json", "www-authenticate": "Basic" },
  body: '{"error_code":401,"message":"Unauthorized"}',
};

const folder = mkdtempSync(join(tmpdir(), "millrace-test-"));
let own: Certificate;
let client: Certificate;
let login: LoginFront;
let front: TlsFront;

beforeAll(async () => {
  own = await selfSigned(["localhost"]);
  client = await selfSigned(["client"]);
  login = await loginFront(registryUrl(), REFUSAL);
  front = await tlsFront(login.url, own, client);
});

afterAll(async () => {
  for (const one of [front, login, client, own]) await one?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

const urlOf = (): string => `${front.url}${new URL(registryUrl()).pathname}`;
const trusted = (): object => ({ ca: own.certificatePath, cert: client.certificatePath, certKey: client.keyPath });

async function found(tls: object, password = PASSWORD): Promise<Finding> {
  const registry = { url: urlOf(), username: "millrace", password, tls };
  const kafka = { brokers: [kafkaBroker()], format: "debezium", encoding: "avro", registry };
  const options = definition.parse(kafka);
  const context = { name: "stream", daemon: "shop", folder: "/", tables: [], options };
  const findings = await factory.check(context, timeout(), []);
  return findings.find(({ id }) => id === "kafka.registry") ?? findings.at(-1)!;
}

test("`check` names what lacks: the login, the authority, the client certificate", async () => {
  login.accept(PASSWORD);
  expect(await found(trusted())).toMatchObject({ id: "kafka.registry", level: "ok" });
  const refused = await found(trusted(), "wrong-canary");
  expect(refused).toMatchObject({ level: "error", what: expect.stringContaining("MR2002") });
  const { cert, certKey, ...rest } = { cert: "", certKey: "", ...trusted() };
  expect([cert, certKey]).not.toContain("");
  const strange = await found(rest);
  expect(strange).toMatchObject({ level: "error", what: expect.stringMatching(/^MR200[13]/) });
  const unknown = await found({ cert, certKey });
  expect(unknown).toMatchObject({ level: "error", what: expect.stringContaining("MR2003") });
  expect(unknown.fix).toContain("ca");
  expect(JSON.stringify([refused, strange, unknown])).not.toMatch(/canary/);
});

test("a sink whose login is refused waits, and writes its records when its password file has the registry's new one", async () => {
  login.accept("another-canary");
  const passwordFile = join(folder, "password");
  writeFileSync(passwordFile, PASSWORD);
  await using topics = new KafkaTopics(kafkaBroker());
  const stream = {
    kind: "kafka",
    brokers: [topics.broker],
    prefix: topics.prefix,
    format: "debezium-flat",
    encoding: "avro",
    registry: { url: urlOf(), username: "millrace", passwordFile, tls: trusted() },
    topics: { partitions: 1 },
  };
  await using pipeline = await RunningPipeline.start(
    "create table t (id int primary key, n int); insert into t values (1, 2)",
    {
      kinds: [],
      untilStreaming: false,
      configure: (config) => ({ ...config, sinks: { stream } }),
    },
  );
  await eventually(async () => {
    const { sinks } = await pipeline.installation.status();
    expect(sinks).toMatchObject([{ error: { code: "MR2002" } }]);
  });
  writeFileSync(passwordFile, "another-canary\n");
  await pipeline.run("insert into t values (2, 3)");
  await pipeline.settled();
  const reader = new RegistryReader(registryUrl());
  const records = await topics.readRaw(`${topics.prefix}${pipeline.source.name}.public.t`);
  const rows = await Promise.all(records.map(({ value }) => reader.avro(value)));
  // What the sink did not get of the copy is read again.
  const told = new Set(rows.map((row) => JSON.stringify(row)));
  for (const row of ['"id":"1","n":"2"', '"id":"2","n":"3"']) expect([...told].join("\n")).toContain(row);
  expect(pipeline.daemon.said).not.toContain("canary");
});
