/**
 * MySQL and MariaDB: what tools for online changes do to a table under rules, in their own statements. Their copies of its
 * rows are nowhere, and the table behind the swap is the one that it was.
 */
import { describe, expect, test } from "vitest";
import { CANARY, expectHidden, SHOWN } from "../../support/daemon/canary.ts";
import { openMysqlDatabase } from "../../support/mysql/mysql-database.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { type MysqlFlavour, mysqlFlavours } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const TABLES = [
  "create table users (id int primary key, mail varchar(80), note varchar(80))",
  `insert into users values (1, 'a@${CANARY}', '${SHOWN}'), (2, 'b@${CANARY}', null), (3, null, '${SHOWN}')`,
  "create view users_ruled as select id, if(mail is null, null, '[redacted]') as mail, note from users",
];
const USERS = { schema: "", table: "users", key: ["id"], shownBy: "users_ruled" };

async function started(flavour: MysqlFlavour): Promise<MysqlPipeline> {
  return await MysqlPipeline.start(flavour, TABLES, {
    kinds: ["files", "duckdb"],
    rules: { users: { columns: { mail: { mask: "redact" } } } },
  });
}

async function leftOut({ installation }: MysqlPipeline): Promise<string[]> {
  const { tables } = await installation.status();
  return tables.refused.map(({ table }) => table.split(".")[1]!).toSorted();
}

/** gh-ost up to its cut-over: two tables of its own, and rows that it copies and replays. */
const GHOST = [
  "create /* gh-ost */ table _users_ghc (id bigint unsigned auto_increment, last_update timestamp not null default current_timestamp on update current_timestamp, hint varchar(64) charset ascii not null, value varchar(4096) charset ascii not null, primary key (id), unique key hint_uidx (hint)) auto_increment = 256",
  "create /* gh-ost */ table _users_gho like users",
  "alter /* gh-ost */ table _users_gho add column extra int",
  "insert /* gh-ost */ into _users_ghc (id, hint, value) values (nullif(2, 0), 'state', 'GhostTableMigrated') on duplicate key update last_update = now(), value = values(value)",
  "insert /* gh-ost */ ignore into _users_gho (id, mail, note) (select id, mail, note from users force index (`PRIMARY`) where id >= 1 lock in share mode)",
  `update users set mail = 'changed@${CANARY}' where id = 1`,
  `replace /* gh-ost */ into _users_gho (id, mail, note) values (1, 'changed@${CANARY}', '${SHOWN}')`,
];

/** gh-ost's cut-over: a session holds both names, a second one waits with the renames. */
async function cutOver({ source, url }: MysqlPipeline): Promise<void> {
  const other = await openMysqlDatabase(url, source.name);
  try {
    await source.connection.query(
      "create /* gh-ost */ table _users_del (id int auto_increment primary key) engine=InnoDB comment='ghost-cut-over-sentry'",
    );
    await source.connection.query("lock /* gh-ost */ tables users write, _users_del write");
    const renamed = other.connection.query("rename /* gh-ost */ table users to _users_del, _users_gho to users");
    await source.connection.query("drop /* gh-ost */ table if exists _users_del");
    await source.connection.query("unlock tables");
    await renamed;
  } finally {
    other.connection.destroy();
  }
}

/** pt-online-schema-change up to its swap: triggers repeat every change in the new table. */
const PT_OSC = [
  "create table `_users_new` (`id` int not null, `mail` varchar(80) default null, `note` varchar(80) default null, primary key (`id`)) engine=InnoDB",
  "alter table _users_new add column extra int",
  "create trigger pt_osc_users_del after delete on users for each row delete ignore from _users_new where _users_new.id <=> old.id",
  "create trigger pt_osc_users_upd after update on users for each row begin delete ignore from _users_new where !(old.id <=> new.id) and _users_new.id <=> old.id; replace into _users_new (id, mail, note) values (new.id, new.mail, new.note); end",
  "create trigger pt_osc_users_ins after insert on users for each row replace into _users_new (id, mail, note) values (new.id, new.mail, new.note)",
  "insert low_priority ignore into _users_new (id, mail, note) select id, mail, note from users lock in share mode",
  `update users set mail = 'triggered@${CANARY}' where id = 2`,
  `insert into users values (4, 'd@${CANARY}', 'new')`,
  "delete from users where id = 3",
];
const PT_OSC_SWAP = "rename table users to _users_old, _users_new to users";
const PT_OSC_END = [
  "drop table if exists _users_old",
  "drop trigger if exists pt_osc_users_del",
  "drop trigger if exists pt_osc_users_upd",
  "drop trigger if exists pt_osc_users_ins",
];

