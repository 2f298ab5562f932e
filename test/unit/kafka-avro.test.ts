/** Avro's encoding of Debezium's records, read by a library that knows nothing of Millrace. */
import type avro from "avsc";
import { expect, test } from "vitest";
import {
  AmbiguousNames,
  avroName,
  avroSchemaOf,
  type ConnectSchema,
} from "../../connectors/kafka/formats/registered/schemas.ts";
import { avroWriterOf, JsonCursor } from "../../connectors/kafka/formats/registered/avro-writer.ts";
import { ByteWriter } from "../../src/core/bytes.ts";
import { toldAvro, toldJson } from "../support/kafka/avro-records.ts";

function throughAvro(schema: ConnectSchema, json: string): unknown {
  const cursor = new JsonCursor();
  cursor.begin(Buffer.from(json));
  const out = new ByteWriter();
  avroWriterOf(schema)(out, cursor);
  expect(cursor.at).toBe(Buffer.byteLength(json));
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the library checks it
  return toldAvro(avroSchemaOf(schema) as avro.Schema, Buffer.from(out.view()));
}

const row = (name: string, fields: readonly ConnectSchema[]): ConnectSchema => ({ type: "struct", name, fields });

const VALUES: readonly (readonly [ConnectSchema["type"], ...string[]])[] = [
  ["int8", "-128", "127"],
  ["int32", "0", "-1", "63", "64", "-64", "-65", "2147483647", "-2147483648"],
  ["int64", "4503599627370495", "4503599627370496", "-4503599627370497", "9223372036854775807", "-9223372036854775808"],
  ["float", "0.1", "-0.0", "3.4028235e38", '"NaN"'],
  ["double", "0.1", "-0.0", "5e-324", "1.7976931348623157e308", '"-Infinity"', "123456789.0"],
  ["boolean", "true", "false"],
  ["string", '""', '"é🚀"', String.raw`"a\"b\\c\n  \ud83d\ude80"`],
  ["bytes", '""', '"AP8="'],
];

test.each(VALUES.map(([type, ...texts]) => ({ type, texts })))("$type: what was written is read", ({ type, texts }) => {
  const fields: readonly ConnectSchema[] = [
    { type, field: "always" },
    { type, field: "some", optional: true },
    { type: "array", items: { type, optional: true }, field: "many" },
  ];
  const schema = row("x.Value", fields);
  for (const text of texts) {
    for (const json of [
      `{"always":${text},"some":${text},"many":[${text},null,${text}]}`,
      `{"always":${text},"some":null,"many":[]}`,
    ]) {
      expect(throughAvro(schema, json)).toEqual(toldJson(json));
    }
  }
});

test("a record that comes twice is defined once; a default that is a value stands first in its union", () => {
  const value = { ...row("shop.users.Value", [{ type: "int32", field: "id" }]), optional: true };
  const snapshot: ConnectSchema = { type: "string", optional: true, default: "false", field: "snapshot" };
  const schema = row("shop.users.Envelope", [{ ...value, field: "before" }, { ...value, field: "after" }, snapshot]);
  expect(avroSchemaOf(schema)).toMatchObject({
    namespace: "shop.users",
    name: "Envelope",
    fields: [
      { name: "before", type: ["null", { type: "record", name: "Value" }], default: null },
      { name: "after", type: ["null", "shop.users.Value"], default: null },
      { name: "snapshot", type: [{ type: "string" }, "null"], default: "false" },
    ],
  });
  const json = '{"before":null,"after":{"id":1},"snapshot":"false"}';
  expect(throughAvro(schema, json)).toEqual(toldJson(json));
});

test("names that Avro does not take are changed, and two that become one are refused", () => {
  expect(["weird-c$l é", "2nd", "plain_1"].map(avroName)).toEqual(["weird_c_l__", "_2nd", "plain_1"]);
  const both = row("x", [
    { type: "int32", field: "a-b" },
    { type: "int32", field: "a.b" },
  ]);
  expect(() => avroSchemaOf(both)).toThrow(AmbiguousNames);
});

test("a record that is not what its schema says is refused", () => {
  expect(() => throughAvro(row("x", [{ type: "int32", field: "a" }]), '{"b":1}')).toThrow("not what its schema says");
});
