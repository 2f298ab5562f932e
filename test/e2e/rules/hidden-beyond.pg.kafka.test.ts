/**
 * Rules that come later, of tables that documents are made of, and of a daemon that others follow: what they hide now is gone from
 * dead letters, from rows that targets refuse and from rows marked as deleted there too.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { CANARY, filesBelow, SHOWN } from "../../support/daemon/canary.ts";
import type { Installation } from "../../support/daemon/daemon-process.ts";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { ThroughKafka } from "../../support/kafka/through-kafka.ts";
import { eventually } from "../../support/run/waiting.ts";

const TABLES = `
  create table users (id int primary key, mail text);
  create table orders (id int primary key, user_id int, note text, n int);
  insert into users select g, '${CANARY}' || g from generate_series(1, 20) g;
  insert into orders select g, g, '${SHOWN}', g from generate_series(1, 20) g`;
const RULES = { "public.users": { columns: { mail: { mask: "redact" } } } };

async function refused(installation: Installation, count: number): Promise<void> {
  await eventually(async () => {
    const { sinks } = await installation.status();
    expect(sinks.find(({ name }) => name === "postgres")?.deadLetters).toBe(count);
  });
}

async function letters(installation: Installation): Promise<string> {
  const listed = await installation.command("dlq", "list", "--all", "--json");
  const { letters: all }: { letters: readonly { id: number }[] } = JSON.parse(listed.stdout);
  const texts: string[] = [];
  for (const { id } of all) texts.push((await installation.command("dlq", "show", String(id), "--show-values")).stdout);
  return texts.join("\n");
}

/** The rows of a table of the target in both forms: without and with marks of deletion. */
async function rows({ sinks }: RunningPipeline, table: string, schema: string): Promise<readonly string[]> {
  const texts: string[] = [];
  for (const space of [schema, "soft"]) {
    const { rows: held } = await sinks.target!.query(`select to_jsonb(t) as t from "${space}".${table} t order by id`);
    texts.push(JSON.stringify(held));
  }
  return texts;
}

/** What the state keeps where no command shows it. */
function stored({ installation }: RunningPipeline): string[] {
  return filesBelow(installation.folder, ["millrace.yaml"]).flatMap(([name, text]) =>
    text.includes(CANARY) ? [name] : [],
  );
}

test("documents", async () => {
  let config: PipelineConfig | null = null;
  await using pipeline = await RunningPipeline.start(TABLES, {
    kinds: ["postgres", "postgres-soft"],
    configure: ({ sinks, ...made }) => {
      const documents = ["orders"];
      const user = { from: "public.users", on: { id: "user_id" } };
      config = {
        ...made,
        documents: { orders: { from: "public.orders", with: { user } } },
        sinks: Object.fromEntries(Object.entries(sinks).map(([name, sink]) => [name, { ...sink, documents }])),
      };
      return config;
    },
  });
  const { installation, sinks } = pipeline;
  await pipeline.settled();
  await sinks.target!.query("alter table documents.orders add constraint small check (n < 1000)");
  await pipeline.run("update orders set n = 2000 where id in (3, 4, 5); delete from orders where id = 6");
  await refused(installation, 3);
  await pipeline.run("update orders set n = 4 where id = 4");
  await refused(installation, 2);
  expect(await letters(installation)).toContain(CANARY);
  expect((await rows(pipeline, "orders", "documents")).map((text) => text.includes(CANARY))).toEqual([true, true]);
  await pipeline.daemon.kill();
  await pipeline.run("delete from orders where id = 5");
  installation.configure({ ...config!, tables: RULES });
  await pipeline.start();
  await pipeline.settled();
  await refused(installation, 1);
  const [hard, soft] = await rows(pipeline, "orders", "documents");
  const shown = { letters: await letters(installation), hard, soft };
  expect(Object.entries(shown).filter(([, text]) => text!.includes(CANARY))).toEqual([]);
  expect(shown.letters).toContain(SHOWN);
  expect(JSON.parse(soft!)[5].t).toMatchObject({ id: 6, user: null, note: null, _millrace_deleted: true });
  await pipeline.daemon.stop();
  expect(stored(pipeline)).toEqual([]);
});

test("a daemon that follows one whose rules change", async () => {
  await using through = await ThroughKafka.start(TABLES, { kinds: ["postgres", "postgres-soft"] });
  const { applying } = through;
  const { installation, sinks } = applying;
  await applying.settled();
  await sinks.target!.query("alter table public.users add constraint small check (id < 1000)");
  await applying.run("update users set id = id + 1000 where id in (3, 4); delete from users where id = 6");
  await refused(installation, 2);
  await applying.run("update users set id = 4 where id = 1004");
  await refused(installation, 1);
  expect(await letters(installation)).toContain(CANARY);
  expect((await rows(applying, "users", "public")).map((text) => text.includes(CANARY))).toEqual([true, true]);
  await through.captureAgain({ tables: RULES });
  await applying.run("update users set mail = mail || 'x' where id = 7");
  await eventually(async () => {
    await applying.settled();
    const [hard, soft] = await rows(applying, "users", "public");
    const shown = { letters: await letters(installation), hard, soft };
    expect(Object.entries(shown).filter(([, text]) => text!.includes(CANARY))).toEqual([]);
    expect(JSON.parse(soft!)[2].t).toMatchObject({ id: 3, mail: null, _millrace_deleted: true });
  });
  await applying.daemon.stop();
  expect(stored(applying)).toEqual([]);
});
