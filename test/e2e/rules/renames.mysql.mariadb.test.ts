/**
 * MySQL and MariaDB, whose tables and columns have no numbers: what stood under rules goes out under another name only when the
 * configuration names that one.
 */
import { describe, expect, test } from "vitest";
import { CANARY, SHOWN } from "../../support/daemon/canary.ts";
import { RenamedTables } from "../../support/mysql/renamed-tables.ts";
import { eventually } from "../../support/run/waiting.ts";
import { isMysqlFrom, mysqlFlavours } from "../../support/run/services.ts";

const WAYS = [
  { when: "while the daemon runs", isDown: false, options: {} },
  { when: "while no daemon runs", isDown: true, options: { tags: "heavy" } },
] as const;

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("rules that go while their tables get another name say nothing of that one", { tags: "heavy" }, async () => {
    await using scene = await RenamedTables.start(flavour, false);
    await scene.runWithout(
      ["contacts"],
      `insert into contacts values (2, 'd@${CANARY}', 'n')`,
      "rename table contacts to folks",
      `insert into folks values (3, 'e@${CANARY}', 'n')`,
    );
    await scene.expectSuspended({ folks: "MR1033" });
    await scene.run(`insert into folks values (4, 'f@${CANARY}', 'n')`);
    await scene.expectSuspended({ folks: "MR1033" });
  });

  test("tables that exchange their names and get them back, for a sink that was away in between", async () => {
    await using scene = await RenamedTables.start(flavour, false);
    const { installation } = scene.pipeline;
    const swap = "rename table users to swapping, users_next to users, swapping to users_next";
    await scene.run(swap);
    await scene.expectSuspended({ users_next: "MR1033" });
    expect((await installation.command("pause", "--sink", "duckdb")).exitCode).toBe(0);
    await scene.run(`insert into users_next values (7, 'u@${CANARY}', '${CANARY}', 'DE')`, swap);
    await scene.expectSuspended({});
    expect((await installation.command("resume", "--sink", "duckdb")).exitCode).toBe(0);
    await scene.run(`insert into users_next values (8, 'x', '${SHOWN}', 'AT')`);
    await eventually(async () => expect((await installation.command("wait", "--timeout", "20s")).exitCode).toBe(0));
    await scene.expectSuspended({});
  });

  describe.each(WAYS)("$when", ({ isDown, options }) => {
    test("tables under rules that get another name", options, async () => {
      await using scene = await RenamedTables.start(flavour, isDown);
      await scene.run(
        "rename table users to people",
        `insert into people values (3, 'd@${CANARY}', '${CANARY}', 'DE')`,
      );
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
      if (flavour === "mariadb" && isMysqlFrom(flavour, "10.7")) {
        await scene.run(
          "alter table parts convert partition p1 to table taken",
          `alter table taken change word was varchar(80)`,
          `update taken set was = 't ${CANARY}'`,
        );
        await scene.expectSuspended({ part: "MR1033", taken: "MR1033", users_next: "MR1033" });
        await scene.run("drop table taken");
      }
      await scene.run(
        "create table users_like like users",
        "alter table users_like modify id bigint, drop column country",
        `insert into users_like values (1, '${CANARY}', 'x')`,
      );
      await scene.expectSuspended({ part: "MR1033", users_like: "MR1033", users_next: "MR1033" });
    });

    test("tables under rules of their own that exchange rows", { tags: "heavy" }, async () => {
      await using scene = await RenamedTables.start(flavour, isDown);
      await scene.run("alter table`regions`exchange partition`p0`with table`region`");
      await scene.expectSuspended({ regions: "MR1033" });
      await scene.run(`update regions set more = '${CANARY} later' where id = 2`);
      await scene.expectSuspended({ regions: "MR1033" });
    });

    test("an empty copy whose columns get other names", { tags: "heavy" }, async () => {
      await using scene = await RenamedTables.start(flavour, isDown);
      await scene.run("create table users_like like users", "create table if not exists plain like users");
      await scene.run(
        "alter table users_like change mail post varchar(80), rename to folks",
        `insert into folks values (1, '${CANARY}', 'x', 'AT')`,
        "create table if not exists users_new (like users)",
        "alter table users_new change mail post varchar(80)",
        `insert into users_new values (1, '${CANARY}', 'x', 'AT')`,
      );
      await scene.expectSuspended({ folks: "MR1033", users_new: "MR1033" });
    });

    test(
      "a table that got its new names in a database that is not captured, and one that is replaced",
      options,
      async () => {
        await using scene = await RenamedTables.start(flavour, isDown);
        const own = scene.pipeline.source.name;
        const aside = `${own}_aside`;
        try {
          await scene.run(
            `create database ${aside}`,
            `rename table users to ${aside}.u, letters to ${aside}.l, contacts to letters, ${aside}.l to contacts`,
            `alter table ${aside}.u change mail post varchar(80), drop column country, rename to ${aside}.v`,
            `rename table ${aside}.v to ${own}.clients`,
            `insert into clients values (5, 'c@${CANARY}', 'x')`,
            `insert into contacts values (5, 's@${CANARY}', '${SHOWN}')`,
          );
          await scene.expectSuspended({ clients: "MR1033" });
          if (flavour === "mariadb") {
            await scene.run(
              "create or replace table notes (primary key (id)) as select id, mail as post, note from contacts",
              `insert into notes values (7, 'n@${CANARY}', '${SHOWN}')`,
            );
            await scene.expectSuspended({ clients: "MR1033", notes: "MR1025" });
          }
        } finally {
          await scene.pipeline.run(`drop database if exists ${aside}`);
        }
      },
    );

    test("another table that takes the name of one under rules", { tags: "heavy" }, async () => {
      await using scene = await RenamedTables.start(flavour, isDown);
      await scene.run(
        "drop table notes",
        "create table notes (id int primary key, post varchar(80), note varchar(80))",
        `insert into notes values (1, 'n@${CANARY}', '${SHOWN}')`,
        "drop table words",
        "create table if not exists words (id int primary key, thing varchar(80), note varchar(80))",
        `insert into words values (1, 'w ${CANARY}', '${SHOWN}')`,
      );
      await scene.expectSuspended({ notes: "MR1025", words: "MR1025" });
      // A table that was captured before, and had its columns under names of its own.
      await scene.run("drop table notes, words", "create table fresh (id int primary key, post varchar(80))");
      await scene.expectSuspended({});
      await scene.run("rename table fresh to notes", `insert into notes values (3, 'f@${CANARY}')`);
      await scene.expectSuspended({ notes: "MR1025" });
      // One that has the hidden column is under the rules of the name.
      await scene.run(
        "drop table notes",
        "create table notes (id int primary key, mail varchar(80), more varchar(80))",
        `insert into notes values (1, 'm@${CANARY}', '${SHOWN}')`,
        "create table if not exists notes (id int primary key)",
        "alter table notes add column age int",
      );
      await scene.expectSuspended({});
      // Whether it was there its columns tell.
      await scene.run("create table if not exists spare like letters", "insert into spare values (1, 'v', 'm')");
      await scene.expectSuspended({});
      await scene.run(
        "drop table spare",
        "create table if not exists spare like letters",
        "alter table spare change mail v varchar(80)",
        "insert into spare select id, concat('s@', mail), note from letters",
      );
      await scene.expectSuspended({ spare: "MR1033" });
      // The configuration has the name for the other one, whose rows have passed under it.
      await scene.run(
        "rename table users to swapping, contacts to users, swapping to contacts",
        `insert into contacts values (7, 'j@${CANARY}', '${CANARY}', 'DE')`,
      );
      await scene.expectSuspended({ contacts: "MR1033", spare: "MR1033", users: "MR1020" });
    });

    test("columns under rules that get another name", options, async () => {
      await using scene = await RenamedTables.start(flavour, isDown);
      // The condition asks another column then.
      await scene.run(
        "alter table visits change country other varchar(8), change other country varchar(8)",
        "update visits set word = concat(word, '!')",
      );
      await scene.expectSuspended({ visits: "MR1020" });
      // The log tells of the one, and not of the other.
      await scene.run(
        "drop table visits",
        "alter table words drop column word, add column thing varchar(80)",
        `insert into words values (2, '${SHOWN}', 'shown')`,
        "set sql_log_bin = 0",
        "alter table notices change mail post varchar(80)",
        "set sql_log_bin = 1",
      );
      await scene.expectSuspended({ notices: "MR1025" });
      await scene.run(`insert into notices values (2, 'r@${CANARY}', 'n')`);
      await scene.expectSuspended({ notices: "MR1025" });
      await scene.run("drop table notices");
      await scene.run(
        "alter table cards add shown varchar(99) generated always as (concat(low, '!')) stored",
        `update cards set mail = 'G@${CANARY}'`,
      );
      await scene.expectSuspended({ cards: "MR1025" });
      await scene.run("drop table cards");
      // A default that the server computes fills the rows that are there.
      await scene.run(
        "alter table notes add column post varchar(99) default (concat(mail, '!'))",
        `insert into notes (id, mail) values (2, 'D@${CANARY}')`,
      );
      await scene.expectSuspended({ notes: "MR1025" });
      await scene.run("alter table notes alter column post drop default", "alter table notes add column age int");
      await scene.expectSuspended({ notes: "MR1025" });
      await scene.run("drop table notes");
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
});
