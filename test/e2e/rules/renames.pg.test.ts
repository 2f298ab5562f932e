/**
 * Rules follow the table and the column, not their names: what stood under rules goes out under another name only when the
 * configuration names that one.
 */
import { describe, expect, test } from "vitest";
import { CANARY, expectHidden, placesWith, SHOWN } from "../../support/daemon/canary.ts";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

const TABLES = `
  create schema other;
  create table users (id int primary key, mail text, country text);
  insert into users values (1, 'a@${CANARY}', '${SHOWN}'), (2, 'b@${CANARY}', null), (3, '${CANARY}', 'DE');
  create table users_next (id int primary key, mail text, country text);
  create table contacts (id int primary key, mail text, note text);
  insert into contacts values (1, 'c@${CANARY}', '${SHOWN}');
  create table orders (id int primary key, note text) partition by range (id);
  create table orders_1 partition of orders for values from (0) to (100);
  create table orders_2 partition of orders for values from (100) to (200);
  insert into orders values (1, 'n ${CANARY}'), (101, 'n ${CANARY}');
  create table secrets (id int primary key, word text);
  insert into secrets values (1, 's ${CANARY}');
  create table archive (id int primary key, word text) partition by range (id);
  create table archive_1 partition of archive for values from (100) to (200);
  create table guests (id int primary key, mail text, note text);
  insert into guests values (1, 'g@${CANARY}', '${SHOWN}');
  create table later (id int primary key, since date);
  create table plain (id int primary key, v text)`;

const RULES = {
  "public.users": { columns: { mail: { mask: "redact" } }, where: "country is null or country <> 'DE'" },
  "public.contacts": { columns: { "*mail*": { drop: true } } },
  "public.orders": { columns: { note: { mask: "hash" } } },
  "public.g*": { columns: { "*mail*": { mask: "redact" } } },
  "public.secrets": { columns: { word: { mask: "partial" } } },
};

class Scene implements AsyncDisposable {
  readonly pipeline: RunningPipeline;
  readonly #isDown: boolean;
  #marks = 0;
  #rules: Readonly<Record<string, object>> = RULES;

  constructor(pipeline: RunningPipeline, isDown: boolean) {
    this.pipeline = pipeline;
    this.#isDown = isDown;
  }

  static async start(isDown: boolean): Promise<Scene> {
    const configure = (config: PipelineConfig) => ({
      ...config,
      tables: RULES,
      maskKey: "a-key-of-the-tests-0123456789",
    });
    return new Scene(await RunningPipeline.start(TABLES, { kinds: ["files", "duckdb"], configure }), isDown);
  }

