/**
 * Tables of a document (its root, a child, one in between) get other names or schemas, are swapped, dropped and made again, and
 * lack a column for a while: the documents are those of the tables that have the names, as soon as `wait` says so.
 */
import { DatabaseSync } from "node:sqlite";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Installation } from "../../support/daemon/daemon-process.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";

const CREATE = {
  teams: "(id int primary key, name varchar(20))",
  people: "(id int primary key, team_id int, name varchar(20))",
  badges: "(team_id int, tag_id int, primary key (team_id, tag_id))",
  tags: "(id int primary key, name varchar(20))",
} as const;
type Name = keyof typeof CREATE;
const NAMES = ["teams", "people", "badges", "tags"] as const;

const made = (table: Name, as: string = table): string => `create table ${as} ${CREATE[table]}`;

const ROWS = [
  "insert into teams values (1, 'one'), (2, 'two'), (3, 'three'), (4, 'four')",
  "insert into people values (1, 1, 'ada'), (2, 1, 'bob'), (3, 2, 'cy'), (4, 3, 'di')",
  "insert into tags values (1, 'x'), (2, 'y')",
  "insert into badges values (1, 1), (1, 2), (2, 1), (3, 2)",
  made("teams", "teams_next"),
  "insert into teams_next values (2, 'zwei'), (5, 'five')",
  made("people", "people_next"),
  "insert into people_next values (3, 5, 'cyd'), (7, 2, 'eve')",
  made("badges", "badges_next"),
  "insert into badges_next values (5, 1), (2, 2)",
];

const swapped = (table: string): readonly string[] => [
  `alter table ${table} rename to ${table}_swapping`,
  `alter table ${table}_next rename to ${table}`,
  `alter table ${table}_swapping rename to ${table}_next`,
];

interface Step {
  readonly what: string;
  readonly sql: readonly string[];
}

/** `aside`: what gives a table the place in another schema, and back. */
function steps(out: (table: string) => string, back: (table: string) => string): readonly Step[] {
  return [
    {
      what: "the root is made again with other rows",
      sql: ["drop table teams", made("teams"), "insert into teams values (1, 'again'), (3, 'three')"],
    },
    {
      what: "the child is made again",
      sql: ["drop table people", made("people"), "insert into people values (1, 3, 'ada'), (2, 1, 'bob')"],
    },
    {
      what: "the table in between is made again",
      sql: ["drop table badges", made("badges"), "insert into badges values (3, 1)"],
    },
    { what: "the root is swapped", sql: swapped("teams") },
    { what: "and changes", sql: ["delete from teams where id = 2", "delete from teams_next where id = 3"] },
    { what: "the root is swapped back", sql: [...swapped("teams"), "insert into teams values (6, 'six')"] },
    { what: "the child is swapped", sql: [...swapped("people"), "update people set name = 'EVE' where id = 7"] },
    { what: "the table in between is swapped", sql: [...swapped("badges"), "insert into badges values (6, 2)"] },
    {
      what: "the root goes to another schema, loses rows there, and comes back",
      sql: [out("teams"), "delete from aside.teams where id = 6", back("teams")],
    },
    {
      what: "the child does",
      sql: [
        out("people"),
        "delete from aside.people where id = 7",
        back("people"),
        "insert into people values (8, 1, 'fay')",
      ],
    },
    {
      what: "the table in between does",
      sql: [out("badges"), "delete from aside.badges where team_id = 6", back("badges")],
    },
    {
      what: "the root has another name for a while, and loses rows",
      sql: [
        "alter table teams rename to squads",
        "insert into squads values (9, 'nine')",
        "delete from squads where id = 1",
        "alter table squads rename to teams",
      ],
    },
    {
      what: "the child goes to another schema, and one takes its name",
      sql: [out("people"), made("people"), "insert into people values (1, 9, 'new')"],
    },
    {
      what: "the root is emptied under another name",
      sql: [
        "alter table teams rename to squads",
        "truncate table squads",
        "alter table squads rename to teams",
        "insert into teams values (9, 'neun')",
      ],
    },
    { what: "all are swapped at once", sql: [...swapped("teams"), ...swapped("people"), ...swapped("badges")] },
    {
      what: "and change",
      sql: [
        "delete from teams where id = 3",
        "update people set team_id = 1 where id = 1",
        "insert into teams values (1, 'uno')",
      ],
    },
    {
      what: "a root goes while the child lacks a column that is taken",
      sql: [
        "alter table people add column nick varchar(20)",
        "insert into people values (40, 1, 'a', 'b')",
        "alter table people drop column name",
        "insert into people values (41, 5, 'c')",
        "delete from teams where id = 5",
        "alter table people rename column nick to name",
        "insert into people values (42, 1, 'd')",
      ],
    },
  ];
}

type Rows = readonly (readonly unknown[])[];

interface Scene extends AsyncDisposable {
  readonly installation: Installation;
  rows(sql: string): Promise<Rows>;
  run(...sql: readonly string[]): Promise<void>;
  settled(): Promise<void>;
  kill(): Promise<unknown>;
  start(): Promise<void>;
}