const VIEW =
  "create or replace view users_ruled as select id, if(mail is null, null, '[redacted]') as mail, note, extra from users";

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("gh-ost, and pt-online-schema-change on what it left, with the daemon beside them", async () => {
    await using pipeline = await started(flavour);
    const users = { ...USERS, schema: pipeline.source.name };
    await pipeline.run(...GHOST);
    await pipeline.settled();
    await expectHidden(pipeline);
    await expect.poll(() => leftOut(pipeline)).toEqual(["_users_ghc", "_users_gho"]);
    const { stdout } = await pipeline.installation.command("check");
    expect(stdout).toMatch(/_users_gho is left out: it is a copy of \S+\.users for an online change.*gh-ost/);
    await cutOver(pipeline);
    await pipeline.run(VIEW, `insert into users values (5, 'e@${CANARY}', 'after', 7)`);
    await pipeline.expectEqual(users);
    await pipeline.settled();
    await expectHidden(pipeline);
    await expect.poll(() => leftOut(pipeline)).toEqual(["_users_del", "_users_ghc"]);
    await pipeline.run("alter table users drop column extra", VIEW.replace(", extra", ""));
    await pipeline.run(...PT_OSC);
    await pipeline.settled();
    await expectHidden(pipeline);
    await pipeline.run(
      PT_OSC_SWAP,
      ...PT_OSC_END,
      VIEW,
      `update users set mail = 'last@${CANARY}', extra = 1 where id = 1`,
    );
    await pipeline.expectEqual(users);
    await pipeline.settled();
    await expectHidden(pipeline);
  });

  test("a copy in which a hidden column has another name, and another column its name", async () => {
    await using pipeline = await started(flavour);
    const users = { ...USERS, schema: pipeline.source.name };
    await pipeline.expectEqual(users);
    await pipeline.run(
      PT_OSC[0]!,
      "alter table _users_new change column mail mail_plain varchar(80), add column mail varbinary(80)",
      "insert low_priority ignore into _users_new (id, mail_plain, note) select id, mail, note from users lock in share mode",
      PT_OSC_SWAP,
      `insert into users (id, mail_plain) values (7, 'g@${CANARY}')`,
    );
    await eventually(async () => {
      const { tables } = await pipeline.installation.status();
      expect(tables.suspended).toMatchObject([{ table: `${pipeline.source.name}.users`, error: { code: "MR1025" } }]);
    });
    await expectHidden(pipeline);
  });

  test("both, while no daemon runs", { tags: "heavy" }, async () => {
    await using pipeline = await started(flavour);
    const users = { ...USERS, schema: pipeline.source.name };
    await pipeline.expectEqual(users);
    await pipeline.run(...GHOST);
    await pipeline.settled();
    await pipeline.kill();
    await cutOver(pipeline);
    await pipeline.run(VIEW, `insert into users values (5, 'e@${CANARY}', 'after', 7)`);
    await pipeline.start();
    await pipeline.expectEqual(users);
    await pipeline.settled();
    await expectHidden(pipeline);
    await pipeline.kill();
    await pipeline.run("alter table users drop column extra", VIEW.replace(", extra", ""));
    await pipeline.run(...PT_OSC, PT_OSC_SWAP, VIEW, `insert into users values (6, 'f@${CANARY}', 'later', 8)`);
    await pipeline.start();
    await pipeline.expectEqual(users);
    await pipeline.settled();
    await expectHidden(pipeline);
    expect(await leftOut(pipeline)).toEqual(["_users_del", "_users_ghc", "_users_old"]);
  });
});
