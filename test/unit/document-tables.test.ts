/** From `documents` of a configuration to documents, by the tables and foreign keys that there are. */
import { describe, expect, test } from "vitest";
import type { Alike, Equality, ForeignKey, TableShape } from "../../src/core/contracts/catalog.ts";
import type { ColumnType } from "../../src/core/model/types.ts";
import { orderOf, resolveDocuments } from "../../src/documents/resolve.ts";
import type { WantedNode, WantedRelation } from "../../src/documents/document.ts";
import { parseWhere } from "../../src/rules/where/syntax.ts";

const INT: ColumnType = { kind: "int", bits: 64, signed: true };
const TEXT: ColumnType = { kind: "text" };

const tables = [
  shape("customers", { id: INT, name: TEXT, email: TEXT }),
  shape("orders", { id: INT, customer_id: INT, seller_id: INT, status: TEXT }),
  shape("order_items", { order_id: INT, line_no: INT, product_id: INT, note: TEXT }, 2),
  shape("products", { id: INT, sku: TEXT }),
  shape("tags", { id: INT, name: TEXT }),
  shape("order_tags", { order_id: INT, tag_id: INT }, 2),
  shape("events", { id: INT, order_ref: TEXT, at: { kind: "timestamp", zone: true }, body: { kind: "json" } }),
];
const foreignKeys = [
  reference("orders", "customer_id", "customers"),
  reference("order_items", "order_id", "orders"),
  reference("order_items", "product_id", "products"),
  reference("order_tags", "order_id", "orders"),
  reference("order_tags", "tag_id", "tags"),
  reference("customers", "parent_id", "customers"),
];

test("columns, relations and the tables in between are found by foreign keys", () => {
  const { documents, problems } = resolved(
    node("orders", {
      columns: ["status"],
      relations: [
        relation("customer", "customers", { columns: ["name"], rename: { name: "called" } }),
        relation("items", "order_items", {
          many: true,
          orderBy: ["-line_no"],
          limit: 5,
          relations: [relation("product", "products", {})],
        }),
        relation("tags", "tags", {
          many: true,
          value: "name",
          through: { place: "t", from: "s.order_tags", on: null },
        }),
      ],
    }),
  );
  expect(problems).toEqual([]);
  const [document] = documents;
  expect(document?.root.fields.map(({ name }) => name)).toEqual(["id", "status"]);
  const [customer, items, tags] = document?.root.relations ?? [];
  expect(customer).toMatchObject({ many: false, on: [{ above: "customer_id", below: "id" }], through: null });
  expect(customer?.node.fields).toEqual([{ name: "called", column: "name" }]);
  expect(items).toMatchObject({ many: true, limit: 5, orderBy: [{ column: "line_no", isDescending: true }] });
  expect(items?.on).toEqual([{ above: "id", below: "order_id" }]);
  expect(items?.node.relations[0]?.on).toEqual([{ above: "product_id", below: "id" }]);
  expect(tags).toMatchObject({ value: "name", through: { table: { table: "order_tags" } } });
  expect(tags?.through?.on).toEqual([{ above: "id", below: "order_id" }]);
  expect(tags?.on).toEqual([{ above: "tag_id", below: "id" }]);
});

describe("what does not fit is named with its place and what there is", () => {
  test.each([
    ["a table", relation("x", "customer", {}), 'x: s.customer is no captured table; did you mean "s.customers"?'],
    [
      "a column",
      relation("x", "customers", { columns: ["nam"] }),
      'x: s.customers has no column "nam"; did you mean "name"?',
    ],
    [
      "an order",
      relation("x", "order_items", { many: true, orderBy: ["no"] }),
      'x: s.order_items has no column "no"; did you mean "note"?',
    ],
    [
      "no foreign key",
      relation("x", "events", { many: true }),
      "x: no foreign key joins s.events and s.orders: say by `on` what does",
    ],
    [
      "the other direction",
      relation("x", "customers", { many: true }),
      "x: no foreign key joins s.customers and s.orders: say by `on` what does; without `many` a foreign key of s.orders does",
    ],
    [
      "types that differ",
      relation("x", "events", { many: true, on: { order_ref: "id" } }),
      "x: order_ref (text) and id (int) can't be joined by their values",
    ],
    [
      "an order without one",
      relation("x", "events", { many: true, on: { id: "id" }, orderBy: ["body"] }),
      "x: orderBy: body (json) has no order that all sinks agree on",
    ],
    ["a name twice", relation("status", "customers", {}), 'root: two fields have the name "status"; rename one'],
    [
      "a condition",
      relation("x", "customers", { where: { place: "w", text: "nam = 'a'", expression: parseWhere("nam = 'a'") } }),
      'w: at character 1: there is no column "nam"',
    ],
  ])("%s", (_, one, message) => {
    const { documents, problems } = resolved(node("orders", { relations: [one] }));
    expect(problems.map(({ place, message: what }) => `${place}: ${what}`)).toEqual([message]);
    expect(documents).toEqual([]);
  });

  test("two foreign keys", () => {
    const two = [...foreignKeys, reference("orders", "seller_id", "customers")];
    const { problems } = resolved(node("orders", { relations: [relation("x", "customers", {})] }), two);
    expect(problems[0]?.message).toBe(
      "2 foreign keys join s.customers and s.orders; say which one: on: { id: customer_id }, or on: { id: seller_id }",
    );
  });

  test("a source that tells no foreign keys", () => {
    const { problems } = resolved(node("orders", { relations: [relation("x", "customers", {})] }), null);
    expect(problems[0]?.message).toBe(
      "the source does not tell foreign keys: say by `on` what joins s.customers and s.orders",
    );
  });
});