async function documentsOf(scene: Scene): Promise<unknown> {
  const rows = async (name: Name): Promise<Rows> => await scene.rows(`select * from ${name} order by 1, 2`);
  const [teams, people] = [await rows("teams"), await rows("people")];
  const [badges, tags] = [await rows("badges"), await rows("tags")];
  return teams.map(([id, name]) => ({
    id: Number(id),
    name,
    people: people.filter(([, teamId]) => teamId === id).map(([, , person]) => person),
    tags: tags.filter(([tag]) => badges.some(([team, one]) => team === id && one === tag)).map(([, tag]) => tag),
  }));
}

function shown({ folder }: Installation): unknown {
  using file = new DatabaseSync(join(folder, "replica.sqlite"), { readOnly: true });
  return file
    .prepare('select id, name, people, tags from "documents.teams" order by id')
    .all()
    .map(({ id, name, people, tags }) => ({
      id,
      name,
      people: JSON.parse(String(people)),
      tags: JSON.parse(String(tags)),
    }));
}

const documents = (schema: string): object => ({
  teams: {
    from: `${schema}.teams`,
    columns: ["name"],
    with: {
      people: { from: `${schema}.people`, many: true, value: "name", on: { team_id: "id" }, orderBy: ["id"] },
      tags: {
        from: `${schema}.tags`,
        many: true,
        value: "name",
        through: { from: `${schema}.badges`, on: { team_id: "id" } },
        on: { id: "tag_id" },
        orderBy: ["id"],
      },
    },
  },
});

const TABLES = [...NAMES.map((name) => made(name)), ...ROWS];
const WAYS = [
  { when: "while the daemon runs", isDown: false },
  { when: "while no daemon runs", isDown: true },
] as const;

async function postgres(): Promise<{ scene: Scene; all: readonly Step[] }> {
  const pipeline = await RunningPipeline.start(`create schema aside; ${TABLES.join("; ")}`, {
    kinds: ["sqlite"],
    configure: (config) => ({
      ...config,
      documents: documents("public"),
      sinks: { sqlite: { ...config.sinks["sqlite"], documents: ["teams"] } },
    }),
  });
  const scene: Scene = {
    installation: pipeline.installation,
    rows: async (sql) =>
      (await pipeline.source.query<Record<string, unknown>>(sql)).rows.map((row) => Object.values(row)),
    run: async (...sql) => {
      for (const one of sql) await pipeline.source.query(one);
    },
    settled: () => pipeline.settled(),
    kill: () => pipeline.kill(),
    start: () => pipeline.start(),
    [Symbol.asyncDispose]: () => pipeline[Symbol.asyncDispose](),
  };
  const all = steps(
    (table) => `alter table ${table} set schema aside`,
    (table) => `alter table aside.${table} set schema public`,
  );
  return { scene, all };
}

async function mysql(flavour: "mysql" | "mariadb"): Promise<{ scene: Scene; all: readonly Step[] }> {
  const pipeline = await MysqlPipeline.start(flavour, TABLES, {
    kinds: ["sqlite"],
    documents,
    sinks: (sinks) => ({ sqlite: { ...sinks["sqlite"], documents: ["teams"] } }),
  });
  const { source } = pipeline;
  const aside = `${source.name}_aside`;
  await pipeline.run(`create database ${aside}`);
  const scene: Scene = {
    installation: pipeline.installation,
    rows: async (sql) => {
      const [rows] = await source.connection.query(sql);
      return Array.isArray(rows) ? rows.map((row) => Object.values(row)) : [];
    },
    run: async (...sql) => {
      await pipeline.run(...sql.map((one) => one.replaceAll("aside.", `${aside}.`)));
    },
    settled: () => pipeline.settled(),
    kill: () => pipeline.kill(),
    start: () => pipeline.start(),
    [Symbol.asyncDispose]: async () => {
      await pipeline.run(`drop database if exists ${aside}`);
      await pipeline[Symbol.asyncDispose]();
    },
  };
  const all = steps(
    (table) => `rename table ${table} to aside.${table}`,
    (table) => `rename table aside.${table} to ${source.name}.${table}`,
  );
  return { scene, all };
}

describe.each(["postgres", "mysql", "mariadb"] as const)("%s", (kind) => {
  test.each(WAYS)("$when", { tags: "heavy", timeout: 400_000 }, async ({ isDown }) => {
    const { scene: opened, all } = kind === "postgres" ? await postgres() : await mysql(kind);
    await using scene = opened;
    const expectEqual = async (what: string): Promise<void> => {
      await scene.settled();
      expect({ what, documents: shown(scene.installation) }).toEqual({ what, documents: await documentsOf(scene) });
    };
    await expectEqual("at first");
    for (const { what, sql } of all) {
      if (isDown) await scene.kill();
      await scene.run(...sql);
      if (isDown) await scene.start();
      await expectEqual(what);
    }
  });
});
