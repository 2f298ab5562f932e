/**
 * Tables whose rules fit no longer after a change that no daemon saw: each is suspended with its number, and the others go on.
 * A rule that never fitted ends the start.
 * @module-tag heavy
 */
import { writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { CANARY, expectHidden, placesWith, SHOWN } from "../../support/daemon/canary.ts";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { KafkaTopics } from "../../support/kafka/kafka-topics.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { kafkaBroker, mysqlFlavours } from "../../support/run/services.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";
import { eventually } from "../../support/run/waiting.ts";

const NAMES = "filtered typed computed clashing listed glob_a glob_b keyed_new wild sole_a sole_b plain".split(" ");
const COLUMNS =
  "id int primary key, no int not null unique, mail varchar(80), note varchar(80), country varchar(8), first varchar(80)";

const TABLES = NAMES.flatMap((name) => [
  `create table ${name} (${COLUMNS})`,
  `insert into ${name} values (1, 1, '${name === "plain" ? "a" : `a@${CANARY}`}', '${SHOWN}', 'AT', 'f')`,
]);

const MAIL = { mail: { mask: "redact" } };

const rulesIn = (schema: string, functions: string) => {
  const made = { type: "text", from: ["first"], value: `${functions}#made` };
  const own = {
    filtered: { where: "country = 'AT'", columns: MAIL },
    typed: { where: "country = 'AT'", columns: MAIL },
    computed: { columns: { made, ...MAIL } },
    clashing: { columns: { note: { rename: "word" }, ...MAIL } },
    listed: { columns: { only: ["id", "no", "note"] } },
    keyed_new: { columns: MAIL },
    wild: { columns: { "*ail*": { mask: "redact" } } },
    "sole_*": { columns: { "mai?": { mask: "redact" } } },
    "glob_*": { columns: { made, ...MAIL }, where: "country = 'AT'" },
  };
  return Object.fromEntries(Object.entries(own).map(([name, rule]) => [`${schema}.${name}`, rule]));
};

/** What was hidden stays so, whatever the tables' shapes. */
const CHANGES = [
  "alter table filtered drop column country",
  "alter table typed drop column country",
  "alter table typed add column country int",
  "alter table computed drop column first",
  "alter table clashing add column word varchar(80)",
  "alter table listed drop column note",
  // These go on: no rule needs what they lack.
  "alter table wild drop column mail",
  "drop table sole_a",
  "alter table sole_b drop column mail",
  "alter table glob_a drop column first",
  "alter table glob_b drop column first",
  `create table glob_later (id int primary key, mail varchar(80))`,
  `insert into glob_later values (1, 'l@${CANARY}')`,
  ...["filtered", "computed", "clashing", "listed", "typed"].map((name) => `update ${name} set mail = 'u@${CANARY}'`),
];

const EXPECTED = {
  filtered: "MR1020",
  typed: "MR1020",
  computed: "MR1021",
  clashing: "MR1023",
  listed: "MR1021",
  keyed_new: "MR1023",
  glob_later: "MR1020",
};

interface Scene {
  readonly pipeline: RunningPipeline | MysqlPipeline;
  readonly run: (...statements: readonly string[]) => Promise<void>;
}

let marks = 0;

async function passed({ pipeline, run }: Scene): Promise<void> {
  const mark = `mark ${++marks}.`;
  await run(`insert into plain (id, no, note) values (${marks + 10}, ${marks + 10}, '${mark}')`);
  await eventually(async () => expect((await placesWith(mark, pipeline)).length).toBeGreaterThan(0));
}

async function expectSuspended({ pipeline }: Scene, expected: Readonly<Record<string, string>>): Promise<void> {
  await eventually(async () => {
    const { tables } = await pipeline.installation.status();
    const found = tables.suspended.map(({ table, error }) => [table.split(".")[1], error.code]);
    expect(Object.fromEntries(found)).toEqual(expected);
  });
}

async function throughAll(scene: Scene, ownChanges: readonly string[], more: Readonly<Record<string, string>> = {}) {
  const { pipeline, run } = scene;
  await passed(scene);
  await pipeline.settled();
  await expectSuspended(scene, {});
  await pipeline.daemon.stop();
  await run(...CHANGES, ...ownChanges);
  pipeline.daemon = pipeline.installation.run();
  await pipeline.daemon.streaming();
  await expectSuspended(scene, { ...EXPECTED, ...more });
  await passed(scene);
  await expectHidden(pipeline);
  const { exitCode, stdout } = await pipeline.installation.command("check");
  expect(exitCode).not.toBe(0);
  for (const name of Object.keys({ ...EXPECTED, ...more })) expect(stdout).toMatch(new RegExp(`\\b${name}\\b`));
  // The next start goes the same way.
  await pipeline.daemon.stop();
  pipeline.daemon = pipeline.installation.run();
  await pipeline.daemon.streaming();
  await passed(scene);
  await expectSuspended(scene, { ...EXPECTED, ...more });
  // The source has again what the rules need.
  await run("alter table filtered add column country varchar(8) default 'AT'", "alter table clashing drop column word");
  await eventually(async () => {
    const { tables } = await pipeline.installation.status();
    expect(tables.suspended.map(({ table }) => table.split(".")[1])).not.toContain("filtered");
    expect(tables.suspended.map(({ table }) => table.split(".")[1])).not.toContain("clashing");
  });
  await run(`update filtered set note = 'again ${SHOWN}'`);
  await eventually(async () => expect((await placesWith(`again ${SHOWN}`, pipeline)).length).toBeGreaterThan(0));
  await expectHidden(pipeline);
}

function functionsIn(folder: { file: (name: string) => string }): string {
  writeFileSync(folder.file("rules.js"), "export const made = ({ first }) => first;\n");
  return folder.file("rules.js");
}

const KINDS = ["files", "duckdb"] as const;

test("Postgres", async () => {
  using folder = temporaryFolder();
  const functions = functionsIn(folder);
  const rules = rulesIn("public", functions);
  await using pipeline = await RunningPipeline.start(
    [
      ...TABLES,
      ...["gone", "loose"].map(
        (name) => `create table ${name} (${COLUMNS}); alter table ${name} replica identity full`,
      ),
    ].join(";"),
    {
      kinds: [...KINDS],
      configure: (config) => ({
        ...config,
        tables: { ...rules, "public.gone": { key: ["no"] }, "public.loose": { key: ["no"] } },
      }),
    },
  );
  const run = async (...statements: readonly string[]): Promise<void> => {
    for (const sql of statements) await pipeline.run(sql);
  };
  await throughAll(
    { pipeline, run },
    [
      "alter table keyed_new drop constraint keyed_new_pkey, alter mail set not null, add primary key (mail)",
      "alter table gone drop column no",
      "alter table loose replica identity default",
    ],
    { gone: "MR1021", loose: "MR1026" },
  );
  const restart = async (changed: object): Promise<ReturnType<Installation["run"]>> => {
    await pipeline.daemon.stop();
    const { name, url } = pipeline.source;
    const source = { kind: "postgres", url, heartbeat: "500ms" };
    pipeline.installation.configure({ name, source, sinks: pipeline.sinks.config, tables: { ...rules, ...changed } });
    return pipeline.installation.run();
  };
  // The rules are corrected.
  pipeline.daemon = await restart({
    "public.listed": { columns: { only: ["id", "no"] } },
    "public.loose": { columns: MAIL },
  });
  await pipeline.daemon.streaming();
  await eventually(async () => {
    const { tables } = await pipeline.installation.status();
    const suspended = new Set(tables.suspended.map(({ table }) => table.split(".")[1]));
    expect(suspended).toEqual(new Set(["computed", "glob_later", "keyed_new", "typed"]));
  });
  // What never fitted is wrong in the configuration.
  const { exitCode, stderr } = await (
    await restart({ "public.plain": { columns: { mial: { mask: "redact" } } } })
  ).ended;
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 2, stderr: expect.stringMatching(/MR1021.*mial/s) });
});