  async run(sql: string, rules = this.#rules): Promise<void> {
    const { pipeline } = this;
    await this.passed();
    if (this.#isDown || rules !== this.#rules) {
      await pipeline.daemon.kill();
      this.#rules = rules;
      pipeline.installation.configure({ ...this.#config(), tables: rules });
      await pipeline.run(sql);
      pipeline.daemon = pipeline.installation.run();
      await pipeline.daemon.streaming();
    } else await pipeline.run(sql);
  }

  #config() {
    const { source, sinks } = this.pipeline;
    const own = { kind: "postgres", url: source.url, heartbeat: "500ms" };
    return { name: source.name, source: own, sinks: sinks.config, maskKey: "a-key-of-the-tests-0123456789" };
  }

  /** Exactly these tables are suspended, and what is hidden is nowhere. */
  async expectSuspended(expected: Readonly<Record<string, string>>): Promise<void> {
    const { installation } = this.pipeline;
    await eventually(async () => {
      const { tables } = await installation.status();
      expect(Object.fromEntries(tables.suspended.map(({ table, error }) => [table, error.code]))).toEqual(expected);
    }, SUSPENDED_WITHIN);
    await this.passed();
    await expectHidden(this.pipeline);
  }

  /** What was committed until now has passed; `wait` would wait for suspended tables. */
  async passed(): Promise<void> {
    const mark = `mark ${++this.#marks}.`;
    await this.pipeline.run(`insert into plain values (${this.#marks}, '${mark}')`);
    await eventually(async () => expect((await placesWith(mark, this.pipeline)).length).toBeGreaterThan(0));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.pipeline[Symbol.asyncDispose]();
  }
}

const SUSPENDED_WITHIN = { withinMs: 90_000 };

const WAYS = [
  { when: "while the daemon runs", isDown: false, options: {} },
  { when: "while no daemon runs", isDown: true, options: { tags: "heavy" } },
] as const;

test.each([
  ["and another table takes it", {}, "create table contacts (id int primary key, mail text, note text);"],
  ["and no table has it", { optional: true }, ""],
])("a rule that shows a name while its table gets another one, %s", async (_, rule, taken) => {
  await using scene = await Scene.start(true);
  await scene.run(
    `insert into contacts values (2, 'd@${CANARY}', 'n'); update contacts set mail = 'e@${CANARY}' where id = 1;
     alter table contacts rename to folks; ${taken} insert into folks values (3, 'f@${CANARY}', 'n')`,
    { ...RULES, "public.contacts": rule },
  );
  await scene.expectSuspended({ "public.folks": "MR1033" });
  await scene.run(`update folks set mail = 'h@${CANARY}'`);
  await scene.expectSuspended({ "public.folks": "MR1033" });
});

test.each([
  ["another name", "rename mail to post", { columns: { post: { mask: "redact" } } }, "post"],
  [
    "another name, and another one goes",
    "rename mail to post; alter table contacts drop note",
    { columns: { post: { mask: "redact" } } },
    "post",
  ],
  ["dropped", "drop mail", {}, "note"],
])("a column that is %s while its rule is written for what is there then", async (_, altered, rule, column) => {
  await using scene = await Scene.start(true);
  await scene.run(
    `insert into contacts values (2, 'd@${CANARY}', 'n'); update contacts set mail = 'e@${CANARY}' where id = 1;
     alter table contacts ${altered}; insert into contacts (id, ${column}) values (3, 'n')`,
    { ...RULES, "public.contacts": rule },
  );
  await scene.expectSuspended({});
});

test("a rule that goes while its table gets another name says nothing of that one", async () => {
  await using scene = await Scene.start(true);
  const { "public.secrets": _, ...others } = RULES;
  await scene.run(
    `insert into secrets values (2, 's ${CANARY}'); alter table secrets rename to words; update words set id = id + 7`,
    others,
  );
  await scene.expectSuspended({ "public.words": "MR1033" });
  await scene.run(`insert into words values (3, 's ${CANARY}')`);
  await scene.expectSuspended({ "public.words": "MR1033" });
});

test("a table that shows the rows of one under rules is held back, whichever of its partitions the log names", async () => {
  await using scene = await Scene.start(false);
  await scene.run("alter table archive attach partition secrets for values from (0) to (100)");
  await scene.expectSuspended({ "public.archive": "MR1033" });
  const { installation, source } = scene.pipeline;
  const from = (await source.query<{ lsn: string }>("select pg_current_wal_lsn()::text as lsn")).rows[0]!.lsn;
  // What one sink lacks can be read again.
  await installation.ask("POST", "/api/v1/pause", { sink: "duckdb" });
  await scene.run(
    `update archive set word = 'b ${CANARY}' where id = 2; insert into archive values (102, 'w'); update archive set word = 'c ${CANARY}' where id = 2`,
  );
  // Nobody reinstates it, and the log tells the table at a row of another partition.
  const refused = await installation.command("snapshot", "start", "--tables", "public.archive");
  expect(refused).toMatchObject({ exitCode: 2 });
  expect(refused.stderr).toContain("MR1033");
  const tailed = await installation.command("tail", "--from", from, "--limit", "1");
  expect(tailed).toMatchObject({ exitCode: 0, stdout: expect.not.stringContaining(CANARY) });
  await installation.ask("POST", "/api/v1/resume", { sink: "duckdb" });
  await scene.expectSuspended({ "public.archive": "MR1033" });
});

describe.each(WAYS)("$when", ({ isDown, options }) => {
  test("tables under rules that get another name", options, async () => {
    await using scene = await Scene.start(isDown);
    await scene.expectSuspended({});
    await scene.run(`alter table users rename to people; insert into people values (4, 'd@${CANARY}', 'DE')`);
    await scene.expectSuspended({ "public.people": "MR1033" });
    await scene.run(`alter table people set schema other; insert into other.people values (5, 'e@${CANARY}', 'x')`);
    await scene.expectSuspended({ "other.people": "MR1033" });
    const { stdout } = await scene.pipeline.installation.command("check");
    expect(stdout).toMatch(
      /table other\.people is public\.users under another name; rules for that name hide "mail" and leave rows out/,
    );
    expect(stdout).toContain(`{"columns":{"mail":{"mask":"redact"}},"where":"country is null or country <> 'DE'"}`);
    // Its own name again, and then a swap with a table that was captured before.
    await scene.run("alter table other.people set schema public; alter table people rename to users");
    await scene.expectSuspended({});
    await scene.run(
      `alter table users rename to users_old; alter table users_next rename to users;
     insert into users values (1, 'n@${CANARY}', 'x'); update users_old set mail = 'u@${CANARY}'`,
    );
    await scene.expectSuspended({ "public.users_old": "MR1033" });
    await scene.run(
      `create table users_backup as select * from users; alter table users_backup add primary key (id);
     create table users_like (like users including all); insert into users_like values (1, '${CANARY}', 'x');
     create table users_wide (like users including all); alter table users_wide alter id type bigint, alter mail type varchar(99), add x int;
     insert into users_wide values (1, '${CANARY}', 'x', 1)`,
    );
    await scene.expectSuspended({
      "public.users_backup": "MR1033",
      "public.users_like": "MR1033",
      "public.users_old": "MR1033",
      "public.users_wide": "MR1033",
    });
    // While it is watched, what was held back stays so, whatever becomes of its columns.
    await scene.run(
      `alter table users_like rename mail to post; update users_like set post = ''; insert into users_like values (2, 'p@${CANARY}', 'x')`,
    );
    await scene.expectSuspended({
      "public.users_backup": "MR1033",
      "public.users_like": "MR1033",
      "public.users_old": "MR1033",
      "public.users_wide": "MR1033",
    });
    await scene.run("drop table users_backup; drop table users_like; drop table users_wide");
    await scene.expectSuspended({ "public.users_old": "MR1033" });
    // The configuration names it.
    await scene.run("select 1", { ...RULES, "public.users_old": { columns: { mail: { mask: "null" } } } });
    await scene.expectSuspended({});
    await scene.run(`insert into users_old values (9, 'z@${CANARY}', 'DE')`);
    await scene.expectSuspended({});
    await scene.pipeline.expectEqual(["plain"]);
  });

  test("another table that takes the name of one under rules, or gets its columns", options, async () => {
    await using scene = await Scene.start(isDown);
    await scene.run(
      `begin; create table guests_next as select id, mail as post, note from guests; alter table guests_next add primary key (id);
       drop table guests; alter table guests_next rename to guests; commit; update guests set post = 'h@${CANARY}'`,
    );
    await scene.expectSuspended({ "public.guests": "MR1025" });
    await scene.run(
      `drop table guests; create table guests (id int primary key, mail text, more text); insert into guests values (1, 'i@${CANARY}', 'm');
       alter table later add mail text, add country text; insert into later (id, mail, country) select id, mail, country from users`,
    );
    await scene.expectSuspended({ "public.later": "MR1033" });
    // A name that the configuration has for another table, whose rows have passed under it.
    await scene.run(
      `begin; alter table contacts rename to swapping; alter table secrets rename to contacts; alter table swapping rename to secrets; commit;
       insert into secrets values (2, 'j@${CANARY}', 'n'); insert into contacts values (2, 'k ${CANARY}')`,
    );
    await scene.expectSuspended({ "public.contacts": "MR1033", "public.later": "MR1033", "public.secrets": "MR1033" });
  });

  test("an empty copy whose columns get other names", { tags: "heavy" }, async () => {
    await using scene = await Scene.start(isDown);
    await scene.run("create table users_like (like users including all)");
    await scene.expectSuspended({ "public.users_like": "MR1033" });
    await scene.run(
      `alter table users_like rename mail to post; alter table users_like rename to folks; insert into folks values (1, '${CANARY}', 'x')`,
    );
    await scene.expectSuspended({ "public.folks": "MR1033" });
  });

  test("partitions and columns under rules that get another name", options, async () => {
    await using scene = await Scene.start(isDown);
    await scene.run(`alter table orders detach partition orders_1; update orders_1 set note = 'later ${CANARY}'`);
    await scene.expectSuspended({ "public.orders_1": "MR1033" });
    await scene.run(`alter table orders attach partition orders_1 for values from (0) to (100)`);
    await scene.expectSuspended({});
    // A table without rules shows what a partition of it stood under.
    await scene.run(
      `alter table archive attach partition secrets for values from (0) to (100); insert into archive values (2, 'a ${CANARY}')`,
    );
    await scene.expectSuspended({ "public.archive": "MR1033" });
    await scene.run("alter table archive detach partition secrets");
    await scene.expectSuspended({});
    await scene.run(
      `alter table orders detach partition orders_2; alter table orders_2 rename to past; alter table past alter id type bigint;
       update past set note = 'past ${CANARY}'`,
    );
    await scene.expectSuspended({ "public.past": "MR1033" });
    // A table shows the rows of those that inherit from it.
    await scene.run(
      `create table friends (primary key (id), since date) inherits (contacts); insert into friends values (7, 'f@${CANARY}', 'n')`,
    );
    await scene.expectSuspended({ "public.friends": "MR1033", "public.past": "MR1033" });
    await scene.run(
      `alter table contacts rename mail to post; alter table contacts rename note to mail; alter table contacts rename post to note;
       update friends set note = 'n@${CANARY}', mail = 'open'`,
    );
    await scene.expectSuspended({ "public.contacts": "MR1025", "public.friends": "MR1033", "public.past": "MR1033" });
    await scene.run(
      `alter table contacts rename mail to post; alter table contacts rename note to mail; alter table contacts rename post to note;
       drop table friends; drop table past`,
    );
    await scene.expectSuspended({});
    await scene.run(`alter table contacts rename mail to kontakt; update contacts set kontakt = 'k@${CANARY}'`);
    await scene.expectSuspended({ "public.contacts": "MR1025" });
    await scene.run(`alter table contacts rename kontakt to mail; alter table contacts rename note to was; alter table contacts rename mail to note;
    alter table contacts rename was to mail; update contacts set note = 'k2@${CANARY}'`);
    await scene.expectSuspended({ "public.contacts": "MR1025" });
  });
});
