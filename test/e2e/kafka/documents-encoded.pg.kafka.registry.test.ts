/**
 * Documents in Avro and JSON Schema: their relations are texts of JSON under Debezium's name, and say what the source's own SQL says.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import * as z from "zod";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { STREAM_KINDS } from "../../support/daemon/sink-set.ts";
import { expectSame, POSTGRES_DOCUMENTS, SHOP_TABLES, shopDocuments } from "../../support/documents/shop-documents.ts";
import { RegistryReader } from "../../support/kafka/avro-records.ts";
import { registryUrl } from "../../support/run/services.ts";

const ROWS = `insert into customers values (1, 'ada', 'a@x', null), (2, 'bob', null, 1);
  insert into products values (1, 's1', 'one'), (2, 's2', null);
  insert into tags values (1, 'x'), (2, 'y');
  insert into orders values (1, 1, 'new', 1.50), (2, 2, 'new', null), (3, null, 'none', 10);
  insert into order_items values (1, 1, 1, 1), (1, 2, 2, 2), (2, 1, null, 3);
  insert into order_tags values (1, 1), (1, 2), (2, 2)`;
const RELATIONS = ["customer", "items", "tags"];
const OBJECT = z.record(z.string(), z.unknown());
const VALUE = z.looseObject({ after: OBJECT.nullable() });

test("relations in registered schemas", async () => {
  const registry = { url: registryUrl() };
  const encodings = ["avro", "json-schema"];
  await using pipeline = await RunningPipeline.start(
    async (source) => {
      for (const sql of [...SHOP_TABLES, ROWS]) await source.query(sql);
    },
    {
      kinds: STREAM_KINDS,
      configure: (config) => {
        const { prefix, ...kafka } = OBJECT.parse(config.sinks["kafka"]);
        const rest = { transactions: false, documents: ["orders"], format: "debezium", decimals: "string", registry };
        const sinks = encodings.map((encoding) => [
          encoding,
          { ...kafka, ...rest, prefix: `${String(prefix)}${encoding}-`, encoding },
        ]);
        return { ...config, documents: shopDocuments("public"), sinks: Object.fromEntries(sinks) };
      },
    },
  );
  const topics = pipeline.sinks.topics!;
  const reader = new RegistryReader(registry.url);
  const read = { avro: reader.avro.bind(reader), "json-schema": reader.json.bind(reader) };
  const expectEqual = async (): Promise<void> => {
    await pipeline.settled();
    const { rows } = await pipeline.source.query<{ document: unknown }>(POSTGRES_DOCUMENTS);
    const wanted = rows.map(({ document }) => document);
    for (const [encoding, decode] of Object.entries(read)) {
      const held = new Map<string, Record<string, unknown>>();
      const topic = `${topics.prefix}${encoding}-${pipeline.source.name}.documents.orders`;
      for (const { key, value } of await topics.readRaw(topic)) {
        const id = JSON.stringify(await decode(key));
        const after = value === null ? null : VALUE.parse(await decode(value)).after;
        if (after === null) held.delete(id);
        else held.set(id, { ...after, id: Number(after["id"]) });
      }
      const parsed = (text: unknown): unknown => (text === null ? null : JSON.parse(z.string().parse(text)));
      const found = [...held.values()].map((row) => ({
        ...row,
        ...Object.fromEntries(RELATIONS.map((name) => [name, parsed(row[name])])),
      }));
      expectSame(
        found.toSorted((a, b) => Number(Object(a).id) - Number(Object(b).id)),
        wanted,
      );
    }
  };
  await expectEqual();
  await pipeline.run("update products set title = 'first' where id = 1; update orders set id = 9 where id = 2");
  await pipeline.run("delete from orders where id = 3");
  await expectEqual();

  const named = async (encoding: string): Promise<number> => {
    const subject = `${topics.prefix}${encoding}-${pipeline.source.name}.documents.orders-value`;
    const answer = await fetch(`${registry.url}/subjects/${encodeURIComponent(subject)}/versions/latest`);
    const { schema } = z.object({ schema: z.string() }).parse(await answer.json());
    return schema.split(`"${encoding === "avro" ? "connect.name" : "title"}":"io.debezium.data.Json"`).length - 1;
  };
  expect(await Promise.all(encodings.map(named))).toEqual([RELATIONS.length, 2 * RELATIONS.length]);
});
