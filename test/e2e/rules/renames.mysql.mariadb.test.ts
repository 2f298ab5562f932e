/**
 * MySQL and MariaDB, whose tables and columns have no numbers: what stood under rules goes out under another name only when the
 * configuration names that one.
 */
import { describe, test } from "vitest";
import { CANARY, SHOWN } from "../../support/daemon/canary.ts";
import { RenamedTables } from "../../support/mysql/renamed-tables.ts";
import { mysqlFlavours } from "../../support/run/services.ts";

const WAYS = [
  { when: "while the daemon runs", isDown: false, options: {} },
  { when: "while no daemon runs", isDown: true, options: { tags: "heavy" } },
] as const;

describe.each(mysqlFlavours)("%s", (flavour) => {
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
      await scene.run(
        "create table users_like like users",
        "alter table users_like modify id bigint, drop column country",
        `insert into users_like values (1, '${CANARY}', 'x')`,
      );
      await scene.expectSuspended({ part: "MR1033", users_like: "MR1033", users_next: "MR1033" });
    });

    test("an empty copy whose columns get other names", options, async () => {
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

    test("columns under rules that get another name", options, async () => {
      await using scene = await RenamedTables.start(flavour, isDown);
      await scene.run(
        "alter table cards add shown varchar(99) generated always as (concat(low, '!')) stored",
        `update cards set mail = 'G@${CANARY}'`,
      );
      await scene.expectSuspended({ cards: "MR1025" });
      await scene.run("drop table cards");
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
