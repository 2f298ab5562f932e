/** `import pgsync`: indexes become documents, and what has no counterpart is named, or keeps the file from loading. */
import { writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { importedFromPgsync, parsePgsync } from "../../src/cli/import/pgsync.ts";
import type { ForeignKey, TableShape } from "../../src/core/contracts/catalog.ts";
import { runCli } from "../support/daemon/cli.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const columns: Readonly<Record<string, readonly string[]>> = {
  film: ["id", "title", "studio_id", "data"],
  studio: ["id", "name"],
  actor: ["id", "name"],
  film_actor: ["film_id", "actor_id"],
  award: ["id", "name", "actor_id"],
  country: ["id", "name", "capital_id"],
  city: ["id", "country_id"],
};
const known = {
  tables: Object.keys(columns).map(shape),
  refused: [],
  foreignKeys: [
    reference("film", "studio_id", "studio"),
    reference("film_actor", "film_id", "film"),
    reference("film_actor", "actor_id", "actor"),
    reference("award", "actor_id", "actor"),
    reference("country", "capital_id", "city"),
    reference("city", "country_id", "country"),
  ],
  equalities: null,
};

const imported = (...entries: readonly object[]) => importedOf("postgres", ...entries);

const importedOf = (kind: string, ...entries: readonly object[]) =>
  importedFromPgsync(parsePgsync("schema.json", JSON.stringify(entries)), {
    name: "films",
    kind,
    url: "${DATABASE_URL}",
    database: "films",
    schema: "public",
    known,
  });

const FILM = {
  table: "film",
  columns: ["id", "title"],
  transform: { rename: { title: "name" } },
  children: [
    { table: "studio", label: "made_by", relationship: { type: "one_to_one", variant: "object" } },
    {
      table: "actor",
      label: "cast",
      columns: ["name"],
      relationship: { type: "one_to_many", variant: "object", through_tables: ["public.film_actor"] },
      children: [{ table: "award", columns: ["name"], relationship: { type: "one_to_many", variant: "scalar" } }],
    },
  ],
};

test("nodes, labels, tables in between and bare values are carried over", () => {
  const { config, left } = imported({ database: "films", index: "films", nodes: FILM });
  expect(left).toEqual([]);
  expect(config).toMatchObject({
    source: { tables: ["public.actor", "public.award", "public.film", "public.film_actor", "public.studio"] },
    documents: {
      films: {
        from: "public.film",
        columns: ["id", "title"],
        rename: { title: "name" },
        with: {
          made_by: { from: "public.studio" },
          cast: {
            from: "public.actor",
            many: true,
            through: "public.film_actor",
            with: { award: { from: "public.award", many: true, value: "name" } },
          },
        },
      },
    },
    sinks: { search: { kind: "elasticsearch", documents: ["films"] } },
  });
});

test("what changes or hides values by code keeps the file from loading; what is only lost is named", () => {
  const { config, left } = imported({
    database: "films",
    index: "Films-1",
    plugins: ["Hide"],
    routing: "id",
    nodes: { ...FILM, columns: ["id", "data->>'secret'"], transform: { replace: { title: { a: "b" } } }, children: [] },
  });
  expect(config.documents).toMatchObject({ films_1: { columns: ["id"] } });
  expect(config.documents["films_1"]).toHaveProperty("undecided");
  const blocking = left.filter(({ isBlocking }) => isBlocking).map(({ key }) => key);
  expect(blocking).toEqual(["Films-1.plugins", "Films-1.nodes.transform.replace"]);
  expect(left.filter(({ isBlocking }) => !isBlocking).map(({ key }) => key)).toEqual([
    "Films-1.index",
    "Films-1.routing",
    "Films-1.nodes.columns",
  ]);
});

