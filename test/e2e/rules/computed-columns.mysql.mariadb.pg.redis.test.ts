/** Computed columns of MySQL and MariaDB, in mirrors and in a history: what the functions get has every digit. */
import { writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { mysqlFlavours } from "../../support/run/services.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";

const FUNCTIONS = `
export const label = ({ name, kind }) => {
  if (name === "throw") throw new TypeError(name);
  return name === null ? null : name + "/" + kind;
};
export const next = ({ serial }) => serial === null ? null : serial - 1n;
export const length = ({ data }) => data?.length ?? null;
export const day = ({ at }) => at === null ? null : at.slice(0, 10);
export const flagged = ({ flag, amount }) => flag === true && amount !== null && amount.startsWith("-");
export const summary = ({ doc }) => doc === null ? null : { keys: Object.keys(JSON.parse(doc)).length };
`;

const rows = (from: number, to: number) =>
  `insert into thing with recursive g as (select ${from} as i union all select i + 1 from g where i < ${to})
   select i, if(i % 5 = 0, null, concat('näme', i)), if(i % 2, 'new', 'old'), 18446744073709551000 + i, x'00ff10', '2026-01-01 12:00:00.123456',
     i % 3 = 0, (i - 20) * 1.05, concat('{"a": ', i, ', "b": 2}'), 0 from g`;

test.for(mysqlFlavours)("%s", async (flavour) => {
  using folder = temporaryFolder();
  writeFileSync(folder.file("rules.js"), FUNCTIONS);
  const value = (name: string) => `${folder.file("rules.js")}#${name}`;
  const computed = {
    label: { type: "text", from: ["name", "kind"], value: value("label") },
    next: { type: "decimal(20,0)", from: ["serial"], value: value("next") },
    bytes: { type: "integer", from: ["data"], value: value("length") },
    day: { type: "date", from: ["at"], value: value("day") },
    flagged: { type: "boolean", from: ["flag", "amount"], value: value("flagged") },
  };
  await using pipeline = await MysqlPipeline.start(
    flavour,
    [
      `create table thing (id int primary key, name varchar(50), kind enum('new', 'old'), serial bigint unsigned, data varbinary(10),
         at datetime(6), flag bit(1), amount decimal(10,2), doc json, n int) charset utf8mb4`,
      `create view thing_ruled as select id, name, kind, serial, data, at, flag, amount, doc, n, concat(name, '/', kind) as label,
         cast(serial - 1 as decimal(20,0)) as next, length(data) as bytes, date(at) as day from thing`,
      rows(1, 60),
    ],
    { kinds: ["postgres", "redis", "postgres-history"], rules: { thing: { columns: computed } } },
  );
  const target = pipeline.sinks.target!;
  const expectEqual = async () => {
    await pipeline.settled();
    const expected = await pipeline.source.texts(
      `select id, label, next, bytes, day, if(coalesce(flag = 1 and amount < 0, 0), 'true', 'false') from thing_ruled order by id`,
    );
    const { rows: found } = await target.query<{ cells: readonly (string | null)[] }>(
      `select array[id::text, label, next::text, bytes::text, day::text, flagged::text] as cells from "${pipeline.source.name}".thing order by id`,
    );
    expect(found.map(({ cells }) => cells)).toEqual(expected);
  };
  await expectEqual();
  await pipeline.run(
    rows(100, 120),
    "update thing set n = n + 1 where id < 20",
    "update thing set name = 'other', kind = 'new' where id between 5 and 9",
    "update thing set id = id + 1000, serial = 7 where id = 10",
    "delete from thing where id = 11",
    "insert into thing (id, name) values (5000, 'throw')",
    "update thing set name = 'throw' where id = 12",
  );
  await pipeline.settled();
  const { stdout } = await pipeline.installation.command("dlq", "list", "--json");
  const { letters }: { letters: readonly { readonly code: string; readonly cause: string; readonly key: string }[] } =
    JSON.parse(stdout);
  expect(letters.map(({ code, key }) => `${code} ${key}`).toSorted()).toEqual([
    ...Array.from({ length: 3 }, () => "MR1036 12"),
    ...Array.from({ length: 3 }, () => "MR1036 5000"),
  ]);
  expect(letters[0]!.cause).toMatch(/threw a TypeError at .*rules.js:3:\d+$/);
  await pipeline.run("update thing set name = 'right' where id = 12", "delete from thing where id = 5000");
  await expectEqual();
  const history = await target.query<{ op: string; label: string }>(
    `select _millrace_op as op, label from history.thing where id = 12 order by _millrace_version, _millrace_offset`,
  );
  expect(history.rows.map(({ op, label }) => `${op} ${label}`)).toEqual([
    "r näme12/old",
    "u näme12/old",
    "u right/old",
  ]);
  const { rows: gone } = await target.query("select _millrace_op as op, label from history.thing where id = 5000");
  expect(gone).toEqual([{ op: "d", label: null }]);
  const compared = await pipeline.installation.command("reconcile", "--json");
  expect(compared.exitCode, compared.stdout).toBe(0);
});
