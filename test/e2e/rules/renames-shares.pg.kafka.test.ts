/**
 * Processes that share the tables of a log in Kafka: what stood under rules in one share stays hidden where it gets a name that
 * is in another one.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import type { StatusDocument } from "../../../src/core/contracts/status.ts";
import { shareOf } from "../../../src/core/sharing/share.ts";
import { CANARY, SHOWN } from "../../support/daemon/canary.ts";
import { SharedTables } from "../../support/kafka/shared-tables.ts";
import { eventually } from "../../support/run/waiting.ts";

/** A name of a table in this share of two. */
function inShare(number: number, start: string): string {
  const names = Array.from({ length: 40 }, (_, i) => `${start}_${i}`);
  return names.find((table) => shareOf({ schema: "public", table }, { count: 2, by: "id" }) === number)!;
}

const [USERS, CARDS, OPEN] = ["users", "cards", "open"].map((start) => inShare(1, start));
const [PEOPLE, FOLKS, COPY, NOTES, PLAIN] = ["people", "folks", "copy", "notes", "plain"].map((start) =>
  inShare(2, start),
);

test("while both run, and while none does", async () => {
  const tables = Object.fromEntries(
    [USERS, CARDS].map((table) => [`public.${table}`, { columns: { mail: { mask: "redact" } } }]),
  );
  await using shared = await SharedTables.start(
    `create table ${USERS} (id int primary key, mail text, note text); insert into ${USERS} values (1, '${CANARY}', '${SHOWN}');
     create table ${CARDS} (id int primary key, mail text, note text); insert into ${CARDS} values (1, '${CANARY}', '${SHOWN}');
     create table ${OPEN} (id int primary key); create table ${PLAIN} (id int primary key)`,
    { kinds: ["postgres"], shares: 2, apply: (config) => ({ ...config, tables }) },
  );
  const target = shared.through.applying.sinks.target!;
  let mark = 0;
  /** What was committed until now has passed in both shares; of all that is in the target, nothing is hidden. */
  const expectSuspended = async (expected: Readonly<Record<string, string>>): Promise<void> => {
    await eventually(
      async () => {
        const { shares }: { shares: readonly StatusDocument[] } = JSON.parse(
          await shared.command(0, "status", "--json"),
        );
        const found = shares.flatMap(({ tables: { suspended } }) => suspended);
        expect(Object.fromEntries(found.map(({ table, error }) => [table.split(".")[1], error.code]))).toEqual(
          expected,
        );
      },
      { withinMs: 120_000 },
    );
    await shared.source.query(
      `insert into ${OPEN} values (${++mark}); insert into ${PLAIN} values (${mark}); select 1`,
    );
    await eventually(
      async () => {
        for (const table of [OPEN, PLAIN])
          expect((await target.query(`select id from ${table} where id = ${mark}`)).rows.length).toBe(1);
      },
      { withinMs: 120_000 },
    );
    const { rows } = await target.query<{ name: string }>(
      "select oid::regclass::text as name from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace",
    );
    const texts: string[] = [];
    for (const { name } of rows) texts.push(JSON.stringify((await target.query(`select * from ${name}`)).rows));
    expect(texts.join()).toContain(SHOWN);
    expect(texts.join()).not.toContain(CANARY);
  };
  await shared.spread(2);
  await shared.expectEqual([OPEN!, PLAIN!]);
  await shared.source
    .query(`alter table ${USERS} rename to ${PEOPLE}; insert into ${PEOPLE} values (2, '${CANARY}', 'n');
    create table ${COPY} as select * from ${PEOPLE}; alter table ${COPY} add primary key (id)`);
  await expectSuspended({ [PEOPLE!]: "MR1033", [COPY!]: "MR1033" });
  for (const one of shared.processes) await one.stop();
  await shared.source.query(`alter table ${PEOPLE} rename to ${FOLKS}; alter table ${FOLKS} rename mail to post;
    alter table ${CARDS} rename mail to post; alter table ${CARDS} rename to ${NOTES};
    update ${FOLKS} set note = 'm'; insert into ${NOTES} values (2, '${CANARY}', 'n')`);
  shared.add();
  await shared.spread(2);
  await expectSuspended({ [FOLKS!]: "MR1033", [COPY!]: "MR1033", [NOTES!]: "MR1033" });
});