test("a schema that is named as that of documents", () => {
  const shown = { ...shape("x", { id: INT }), id: "documents.x", schema: "documents" };
  const wanted = [{ name: "orders", where: null, root: node("orders", {}) }];
  const { documents, problems } = resolveDocuments(wanted, {
    tables: [...tables, shown],
    refused: [],
    foreignKeys,
    equalities: null,
  });
  expect(documents).toEqual([]);
  expect(problems[0]?.message).toMatch(/^the source has a schema `documents`/);
});

test("a table belongs to itself: many below, one above", () => {
  const self = [shape("nodes", { id: INT, parent_id: INT })];
  const relations = [relation("children", "nodes", { many: true }), relation("parent", "nodes", {})];
  const wanted = [{ name: "nodes", where: null, root: node("nodes", { relations }) }];
  const keys = [reference("nodes", "parent_id", "nodes")];
  const { documents, problems } = resolveDocuments(wanted, {
    tables: self,
    refused: [],
    foreignKeys: keys,
    equalities: null,
  });
  expect(problems).toEqual([]);
  expect(documents[0]?.root.relations.map(({ on }) => on)).toEqual([
    [{ above: "id", below: "parent_id" }],
    [{ above: "parent_id", below: "id" }],
  ]);
});

test("under rules a foreign key has the names that sinks see; a mask keeps columns from being joined", () => {
  const ruled = (mask: "hash" | "redact" | null): TableShape => ({
    ...shape("orders", { id: INT, buyer: INT }),
    ruled: {
      rules: "r",
      source: { columns: [], key: [], fingerprint: "" },
      lineage: [
        { source: "id", target: "id", mask: null },
        { source: "customer_id", target: "buyer", mask },
      ],
      filtered: false,
      fault: null,
    },
  });
  const wanted = [
    { name: "orders", where: null, root: node("orders", { relations: [relation("x", "customers", {})] }) },
  ];
  const under = (mask: "hash" | "redact" | null) =>
    resolveDocuments(wanted, { tables: [ruled(mask), tables[0]!], refused: [], foreignKeys, equalities: null });
  expect(under(null).documents[0]?.root.relations[0]?.on).toEqual([{ above: "buyer", below: "id" }]);
  expect(under("redact").problems[0]?.message).toBe("id and buyer can't be joined: a rule masks one of them");
  expect(under("hash").problems).toHaveLength(1);
});