test.each([
  [{ nodes: { table: "film", columns: "title" } }, ["nodes.columns"]],
  [{ nodes: { table: "film", columns: ["title", 5] } }, ["nodes.columns"]],
  [{ nodes: { table: "film", schema: 7, label: [] } }, ["nodes.schema", "nodes.label"]],
  [{ nodes: { table: "film", children: { table: "studio" } } }, ["nodes.children"]],
  [{ nodes: { table: "film", children: [null, "studio"] } }, ["nodes.children[0]", "nodes.children[1]"]],
  [{ nodes: { table: "film", transform: "x" } }, ["nodes.transform"]],
  [{ nodes: { table: "film", transform: { rename: [] } } }, ["nodes.transform.rename"]],
  [{ nodes: { table: "film", transform: { rename: { title: 5 } } } }, ["nodes.transform.rename.title"]],
  [{ nodes: { table: "film", where: "hidden" } }, ["nodes.where"]],
  [{ nodes: { table: "film" }, filter: "x" }, ["filter"]],
  [{ nodes: { table: "film" }, node: { table: "studio" } }, ["node"]],
  [{ nodes: { table: "film" }, setting: [], mapping: "x" }, ["setting", "mapping"]],
  [studio("one_to_one"), ["nodes.children[0].relationship", "nodes.children[0].relationship.type"]],
  [
    studio({ type: "many", variant: "list" }),
    ["type", "variant"].map((key) => `nodes.children[0].relationship.${key}`),
  ],
  [studio({ type: "one_to_one", through_tables: "film_actor" }), ["nodes.children[0].relationship.through_tables"]],
  [
    studio({ type: "one_to_one", foreign_key: ["id"] }),
    ["foreign_key", "foreign_key"].map((key) => `nodes.children[0].relationship.${key}`),
  ],
])("what is of another kind than pgsync has is to be decided: %o", (entry, keys) => {
  const { config, left } = imported({ database: "films", index: "films", ...entry });
  const blocking = left.filter(({ isBlocking, key }) => isBlocking && !key.startsWith("documents."));
  expect(blocking.map(({ key }) => key)).toEqual(keys.map((key) => `films.${key}`));
  expect(config.documents["films"]).toHaveProperty("undecided");
});

test("a key of the table above is written where a list, or a table in between, would not find it", () => {
  const relationship = { type: "one_to_many", variant: "object" };
  const { config, left } = imported({
    database: "films",
    index: "films",
    nodes: {
      table: "film",
      children: [
        { table: "studio", relationship },
        // Films of the same studio.
        { table: "film", label: "others", relationship: { ...relationship, through_tables: ["studio"] } },
      ],
    },
  });
  expect(left).toEqual([]);
  expect(config.documents["films"]!.with).toEqual({
    studio: { from: "public.studio", many: true, on: { id: "studio_id" } },
    others: { from: "public.film", many: true, through: { from: "public.studio", on: { id: "studio_id" } } },
  });
});

test.each(["one_to_one", "one_to_many"])("%s by foreign keys of both tables is to be decided", (type) => {
  const child = { table: "city", relationship: { type, variant: "object" } };
  const { config, left } = imported({
    database: "films",
    index: "films",
    nodes: { table: "country", children: [child] },
  });
  expect(left.filter(({ isBlocking }) => isBlocking).map(({ key, why }) => [key, why])).toEqual([
    [
      "documents.films.with.city",
      "foreign keys join public.city and public.country in 2 ways; say which one: on: { country_id: id }, or on: { id: capital_id }",
    ],
  ]);
  expect(config.documents["films"]).toHaveProperty("undecided", ["documents.films.with.city"]);
});

test("a bare value is of the first column, whatever else the node has", () => {
  const scalar = { type: "one_to_many", variant: "scalar" };
  const { config, left } = imported({
    database: "films",
    index: "films",
    nodes: {
      table: "actor",
      children: [
        { table: "award", label: "listed", columns: ["name", "id"], relationship: scalar },
        { table: "award", label: "unlisted", relationship: scalar },
      ],
    },
  });
  expect(config.documents["films"]!.with).toEqual({
    listed: { from: "public.award", many: true, value: "name" },
    unlisted: { from: "public.award", many: true, value: "id" },
  });
  expect(left.map(({ key, isBlocking }) => [key, isBlocking])).toEqual(
    [0, 1].map((i) => [`films.nodes.children[${i}].relationship.variant`, false]),
  );
});

test("settings and mappings become `index`: those of nodes, or in their place those of the index", () => {
  const nodes = {
    ...FILM,
    transform: { rename: { title: "name" }, mapping: { name: { type: "text" }, title: { type: "text" } } },
    children: [
      {
        ...FILM.children[0]!,
        transform: { mapping: { name: { type: "keyword", ignore_above: 20 } } },
      },
    ],
  };
  const entry = { database: "films", index: "films", setting: { "index.number_of_shards": 2 }, nodes };
  const first = imported(entry);
  expect(first.left.map(({ key }) => key)).toEqual(["films.nodes.transform.mapping.title"]);
  expect(first.config.sinks.search.index).toEqual({
    films: {
      settings: { "index.number_of_shards": 2 },
      mappings: {
        properties: {
          name: { type: "text" },
          made_by: { properties: { name: { type: "keyword", ignore_above: 20 } } },
        },
      },
    },
  });
  const properties = {
    name: { type: "keyword", copy_to: "all" },
    all: { type: "text" },
    _meta: { type: "object" },
    made_by: { type: "nested", properties: { name: { type: "text" }, owner: { type: "text" } } },
  };
  const second = imported({ ...entry, setting: {}, mapping: { dynamic_templates: [], properties } });
  expect(second.left.map(({ key }) => key)).toEqual([
    "films.mapping.dynamic_templates",
    "films.mapping._meta",
    "films.mapping.made_by.properties.owner",
    "films.nodes.transform.mapping",
  ]);
  expect(second.config.sinks.search.index).toEqual({
    films: {
      mappings: {
        properties: {
          name: { type: "keyword", copy_to: "all" },
          all: { type: "text" },
          made_by: { type: "nested", properties: { name: { type: "text" } } },
        },
      },
    },
  });
});

