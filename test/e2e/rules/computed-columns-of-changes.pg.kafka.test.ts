/** Computed columns where every change counts, also where the log leaves out some of what a function needs (TOAST). */
import { writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";

const FUNCTIONS = `
export const summary = ({ n, big }) => {
  if (n === 99) throw new Error(big);
  return n + ":" + (big === null ? "-" : big[0]);
};
export const first = ({ big }) => big === null ? null : big[0];
`;

const STATEMENTS = [
  "update kept set n = 1 where id = 1",
  "update kept set n = 2 where id = 1",
  "update kept set big = repeat('b', 3000), n = 3 where id = 1",
  "update kept set n = 4 where id = 1",
  "update kept set n = 99 where id = 1",
  "update kept set n = 5 where id = 1",
  "update kept set id = 10, n = 6 where id = 1",
  "update kept set n = 7 where id = 10",
  "delete from kept where id = 10",
  "insert into kept values (20, 1, null), (21, 1, repeat('c', 3000)), (22, 99, 'x')",
  "update kept set n = 2 where id in (20, 21)",
  "begin; update kept set n = 8 where id = 2; update kept set n = 9 where id = 2; commit",
];
const EXPECTED = {
  // After the refused change, the row of before may be too old to build on: the next one is also read.
  1: ["r 0:a a", "u 1:a a", "u 2:a a", "u 3:b b", "u 4:b b", "u 5:b b", "r 5:b b", "d"],
  10: ["u 6:b b", "u 7:b b", "d"],
  2: ["r 0:a a", "u 8:a a", "u 9:a a"],
  3: ["r 0:a a"],
  20: ["c 1:- null", "u 2:- null"],
  21: ["c 1:c c", "u 2:c c"],
};

interface Change {
  readonly id: number;
  readonly op: string;
  readonly summary: string | null;
  readonly first: string | null;
}

function byKey(changes: readonly Change[]): Record<string, readonly string[]> {
  const said = (one: Change): string => (one.op === "d" ? "d" : `${one.op} ${one.summary} ${one.first}`);
  return Object.fromEntries(
    [...Map.groupBy(changes, ({ id }) => id)].map(([id, own]) => [id, own.map((one) => said(one))]),
  );
}

test("a history and a topic have each change with its computed values", async () => {
  using folder = temporaryFolder();
  writeFileSync(folder.file("rules.js"), FUNCTIONS);
  const columns = {
    summary: { type: "text", from: ["n", "big"], value: `${folder.file("rules.js")}#summary` },
    first: { type: "text", from: ["big"], value: `${folder.file("rules.js")}#first` },
  };
  await using pipeline = await RunningPipeline.start(
    `create table kept (id int primary key, n int, big text); alter table kept alter big set storage external;
     insert into kept select g, 0, repeat('a', 3000) from generate_series(1, 3) g`,
    {
      kinds: ["postgres", "postgres-history", "kafka"],
      configure: (config) => ({ ...config, tables: { "public.kept": { columns } } }),
    },
  );
  await pipeline.settled();
  for (const statement of STATEMENTS) {
    await pipeline.run(statement);
    await pipeline.settled();
  }
  const { rows } = await pipeline.sinks.target!.query<Change>(
    `select id, _millrace_op as op, summary, first from history.kept order by _millrace_version, _millrace_offset`,
  );
  expect.soft(byKey(rows)).toEqual(EXPECTED);
  const records = await pipeline.sinks.topics!.read(
    `${pipeline.sinks.topics!.prefix}${pipeline.source.name}.public.kept`,
  );
  const changes = records.flatMap(({ value }) => {
    if (value === null) return [];
    const { op, key, after }: { op: string; key: { id: number } | null; after: Omit<Change, "id" | "op"> | null } =
      JSON.parse(value);
    return key === null ? [] : [{ id: key.id, op, summary: after?.summary ?? null, first: after?.first ?? null }];
  });
  const { 10: __, ...inTopic } = EXPECTED;
  expect.soft(byKey(changes)).toMatchObject(inTopic);
  const mirror = await pipeline.sinks.target!.query("select id, summary from kept order by id");
  expect(mirror.rows).toEqual([
    { id: 2, summary: "9:a" },
    { id: 3, summary: "0:a" },
    { id: 20, summary: "2:-" },
    { id: 21, summary: "2:c" },
  ]);
  const { stdout } = await pipeline.installation.command("dlq", "list", "--json");
  const { letters }: { letters: readonly { readonly sink: string; readonly key: string }[] } = JSON.parse(stdout);
  // The other letter is of a row whose next change came.
  expect(letters.map(({ sink, key }) => `${sink} ${key}`).toSorted()).toEqual([
    "kafka 22",
    "postgres 22",
    "postgres-history 22",
  ]);
});
