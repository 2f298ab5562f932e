/** Documents in topics: what a reader holds equals what the source's own SQL makes, under the key, and nothing of what is gone. */
import { expect, test } from "vitest";
import * as z from "zod";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { STREAM_KINDS } from "../../support/daemon/sink-set.ts";
import { expectSame, POSTGRES_DOCUMENTS, SHOP_TABLES, shopDocuments } from "../../support/documents/shop-documents.ts";
import { streamFaults } from "../../support/kafka/kafka-stream.ts";
import type { ReadRecord } from "../../support/kafka/kafka-topics.ts";

const ROWS = `insert into customers select g, 'c' || g, nullif('c' || g || '@x', 'c3@x'), nullif(g / 2, 0) from generate_series(1, 6) g;
  insert into products select g, 'sku' || g, 'title ' || g from generate_series(1, 10) g;
  insert into tags select g, 'tag' || g from generate_series(1, 6) g;
  insert into orders select g, 1 + g % 6, 'new', g * 1.5 from generate_series(1, 60) g;
  insert into orders values (61, null, 'bare', null);
  insert into order_items select o, l, 1 + (o + l) % 10, l from generate_series(1, 60) o, generate_series(1, 4) l where (o + l) % 5 > 0;
  insert into order_tags select o, t from generate_series(1, 60) o, generate_series(1, 6) t where (o * t) % 4 = 0;`;
const BEFORE = [
  "update customers set name = 'everybody' where id = 2",
  // The foreign keys take the children along.
  "update orders set id = 1005 where id = 5",
  "delete from order_items where order_id = 7; delete from order_tags where order_id = 7; delete from orders where id = 7",
];
const AFTER = [
  "update order_items set order_id = 61 where order_id = 9 and line_no = 2",
  "begin; update orders set id = 2009 where id = 9; update products set sku = 'late' where id = 3; commit",
  "insert into orders values (7, 1, 'again', 1)",
];

type Document = Readonly<Record<string, unknown>>;
const OBJECT = z.record(z.string(), z.unknown());
const object = (value: unknown): Document => OBJECT.parse(value);
const parsed = (text: unknown): unknown => (typeof text === "string" ? JSON.parse(text) : text);

/** By key, what a reader holds of a topic; `after`: the row that a value has, null: it is gone. */
function held(records: readonly ReadRecord[], after: (value: Document) => unknown): readonly Document[] {
  const found = new Map<string, Document>();
  for (const { partition, key, value } of records) {
    const place = `${partition} ${key}`;
    const row = value === null ? null : after(object(JSON.parse(value)));
    if (row === undefined) continue;
    if (row === null) found.delete(place);
    else found.set(place, object(row));
  }
  return [...found.values()].toSorted((a, b) => Number(a["id"]) - Number(b["id"]));
}

/** Relations as the texts that Debezium's formats have of JSON. */
function withRelations(row: Document): Document {
  for (const name of ["customer", "items", "tags"]) expect([name, typeof (row[name] ?? "")]).toEqual([name, "string"]);
  return {
    ...row,
    customer: parsed(row["customer"]),
    items: parsed(row["items"]),
    tags: parsed(row["tags"]),
  };
}

test("three formats, a root whose key changes, a document that is gone, a kill in between", async () => {
  await using pipeline = await RunningPipeline.start(
    async (source) => {
      for (const sql of SHOP_TABLES) await source.query(sql);
      await source.query(ROWS);
    },
    {
      kinds: STREAM_KINDS,
      configure: (config) => {
        const { prefix, ...kafka }: Document = { ...config.sinks["kafka"] };
        const sink = (name: string, rest: object) => ({
          ...kafka,
          prefix: `${String(prefix)}${name}-`,
          transactions: false,
          documents: ["orders"],
          ...rest,
        });
        return {
          ...config,
          documents: shopDocuments("public"),
          sinks: {
            plain: sink("plain", {}),
            debezium: sink("debezium", { format: "debezium", decimals: "string" }),
            flat: sink("flat", { format: "debezium-flat", schemas: false, decimals: "string" }),
          },
        };
      },
    },
  );
  const topics = pipeline.sinks.topics!;
  const recordsOf = (sink: string) => topics.read(`${topics.prefix}${sink}-${pipeline.source.name}.documents.orders`);

  const expectEqual = async (): Promise<void> => {
    await pipeline.settled();
    const { rows } = await pipeline.source.query<{ document: unknown }>(POSTGRES_DOCUMENTS);
    const wanted = rows.map(({ document }) => document);
    const plain = await recordsOf("plain");
    expectSame(
      held(plain, ({ op, after }) => (op === "d" ? null : op === "s" ? undefined : after)),
      wanted,
    );
    expect(streamFaults(plain)).toEqual([]);
    const debezium = held(await recordsOf("debezium"), ({ payload }) => object(payload)["after"]);
    expectSame(debezium.map(withRelations), wanted);
    const flat = held(await recordsOf("flat"), (row) => (row["__deleted"] === "true" ? null : row));
    const own = (row: Document) => Object.fromEntries(Object.entries(row).filter(([name]) => !name.startsWith("__")));
    expectSame(flat.map(own).map(withRelations), wanted);
  };

  await expectEqual();
  for (const sql of BEFORE) await pipeline.run(sql);
  await pipeline.kill();
  for (const sql of AFTER) await pipeline.run(sql);
  await pipeline.start();
  await expectEqual();

  const last = new Map((await recordsOf("plain")).map(({ key, value }) => [key, value] as const));
  expect([last.get('{"id":5}'), last.get('{"id":9}')]).toEqual([null, null]);
  expect(JSON.parse(last.get('{"id":1005}') ?? "")).toMatchObject({
    schema: { subject: "documents.orders" },
    after: { id: 1005, customer: { name: "c6" }, items: expect.any(Array), tags: expect.any(Array) },
  });
  const { schema, payload } = object(
    JSON.parse((await recordsOf("debezium")).find(({ value }) => value !== null)!.value!),
  );
  const place = { database: pipeline.source.name, schema: "documents", table: "orders" };
  expect(object(payload)["source"]).toMatchObject({
    connector: "postgresql",
    db: place.database,
    schema: place.schema,
    table: place.table,
  });
  expect(JSON.parse(last.get('{"id":1005}') ?? "")).toMatchObject({ source: { kind: "postgres", ...place } });
  const FIELDS = z.object({ fields: z.array(z.looseObject({ field: z.string() })) });
  const after = FIELDS.parse(FIELDS.parse(schema).fields.find(({ field }) => field === "after"));
  for (const relation of ["customer", "items", "tags"])
    expect(after.fields.find(({ field }) => field === relation)).toMatchObject({
      type: "string",
      // A list is there, empty or not.
      optional: relation === "customer",
      name: "io.debezium.data.Json",
    });
});
