/** MySQL and MariaDB: conditions of commands ask only what the rules show. */
import { expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { mysqlFlavours } from "../../support/run/services.ts";

const PREPARE = [
  "create table person (id int primary key, mail varchar(80), secret varchar(80), note varchar(80), status varchar(8))",
  "create table plain (id int primary key, v varchar(80))",
  "insert into person values (1, 'm1', 's1', 'n1', 'open'), (2, 'm2', 's2', 'n2', 'test'), (3, 'm3', 's3', 'n3', 'open')",
  "insert into plain values (1, 'v1'), (2, 'v2'), (3, 'v3')",
];

/** Names of columns in any case, quotes and functions as MySQL has them. */
const REFUSED = [
  ["person", "mail = 'm3'"],
  ["person", "MAIL = 'm3'"],
  ["person", "`secret` like 's%'"],
  ["person", '"secret" = "s3"'],
  ["person", "person.secret = 's3'"],
  ["person", "id = 3 and secret regexp '^s'"],
  ["person", "id = 3 /*! and secret like 's%' */"],
  ["person", "id = if(secret = 's3', 3, 0)"],
  ["plain", "id = (select id from person where secret = 's3')"],
  ["plain", "exists (select 1 from person where mail like 'm3')"],
  ["plain", "id = 1 or sleep(1)"],
  ["plain", "load_file('/etc/hostname') is null"],
] as const;

test.each(mysqlFlavours)("what rules hide can't be asked by --where: %s", async (flavour) => {
  await using pipeline = await MysqlPipeline.start(flavour, PREPARE, {
    kinds: ["files"],
    rules: {
      person: {
        columns: { mail: { mask: "redact" }, secret: { drop: true }, note: { rename: "remark" } },
        where: "status <> 'test'",
      },
    },
  });
  await pipeline.settled();
  const { installation, source } = pipeline;
  const start = async (table: string, where: string) =>
    await installation.command("snapshot", "start", "--tables", `${source.name}.${table}`, "--where", where);
  for (const [table, where] of REFUSED)
    expect([where, await start(table, where)]).toEqual([
      where,
      expect.objectContaining({ exitCode: 1, stderr: expect.stringContaining("MR1323") }),
    ]);
  expect(await start("person", "note in ('n2', 'n3')")).toMatchObject({ exitCode: 0 });
  await pipeline.settled();
  const { stdout } = await installation.command("snapshot", "list", "--json");
  const { snapshots }: { snapshots: { reason: string; state: string; rowsDone: number }[] } = JSON.parse(stdout);
  // Of the rows that the filter leaves out, none counts.
  expect(snapshots.filter(({ reason }) => reason.startsWith("asked for"))).toMatchObject([
    { state: "done", rowsDone: 1 },
  ]);
});
