/**
 * MySQL and MariaDB, whose tables and columns have no numbers: what stood under rules goes out under another name only when the
 * configuration names that one.
 * @module-tag heavy
 */
import { describe, expect, test } from "vitest";
import { filesBelow } from "../support/daemon/canary.ts";
import { MysqlPipeline } from "../support/mysql/mysql-pipeline.ts";
import { type MysqlFlavour, mysqlFlavours } from "../support/run/services.ts";
import { eventually } from "../support/run/waiting.ts";

/** In every value that is hidden, and in no other. */
const CANARY = "Kanarienvogel";
const SHOWN = "Singvogel";

const TABLES = [
  "create table users (id int primary key, mail varchar(80), note varchar(80), country varchar(8))",
  `insert into users values (1, 'a@${CANARY}', '${SHOWN}', 'AT'), (2, '${CANARY}', '${CANARY}', 'DE')`,
  "create table users_next like users",
  "create table contacts (id int primary key, mail varchar(80), note varchar(80))",
  `insert into contacts values (1, 'c@${CANARY}', '${SHOWN}')`,
  "create table letters (id int primary key, mail varchar(80), note varchar(80))",
  `insert into letters values (1, 'l@${CANARY}', '${SHOWN}')`,
  "create table parts (id int primary key, word varchar(80)) partition by range (id) (partition p0 values less than (10), partition p1 values less than (20))",
  `insert into parts values (1, 'p ${CANARY}'), (11, 'p ${CANARY}')`,
  "create table part (id int primary key, word varchar(80))",
  "create table plain (id int primary key, v varchar(80))",
];

const RULES = {
  users: { columns: { mail: { mask: "redact" } }, where: "country <> 'DE'" },
  contacts: { columns: { "*mail*": { mask: "redact" } } },
  letters: { columns: { mail: { mask: "redact" } } },
  parts: { columns: { word: { mask: "partial" } } },
};

class Scene implements AsyncDisposable {
  readonly pipeline: MysqlPipeline;
  readonly #isDown: boolean;
  #marks = 0;

  constructor(pipeline: MysqlPipeline, isDown: boolean) {
    this.pipeline = pipeline;
    this.#isDown = isDown;
  }

  static async start(flavour: MysqlFlavour, isDown: boolean): Promise<Scene> {
    return new Scene(await MysqlPipeline.start(flavour, TABLES, { kinds: ["files", "duckdb"], rules: RULES }), isDown);
  }

  async run(...statements: readonly string[]): Promise<void> {
    await this.#passed();
    if (this.#isDown) await this.pipeline.kill();
    await this.pipeline.run(...statements);
    if (this.#isDown) await this.pipeline.start();
  }

  /** Exactly these tables are suspended, and what is hidden is nowhere. */
  async expectSuspended(expected: Readonly<Record<string, string>>): Promise<void> {
    await eventually(async () => {
      const { tables } = await this.pipeline.installation.status();
      const found = tables.aside.map(({ table, error }) => [table.split(".")[1], error.code]);
      expect(Object.fromEntries(found)).toEqual(expected);
    });
    await this.#passed();
    expect(await this.#having(CANARY)).toEqual([]);
    // What is searched for the one is searched for the other.
    expect((await this.#having(SHOWN)).length).toBeGreaterThan(0);
  }

  /** What was committed until now has passed; `wait` would wait for suspended tables. */
  async #passed(): Promise<void> {
    const mark = `mark ${++this.#marks}.`;
    await this.pipeline.run(`insert into plain values (${this.#marks}, '${mark}')`);
    await eventually(async () => expect((await this.#having(mark)).length).toBeGreaterThan(0));
  }

  async #having(text: string): Promise<string[]> {
    const { installation, daemon } = this.pipeline;
    // A file may go while they are read.
    const files = await eventually(async () => filesBelow(installation.folder, ["millrace.yaml"]));
    const found = [...files, ["log", daemon.said] as const];
    return found.filter(([, content]) => content.includes(text)).map(([name]) => name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.pipeline[Symbol.asyncDispose]();
  }
}

const WAYS = [
  ["while the daemon runs", false],
  ["while no daemon runs", true],
] as const;

describe.each(mysqlFlavours)("%s", (flavour) => {
  test.each(WAYS)("tables under rules that get another name %s", async (_, isDown) => {
    await using scene = await Scene.start(flavour, isDown);
    await scene.run("rename table users to people", `insert into people values (3, 'd@${CANARY}', '${CANARY}', 'DE')`);
    await scene.expectSuspended({ people: "MR1033" });
    await scene.run("alter table people drop column country, rename to folks", "alter table folks rename away");
    await scene.expectSuspended({ away: "MR1033" });
    await scene.run("alter table away add column country varchar(8)", "rename table away to users");
    await scene.expectSuspended({});
    // A swap with a table that was captured before, through a third name.
    await scene.run(
      "rename table users to swapping, users_next to users, swapping to users_next",
      `insert into users values (1, 'n@${CANARY}', '${SHOWN}', 'AT')`,
      `update users_next set mail = 'u@${CANARY}'`,
    );
    await scene.expectSuspended({ users_next: "MR1033" });
    await scene.run("alter table parts exchange partition p0 with table part");
    await scene.expectSuspended({ part: "MR1033", users_next: "MR1033" });
    await scene.run("create table users_like like users", `insert into users_like values (1, '${CANARY}', 'x', 'DE')`);
    await scene.expectSuspended({ part: "MR1033", users_like: "MR1033", users_next: "MR1033" });
  });

  test.each(WAYS)("columns under rules that get another name %s", async (_, isDown) => {
    await using scene = await Scene.start(flavour, isDown);
    await scene.run(
      "alter table contacts change mail kontakt varchar(80)",
      `update contacts set kontakt = 'k@${CANARY}'`,
    );
    await scene.expectSuspended({ contacts: "MR1025" });
    await scene.run(
      "alter table letters change mail note varchar(80) after id, change note mail varchar(80) after note",
      `insert into letters (id, note, mail) values (2, 'm@${CANARY}', 'open')`,
    );
    await scene.expectSuspended({ contacts: "MR1025", letters: "MR1025" });
    await scene.run(
      "alter table users change mail word varchar(80), change note mail varchar(80)",
      `update users set word = 'w@${CANARY}'`,
    );
    await scene.expectSuspended({ contacts: "MR1025", letters: "MR1025", users: "MR1025" });
  });
});
