/** `millrace verify` across kinds of databases: names and types that differ by convention are the same rows. */
import { writeFileSync } from "node:fs";
import { parse } from "yaml";
import { describe, expect, test } from "vitest";
import { runCli } from "../../support/daemon/cli.ts";
import { freshDatabase, freshMysqlDatabase, mysqlUrl, ownMysql } from "../../support/run/services.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";

const THERE = `create table Orders (id bigint unsigned primary key, isPaid tinyint(1), amount decimal(20,4), weight double, placed_at datetime(6),
  seen timestamp(3) null, day date, data json, note varchar(50), raw varbinary(20), state enum('new','done'), internal int)`;
const HERE = (
  table: string,
) => `create table ${table} (id numeric(20) primary key, is_paid boolean, amount numeric, weight float8,
  placed_at timestamp, seen timestamptz, day date, data text, note text, raw bytea, state text, __op text)`;

describe.each(["mysql", "mariadb"] as const)("%s", (flavour) => {
  test("rows of a consumer of Debezium's kind are equal, and a planted one is not", async () => {
    await using source = await freshMysqlDatabase(mysqlUrl(flavour));
    await using target = await freshDatabase();
    using folder = temporaryFolder();
    await source.connection.query("set time_zone = '+00:00'");
    await source.connection.query(THERE);
    await source.connection.query("create table keyless (a int)");
    await source.connection.query("create table elsewhere (id int primary key)");
    await source.connection.query(
      `insert into Orders values (1, 1, 1.5, 0.1, '2026-02-03 04:05:06.120000', '2026-02-03 04:05:06.5', '2026-02-03', '{"b": [1, 2.50], "a": null}', 'é', x'00ff', 'new', 7),
       (18446744073709551615, 0, -0.0001, 1e20, '1999-12-31 23:59:59', null, '1970-01-01', '"x"', '', x'', 'done', null), (3, null, null, null, null, null, null, null, null, null, null, null)`,
    );
    const table = `${source.name}_orders`;
    await target.query(HERE(table));
    // MariaDB's JSON is text.
    const data = flavour === "mysql" ? '{"a":null,"b":[1,2.5]}' : '{"b": [1, 2.50], "a": null}';
    await target.query(
      `insert into ${table} values (1, true, 1.50, 0.1, '2026-02-03 04:05:06.12', '2026-02-03 05:05:06.5+01', '2026-02-03', '${data}', 'é', '\\x00ff', 'new', 'c'),
       (18446744073709551615, false, -0.0001, 1e20, '1999-12-31 23:59:59', null, '1970-01-01', '"x"', '', '', 'done', 'r'); insert into ${table} (id) values (3)`,
    );
    const url = `${mysqlUrl(flavour)}/${source.name}`.replace(/([^:])\/\/+/g, "$1/");
    const verify = async (...args: string[]) =>
      await runCli(["verify", "--source", url, "--target", target.url, "--settle", "300ms", ...args], {
        folder: folder.path,
      });
    const document = async (...args: string[]) => {
      const { exitCode, stdout, stderr } = await verify("--json", ...args);
      return { exitCode, ...JSON.parse(stdout === "" ? stderr : stdout) };
    };
    const plain = await document();
    expect(plain).toMatchObject({
      exitCode: 1,
      drift: false,
      tables: [{ sourceRows: 3, sinkRows: 3, missing: 0, different: 0, extra: 0 }],
    });
    const reasons = plain.notComparable.map(({ reason }: { readonly reason: string }) => reason);
    expect(reasons).toHaveLength(3);
    expect(reasons).toContain("column internal has no counterpart; name it under `columns` or `ignore` in --map");
    expect(reasons).toContain("the target has no table for it; name one in --map");

    const suggested = await verify("--suggest", "--tables", `${source.name}.Orders`);
    expect(parse(suggested.stdout)).toEqual({
      tables: {
        [`${source.name}.Orders`]: { target: `public.${table}`, columns: { isPaid: "is_paid" }, ignore: ["internal"] },
      },
    });
    writeFileSync(folder.file("map.yaml"), suggested.stdout);
    const mapped = ["--map", folder.file("map.yaml"), "--tables", `${source.name}.Orders`];
    expect(await document(...mapped)).toMatchObject({ exitCode: 0, drift: false, notComparable: [] });
    await target.query(`update ${table} set weight = 0.2 where id = 1`);
    expect(await document(...mapped, "--show-values")).toMatchObject({
      exitCode: 3,
      tables: [
        { different: 1, sample: [{ columns: ["weight"], values: { weight: { expected: "0.1", found: "0.2" } } }] },
      ],
    });
    writeFileSync(folder.file("map.yaml"), "tables: { x: { into: y } }");
    expect((await verify(...mapped)).exitCode).toBe(2);
  });

  test("a login with SELECT alone is enough, reads wait for no writer, and the server has no log", async () => {
    const gtids = flavour === "mysql" ? { "gtid-mode": "OFF" } : {};
    await using server = await ownMysql(flavour, { settings: { "log-bin": null, "skip-log-bin": 1, ...gtids } });
    await using one = await freshMysqlDatabase(server.url);
    await using other = await freshDatabase();
    using folder = temporaryFolder();
    const reader = `${other.name}_reader`;
    for (const sql of [
      "create table items (id int primary key, note text)",
      "insert into items values (1, 'a'), (2, 'b')",
    ]) {
      await one.connection.query(sql);
      await other.query(sql);
    }
    await one.connection.query(`create user ${reader}@'%' identified by 'secret'`);
    await one.connection.query(`grant select on ${one.name}.* to ${reader}@'%'`);
    await other.query(
      `create role ${reader} login password 'secret'; alter role ${reader} set default_transaction_read_only = on; grant select on items to ${reader}`,
    );
    try {
      const [mysql, postgres] = [`${server.url}/${one.name}`, other.url].map((text) =>
        Object.assign(new URL(text), { username: reader, password: "secret" }).toString(),
      );
      await one.connection.query("begin");
      await one.connection.query("update items set note = 'open' where id = 1");
      for (const [source = "", target = ""] of [
        [mysql, postgres],
        [postgres, mysql],
      ]) {
        const args = ["verify", "--source", source, "--target", target, "--settle", "300ms", "--json"];
        const { exitCode, stdout, stderr } = await runCli(args, { folder: folder.path });
        expect({ exitCode, ...JSON.parse(stdout === "" ? stderr : stdout) }).toMatchObject({
          exitCode: 0,
          tables: [{ sourceRows: 2, sinkRows: 2, missing: 0, different: 0, extra: 0 }],
          notComparable: [],
        });
      }
    } finally {
      await other.query(`drop owned by ${reader}; drop role ${reader}`);
    }
  });

  test("a table that could not be captured is compared all the same", async () => {
    await using source = await freshDatabase();
    await using target = await freshMysqlDatabase(mysqlUrl(flavour));
    using folder = temporaryFolder();
    await source.query(
      "create unlogged table items (id int primary key, note text); insert into items values (1, 'a')",
    );
    await target.connection.query(
      "create table items (id int primary key, note varchar(20), _millrace_version bigint) engine = memory",
    );
    await target.connection.query("insert into items values (1, 'b', 7)");
    const url = `${mysqlUrl(flavour)}/${target.name}`.replace(/([^:])\/\/+/g, "$1/");
    const { exitCode, stdout } = await runCli(
      ["verify", "--source", source.url, "--target", url, "--settle", "300ms", "--json"],
      { folder: folder.path },
    );
    expect({ exitCode, ...JSON.parse(stdout) }).toMatchObject({
      exitCode: 3,
      tables: [{ table: "public.items", sourceRows: 1, sinkRows: 1, different: 1 }],
      notComparable: [],
    });
  });
});
