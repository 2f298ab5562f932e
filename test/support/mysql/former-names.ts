/**
 * Tables of MySQL and MariaDB that got other names, and their columns too, while no daemon ran and the rules were written for the
 * new names: rows from before come under the former ones.
 */
import { expect } from "vitest";
import { CANARY, expectHidden, placesWith, SHOWN } from "../daemon/canary.ts";
import type { MysqlFlavour } from "../run/services.ts";
import { eventually } from "../run/waiting.ts";
import { MysqlPipeline, type MysqlPipelineOptions } from "./mysql-pipeline.ts";

const MASK_KEY = "a-key-of-the-tests-0123456789";
/** The beginning of a value under `mask: partial`. */
const WEAKER = "****";
const MAIL = { columns: { mail: { mask: "redact" } } };
const SHOWS = { columns: { mail: { mask: "none" } } };

interface Case {
  /** Under the first name, before and after. */
  readonly table: string;
  readonly before: object | null;
  readonly rules: Readonly<Record<string, object>>;
  /** What happens while no daemon runs, behind rows under the first name. */
  readonly changes: readonly string[];
}

const FORM = "(id int primary key, mail varchar(80), note varchar(80))";
const made = (table: string): readonly string[] => [
  `create table ${table} ${FORM}`,
  `insert into ${table} values (7, 'new in ${table}', '${SHOWN}')`,
];

const CASES: readonly Case[] = [
  { table: "gone", before: MAIL, rules: { gone_now: MAIL }, changes: ["rename table gone to gone_now"] },
  {
    table: "shown",
    before: MAIL,
    rules: { shown: {}, shown_now: MAIL },
    changes: ["rename table shown to shown_now", ...made("shown")],
  },
  {
    table: "unruled",
    before: null,
    rules: { "unruled_n*": MAIL },
    changes: ["alter table unruled rename to unruled_now", ...made("unruled")],
  },
  {
    table: "lifted",
    before: MAIL,
    rules: { lifted: SHOWS, lifted_now: MAIL },
    changes: ["rename table lifted to lifted_now", ...made("lifted")],
  },
  {
    table: "optional",
    before: MAIL,
    rules: { optional: { optional: true }, optional_now: MAIL },
    changes: ["rename table optional to optional_now"],
  },
  {
    table: "weaker",
    before: MAIL,
    rules: { weaker: { columns: { mail: { mask: "partial" } } }, weaker_now: MAIL },
    changes: ["rename table weaker to weaker_now", `create table weaker ${FORM}`],
  },
  {
    table: "first",
    before: MAIL,
    rules: { first: {}, second: {}, third: MAIL },
    changes: [
      "rename table first to second",
      `insert into second values (4, '${CANARY} second', 'x')`,
      "rename table second to third",
      ...made("first"),
      ...made("second"),
    ],
  },
  {
    table: "made_again",
    before: MAIL,
    rules: { made_again: {} },
    changes: ["drop table made_again", ...made("made_again")],
  },
  {
    table: "elsewhere",
    before: MAIL,
    rules: { elsewhere: {} },
    changes: ["rename table elsewhere to ASIDE.elsewhere", ...made("elsewhere")],
  },
  {
    table: "fields",
    before: MAIL,
    rules: { fields: {}, fields_now: { columns: { post: { mask: "redact" } } } },
    changes: [
      "alter table fields change mail post varchar(90)",
      "rename table fields to fields_now",
      ...made("fields"),
    ],
  },
  {
    table: "field",
    before: MAIL,
    rules: { field: { columns: { post: { mask: "redact" } } } },
    changes: [
      "alter table field rename column mail to post",
      `insert into field values (7, '${CANARY}', 'new in field')`,
    ],
  },
  {
    table: "fieldless",
    before: MAIL,
    rules: {},
    changes: ["alter table fieldless drop column mail", "insert into fieldless values (7, 'new in fieldless')"],
  },
  {
    table: "filtered",
    before: { where: "note = 'shown'" },
    rules: { filtered: { where: "id > 0" }, filtered_now: { where: "note = 'shown'" } },
    changes: ["rename table filtered to filtered_now", ...made("filtered")],
  },
];

const SWAPPED = [
  "rename table one to between_them, two to one, between_them to two",
  "alter table parts exchange partition p0 with table part",
  "create table _copied_gho like copied",
  "insert into _copied_gho select * from copied",
  "rename table copied to _copied_del, _copied_gho to copied",
];

