/** Tables of MySQL and MariaDB that change their shape, their name, or come and go, while rows flow. */
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { isMysqlFrom, mysqlFlavours } from "../../support/run/services.ts";

const KINDS = ["duckdb", "postgres", "redis"] as const;

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("columns come, go and change, with rows between and without", async () => {
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        "create table t (id int primary key, a varchar(20), b int)",
        "insert into t values (1, 'one', 1), (2, 'two', 2)",
      ],
      { kinds: KINDS },
    );
    await pipeline.expectEqual("t");
    await pipeline.run("alter table t add column c int not null default 7", "insert into t values (3, 'three', 3, 3)");
    await pipeline.expectEqual("t");
    await pipeline.run("alter table t modify b bigint unsigned", "update t set b = 18446744073709551615 where id = 1");
    await pipeline.expectEqual("t");
    await pipeline.run("alter table t rename column a to d", "insert into t values (4, 'four', 4, 4)");
    await pipeline.settled();
    await pipeline.run("alter table t drop column b", "delete from t where id = 2");
    await pipeline.run("alter table t add column first_one datetime(3) first");
    await pipeline.settled();
    const { stdout } = await pipeline.installation.command("schema", "list", "--json");
    expect(stdout).toContain("binlog");
  });

  test("columns that are renamed, swapped, converted, moved: old rows are those of the source", async () => {
    // MariaDB leaves generated columns out of updates from 11.8 on: nothing can follow them.
    const as = flavour === "mariadb" && isMysqlFrom(flavour, "11.8") ? "default" : "as";
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        `create table t (id int primary key, a varchar(20), b varchar(20), c int, e enum('x','y') default 'x', g int ${as} (id + 1))`,
        "insert into t (id, a, b, c) values (1, 'a1', 'b1', 1), (2, 'a2', 'b2', 2), (3, null, '3', 3)",
        "create table k (id int, other int not null, v varchar(20), primary key (id))",
        "insert into k values (1, 11, 'one'), (2, 12, 'two')",
      ],
      { kinds: flavour === "mysql" ? [...KINDS, "elasticsearch", "postgres-soft"] : KINDS },
    );
    const batch = async (...statements: readonly string[]): Promise<void> => {
      await pipeline.run(...statements);
      await pipeline.expectEqual("t", "k");
    };
    await batch("alter table`t`rename column`a`to`b`,rename column`b`to`a`");
    await batch(
      "alter table t change a b varchar(20), change b a varchar(20)",
      "update t set a = 'moved' where id = 1",
    );
    await batch(
      "alter table t rename column a to x",
      "alter table t rename column b to a",
      "alter table t rename column x to b",
    );
    // Names and places: the table looks as before. MariaDB does it without touching a row.
    await batch("alter table t change b a varchar(20), change a b varchar(20) after id");
    await batch(
      "alter table t rename column b to x",
      "alter table t rename column a to b",
      "alter table t change x a varchar(20) after b",
    );
    await batch("alter table t change c d bigint after id", "insert into t (id, d) values (4, 4)");
    await batch("alter table t rename column d to c", "alter table t modify c int");
    await batch("alter table t modify b varchar(10) first", "alter table t modify a text character set latin1 after c");
    await batch("update t set b = id * 5", "alter table t modify b decimal(10,3)");
    await batch("alter table t modify e enum('y','x','z') default 'z'", "insert into t (id) values (5)");
    await batch(`alter table t drop column g, add column g int ${as} (id * 100)`, "update t set c = 9 where id = 2");
    await batch("alter table t add column u varchar(40) default (concat('r', id * 3))", "delete from t where id = 3");
    await batch("alter table t add column w datetime(6) not null default current_timestamp(6)");
    await batch("alter table k rename column id to nr", "insert into k values (3, 13, 'three')");
    await batch(
      "alter table k drop primary key, add primary key (other)",
      "update k set other = 20 where nr = 1",
      "delete from k where nr = 2",
    );
    await batch("rename table k to away, t to k", "rename table away to t", "insert into k (id) values (77)");
    // The copy by triggers, as pt-online-schema-change does it.
    await batch(
      "create table _t_new like t",
      "alter table _t_new modify v text, add column n int default 3",
      "create trigger pt_ins after insert on t for each row replace into _t_new (nr, other, v) values (new.nr, new.other, new.v)",
      "create trigger pt_upd after update on t for each row replace into _t_new (nr, other, v) values (new.nr, new.other, new.v)",
      "insert ignore into _t_new (nr, other, v) select nr, other, v from t",
      "insert into t values (9, 19, 'by trigger')",
      "update t set v = 'twice' where nr = 3",
      "rename table t to _t_old, _t_new to t",
      "drop trigger pt_ins",
      "drop trigger pt_upd",
      "drop table _t_old",
      "update t set n = 4 where nr = 9",
    );
  });

  test("tables that are made, swapped and dropped", async () => {
    await using pipeline = await MysqlPipeline.start(
      flavour,
      ["create table t (id int primary key, v varchar(20))", "insert into t values (1, 'old')"],
      { kinds: KINDS },
    );
    await pipeline.run("create table n (id int primary key, v text)", "insert into n values (1, 'made')");
    await pipeline.expectEqual("t", "n");
    // As gh-ost and pt-online-schema-change do it.
    await pipeline.run(
      "create table t_gho like t",
      "alter table t_gho add column w int",
      "insert into t_gho (id, v) select id, v from t",
      "insert into t_gho values (2, 'new', 2)",
      "rename table t to t_del, t_gho to t",
      "insert into t values (3, 'after', 3)",
    );
    await pipeline.expectEqual("t", "n");
    await pipeline.run("drop table t_del", "drop table n", "insert into t values (4, 'last', 4)");
    await pipeline.expectEqual("t");
    await pipeline.run("create table n (id int primary key, v text)", "insert into n values (7, 'again')");
    await pipeline.expectEqual("t", "n");
  });

  test("tables that can't be followed stay left out, whatever is written to them", async () => {
    await using pipeline = await MysqlPipeline.start(
      flavour,
      ["create table t (id int primary key)", "create table keyless (v int)"],
      { kinds: ["duckdb"] },
    );
    await pipeline.run(
      "insert into keyless values (1)",
      "update keyless set v = 2",
      "create table later (v int)",
      "insert into later values (1)",
      "create table brief (v int)",
      "insert into brief values (1)",
      "drop table brief",
      "create table taken (id int primary key, _millrace_op int)",
      "insert into taken values (1, 1)",
      ...(flavour === "mysql" ? [] : ["create sequence numbers", "insert into t values (nextval(numbers) + 10)"]),
      "insert into t values (1)",
    );
    await pipeline.expectEqual("t");
    expect(pipeline.complaints()).toEqual([]);
    await pipeline.run(
      "alter table later add column id int auto_increment primary key",
      "insert into later (v) values (2)",
    );
    await pipeline.expectEqual("t", "later");
  });
});
