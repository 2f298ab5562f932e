/** `import debezium`: what is carried over, what is named, and that no password is shown. */
import { readFileSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { connectors } from "../../connectors/registry.ts";
import { importedFrom } from "../../src/cli/import/debezium.ts";
import { parseDebezium } from "../../src/cli/import/debezium-config.ts";
import { globsOfParts } from "../../src/cli/import/list-globs.ts";
import { loadConfig } from "../../src/config/load.ts";
import { Secrets } from "../../src/config/secrets/secrets.ts";
import { runCli } from "../support/daemon/cli.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const POSTGRES = {
  "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
  "tasks.max": "1",
  "database.hostname": "db.example",
  "database.port": "5433",
  "database.user": "debezium",
  "database.password": "debezium-canary",
  "database.dbname": "shop",
  "database.sslmode": "require",
  "topic.prefix": "acme.shop",
  "schema.include.list": "public,billing",
  "table.include.list": "public.orders,billing\\.invoice_.*,public.(customers|carts)",
  "column.exclude.list": "public.customers.password_hash",
  "column.mask.hash.SHA-256.with.salt.salt-canary": "public.*.email",
  "message.key.columns": "public.carts:owner,slot",
  "slot.name": "dbz",
  "plugin.name": "pgoutput",
  "publication.name": "made_by_admin",
  "publication.autocreate.mode": "disabled",
  "snapshot.mode": "no_data",
  "heartbeat.interval.ms": 5000,
  "decimal.handling.mode": "string",
  "tombstones.on.delete": false,
  "time.precision.mode": "connect",
  "max.batch.size": "2048",
  transforms: "unwrap",
  "transforms.unwrap.type": "io.debezium.transforms.ExtractNewRecordState",
  "signal.kafka.bootstrap.servers": "k1:9092,k2:9092",
  "made.up": "value-canary",
};

const MYSQL = {
  name: "inventory-connector",
  config: {
    "connector.class": "io.debezium.connector.mysql.MySqlConnector",
    "database.hostname": "mysql",
    "database.user": "${file:/secrets/db.properties:user}",
    "database.password": "${file:/secrets/db.properties:password}",
    "database.server.id": "184054",
    "topic.prefix": "Dbserver 1",
    "database.include.list": "inventory",
    "table.exclude.list": "inventory.audit_.*,inventory.t[0-9]",
    "database.ssl.mode": "verify_identity",
    "database.ssl.truststore": "/etc/trust.jks",
    "schema.history.internal.kafka.bootstrap.servers": "kafka:9092",
    "schema.history.internal.kafka.topic": "schema-changes",
  },
};

const imported = (document: object) => {
  const { kind, config } = parseDebezium("connector.json", JSON.stringify(document));
  return importedFrom(kind, config);
};
const whyOf = ({ left }: ReturnType<typeof imported>) => Object.fromEntries(left.map(({ key, why }) => [key, why]));

test("a Postgres connector: source, tables, rules, and its topics as a sink", () => {
  const made = imported(POSTGRES);
  expect(made.config).toEqual({
    name: "shop",
    source: {
      kind: "postgres",
      url: "postgres://debezium:${SHOP_PASSWORD}@db.example:5433/shop?sslmode=require",
      tables: ["public.orders", "billing.invoice_*", "public.customers", "public.carts"],
      publication: "made_by_admin",
      snapshot: "none",
      heartbeat: "5000ms",
    },
    sinks: {
      stream: {
        kind: "kafka",
        brokers: ["k1:9092", "k2:9092"],
        prefix: "acme.",
        format: "debezium-flat",
        decimals: "string",
        tombstones: false,
      },
    },
    tables: {
      "public.customers": { columns: { password_hash: { drop: true } } },
      "public.*": { columns: { email: { mask: "hash" } } },
      "public.carts": { key: ["owner", "slot"] },
    },
    maskKey: "${MASK_KEY}",
  });
  expect(whyOf(made)).toEqual({
    "slot.name": expect.stringContaining("pg_drop_replication_slot('dbz')"),
    "column.mask.hash.SHA-256.with.salt.…": expect.stringContaining("maskKey"),
    "tasks.max": expect.any(String),
    "time.precision.mode": expect.any(String),
    "max.batch.size": expect.any(String),
    "made.up": "Millrace does not know this key",
  });
  expect(JSON.stringify(made)).not.toContain("canary");
});