const PREPARE = [
  ...CASES.map(({ table }) => `create table ${table} ${FORM}`),
  `create table one ${FORM}`,
  `create table two ${FORM}`,
  "create table parts (id int primary key, mail varchar(80), note varchar(80)) partition by range (id) (partition p0 values less than (10), partition p1 values less than (20))",
  `create table part ${FORM}`,
  `create table copied ${FORM}`,
  "create table plain (id int primary key, v varchar(80))",
  `insert into plain values (1, '${SHOWN}')`,
];

const FORMER = Object.fromEntries(
  [
    ...CASES.map(({ table, before }) => [table, before] as const),
    ["one", MAIL],
    ["parts", MAIL],
    ["copied", MAIL],
  ].filter(([, rule]) => rule !== null),
);
const PRESENT = {
  ...Object.assign({}, ...CASES.map(({ rules }) => rules)),
  one: {},
  two: MAIL,
  parts: MAIL,
  part: {},
  copied: { columns: { mail: { mask: "hash" }, note: { mask: "redact" } } },
};

/** Under the first names, before these are anything else's. */
const ROWS = [...CASES.map(({ table }) => table), "one", "parts", "part", "copied"].flatMap((table) => [
  `insert into ${table} values (1, '${CANARY} a', 'y'), (2, '${CANARY} b', 'x')`,
  `update ${table} set mail = '${CANARY} c' where id = 1`,
  `delete from ${table} where id = 2`,
]);

/** More rows than all others: what is told of those comes before. */
const LAST_COUNT = 400;
const LAST = `insert into plain values ${Array.from({ length: LAST_COUNT }, (_, i) => `(${i + 2}, 'the last one')`).join(", ")}`;

async function expectTailed({ installation }: MysqlPipeline, from: string): Promise<void> {
  const { stdout } = await installation.command("tail", "--from", from, "--limit", String(LAST_COUNT));
  expect([SHOWN, "the last one"].filter((text) => !stdout.includes(text))).toEqual([]);
  const told = stdout.split("\n").filter((line) => line.includes(CANARY) || line.includes(WEAKER));
  expect(told.map((line) => line.slice(0, 500))).toEqual([]);
}

/** Nothing of what is hidden goes out, and what has the names now goes on. */
export async function expectFormerNamesHidden(
  flavour: MysqlFlavour,
  through?: MysqlPipelineOptions["through"],
): Promise<void> {
  await using pipeline = await MysqlPipeline.start(flavour, PREPARE, {
    kinds: ["files", "duckdb"],
    rules: FORMER,
    maskKey: MASK_KEY,
    ...(through === undefined ? {} : { through }),
  });
  const aside = `${pipeline.source.name}_aside`;
  await pipeline.settled();
  const from = (await pipeline.installation.status()).source.position!;
  await pipeline.kill();
  pipeline.configure({}, PRESENT, MASK_KEY);
  try {
    await pipeline.run(`create database ${aside}`, ...ROWS);
    for (const { changes } of CASES) await pipeline.run(...changes.map((sql) => sql.replace("ASIDE", aside)));
    await pipeline.run(...SWAPPED, LAST);
    await expectTailed(pipeline, from);
    // Killed while it knows more than it has read.
    await pipeline.start(false);
    await eventually(async () => expect(pipeline.daemon.said).toContain("further on in the log"));
    await pipeline.kill();
    await pipeline.start();
    await eventually(async () => expect((await placesWith("the last one", pipeline)).length).toBeGreaterThan(0));
    await expectHidden(pipeline);
    expect(await placesWith(WEAKER, pipeline)).toEqual([]);
    await eventually(async () => {
      const { tables } = await pipeline.installation.status();
      const suspended = tables.suspended.map(({ table, error }) => [table.split(".")[1], error.code]);
      expect(Object.fromEntries(suspended)).toEqual({ one: "MR1033", part: "MR1033" });
    });
    for (const { table, changes } of CASES) {
      const mark = `new in ${table}`;
      if (!changes.some((sql) => sql.includes(mark))) continue;
      await eventually(async () =>
        expect({ mark, found: (await placesWith(mark, pipeline)).length > 0 }).toEqual({ mark, found: true }),
      );
    }
    await expectHidden(pipeline);
    await expectTailed(pipeline, from);
  } finally {
    await pipeline.run(`drop database if exists ${aside}`);
  }
}