describe("two columns join where equal values can be told", () => {
  const collated = (by: string, alike: Alike | null = null): Equality => ({ by, alike });
  const padded = { isPadded: true, isFolded: false };
  const folded = { isPadded: false, isFolded: true };
  type End = readonly [type: ColumnType, native: string, equality?: Equality | undefined];
  const decimal = (scale: number | null): End => [{ kind: "decimal", precision: 9, scale }, `numeric(9,${scale})`];
  const labels = (...names: readonly string[]): End => [{ kind: "enum", labels: names }, `enum(${names.join(",")})`];
  const text = (by?: string, alike?: Alike): End => [TEXT, "text", by === undefined ? undefined : collated(by, alike)];
  const joined = (above: End, below: End, mask: "hash" | null = null) => {
    const ends = [above, below].map(([type, native, equality], i) => {
      const [table, column] = [["owners", "ref"] as const, ["things", "own"] as const][i]!;
      const plain = shape(table, { id: INT, [column]: type });
      const columns = plain.columns.map((one) => (one.name === column ? { ...one, native } : one));
      const lineage = columns.map(({ name }) => ({ source: name, target: name, mask: name === column ? mask : null }));
      const shown = columns.map((one) =>
        mask !== null && one.name === column ? { ...one, type: TEXT, native: "text" } : one,
      );
      const ruled = {
        rules: "r",
        source: { columns, key: [0], fingerprint: "" },
        lineage,
        filtered: false,
        fault: null,
      };
      const equalities = new Map(equality === undefined ? [] : [[column, equality]]);
      return { table: mask === null ? { ...plain, columns } : { ...plain, columns: shown, ruled }, equalities };
    });
    const { documents, problems } = resolveDocuments(
      [
        {
          name: "owners",
          where: null,
          root: node("owners", { relations: [relation("x", "things", { many: true, on: { own: "ref" } })] }),
        },
      ],
      {
        tables: ends.map(({ table }) => table),
        refused: [],
        foreignKeys,
        equalities: new Map(ends.map(({ table, equalities }) => [table.id, equalities])),
      },
    );
    const [join] = documents[0]?.root.relations[0]?.on ?? [];
    return problems[0]?.message ?? join?.alike ?? "same";
  };

  test.each<readonly [string, End, End, "same" | Alike | RegExp]>([
    ["decimals of two scales", decimal(2), decimal(4), "same"],
    ["a decimal and an integer", decimal(null), [INT, "bigint"], "same"],
    ["texts", text(), text(), "same"],
    ["padded texts", text("utf8mb4_bin", padded), text("latin1_bin", padded), padded],
    ["folded texts", text("utf8mb4_0900_ai_ci", folded), text("utf8mb4_0900_as_ci", folded), folded],
    ["one that is folded", text("utf8mb4_0900_ai_ci", folded), text("utf8mb4_bin", padded), /texts for equal/],
    ["one that is padded", text("utf8mb4_bin", padded), text(), /^own \(text\) and ref \(text, utf8mb4_bin\) can't/],
    ["texts without case", text("x_ci"), text("x_ci"), /the source takes texts for equal that are written otherwise/],
    ["one without case", text(), text("citext"), /the source takes texts for equal that are written otherwise/],
    ["labels of one list", labels("a", "b"), labels("b", "a", "c"), "same"],
    [
      "other labels",
      labels("a", "b"),
      [{ kind: "enum", labels: ["A"] }, "enum(A)", collated("x_ci")],
      /texts for equal/,
    ],
    ["addresses", [{ kind: "opaque" }, "inet"], [{ kind: "opaque" }, "inet"], "same"],
    ["intervals", [{ kind: "opaque" }, "interval"], [{ kind: "opaque" }, "interval"], /by their values$/],
    [
      "vectors",
      [{ kind: "vector", form: "single", dimension: 2 }, "v"],
      [{ kind: "vector", form: "single", dimension: 2 }, "v"],
      /by their values$/,
    ],
    ["dates as text", [TEXT, "datetime"], [TEXT, "datetime(3)"], /by their values$/],
  ])("%s", (_, above, below, said) => {
    expect(joined(above, below)).toEqual(said instanceof RegExp ? expect.stringMatching(said) : said);
  });

  test.each<readonly [string, End, End, boolean]>([
    ["texts", text(), text(), true],
    ["integers", [INT, "bigint"], [INT, "integer"], true],
    ["decimals of one scale", decimal(2), decimal(2), true],
    ["decimals of two scales", decimal(2), decimal(4), false],
    ["padded texts", text("utf8mb4_bin", padded), text("utf8mb4_bin", padded), false],
    [
      "char(4) and char(8)",
      [{ kind: "text", padded: true }, "char(4)"],
      [{ kind: "text", padded: true }, "char(8)"],
      false,
    ],
  ])("hashes of %s", (_, above, below, isJoined) => {
    expect(joined(above, below, "hash")).toMatch(isJoined ? /^same$/ : /can't be joined by their hashes/);
  });
});

function resolved(root: WantedNode, keys: readonly ForeignKey[] | null = foreignKeys) {
  return resolveDocuments([{ name: "orders", where: null, root }], {
    tables,
    refused: [],
    foreignKeys: keys,
    equalities: null,
  });
}

function node(from: string, given: Partial<WantedNode>): WantedNode {
  return { place: "root", from: `s.${from}`, columns: null, rename: {}, relations: [], transform: null, ...given };
}

interface Given extends Partial<Omit<WantedRelation, "orderBy">> {
  readonly orderBy?: readonly string[];
}

function relation(name: string, from: string, { orderBy = [], ...given }: Given): WantedRelation {
  return {
    ...node(from, {}),
    place: name,
    name,
    many: false,
    through: null,
    on: null,
    where: null,
    limit: null,
    value: null,
    orderBy: orderBy.map(orderOf),
    ...given,
  };
}

function shape(table: string, columns: Readonly<Record<string, ColumnType>>, keyCount = 1): TableShape {
  return {
    id: `s.${table}`,
    schema: "s",
    table,
    dialect: "postgres",
    relation: 1,
    columns: Object.entries(columns).map(([name, type], i) => ({
      name,
      type,
      native: type.kind,
      nullable: true,
      identity: i + 1,
    })),
    key: Array.from({ length: keyCount }, (_, i) => i),
    deferrableKey: false,
    fingerprint: table,
  };
}

function reference(table: string, column: string, to: string): ForeignKey {
  return {
    table: { schema: "s", table },
    columns: [column],
    references: { schema: "s", table: to },
    referenced: ["id"],
  };
}
