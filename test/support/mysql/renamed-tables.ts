/** Tables of MySQL and MariaDB under rules, for what gives them and their columns other names. */
import { expect } from "vitest";
import { CANARY, expectHidden, placesWith, SHOWN } from "../daemon/canary.ts";
import { type MysqlFlavour } from "../run/services.ts";
import { eventually } from "../run/waiting.ts";
import { MysqlPipeline, type MysqlPipelineOptions } from "./mysql-pipeline.ts";

const TABLES = [
  "create table users (id int primary key, mail varchar(80), note varchar(80), country varchar(8))",
  `insert into users values (1, 'a@${CANARY}', '${SHOWN}', 'AT'), (2, '${CANARY}', '${CANARY}', 'DE')`,
  "create table users_next like users",
  "create table contacts (id int primary key, mail varchar(80), note varchar(80))",
  `insert into contacts values (1, 'c@${CANARY}', '${SHOWN}')`,
  "create table letters (id int primary key, mail varchar(80), note varchar(80))",
  `insert into letters values (1, 'l@${CANARY}', '${SHOWN}')`,
  "create table cards (id int primary key, mail varchar(80), low varchar(80) generated always as (lower(mail)) virtual)",
  `insert into cards (id, mail) values (1, 'g@${CANARY}')`,
  "create table parts (id int primary key, word varchar(80)) partition by range (id) (partition p0 values less than (10), partition p1 values less than (20))",
  `insert into parts values (1, 'p ${CANARY}'), (11, 'p ${CANARY}')`,
  "create table notes (id int primary key, mail varchar(80), note varchar(80))",
  `insert into notes values (1, 'n@${CANARY}', '${SHOWN}')`,
  "create table words (id int primary key, word varchar(80), note varchar(80))",
  `insert into words values (1, 'w ${CANARY}', '${SHOWN}')`,
  "create table visits (id int primary key, country varchar(8), other varchar(8), word varchar(80))",
  `insert into visits values (1, 'AT', 'x', 'w'), (2, 'DE', 'AT', '${CANARY}')`,
  "create table notices (id int primary key, mail varchar(80), note varchar(80))",
  `insert into notices values (1, 'q@${CANARY}', '${SHOWN}')`,
  "create table spare (id int primary key, v varchar(80), more varchar(80))",
  "create table part (id int primary key, word varchar(80))",
  "create table regions (id int primary key, word varchar(80), more varchar(80)) partition by range (id) (partition p0 values less than (10), partition p1 values less than (20))",
  `insert into regions values (1, 'r ${CANARY}', '${SHOWN}')`,
  "create table region (id int primary key, word varchar(80), more varchar(80))",
  `insert into region values (2, 'r ${CANARY}', '${CANARY}')`,
  "create table plain (id int primary key, v varchar(80))",
];

const RULES = {
  users: { columns: { mail: { mask: "redact" } }, where: "country <> 'DE'" },
  contacts: { columns: { "*mail*": { mask: "redact" } } },
  letters: { columns: { mail: { mask: "redact" } } },
  cards: { columns: { mail: { mask: "redact" }, low: { drop: true } } },
  parts: { columns: { word: { mask: "partial" } } },
  regions: { columns: { word: { mask: "redact" } } },
  region: { columns: { word: { mask: "redact" }, more: { drop: true } } },
  visits: { where: "country = 'AT'" },
  "n*": { columns: { "*mail*": { mask: "redact" } } },
  "w*": { columns: { word: { drop: true } } },
};

/** A daemon, or one that is started anew after each change. */
export class RenamedTables implements AsyncDisposable {
  readonly pipeline: MysqlPipeline;
  readonly #isDown: boolean;
  #marks = 0;

  constructor(pipeline: MysqlPipeline, isDown: boolean) {
    this.pipeline = pipeline;
    this.#isDown = isDown;
  }

  static async start(
    flavour: MysqlFlavour,
    isDown: boolean,
    through?: MysqlPipelineOptions["through"],
  ): Promise<RenamedTables> {
    const options = {
      kinds: ["files", "duckdb"],
      rules: RULES,
      ...(through === undefined ? {} : { through }),
    } as const;
    return new RenamedTables(await MysqlPipeline.start(flavour, TABLES, options), isDown);
  }

  async run(...statements: readonly string[]): Promise<void> {
    await this.#passed();
    if (this.#isDown) await this.pipeline.kill();
    await this.pipeline.run(...statements);
    if (this.#isDown) await this.pipeline.start();
  }

  /** While no daemon runs, and the rules for these tables go. */
  async runWithout(rules: readonly (keyof typeof RULES)[], ...statements: readonly string[]): Promise<void> {
    await this.#passed();
    await this.pipeline.kill();
    const left = Object.entries(RULES).filter(([table]) => !rules.some((one) => one === table));
    this.pipeline.configure({}, Object.fromEntries(left));
    await this.pipeline.run(...statements);
    await this.pipeline.start();
  }

  /** Exactly these tables are suspended, and what is hidden is nowhere. */
  async expectSuspended(expected: Readonly<Record<string, string>>): Promise<void> {
    await eventually(async () => {
      const { tables } = await this.pipeline.installation.status();
      const found = tables.suspended.map(({ table, error }) => [table.split(".")[1], error.code]);
      expect(Object.fromEntries(found)).toEqual(expected);
    });
    await this.#passed();
    await expectHidden(this.pipeline);
  }

  /** What was committed until now has passed; `wait` would wait for suspended tables. */
  async #passed(): Promise<void> {
    const mark = `mark ${++this.#marks}.`;
    await this.pipeline.run(`insert into plain values (${this.#marks}, '${mark}')`);
    await eventually(async () => expect((await placesWith(mark, this.pipeline)).length).toBeGreaterThan(0));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.pipeline[Symbol.asyncDispose]();
  }
}
