/** Names and texts of MySQL and MariaDB that are somebody else's syntax somewhere: they are data in every sink. */
import { describe, expect, test } from "vitest";
import type { TableName } from "../../support/compare/compare.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { mysqlFlavours } from "../../support/run/services.ts";
import { CHOSEN_KINDS } from "../../support/daemon/sink-set.ts";

const quoted = (name: string): string => `\`${name.replaceAll("`", "``")}\``;

/** The servers take no name that ends in a blank, and none beyond the first plane. */
const NAMES = [
  'double "quotes"',
  "single 'quotes'",
  "back`ticks`",
  "dots.in.it",
  "x".repeat(63),
  "__proto__",
  "constructor",
  "'; drop table x; -- x",
  "per%cent %41",
  "colon:and::more",
  "back\\slash",
  "-dash",
  "..",
  "a/b*c?<d>|,#",
  "new\nline\ttab",
  "select",
  "{braces} [brackets] $1",
  "MixedCase",
  "ünïcödé ß 日本語",
  "_id",
  "_source",
  "null",
];

const TEXTS = [
  "",
  "'; drop table x; --",
  '"}{"index":{}}\n{"a":1}',
  "\\",
  "\\N",
  "\\.",
  "$$ $1 ${x} %s %n {{a}}",
  "*3\r\n$3\r\nSET\r\nDEL x\r\n",
  "__proto__",
  "NaN",
  "null",
  "\u0001\u001f\u007f\u0085\u2028\ufeff",
  "🚀 \u202e rtl é e\u0301",
  "'||sleep(10)||'",
];

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("hostile names of databases, tables and columns, and hostile texts", async () => {
    await using pipeline = await MysqlPipeline.start(flavour, [], { kinds: CHOSEN_KINDS });
    await pipeline.daemon.stop();
    const { connection, name: own } = pipeline.source;
    const tables: TableName[] = [];
    const schemas: string[] = [];
    try {
      for (let i = 0; i < NAMES.length; i += 3) {
        const schema = `${own}${NAMES[i]!.slice(0, 40)}`;
        const table = NAMES[(i + 1) % NAMES.length]!;
        const columns = [table, ...NAMES.filter((column) => column !== table), "id"].map(quoted);
        const into = `${quoted(schema)}.${quoted(table)}`;
        schemas.push(schema);
        await connection.query(`create database ${quoted(schema)}`);
        const [key, ...others] = columns;
        const made = `${key} varchar(100) collate utf8mb4_bin primary key, ${others.join(" text, ")} text`;
        await connection.query(`create table ${into} (${made}) character set utf8mb4`);
        for (const [n, text] of TEXTS.entries()) {
          const values = columns.map((_, c) => (c === 0 ? text : TEXTS[(n + c) % TEXTS.length]));
          await connection.query(`insert into ${into} values (${values.map(() => "?").join(", ")})`, values);
        }
        tables.push({ schema, table });
      }
      pipeline.configure({ tables: [`${own}?*.*`] });
      await pipeline.start();
      await pipeline.expectEqual(...tables);
      for (const { schema, table } of tables) {
        const [into, key] = [`${quoted(schema)}.${quoted(table)}`, quoted(table)];
        await connection.query(`update ${into} set ${key} = concat(${key}, '.new') where char_length(${key}) % 3 = 0`);
        await connection.query(`delete from ${into} where char_length(${key}) % 5 = 1`);
      }
      const [first, second] = [tables[0]!, tables[1]!];
      await connection.query(`truncate ${quoted(first.schema)}.${quoted(first.table)}`);
      await connection.query(
        `alter table ${quoted(second.schema)}.${quoted(second.table)} add column \`a"b'c\` int default 7`,
      );
      await pipeline.expectEqual(...tables);
      const { sinks } = await pipeline.installation.status();
      expect(sinks.filter(({ deadLetters }) => deadLetters > 0)).toEqual([]);
    } finally {
      for (const schema of schemas) await connection.query(`drop database ${quoted(schema)}`);
    }
  });
});