test("settings that rows do not survive are to be decided", () => {
  const { config, left } = imported({
    database: "films",
    index: "films",
    setting: { default_pipeline: "trim" },
    nodes: { table: "film" },
  });
  expect(left.map(({ key, why, isBlocking }) => [key, why, isBlocking])).toEqual([
    ["sinks.search.index.films.settings", expect.stringContaining("index.default_pipeline can't be set"), true],
  ]);
  expect(config.documents["films"]).toHaveProperty("undecided");
});

test("in MySQL tables are those of the database, whatever schema a node names", () => {
  const { config, left } = importedOf("mysql", {
    database: "films",
    index: "films",
    node: { ...FILM, schema: "elsewhere", children: [] },
  });
  expect(config.documents["films"]).toMatchObject({ from: "public.film" });
  expect(left.map(({ key, isBlocking }) => [key, isBlocking])).toEqual([["films.nodes.schema", false]]);
});

test("indexes of several databases are no source: one is chosen", () => {
  const file = JSON.stringify(
    ["a", "b", "a"].map((database, i) => ({ database, index: `i${i}`, nodes: { table: "film" } })),
  );
  expect(() => parsePgsync("f.json", file)).toThrow(/several databases; choose one with --from: "a", "b"/);
  expect(() => parsePgsync("f.json", file, "c")).toThrow(/no such database; it has "a", "b"/);
  expect(parsePgsync("f.json", file, "a").map(({ index }) => index)).toEqual(["i0", "i2"]);
  const { left } = imported({ database: "other", index: "films", nodes: { table: "film" } });
  expect(left.map(({ key }) => key)).toEqual(["films.database"]);
});

test("tables that no foreign key joins are to be decided", () => {
  const child = { table: "award", relationship: { type: "one_to_many", variant: "object" } };
  const { config, left } = imported({ database: "films", index: "films", nodes: { ...FILM, children: [child] } });
  expect(left.map(({ key, why, isBlocking }) => [key, why, isBlocking])).toEqual([
    ["documents.films.with.award", "no foreign key joins public.award and public.film: say by `on` what does", true],
  ]);
  expect(config.documents["films"]).toHaveProperty("undecided");
});

test.each([
  "[",
  "{}",
  '[{"database":"x","index":"y"}]',
  '[{"database":"x","nodes":{"table":"a"}},{"nodes":{"table":"b"}}]',
  '[{"database":"x","nodes":{"table":"a"}},"y"]',
  '[{"database":"x","index":5,"nodes":{"table":"a"}}]',
  '[{"database":"x","index":5,"node":{"table":"a"}}]',
])("%s is no file of pgsync", (text) => {
  expect(() => parsePgsync("f.json", text)).toThrow(/^f\.json/);
});

function studio(relationship: unknown) {
  return { nodes: { table: "film", children: [{ table: "studio", relationship }] } };
}

function shape(table: string): TableShape {
  return {
    id: `public.${table}`,
    schema: "public",
    table,
    dialect: "postgres",
    relation: 1,
    columns: columns[table]!.map((name, i) => ({
      name,
      type: name.endsWith("id") ? { kind: "int", bits: 32, signed: true } : { kind: "text" },
      native: "x",
      nullable: true,
      identity: i + 1,
    })),
    key: [0],
    deferrableKey: false,
    fingerprint: table,
  };
}

function reference(table: string, column: string, to: string): ForeignKey {
  return {
    table: { schema: "public", table },
    columns: [column],
    references: { schema: "public", table: to },
    referenced: ["id"],
  };
}

test.each(["postgres", "mysql"])(
  "a URL of %s with a stray percent sign is refused with what is wrong with it",
  async (scheme) => {
    using folder = temporaryFolder();
    writeFileSync(folder.file("schema.json"), JSON.stringify([{ database: "films", index: "films", nodes: FILM }]));
    const { exitCode, stderr } = await runCli(
      ["import", "pgsync", "schema.json", "--source", `${scheme}://u@127.0.0.1:1/sh%op`],
      { folder: folder.path },
    );
    expect([exitCode, stderr]).toEqual([expect.any(Number), expect.stringContaining("%25")]);
  },
);
