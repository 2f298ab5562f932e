/** Keys of a Kafka sink that have to go together. */
import { expect, test } from "vitest";
import { definition } from "../../connectors/kafka/config.ts";

const brokers = ["127.0.0.1:9092"];
const registry = { url: "https://registry:8081" };

function complaints(options: object): readonly string[] {
  const { error } = definition.safeParse({ brokers, ...options });
  return error?.issues.map(({ path, message }) => `${path.join(".")}: ${message}`) ?? [];
}

test("an encoding with schemas needs a registry, and a format that has schemas", () => {
  expect(complaints({ format: "debezium", encoding: "avro", registry })).toEqual([]);
  expect(complaints({ format: "debezium-flat", encoding: "json-schema", registry })).toEqual([]);
  expect(complaints({ format: "debezium", encoding: "avro" })).toEqual([
    "encoding: `avro` needs a schema registry: `registry: { url: … }`",
  ]);
  expect(complaints({ encoding: "json-schema", registry })).toEqual([
    "encoding: `json-schema` is for the formats debezium and debezium-flat; millrace is written as `json`",
  ]);
});

test("a registry that nothing uses is refused, and so is one without an address", () => {
  expect(complaints({ format: "debezium", registry })).toEqual([
    "registry: has no use with `encoding: json`; set `encoding: avro` or `json-schema`",
  ]);
  expect(complaints({ format: "debezium", encoding: "avro", registry: { url: "registry:8081" } })).toEqual([
    "registry.url: expected http:// or https://",
  ]);
});

test("keys that would do nothing beside the others are refused", () => {
  const idle: readonly (readonly [object, string])[] = [
    [{ schemas: false }, "schemas: has no use with `format: millrace`"],
    [{ decimals: "string" }, "decimals: has no use with `format: millrace`"],
    [{ format: "log", schemas: true }, "schemas: has no use with `format: log`"],
    [{ format: "log", tombstones: false }, "tombstones: has no use with `format: log`"],
    [{ format: "log", transactions: true }, "transactions: has no use with `format: log`"],
    [
      { format: "log", topics: { partitions: 3 } },
      "topics.partitions: has no use with `format: log`, whose topics have one",
    ],
    [
      { format: "debezium", encoding: "avro", registry, schemas: false },
      "schemas: has no use with `encoding: avro`, whose schemas are in the registry",
    ],
    [{ topics: { create: false, partitions: 3 } }, "topics.partitions: has no use with `topics: { create: false }`"],
    [
      { topics: { create: false, settings: { "retention.ms": 1 } } },
      "topics.settings: has no use with `topics: { create: false }`",
    ],
  ];
  for (const [options, complaint] of idle) expect(complaints(options)).toEqual([complaint]);
  expect(complaints({ format: "cloudevents", schemas: false, decimals: "string" })).toEqual([]);
  expect(complaints({ format: "debezium", encoding: "avro", registry, decimals: "string" })).toEqual([]);
});
