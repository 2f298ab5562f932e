/** What functions get of a document, what they may return, and what comes of it. */
import { writeFileSync } from "node:fs";
import { afterAll, expect, test } from "vitest";
import type { Column } from "../../src/core/model/schema.ts";
import type { ColumnType } from "../../src/core/model/types.ts";
import type { Document, DocumentNode, Transform, WantedDocument, WantedNode } from "../../src/documents/document.ts";
import { functionsOf, Transforming, Transforms, withFunctionsOf } from "../../src/documents/transforms.ts";
import { functionName } from "../../src/rules/computed/functions.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const folder = temporaryFolder();
afterAll(() => folder[Symbol.dispose]());

writeFileSync(
  folder.file("documents.ts"),
  `import type { Document } from "millrace/rules";
let seen: unknown;
export const last = () => seen;
export const same = (document: Document) => (seen = document);
export const spread = (document: Document) => ({ ...document });
export const none = () => null;
export const key = (document: Document) => ({ ...document, id: 8 });
export const more = (document: Document) => ({ ...document, extra: 1 });
export const total = (document: Document) => ({ ...document, total: "12.50", big: 5n });
export const inside = (document: any) => { document.items.push({ n: 1 }); document.data.x = 2; return document; };
export const wrong = (document: Document) => ({ ...document, big: "many" });
export const thrower = (document: Document): Document => {
  throw new RangeError("secret " + document.id);
};
export const later = async () => null;
export const promise = () => Promise.reject(new Error("secret")) as never;
export const cheap = (item: any) => (item.price > 5 ? null : { ...item, label: "n" + item.n });
export const slow = (document: Document) => {
  const until = performance.now() + 2;
  while (performance.now() < until);
  return document;
};
`,
);

const column = (name: string, type: ColumnType, rest: Partial<Column> = {}): Column => ({
  name,
  type,
  native: type.kind,
  nullable: true,
  identity: 1,
  ...rest,
});
const GIVEN = [
  column("id", { kind: "int", bits: 64, signed: true }),
  column("big", { kind: "int", bits: 64, signed: true }),
  column("amount", { kind: "decimal", precision: 12, scale: 2 }),
  column("at", { kind: "timestamp", zone: true }),
  column("raw", { kind: "bytes" }),
  column("f", { kind: "float", bits: 32 }),
  column("data", { kind: "json" }),
  column("near", { kind: "vector", form: "single", dimension: 2 }),
  column("items", { kind: "json" }),
];
const TEXTS = [
  "7",
  "9007199254740993",
  "99.50",
  "2024-02-29 12:05:00.123+00",
  "\\xff00",
  "NaN",
  '{"a": 0.12345678901234567890, "b": 1e400, "c": 12345678901234567890, "d": 0.5}',
  "[1,2.5]",
  '[{"n":1,"price":3},{"n":2,"price":9}]',
] as const;

function setUp(root: string | null, items: string | null = null, made: readonly Column[] = []) {
  const wantedOf = (name: string | null): WantedNode => ({
    place: "here",
    from: "s.t",
    columns: null,
    rename: {},
    relations: [],
    transform:
      name === null
        ? null
        : {
            place: "here",
            function: functionName(`./documents.ts#${name}`, folder.path),
            fields: {},
            budgetMs: 1,
          },
  });
  const relation = {
    name: "items",
    many: true,
    through: null,
    on: null,
    where: null,
    orderBy: [],
    limit: null,
  } as const;
  const wanted: WantedDocument = {
    name: "orders",
    where: null,
    root: { ...wantedOf(root), relations: [{ ...wantedOf(items), ...relation, value: null }] },
  };
  const functions = functionsOf([wanted]);
  const transforms = new Transforms([wanted], functions);
  const transformOf = (name: string | null): Transform | null =>
    name === null ? null : { function: `./documents.ts#${name}`, digest: "", fields: [] };
  const nodeOf = (name: string | null): DocumentNode => {
    return { table: { schema: "s", table: "t" }, fields: [], relations: [], transform: transformOf(name) };
  };
  const document: Document = {
    name: "orders",
    where: null,
    root: { ...nodeOf(root), relations: [{ ...relation, on: [], value: null, node: nodeOf(items) }] },
  };
  const names = new Set(made.map(({ name }) => name));
  const columns = { given: GIVEN, made: [...GIVEN.filter(({ name }) => !names.has(name)), ...made], key: [0] };
  return { transforms, document, functions, made: new Transforming(document, columns, transforms).apply(TEXTS) };
}

test("what a function passes on goes out as it came, whatever JavaScript can hold", () => {
  const { made } = setUp("spread");
  expect(made).toEqual({
    kind: "document",
    texts: TEXTS.map((text) =>
      text.startsWith("{") ? '{"a":0.12345678901234567890,"b":1e400,"c":12345678901234567890,"d":0.5}' : text,
    ),
  });
  expect(setUp("same").made).toEqual(made);
});

test("fields are changed and added, by their types; what is written into what a function got counts", () => {
  const { made } = setUp("total", null, [column("total", { kind: "decimal", precision: 12, scale: 2 })]);
  expect(made).toMatchObject({ texts: expect.arrayContaining(["12.50", "5"]) });
  const inside = setUp("inside").made;
  expect(inside).toMatchObject({
    texts: expect.arrayContaining([expect.stringMatching(/"x":2/), expect.stringMatching(/\{"n":1\}\]$/)]),
  });
});

test("null leaves a document out, and an object in it", () => {
  expect(setUp("none").made).toEqual({ kind: "leftOut" });
  const { made } = setUp(null, "cheap");
  expect(made).toEqual({ kind: "document", texts: [...TEXTS.slice(0, -1), '[{"n":1,"price":3,"label":"n1"}]'] });
  expect(setUp("spread", "cheap").made).toMatchObject({
    texts: expect.arrayContaining(['[{"n":1,"price":3,"label":"n1"}]']),
  });
});

test("a failure names the function, the file and the line, and no value", () => {
  const how = (name: string): unknown => setUp(name).made;
  expect(how("thrower")).toEqual({
    kind: "failed",
    how: "./documents.ts#thrower threw a RangeError at documents.ts:13:9",
  });
  for (const [name, text] of [
    ["key", "changed the document's key"],
    ["more", "returned a field that the document does not have; name it in `fields`"],
    ["wrong", "returned a string; expected a whole number of the type's range (field big)"],
    ["promise", "returned no plain object; expected the document, or null"],
  ] as const)
    expect(how(name)).toEqual({ kind: "failed", how: expect.stringContaining(`./documents.ts#${name} ${text}`) });
  expect(setUp(null, "thrower").made).toMatchObject({ kind: "failed" });
});

test("a function has a digest, a slow one is named, one that is async is none", () => {
  const { document, functions, transforms } = setUp("slow");
  expect(withFunctionsOf(document, functions).root.transform?.digest).toMatch(/^[0-9a-f]{64}$/);
  for (let i = 0; i < 20; i++) transforms.at("orders", [])?.call({});
  expect(transforms.slow()).toEqual([
    {
      table: "documents.orders",
      column: null,
      function: "./documents.ts#slow",
      averageMs: expect.any(Number),
      budgetMs: 1,
    },
  ]);
  expect(() => setUp("later")).toThrow();
});
