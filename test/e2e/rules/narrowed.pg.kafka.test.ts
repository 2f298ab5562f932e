/**
 * An allow-list that comes later, and a filter that gets narrower: what falls out of them is not told any more, and is gone from
 * what mirrors hold.
 * @module-tag heavy
 */
import { join } from "node:path";
import { expect, test } from "vitest";
import { CANARY, filesBelow, SHOWN } from "../../support/daemon/canary.ts";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { ThroughKafka } from "../../support/kafka/through-kafka.ts";
import { eventually } from "../../support/run/waiting.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";
import { copyDuckdbFile, rowsInFile } from "../../support/warehouses/duckdb-file.ts";

const PREPARE = `
  create table users (id int primary key, mail text, bio text, note text, country text);
  alter table users alter bio set storage external; alter table users replica identity full;
  insert into users select g, '${CANARY}' || g, repeat('b${CANARY}', 400), '${SHOWN}', 'AT' from generate_series(1, 20) g;
  insert into users select g, 'x', 'x', '${CANARY}' || g, 'DE' from generate_series(21, 40) g`;
const WIDE = { where: "country in ('AT', 'DE')" };
const NARROW = { where: "country = 'AT'", columns: { only: ["id", "note", "country"] } };
/** What they let through in the end. */
const SEEN = [2, 5, ...Array.from({ length: 13 }, (_, i) => 8 + i), 50, 104];
const FORMATS: Readonly<Record<string, object>> = {
  native: {},
  one: { topic: "all" },
  compacted: { topics: { settings: { "cleanup.policy": "compact" } } },
  debezium: { format: "debezium", schemas: false },
  flat: { format: "debezium-flat", schemas: false },
  cloud: { format: "cloudevents", schemas: false },
  log: { format: "log" },
};

type Place = readonly [name: string, text: string];

/** What each stream has, by its name. */
async function streams(pipeline: RunningPipeline): Promise<Map<string, readonly string[]>> {
  const found = new Map<string, readonly string[]>();
  const topics = pipeline.sinks.topics!;
  for (const name of await topics.names()) {
    const records = await topics.read(name);
    found.set(
      name.slice(topics.prefix.length),
      records.map(({ key, value }) => `${key} ${value}`),
    );
  }
  for (const [name, text] of filesBelow(join(pipeline.installation.folder, "changes")))
    found.set(`file ${name}`, [text]);
  return found;
}

async function history({ installation: { folder } }: RunningPipeline): Promise<readonly string[]> {
  using copies = temporaryFolder();
  copyDuckdbFile(join(folder, "history.duckdb"), copies.file("copy.duckdb"));
  return (await rowsInFile(copies.file("copy.duckdb")))
    .find(([name]) => name.endsWith('."users"'))![1]
    .split("\n")
    .map((row) => row.replace(/'_millrace_seen': \w+, /, ""));
}

/** What is in the one more often than in the other; partitions have no order among each other. */
function without(all: readonly string[], known: readonly string[]): readonly string[] {
  const left = new Map<string, number>();
  for (const one of known) left.set(one, (left.get(one) ?? 0) + 1);
  return all.filter((one) => {
    const count = left.get(one) ?? 0;
    left.set(one, count - 1);
    return count <= 0;
  });
}

/** Of the target's tables, without and with marks of deletion. */
async function rows({ sinks }: RunningPipeline): Promise<Place[]> {
  const found: Place[] = [];
  for (const space of ["public", "soft"]) {
    const { rows: held } = await sinks.target!.query<{ t: object }>(
      `select to_jsonb(t) as t from "${space}".users t order by id`,
    );
    found.push([`postgres ${space}`, JSON.stringify(held.map(({ t }) => t))]);
  }
  return found;
}

function having(text: string, among: readonly Place[]): string[] {
  return among.filter(([, content]) => content.includes(text)).map(([name]) => name);
}

const idOf = (row: object): number => ("id" in row ? Number(row.id) : Number.NaN);