test("a MySQL connector as Kafka Connect's API has it, with a secret store and lists that no glob says", () => {
  const made = imported(MYSQL);
  expect(made.config).toEqual({
    name: "dbserver_1",
    source: {
      kind: "mysql",
      url: "mysql://${DBSERVER_1_USER}:${DBSERVER_1_PASSWORD}@mysql/?ssl-mode=VERIFY_IDENTITY",
      tables: ["inventory.*", "!inventory.audit_*"],
    },
    sinks: { stream: { kind: "kafka", brokers: ["kafka:9092"], format: "debezium" } },
  });
  expect(made.variables.map(({ name }) => name)).toEqual(["DBSERVER_1_USER", "DBSERVER_1_PASSWORD"]);
  expect(whyOf(made)).toMatchObject({
    "topic.prefix": expect.stringContaining("dbserver_1.<schema>.<table>"),
    "table.exclude.list": expect.stringContaining("inventory.t[0-9]"),
    "database.ssl.truststore": expect.stringContaining("ssl-ca"),
    "database.server.id": expect.stringContaining("serverId"),
  });
});

test("Avro with a registry; its password is a variable", () => {
  const avro = "io.confluent.connect.avro.AvroConverter";
  const made = imported({
    ...POSTGRES,
    "key.converter": avro,
    "key.converter.schema.registry.url": "http://registry:8081",
    "value.converter": avro,
    "value.converter.schema.registry.url": "http://registry:8081",
    "value.converter.basic.auth.credentials.source": "USER_INFO",
    "value.converter.basic.auth.user.info": "writer:canary-of-registry",
    "value.converter.auto.register.schemas": "false",
  });
  expect(made.config).toMatchObject({
    sinks: {
      stream: {
        encoding: "avro",
        registry: {
          url: "http://registry:8081",
          username: "writer",
          password: "${SHOP_REGISTRY_PASSWORD}",
          register: false,
        },
      },
    },
  });
  const inUrl = imported({
    ...POSTGRES,
    "value.converter": avro,
    "value.converter.schema.registry.url": "http://writer:canary@registry:8081",
  });
  expect(inUrl.config).toMatchObject({ sinks: { stream: { registry: { url: "${SHOP_REGISTRY_URL}" } } } });
  expect(JSON.stringify([made, inUrl])).not.toContain("canary");
  expect(made.left.filter(({ key }) => key.includes("converter"))).toEqual([]);
});

test.each([
  ["public\\.orders", ["public.orders"]],
  ["^inv\\.(a|b.*)$", ["inv.a", "inv.b*"]],
  ["shop[.]orders", null],
  ["public\\.t\\d+", null],
  ["public\\.orders?", null],
  ["public\\.[^.]+", ["public.?*"]],
  ["public.*", ["public.*"]],
  [".*", ["*.*"]],
  ["(public", null],
])("the expression %s as globs", (expression, globs) => {
  expect(globsOfParts(expression, 2)).toEqual(globs);
});

test("the command writes a config that loads, replaces no file, and shows no password", async () => {
  using folder = temporaryFolder();
  writeFileSync(folder.file("connector.json"), JSON.stringify(POSTGRES));
  const printed = await runCli(["import", "debezium", "connector.json"], { folder: folder.path });
  expect(printed.stderr + String(printed.exitCode)).toBe("0");
  const made = await runCli(["import", "debezium", "connector.json", "--out", "millrace.yaml"], {
    folder: folder.path,
  });
  expect(made.exitCode).toBe(0);
  const text = readFileSync(folder.file("millrace.yaml"), "utf8");
  expect(printed.stdout.trim()).toBe(text.trim());
  expect(text).toMatch(/# {3}made\.up: Millrace does not know this key/);
  expect(printed.stdout + made.stdout).not.toContain("canary");
  const environment = { SHOP_PASSWORD: "x", MASK_KEY: "0123456789abcdef" };
  const config = await loadConfig(folder.file("millrace.yaml"), { connectors, environment, secrets: new Secrets() });
  expect(config).toMatchObject({
    name: "shop",
    source: { kind: "postgres" },
    sinks: [{ name: "stream", kind: "kafka" }],
  });
  const again = await runCli(["import", "debezium", "connector.json", "--out", "millrace.yaml"], {
    folder: folder.path,
  });
  expect(again.exitCode).toBe(4);
});

test.each([
  ["not JSON", '{"database.password": "canary'],
  ["no connector", "{}"],
  ["one of another database", '{"connector.class": "io.debezium.connector.oracle.OracleConnector"}'],
])("%s is wrong usage", (_what, text) => {
  expect(() => parseDebezium("c.json", text)).toThrow(/^c\.json (?!.*canary)/);
});