test.each(mysqlFlavours)("%s", async (flavour) => {
  using folder = temporaryFolder();
  const own = Object.entries(rulesIn("x", functionsIn(folder))).map(([name, rule]) => [name.slice(2), rule]);
  const tables = [...TABLES, ...["gone", "loose"].map((name) => `create table ${name} (${COLUMNS})`)];
  await using pipeline = await MysqlPipeline.start(flavour, tables, {
    kinds: KINDS,
    rules: { ...Object.fromEntries(own), gone: { key: ["no"] }, loose: { key: ["no"] } },
  });
  const run = async (...statements: readonly string[]): Promise<void> => await pipeline.run(...statements);
  await throughAll(
    { pipeline, run },
    [
      "alter table keyed_new modify mail varchar(80) not null, drop primary key, add primary key (mail)",
      "alter table gone drop column no",
      "alter table loose drop key no",
    ],
    { gone: "MR1021", loose: "MR1026" },
  );
});

test("Postgres behind a log in Kafka", async () => {
  using folder = temporaryFolder();
  const functions = functionsIn(folder);
  await using owned = new AsyncDisposableStack();
  const topics = owned.use(new KafkaTopics(kafkaBroker()));
  const { broker, prefix } = topics;
  await using pipeline = await RunningPipeline.start(
    async (source) => {
      for (const sql of TABLES) await source.query(sql);
      const { name, url } = source;
      const sinks = { log: { kind: "kafka", brokers: [broker], prefix, format: "log" } };
      const capture = new Installation({ name, source: { kind: "postgres", url, heartbeat: "500ms" }, sinks });
      await owned.use(capture).run().streaming();
    },
    {
      kinds: [...KINDS],
      configure: (config) => ({
        ...config,
        name: `${config.name}_a`,
        source: { kind: "kafka", brokers: [broker], prefix, from: config.name, heartbeat: "500ms" },
        tables: rulesIn("public", functions),
      }),
    },
  );
  const run = async (...statements: readonly string[]): Promise<void> => {
    for (const sql of statements) await pipeline.run(sql);
  };
  await throughAll({ pipeline, run }, [
    "alter table keyed_new drop constraint keyed_new_pkey, alter mail set not null, add primary key (mail)",
  ]);
});