test("in every form of sink", async () => {
  let config: PipelineConfig | null = null;
  await using pipeline = await RunningPipeline.start(PREPARE, {
    kinds: ["postgres", "postgres-soft", "duckdb", "duckdb-soft", "duckdb-history", "files", "kafka"],
    configure: (made) => {
      const { kafka, files, ...sinks } = made.sinks;
      const prefix = Object.entries(kafka!).find(([key]) => key === "prefix")?.[1];
      const { kind, brokers } = { kind: "", brokers: [], ...kafka };
      const topics = Object.entries(FORMATS).map(([name, options]) => [
        name,
        { kind, brokers, prefix: `${prefix}${name}.`, ...options },
      ]);
      config = {
        ...made,
        sinks: { ...sinks, files: { ...files, format: "ndjson" }, ...Object.fromEntries(topics) },
        tables: { "public.users": WIDE },
      };
      return config;
    },
  });
  const { installation } = pipeline;
  await pipeline.settled();
  await pipeline.run("delete from users where id in (1, 21)");
  await pipeline.settled();
  await pipeline.daemon.stop();
  const before = await streams(pipeline);
  const historyBefore = await history(pipeline);
  await pipeline.run(`update users set mail = mail || 'y', note = note || 'y' where id in (2, 22, 23); delete from users where id in (3, 23);
    update users set id = id + 100 where id in (4, 24)`);
  installation.configure({ ...config!, tables: { "public.users": NARROW } });
  await pipeline.start();
  await pipeline.run(`update users set mail = mail || 'z', note = note || 'z' where id in (5, 25); delete from users where id in (6, 26);
    update users set country = 'CH', note = '${CANARY}' where id = 7; insert into users values (50, '${CANARY}', '${CANARY}', '${SHOWN}', 'AT'), (51, 'x', 'x', '${CANARY}', 'DE')`);
  await pipeline.settled();
  await pipeline.run("alter table users add more text; update users set more = 'm' || mail where id in (8, 28)");
  await pipeline.settled();
  const held = await rows(pipeline);
  for (const sink of ["duckdb", "duckdb-soft"]) {
    const asked = ["query", "select * from public.users order by id", "--sink", sink, "--json"];
    held.push([sink, (await installation.command(...asked)).stdout]);
  }
  await pipeline.daemon.stop();
  const after = await streams(pipeline);
  const historyAfter = await history(pipeline);
  const fresh = new Map([...after].map(([name, all]) => [name, without(all, before.get(name) ?? [])]));
  fresh.set("history", without(historyAfter, historyBefore));
  const told = [...fresh].map(([name, lines]) => [name, lines.join("\n")] as const);
  expect(having(CANARY, [...held, ...told])).toEqual([]);
  const expected = ["native", "compacted", "debezium", "flat", "cloud"].map(
    (name) => `${name}.${pipeline.source.name}.public.users`,
  );
  for (const name of [
    ...held.map(([sink]) => sink),
    ...expected,
    "one.all",
    `log.${pipeline.source.name}._log`,
    "history",
  ])
    expect(having(SHOWN, [...held, ...told])).toContain(name);
  expect(having(SHOWN, told)).toContainEqual(expect.stringMatching(/^file .*ndjson/));
  // What mirrors keep of rows that fell out: the keys, where they mark what is deleted.
  const of = (name: string): readonly object[] => JSON.parse(held.find(([sink]) => sink === name)![1]);
  expect(of("postgres public").map(idOf)).toEqual(SEEN);
  expect(of("postgres soft").filter((row) => SEEN.includes(idOf(row)))).toHaveLength(SEEN.length);
  expect(of("postgres soft").filter((row) => !SEEN.includes(idOf(row)))).toEqual(
    // With what the present rules let through, those that were deleted under them.
    expect.arrayContaining([expect.objectContaining({ id: 25, note: null, country: null, _millrace_deleted: true })]),
  );
});

test("at a daemon that follows one whose rules change", async () => {
  await using through = await ThroughKafka.start(PREPARE, {
    kinds: ["postgres", "postgres-soft"],
    capture: { tables: { "public.users": WIDE } },
  });
  const { applying } = through;
  await applying.settled();
  await applying.run("delete from users where id in (1, 21)");
  await applying.settled();
  expect(having(CANARY, await rows(applying))).toHaveLength(2);
  await through.captureAgain({ tables: { "public.users": NARROW } });
  await applying.run(
    "update users set mail = mail || 'z', note = note || 'z' where id in (5, 25); delete from users where id in (6, 26)",
  );
  await eventually(async () => {
    await applying.settled();
    expect(having(CANARY, await rows(applying))).toEqual([]);
  });
  expect(having(SHOWN, await rows(applying))).toHaveLength(2);
});
