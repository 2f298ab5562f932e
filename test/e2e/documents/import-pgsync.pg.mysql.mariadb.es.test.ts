/** A schema file of pgsync is imported, checked and run: documents equal what the source's own SQL makes, and are searched as the file says. */
import { readFileSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import * as z from "zod";
import { searchCall } from "../../support/caches/search-rows.ts";
import { runHere } from "../../support/daemon/cli.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { documentsInSearch, expectSame } from "../../support/documents/shop-documents.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { elasticsearchUrl, freshDatabase, mysqlFlavours } from "../../support/run/services.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";

const TABLES = [
  "create table regions (id int primary key, name varchar(20))",
  "create table towns (id int primary key, name varchar(20), region_id int, foreign key (region_id) references regions (id))",
  "create table addresses (id int primary key, street varchar(20), town_id int, foreign key (town_id) references towns (id))",
  "create table guests (id int primary key, name varchar(20), address_id int, foreign key (address_id) references addresses (id))",
  "create table halls (id int primary key, name varchar(20))",
  "create table concerts (id int primary key, title varchar(40), hall_id int, foreign key (hall_id) references halls (id))",
  "create table genres (id int primary key, name varchar(20))",
  "create table concert_genres (concert_id int, genre_id int, primary key (concert_id, genre_id), foreign key (concert_id) references concerts (id), foreign key (genre_id) references genres (id))",
  "create table sets (id int primary key, concert_id int, act varchar(20), foreign key (concert_id) references concerts (id))",
  "create table crew (id int primary key, name varchar(20))",
  "create table shifts (set_id int, worker_id int, primary key (set_id, worker_id), foreign key (set_id) references sets (id), foreign key (worker_id) references crew (id))",
  "create table skills (id int primary key, worker_id int, skill varchar(20), foreign key (worker_id) references crew (id))",
  "create table entries (id int primary key, set_id int, foreign key (set_id) references sets (id))",
  "create table tickets (id int primary key, entry_id int, guest_id int, price numeric(8,2), foreign key (entry_id) references entries (id), foreign key (guest_id) references guests (id))",
  "create table parts (id int primary key, part_of int, name varchar(20), foreign key (part_of) references parts (id))",
];
const ROWS = [
  "insert into regions values (1, 'north'), (2, 'south')",
  "insert into towns values (1, 'Kiel', 1), (2, 'Ulm', 2)",
  "insert into addresses values (1, 'Quay 1', 1), (2, 'Gate 2', 2), (3, 'Gate 3', 2)",
  "insert into guests values (1, 'ada', 1), (2, 'bob', 2), (3, 'cy', null)",
  "insert into halls values (1, 'opera'), (2, 'barn'), (3, 'unused')",
  "insert into concerts values (1, 'The Night', 1), (2, 'Dawn', 1), (3, 'Silence', null)",
  "insert into genres values (1, 'folk'), (2, 'jazz')",
  "insert into concert_genres values (1, 1), (1, 2), (2, 2)",
  "insert into sets values (10, 1, 'duo'), (11, 1, 'trio'), (12, 2, 'solo')",
  "insert into crew values (1, 'eve'), (2, 'fay')",
  "insert into shifts values (10, 1), (10, 2), (12, 2)",
  "insert into skills values (1, 1, 'light'), (2, 1, 'sound'), (3, 2, 'rope')",
  "insert into entries values (100, 10), (101, 10), (102, 12)",
  "insert into tickets values (1, 100, 1, 9.50), (2, 101, 2, 12.00), (3, 102, 1, 1.25), (4, 102, 3, null)",
  "insert into parts values (1, null, 'stage'), (2, 1, 'floor'), (3, 1, 'roof'), (4, 3, 'beam')",
];
/** At each level, and of the tables in between. */
const CHANGES = [
  "update regions set name = 'far north' where id = 1",
  "update towns set region_id = 1 where id = 2",
  "update addresses set street = 'Gate 20' where id = 2",
  "update guests set address_id = 3 where id = 1",
  "update tickets set entry_id = 102, price = 2.00 where id = 1",
  "update entries set set_id = 11 where id = 101",
  "update sets set concert_id = 3 where id = 12",
  "update concerts set hall_id = 2 where id = 1",
  "delete from shifts where set_id = 10 and worker_id = 2",
  "insert into shifts values (11, 2)",
  "delete from skills where id = 2",
  "delete from concert_genres where genre_id = 2",
  "update parts set part_of = 2 where id = 3",
];

const relation = (type: "one_to_one" | "one_to_many", rest: object = {}) => ({
  relationship: { type, variant: "object", ...rest },
});
const many = relation("one_to_many");
const scalar = { variant: "scalar" };

/** Seven levels, as pgsync has them: a key of either table, and rows below those behind a table in between. */
const CONCERTS = {
  index: "concerts",
  setting: {
    number_of_replicas: 0,
    analysis: { analyzer: { folded: { type: "standard", stopwords: ["the"] } } },
  },
  nodes: {
    table: "concerts",
    columns: ["id", "title"],
    transform: { rename: { title: "name" }, mapping: { name: { type: "text", analyzer: "folded" } } },
    children: [
      { table: "halls", label: "hall", columns: ["name"], ...many },
      {
        table: "genres",
        columns: ["name"],
        ...relation("one_to_many", { ...scalar, through_tables: ["concert_genres"] }),
      },
      {
        table: "sets",
        columns: ["id", "act"],
        ...many,
        children: [
          {
            table: "crew",
            columns: ["name"],
            ...relation("one_to_many", { through_tables: ["shifts"] }),
            children: [{ table: "skills", columns: ["skill"], ...relation("one_to_many", scalar) }],
          },
          {
            table: "tickets",
            columns: ["price"],
            ...relation("one_to_one", { through_tables: ["entries"] }),
            children: [
              {
                table: "guests",
                columns: ["name"],
                transform: { mapping: { name: { type: "text", analyzer: "folded" } } },
                ...many,
                children: [
                  {
                    table: "addresses",
                    columns: ["street"],
                    ...many,
                    children: [
                      {
                        table: "towns",
                        columns: ["name"],
                        ...many,
                        children: [{ table: "regions", columns: ["name"], ...relation("one_to_one") }],
                      },
                    ],
                  },
                ],
              },
            ],
          },
        ],
      },
    ],
  },
};
/** The older key `node`, a bare value of rows of which several may belong to one, and an own mapping. */
const HALLS = {
  index: "Halls",
  setting: {},
  mapping: { concerts: { type: "nested", properties: { title: { type: "text" } } }, lost: { type: "long" } },
  node: {
    table: "halls",
    children: [
      { table: "concerts", label: "first", columns: ["title"], ...relation("one_to_one", scalar) },
      { table: "concerts", columns: ["id", "title"], ...many },
    ],
  },
};
/** One foreign key that joins a table with itself in two ways. */
const PARTS = {
  index: "parts",
  nodes: {
    table: "parts",
    columns: ["name"],
    children: [
      { table: "parts", label: "whole", columns: ["name"], ...relation("one_to_one") },
      { table: "parts", label: "pieces", columns: ["name"], ...relation("one_to_many", scalar) },
    ],
  },
};

interface Sql {
  readonly object: (fields: Readonly<Record<string, string>>) => string;
  /** The list of an item for each row of `from …`. */
  readonly list: (item: string, from: string, order: string) => string;
  /** A text as an item of a list. */
  readonly bare: (column: string) => string;
  readonly text: (column: string) => string;
}

const POSTGRES: Sql = {
  object: (fields) => `jsonb_build_object(${pairs(fields)})`,
  list: (item, from, order) => `coalesce((select jsonb_agg(${item} order by ${order}) ${from}), '[]')`,
  bare: (column) => column,
  text: (column) => `${column}::text`,
};
const MYSQL: Sql = {
  object: (fields) => `json_object(${pairs(fields)})`,
  list: (item, from, order) =>
    `json_extract(convert(concat('[', coalesce((select group_concat(${item} order by ${order} separator ',') ${from}), ''), ']') using utf8mb4) collate utf8mb4_bin, '$')`,
  bare: (column) => `json_quote(${column})`,
  text: (column) => `cast(${column} as char)`,
};

function pairs(fields: Readonly<Record<string, string>>): string {
  return Object.entries(fields)
    .map(([name, value]) => `'${name}', ${value}`)
    .join(", ");
}

/** By index, the query that makes its documents. */
function expectedBy({ object, list, bare, text }: Sql): Readonly<Record<string, string>> {
  const region = `(select ${object({ name: "r.name" })} from regions r where r.id = w.region_id)`;
  const towns = list(object({ name: "w.name", regions: region }), "from towns w where w.id = a.town_id", "w.id");
  const addresses = list(object({ street: "a.street", towns }), "from addresses a where a.id = g.address_id", "a.id");
  const guests = list(object({ name: "g.name", addresses }), "from guests g where g.id = t.guest_id", "g.id");
  const tickets = list(
    object({ price: text("t.price"), guests }),
    "from entries e join tickets t on t.entry_id = e.id where e.set_id = s.id",
    "t.id",
  );
  const skills = list(bare("k.skill"), "from skills k where k.worker_id = p.id", "k.id");
  const crew = list(
    object({ name: "p.name", skills }),
    "from shifts h join crew p on p.id = h.worker_id where h.set_id = s.id",
    "p.id",
  );
  const sets = list(
    object({ id: "s.id", act: "s.act", crew, tickets }),
    "from sets s where s.concert_id = c.id",
    "s.id",
  );
  const hall = list(object({ name: "b.name" }), "from halls b where b.id = c.hall_id", "b.id");
  const genres = list(
    bare("n.name"),
    "from concert_genres j join genres n on n.id = j.genre_id where j.concert_id = c.id",
    "n.id",
  );
  const concerts = list(object({ id: "c.id", title: "c.title" }), "from concerts c where c.hall_id = b.id", "c.id");
  const first = "(select c.title from concerts c where c.hall_id = b.id order by c.id limit 1)";
  const whole = `(select ${object({ name: "u.name" })} from parts u where u.id = q.part_of)`;
  const pieces = list(bare("d.name"), "from parts d where d.part_of = q.id", "d.id");
  return {
    concerts: `select ${object({ id: "c.id", name: "c.title", hall, genres, sets })} as document from concerts c order by c.id`,
    halls: `select ${object({ id: "b.id", name: "b.name", first, concerts })} as document from halls b order by b.id`,
    parts: `select ${object({ id: "q.id", name: "q.name", whole, pieces })} as document from parts q order by q.id`,
  };
}

interface ImportedConfig {
  readonly source: { readonly kind: string; readonly tables: readonly string[] };
  readonly documents: Record<string, { undecided?: readonly string[]; with: Record<string, { on?: object }> }>;
  readonly sinks: { readonly search: object };
}

interface ImportedFile {
  readonly config: ImportedConfig;
  readonly exitCode: number | null;
  readonly text: string;
}

async function imported(file: readonly object[], source: string): Promise<ImportedFile> {
  using folder = temporaryFolder();
  writeFileSync(folder.file("schema.json"), JSON.stringify(file));
  const args = ["import", "pgsync", "schema.json", "--source", source, "--out", "millrace.yaml"];
  const { exitCode, stderr } = await runHere(args, { folder: folder.path });
  expect(stderr).toBe("");
  const text = readFileSync(folder.file("millrace.yaml"), "utf8");
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what the command writes, in its documented shape
  return { config: parse(text) as ImportedConfig, exitCode, text };
}

const onDatabase = (database: string) => [CONCERTS, HALLS, PARTS].map((entry) => ({ database, ...entry }));

/** As somebody decides what the file names. */
function decided({ config, exitCode, text }: ImportedFile): ImportedConfig {
  expect(exitCode).toBe(3);
  const { parts } = config.documents;
  expect(Object.values(config.documents).flatMap(({ undecided = [] }) => undecided)).toEqual([
    "documents.parts.with.whole",
    "documents.parts.with.pieces",
  ]);
  expect(text).toMatch(/2 ways; say which one: on: \{ part_of: id \}, or on: \{ id: part_of \}/);
  expect(text).toMatch(/concerts\.nodes\.children\[2\]\.children\[1\]\.relationship\.type: pgsync shows a list/);
  expect(text).toMatch(/Halls\.nodes\.children\[0\]\.relationship\.type: several rows of \S+ may belong to one/);
  expect(text).toMatch(/Halls\.mapping\.lost: the document has no such field/);
  delete parts!.undecided;
  parts!.with["whole"]!.on = { id: "part_of" };
  parts!.with["pieces"]!.on = { part_of: "id" };
  return config;
}

interface Pipeline {
  readonly pipeline: RunningPipeline | MysqlPipeline;
  readonly expected: Readonly<Record<string, string>>;
  readonly made: (sql: string) => Promise<readonly unknown[]>;
}

async function expectEqual({ pipeline, expected, made }: Pipeline): Promise<void> {
  await pipeline.settled();
  for (const [name, sql] of Object.entries(expected)) {
    const wanted = await made(sql);
    expect(wanted.length).toBeGreaterThan(2);
    expectSame(await documentsInSearch(elasticsearchUrl(), `${pipeline.sinks.indexPrefix}${name}`), wanted);
  }
}

async function expectChecked({ installation }: Pipeline["pipeline"]): Promise<void> {
  const { stdout } = await installation.command("check", "--json");
  const { findings }: { findings: readonly { level: string; what: string }[] } = JSON.parse(stdout);
  expect(findings.filter(({ level }) => level === "error")).toEqual([]);
}

async function expectSearched(prefix: string): Promise<void> {
  const found = async (index: string, query: object): Promise<readonly string[]> => {
    const { text } = await searchCall(
      elasticsearchUrl(),
      "POST",
      `/${prefix}${index}/_search`,
      JSON.stringify({ query }),
    );
    const FOUND = z.object({ hits: z.object({ hits: z.array(z.object({ _id: z.string() })) }) });
    return FOUND.parse(JSON.parse(text))
      .hits.hits.map(({ _id }) => _id)
      .toSorted();
  };
  // Both words count in a text of Millrace's own, which is also found as a whole.
  expect(await found("concerts", { match: { name: "the" } })).toEqual([]);
  expect(await found("concerts", { match: { name: "the night" } })).toEqual(["1"]);
  expect(await found("concerts", { match: { "sets.tickets.guests.name": "BOB" } })).toEqual(["1"]);
  // Beside a field that the file describes the others keep theirs.
  expect(await found("concerts", { term: { "sets.tickets.guests.addresses.street": "Gate 2" } })).toEqual(["1"]);
  expect(await found("concerts", { term: { "sets.crew.skills": "rope" } })).toEqual(["1", "2"]);
  const nested = (id: number) => ({
    nested: {
      path: "concerts",
      query: { bool: { filter: [{ term: { "concerts.id": id } }, { match: { "concerts.title": "dawn" } }] } },
    },
  });
  expect([await found("halls", nested(1)), await found("halls", nested(2))]).toEqual([[], ["1"]]);
}

test("Postgres: tables of seven levels, of other schemas, and of one name in two", async () => {
  const schemas = `create schema venue; create schema links;
    create table venue.blocks (id int primary key, name text);
    create table venue.seats (id int primary key, name text);
    create table venue.block_seats (block_id int references venue.blocks, seat_id int references venue.seats, primary key (block_id, seat_id));
    create table links.block_seats (like venue.block_seats including all, foreign key (block_id) references venue.blocks, foreign key (seat_id) references venue.seats);
    create table public.block_seats (like venue.block_seats including all, foreign key (block_id) references venue.blocks, foreign key (seat_id) references venue.seats);
    insert into venue.blocks values (1, 'a'), (2, 'b'), (3, 'c');
    insert into venue.seats values (1, 'one'), (2, 'two');
    insert into venue.block_seats values (1, 1), (2, 2);
    insert into links.block_seats values (1, 2);
    insert into public.block_seats values (3, 1)`;
  const seats = (label: string, through: string) => ({
    table: "seats",
    schema: "venue",
    label,
    columns: ["name"],
    ...relation("one_to_many", { ...scalar, through_tables: [through] }),
  });
  const blocks = {
    index: "blocks",
    nodes: {
      table: "blocks",
      schema: "venue",
      columns: ["name"],
      children: [seats("seats", "block_seats"), seats("linked", "links.block_seats")],
    },
  };
  const seatsOf = (table: string) =>
    POSTGRES.list("s.name", `from ${table} j join venue.seats s on s.id = j.seat_id where j.block_id = b.id`, "s.id");
  const expected = {
    ...expectedBy(POSTGRES),
    blocks: `select jsonb_build_object('id', b.id, 'name', b.name, 'seats', ${seatsOf("venue.block_seats")}, 'linked', ${seatsOf("links.block_seats")}) as document from venue.blocks b order by b.id`,
  };
  let found: ImportedFile | undefined;
  await using pipeline = await RunningPipeline.start(
    async (source) => {
      for (const sql of [...TABLES, ...ROWS, schemas]) await source.query(sql);
      found = await imported([...onDatabase(source.name), { database: source.name, ...blocks }], source.url);
    },
    {
      kinds: ["elasticsearch"],
      configure: ({ name, source, sinks }) => {
        const config = decided(found!);
        expect(config.source.tables).not.toContain("public.block_seats");
        return {
          ...config,
          name,
          source: { ...config.source, ...source },
          sinks: { search: { ...config.sinks.search, ...sinks["elasticsearch"] } },
        };
      },
    },
  );
  const made = async (sql: string): Promise<readonly unknown[]> =>
    (await pipeline.source.query(sql)).rows.map((row) => z.object({ document: z.unknown() }).parse(row).document);
  await expectChecked(pipeline);
  await expectEqual({ pipeline, expected, made });
  await expectSearched(pipeline.sinks.indexPrefix);
  for (const sql of CHANGES) await pipeline.run(sql);
  await pipeline.run("insert into links.block_seats values (3, 1); delete from venue.block_seats where block_id = 1");
  await expectEqual({ pipeline, expected, made });
});

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("the same file, whose tables are the database's", { tags: "heavy" }, async () => {
    let found: ImportedConfig | undefined;
    await using pipeline = await MysqlPipeline.start(flavour, [...TABLES, ...ROWS], {
      kinds: ["elasticsearch"],
      through: async (name, url) => {
        found = decided(await imported(onDatabase(name), url));
        return { ...found.source, url, heartbeat: "500ms" };
      },
      documents: () => found!.documents,
      sinks: ({ elasticsearch }) => ({ search: { ...found!.sinks.search, ...elasticsearch } }),
    });
    const { connection } = pipeline.source;
    await connection.query("set session group_concat_max_len = 1000000");
    const made = async (sql: string): Promise<readonly unknown[]> => {
      const [rows] = await connection.query(sql);
      const read = (value: unknown): unknown => (typeof value === "string" ? JSON.parse(value) : value);
      return Array.isArray(rows) ? rows.map((row) => read(Object.values(row)[0])) : [];
    };
    const followed = { pipeline, expected: expectedBy(MYSQL), made };
    await expectChecked(pipeline);
    await expectEqual(followed);
    for (const sql of CHANGES) await pipeline.run(sql);
    await expectEqual(followed);
  });
});

test("a file with something to decide does not load", { tags: "heavy" }, async () => {
  await using source = await freshDatabase();
  await source.query("create table parts (id int primary key, part_of int references parts)");
  using folder = temporaryFolder();
  const { text } = await imported([{ database: source.name, ...PARTS }], source.url);
  writeFileSync(folder.file("millrace.yaml"), text, { mode: 0o600 });
  const environment = { DATABASE_URL: source.url, ELASTICSEARCH_URL: elasticsearchUrl() };
  const { exitCode, stderr } = await runHere(["check"], { folder: folder.path, environment });
  expect([exitCode, stderr]).toEqual([2, expect.stringContaining("documents.parts.undecided: unknown key")]);
});
