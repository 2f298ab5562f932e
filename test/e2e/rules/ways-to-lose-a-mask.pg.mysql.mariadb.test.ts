/**
 * Ways to lose a mask that happen to everybody: after each of them, what rules hide is in no sink, no report, no output and
 * not in the state. Further ones: names that are misspelt (test/integration/rules), tables and columns with other names
 * (renames, online-schema-changes), refused rows (rules), rows that a filter leaves out (filtered-rows).
 */
import { expect, test } from "vitest";
import { CANARY, filesBelow, SHOWN } from "../../support/daemon/canary.ts";
import type { Installation } from "../../support/daemon/daemon-process.ts";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { mysqlFlavours } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const KEY = "a-key-of-the-tests-0123456789";

const PREPARE = [
  "create table person (id int primary key, mail varchar(80), note varchar(80), born varchar(40), country varchar(2))",
  `insert into person values (1, 'a@${CANARY}', '${SHOWN}', '${CANARY}', 'AT'), (2, 'b@${CANARY}', 'n', '${CANARY}', 'DE')`,
  "create table diary (id int primary key, note varchar(80), secret varchar(80))",
  `insert into diary values (1, '${SHOWN}', '${CANARY}')`,
];

/** A wide rule that masks and lists; a more exact one that filters, renames and chooses the same key again. */
const rulesIn = (schema: string) => ({
  [`${schema}.*`]: { columns: { only: ["id", "note", "*mail"], "*mail": { mask: "hash" } }, schemaChange: "pause" },
  [`${schema}.person`]: { columns: { mail: { rename: "digest" } }, where: "country = 'AT'", schemaChange: "evolve" },
  [`${schema}.diary`]: { schemaChange: "evolve" },
});

const withNdjson = (sinks: Readonly<Record<string, object>>) => ({
  ...sinks,
  files: { ...sinks["files"], format: "ndjson" },
});

const CHANGES = [
  // A column that comes later, with a value in every row; one that takes the place of another; another type.
  `alter table person add column phone varchar(60) default 'p${CANARY}'`,
  `update person set phone = 'q${CANARY}' where id = 1`,
  "alter table person drop column born",
  `alter table person add column born varchar(60) default '${CANARY}'`,
  `insert into person values (3, 'c@${CANARY}', '${SHOWN}', 'AT', '${CANARY}', '${CANARY}')`,
  // Another key, and rows that leave and enter the filter.
  "update person set id = 30 where id = 3",
  `update person set country = 'DE', note = '${CANARY}' where id = 30`,
  `update person set note = 'x${CANARY}' where id = 2`,
  "update person set country = 'AT', note = 'n' where id = 2",
  `update diary set secret = 'd${CANARY}' where id = 1`,
  // A table that comes later.
  "create table later (id int primary key, mail varchar(80), word varchar(80))",
  `insert into later values (1, 'l@${CANARY}', '${CANARY}')`,
];

async function expectHidden(
  { installation, daemon }: Pick<RunningPipeline, "installation" | "daemon">,
  outputs: readonly string[] = [],
): Promise<void> {
  const places = [...filesBelow(installation.folder, ["millrace.yaml"]), ["log", daemon.said] as const];
  const said = outputs.map((text, i) => [`output ${i}`, text] as const);
  expect([...places, ...said].filter(([, text]) => text.includes(CANARY)).map(([name]) => name)).toEqual([]);
  // What is searched for the one is searched for the other.
  expect(places.filter(([, text]) => text.includes(SHOWN)).length).toBeGreaterThan(1);
}

async function waitsForApproval(installation: Installation, table: string): Promise<void> {
  await eventually(async () => {
    const { tables } = await installation.status();
    expect(tables.suspended.map(({ table: id, error }) => [id, error.code])).toEqual([[table, "MR1303"]]);
  });
}

async function asked(installation: Installation, schema: string): Promise<string[]> {
  const outputs: string[] = [];
  for (const args of [
    ["status", "--tables", "--json"],
    ["check"],
    ["schema", "list"],
    ["schema", "show", `${schema}.person`],
    ["reconcile", "--repair", "--report", "./reports"],
    ["query", `select * from "${schema}"."person"`, "--sink", "duckdb", "--json"],
    ["query", `select * from "${schema}"."person"`, "--sink", "duckdb-history", "--json"],
  ]) {
    const { stdout, stderr } = await installation.command(...args);
    outputs.push(stdout + stderr);
  }
  expect(outputs[0]).toContain('"hiddenBy"');
  return outputs;
}

async function throughAll(
  pipeline: (RunningPipeline | MysqlPipeline) & { run(sql: string): Promise<void> },
  schema: string,
): Promise<void> {
  const { installation } = pipeline;
  await pipeline.settled();
  await expectHidden(pipeline);
  for (const sql of CHANGES) await pipeline.run(sql);
  await waitsForApproval(installation, `${schema}.later`);
  const approved = await installation.command("schema", "approve", `${schema}.later`);
  expect(approved.exitCode).toBe(0);
  await pipeline.settled();
  const outputs = await asked(installation, schema);
  const { tables }: { tables: { lineage: { table: string; columns: { source: string; target: string | null }[] }[] } } =
    JSON.parse(outputs[0]!);
  const targets = (table: string) =>
    Object.fromEntries(
      tables.lineage.find((one) => one.table === `${schema}.${table}`)!.columns.map((c) => [c.source, c.target]),
    );
  expect(targets("person")).toEqual({ id: "id", mail: "digest", note: "note", country: null, phone: null, born: null });
  expect(targets("later")).toEqual({ id: "id", mail: "mail", word: null });
  // All is read again, and the daemon starts again.
  await installation.command("snapshot", "start", "--tables", `${schema}.*`);
  await pipeline.settled();
  await pipeline.daemon.stop();
  await expectHidden(pipeline, outputs);
  pipeline.daemon = installation.run();
  await pipeline.daemon.streaming();
  await pipeline.run(`update person set note = '${SHOWN}', mail = 'z@${CANARY}' where id = 1`);
  await pipeline.settled();
  await pipeline.daemon.stop();
  await expectHidden(pipeline, outputs);
}

test("Postgres", async () => {
  await using pipeline = await RunningPipeline.start(PREPARE.join(";"), {
    kinds: ["duckdb", "duckdb-history", "files"],
    configure: (config: PipelineConfig) => ({
      ...config,
      sinks: withNdjson(config.sinks),
      tables: rulesIn("public"),
      maskKey: KEY,
    }),
  });
  await throughAll(pipeline, "public");
});

test.each(mysqlFlavours)("%s", { tags: "heavy" }, async (flavour) => {
  await using pipeline = await MysqlPipeline.start(flavour, PREPARE, {
    kinds: ["duckdb", "duckdb-history", "files"],
    sinks: withNdjson,
    maskKey: KEY,
    rules: Object.fromEntries(Object.entries(rulesIn("x")).map(([name, rule]) => [name.slice(2), rule])),
  });
  await throughAll(pipeline, pipeline.source.name);
});
