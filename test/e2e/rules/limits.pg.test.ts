/**
 * What docs/rules.md says that rules do not find: new names for what was hidden, given where nothing tells that it is the same.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { CANARY, filesBelow } from "../../support/daemon/canary.ts";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

const HIDDEN = { mask: "redact" };
const RULES = {
  "public.users": { columns: { mail: HIDDEN, mood: HIDDEN } },
  "public.parts": { columns: { mail: HIDDEN } },
};
const PREPARE = `create type mood as enum ('${CANARY}', 'calm');
  create table users (id int primary key, mail text, mood mood, note text,
    lower_mail text generated always as (lower(mail)) stored, said text);
  insert into users values (1, '${CANARY}', '${CANARY}', 'seen');
  create function tell() returns trigger language plpgsql as $$ begin new.said := new.mail; return new; end $$;
  create trigger telling before insert or update on users for each row execute function tell();
  create table parts (id int primary key, mail text, note text) partition by range (id);
  create table parts_1 partition of parts for values from (0) to (100);
  insert into parts values (1, '${CANARY}', 'seen')`;

/** Columns of the target that hold what was hidden. */
async function shown({ sinks }: RunningPipeline): Promise<readonly string[]> {
  const { rows } = await sinks.target!.query<{ name: string; column: string }>(
    `select c.oid::regclass::text as name, a.attname as column from pg_class c join pg_attribute a on a.attrelid = c.oid
     where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace and a.attnum > 0 and not a.attisdropped order by 1, 2`,
  );
  const found: string[] = [];
  for (const { name, column } of rows) {
    const having = await sinks.target!.query(`select from ${name} where lower("${column}"::text) = lower($1)`, [
      CANARY,
    ]);
    if (having.rows.length > 0) found.push(`${name}.${column}`);
  }
  return found;
}

test("a new name that is given where nothing tells of the old one is not found: the page names each such way", async () => {
  await using pipeline = await RunningPipeline.start(PREPARE, {
    kinds: ["postgres"],
    configure: (config: PipelineConfig) => ({ ...config, tables: RULES }),
  });
  await pipeline.settled();
  expect(await shown(pipeline)).toEqual([]);
  await pipeline.run(`create table copied as select id, mail as post, note, mood as mind from users; alter table copied add primary key (id);
    create table small as select id, mail from users; alter table small add primary key (id)`);
  // By a trigger, into a column that nobody hides.
  await pipeline.run(`insert into users (id, mail, mood) values (2, '${CANARY}', 'calm')`);
  await pipeline.settled();
  const live = ["copied.mind", "copied.post", "small.mail", "users.said"];
  expect(await shown(pipeline)).toEqual(live);
  const checked = await pipeline.installation.command("check");
  expect(checked).toMatchObject({ exitCode: 0, stdout: expect.stringMatching(/new tables that "\*\.\*" takes in/) });
  await pipeline.daemon.stop();
  await pipeline.run(
    "alter table parts detach partition parts_1; alter table parts_1 rename mail to post; alter table users alter lower_mail drop expression",
  );
  await pipeline.start();
  // Of these the state knew what they were.
  await eventually(async () => {
    const { suspended } = (await pipeline.installation.status()).tables;
    expect(suspended.map(({ table, error }) => `${table} ${error.code}`).toSorted()).toEqual([
      "public.parts_1 MR1033",
      "public.users MR1025",
    ]);
  });
  await pipeline.run("insert into small values (9, 'mark')");
  await eventually(async () => {
    const { rows } = await pipeline.sinks.target!.query("select from public.small where mail = 'mark'");
    expect(rows).toHaveLength(1);
  });
  expect(await shown(pipeline)).toEqual(live);
  // The labels of an enum are no values: the state keeps them.
  const { stdout } = await pipeline.installation.command("schema", "show", "public.users", "--json");
  expect(stdout).not.toContain(CANARY);
  const holding = filesBelow(pipeline.installation.folder, []).filter(([, text]) => text.includes(CANARY));
  expect(holding.map(([name]) => name)).toEqual(expect.arrayContaining([expect.stringMatching(/\.db/)]));
});
