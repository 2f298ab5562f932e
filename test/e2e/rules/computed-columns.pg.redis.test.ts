/** Columns that a function makes: the same in every sink as the source's own SQL makes them, whatever the log leaves out. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { TableName } from "../../support/compare/compare.ts";
import { redactedSql } from "../../support/model/rules-view.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";
import { eventually } from "../../support/run/waiting.ts";
import { CHOSEN_KINDS } from "../../support/daemon/sink-set.ts";

const CANARY = "Kanarienvogel";
/** Not compressible, and too long to stay in the row. */
const LONG = "(select string_agg(md5(random()::text || g || i), '') from generate_series(1, 90) i)";

const FUNCTIONS = `import type { Row } from "millrace/rules";
import { joined } from "./joined.ts";

interface Person extends Row { readonly first: string | null; readonly last: string | null }

export function fullName({ first, last }: Person): string | null {
  if (first === "throw") throw new RangeError(\`no name for \${last}\`);
  if (first === "promise") return Promise.reject(new Error(String(last))) as never;
  if (first === "number") return 7 as never;
  return joined(first, last);
}

export const bodyLength = ({ body }: { body: string | null }): number | null => body?.length ?? null;
export const summary = ({ first, body }: { first: string | null; body: string | null }): string =>
  \`\${first ?? "-"}:\${body === null ? "none" : body.slice(0, 5)}\`;
export const doubled = ({ balance }: { balance: string | null }): string | null => {
  if (balance === null) return null;
  const cents = BigInt(balance.replace(".", "")) * 2n;
  const text = String(cents < 0n ? -cents : cents).padStart(3, "0");
  return \`\${cents < 0n ? "-" : ""}\${text.slice(0, -2)}.\${text.slice(-2)}\`;
};
export const next = ({ big }: { big: bigint | null }): bigint | null => (big === null ? null : big + 1n);
export const sorted = ({ tags }: { tags: readonly string[] | null }): readonly string[] | null => tags?.toSorted() ?? null;
export const hidden = ({ mail }: { mail: string | null }): string => \`<\${mail ?? ""}>\`;
export const isOld = ({ born }: { born: string | null }): boolean | null => (born === null ? null : born < "1980-01-01");
export const seen = ({ at }: { at: string | null }): Date | null => (at === null ? null : new Date(at.slice(0, 19) + "Z"));
`;
const JOINED = `export const joined = (first: string | null, last: string | null): string | null =>
  first === null && last === null ? null : [first, last].filter((name) => name !== null).join(" ");
`;

const VIEW = `create view person_ruled as select id, first, last as surname, ${redactedSql("mail")} as mail, balance, big, tags, born, at, body, n,
    case when coalesce(first, last) is not null then concat_ws(' ', first, last) end as full_name,
    length(body) as body_length,
    coalesce(first, '-') || ':' || coalesce(left(body, 5), 'none') as summary,
    (balance * 2)::numeric(14,2) as doubled, big + 1 as next_big,
    (select array_agg(t order by t collate "C") from unnest(tags) t) as tag_list,
    '<' || coalesce(${redactedSql("mail")}, '') || '>' as hidden, born < '1980-01-01' as is_old, date_trunc('second', at) as seen
  from person`;

const rows = (from: number, to: number) =>
  `insert into person select g, case when g % 7 > 0 then 'first' || g end, case when g % 5 > 0 then 'last' || g end,
     'mail ${CANARY} ' || g, (g - 40) * 1.01, 9007199254740993 + g, array['b' || g, 'a "' || g, 'ä, \\ ' || g], date '1970-01-01' + g * 100,
     timestamptz '2026-01-01 12:00:00.123456+01' + g * interval '1 hour', case when g % 6 > 0 then ${LONG} end, 0
   from generate_series(${from}, ${to}) g`;

const PERSON: TableName = { schema: "public", table: "person", key: ["id"], shownBy: "person_ruled" };

const folder = temporaryFolder();
const value = (name: string): string => `${join(folder.path, "rules.ts")}#${name}`;

const TABLES = {
  "public.person": {
    columns: {
      last: { rename: "surname" },
      mail: { mask: "redact" },
      full_name: { type: "text", from: ["first", "last"], value: value("fullName") },
      body_length: { type: "integer", from: ["body"], value: value("bodyLength") },
      summary: { type: "text", from: ["first", "body"], value: value("summary") },
      doubled: { type: "decimal(14,2)", from: ["balance"], value: value("doubled") },
      next_big: { type: "bigint", from: ["big"], value: value("next") },
      tag_list: { type: "text[]", from: ["tags"], value: value("sorted") },
      hidden: { type: "text", from: ["mail"], value: value("hidden") },
      is_old: { type: "boolean", from: ["born"], value: value("isOld") },
      seen: { type: "timestamptz", from: ["at"], value: value("seen") },
    },
  },
};

let pipeline: RunningPipeline;

beforeAll(async () => {
  writeFileSync(folder.file("rules.ts"), FUNCTIONS);
  writeFileSync(folder.file("joined.ts"), JOINED);
  pipeline = await RunningPipeline.start(
    `create table person (id bigint primary key, first text, last text, mail text, balance numeric(12,2), big bigint, tags text[],
       born date, at timestamptz, body text, n int);
     alter table person alter body set storage external;
     create table plain (id int primary key, v text);
     ${VIEW}; ${rows(1, 120)};
     insert into plain select g, 'v' || g from generate_series(1, 20) g`,
    { kinds: CHOSEN_KINDS, configure: (config) => ({ ...config, tables: TABLES }) },
  );
});

afterAll(async () => {
  await pipeline?.[Symbol.asyncDispose]();
  folder[Symbol.dispose]();
});

/** Changes that have all inputs of a function, some, or none; of other keys too. */
const move = (from: number): Promise<void> =>
  pipeline.run(
    `${rows(from + 500, from + 510)};
     update person set n = n + 1 where id between ${from} and ${from + 9};
     update person set first = 'other' || id where id between ${from + 2} and ${from + 4};
     update person set body = ${LONG.replace("|| g |", "|| id |")} where id between ${from + 4} and ${from + 5};
     update person set body = null where id = ${from + 6};
     update person set last = null, first = null where id = ${from + 7};
     update person set id = id + 2000 where id between ${from + 8} and ${from + 9};
     update person set first = 'moved', id = id + 3000 where id = ${from + 10};
     delete from person where id = ${from + 11};
     update plain set v = v || 'x'`,
  );

interface Letter {
  readonly sink: string;
  readonly code: string;
  readonly cause: string;
}

async function waitingLetters(): Promise<readonly Letter[]> {
  const { stdout } = await pipeline.installation.command("dlq", "list", "--json");
  const { letters }: { letters: readonly Letter[] } = JSON.parse(stdout);
  return letters;
}

test("the first copy, changes of every kind, and a kill in the middle of them", async () => {
  await pipeline.expectEqual([PERSON, "plain"]);
  const { stdout } = await pipeline.installation.command("status", "--tables");
  expect(stdout).toMatch(/rules.ts#fullName\(first, last\) .* full_name/);
  await move(1);
  await pipeline.expectEqual([PERSON, "plain"]);
  await move(30);
  await pipeline.kill();
  await move(60);
  await pipeline.start();
  await move(90);
  await pipeline.expectEqual([PERSON, "plain"]);
});

test("a comparison calls the functions too: it finds and repairs what somebody wrote into a computed column", async () => {
  await pipeline.sinks.target!.query("update public.person set full_name = 'other', seen = null where id in (20, 21)");
  const found = await pipeline.installation.command(
    "reconcile",
    "--tables",
    "public.person",
    "--sink",
    "postgres",
    "--repair",
  );
  expect(found.exitCode, found.stdout + found.stderr).toBe(3);
  expect(found.stdout).toContain("full_name");
  await pipeline.expectEqual([PERSON]);
  const again = await pipeline.installation.command("reconcile", "--tables", "public.person");
  expect(again.exitCode, again.stdout).toBe(0);
});

test("rows on which a function fails are dead letters that name file and line, and no value", async () => {
  await pipeline.run(
    `insert into person (id, first, last) values (9001, 'throw', '${CANARY}'), (9002, 'promise', '${CANARY}'), (9003, 'number', 'x');
     update person set first = 'throw', last = '${CANARY}' where id = 20; insert into plain values (100, 'after')`,
  );
  await pipeline.settled();
  const letters = await waitingLetters();
  const ofOne = letters.filter(({ sink }) => sink === "redis").map(({ code, cause }) => `${code} ${cause}`);
  expect(ofOne.toSorted()).toEqual([
    expect.stringMatching(
      /^MR1036 column "full_name" of public.person: .*rules.ts#fullName returned a number; expected a text /,
    ),
    expect.stringMatching(
      /^MR1036 column "full_name" of public.person: .*rules.ts#fullName returned a promise; expected/,
    ),
    ...Array.from({ length: 2 }, () =>
      expect.stringMatching(/rules.ts#fullName threw a RangeError at .*rules.ts:7:\d+$/),
    ),
  ]);
  expect(letters).toHaveLength(4 * CHOSEN_KINDS.length);
  // The sinks keep what they had of such a row, and a comparison does not call it a difference.
  const { rows: kept } = await pipeline.sinks.target!.query(
    "select id, first from public.person where id in (20, 9001)",
  );
  expect(kept).toEqual([{ id: "20", first: "first20" }]);
  const compared = await pipeline.installation.command("reconcile", "--tables", "public.person", "--json");
  expect(compared.exitCode, compared.stdout).toBe(0);
  expect(
    `${pipeline.daemon.said}${JSON.stringify(letters)}${JSON.stringify(await pipeline.installation.status())}`,
  ).not.toContain(CANARY);
  await pipeline.run(
    "update person set first = 'right', last = null where id in (20, 9001); delete from person where id = 9002",
  );
  await pipeline.settled();
  expect((await waitingLetters()).map(({ sink }) => sink).toSorted()).toEqual([...CHOSEN_KINDS].toSorted());
});

test("a function that was corrected: its table is read again, and its letters are gone", async () => {
  await pipeline.daemon.stop();
  writeFileSync(folder.file("rules.ts"), FUNCTIONS.replace('first === "number"', 'first === "nothing"'));
  await pipeline.start();
  await eventually(async () => expect(await waitingLetters()).toEqual([]));
  await pipeline.expectEqual([PERSON]);
  // What it imports is a part of it.
  await pipeline.daemon.stop();
  writeFileSync(folder.file("joined.ts"), JOINED.replace('join(" ")', 'join("+")'));
  await pipeline.start();
  await pipeline.run(
    `create or replace view person_ruled as ${VIEW.slice(VIEW.indexOf("select")).replace("concat_ws(' '", "concat_ws('+'")}`,
  );
  await pipeline.expectEqual([PERSON]);
});

test("rules try shows rows as the sinks get them, and what rules hide only when asked; it names what fails", async () => {
  const { installation } = pipeline;
  interface Tried {
    readonly rows: readonly {
      readonly before: Readonly<Record<string, unknown>>;
      readonly hidden: readonly string[];
      readonly after: Readonly<Record<string, unknown>>;
      readonly failed: object | null;
      readonly isStable: boolean;
    }[];
  }
  const tried = async (...args: readonly string[]) => {
    const { exitCode, stdout } = await installation.command("rules", "try", ...args, "--json");
    const { rows: all }: Tried = JSON.parse(stdout);
    return { exitCode, rows: all, stdout };
  };
  const first = await tried("public.person", "--limit", "2");
  expect(first).toMatchObject({ exitCode: 0, rows: [{ hidden: ["mail"], failed: null, isStable: true }, {}] });
  expect(first.rows).toHaveLength(2);
  expect(first.rows[0]!.after).toMatchObject({ id: 1, mail: "[redacted]", hidden: "<[redacted]>" });
  expect(first.stdout).toContain('"next_big": 9007199254740995');
  expect(first.rows[0]!.before).not.toHaveProperty("mail");
  expect(first.stdout).not.toContain(CANARY);
  const text = await installation.command("rules", "try", "public.person", "--limit", "3");
  expect(text.stdout).toMatch(/mail +.* \(hidden\) +.*\[redacted\]/);
  expect(text.stdout).not.toContain(CANARY);
  expect((await tried("public.person", "--show-before")).stdout).toContain(CANARY);
  const wrong = await installation.command("rules", "try", "public.persons");
  expect({ exitCode: wrong.exitCode, stderr: wrong.stderr }).toMatchObject({
    exitCode: 2,
    stderr: expect.stringContaining('did you mean "public.person"?'),
  });
  writeFileSync(
    folder.file("rules.ts"),
    FUNCTIONS.replace("return joined(first, last);", "return String(Math.random());"),
  );
  expect(await tried("public.person", "--limit", "1")).toMatchObject({ exitCode: 1, rows: [{ isStable: false }] });
  writeFileSync(
    folder.file("rules.ts"),
    FUNCTIONS.replace("return joined(first, last);", "throw new Error(String(last));"),
  );
  const failing = await tried("public.person", "--limit", "1");
  expect(failing).toMatchObject({
    exitCode: 1,
    rows: [{ failed: { column: "full_name", how: expect.stringMatching(/threw an Error at .*rules.ts:10:\d+$/) } }],
  });
});

test("a function that takes longer than its budget is named in the status", async () => {
  await pipeline.daemon.stop();
  const slow =
    "{ const until = performance.now() + 5; while (performance.now() < until); return joined(first, last); }";
  writeFileSync(folder.file("rules.ts"), FUNCTIONS.replace("return joined(first, last);", slow));
  await pipeline.start();
  await eventually(async () => {
    const { conditions } = await pipeline.installation.status();
    expect(conditions).toContainEqual(
      expect.objectContaining({
        kind: "table.slow-function",
        level: "watch",
        table: "public.person",
        what: expect.stringMatching(/rules.ts#fullName takes \d.* ms for a row of public.person \(column full_name\)/),
      }),
    );
  });
});

test("check finds a file, an export and a type that are missing, with the line of the configuration", async () => {
  const { installation } = pipeline;
  const { text } = installation;
  const broken = async (from: string, to: string) => {
    installation.text = text.replace(from, to);
    const { exitCode, stdout, stderr } = await installation.command("check");
    installation.text = text;
    return { exitCode, said: stdout + stderr };
  };
  const line = text.slice(0, text.indexOf("rules.ts#fullName")).split("\n").length;
  for (const [to, what] of [
    ["none.ts#fullName", "there is no file"],
    ["rules.ts#noName", "has no export noName"],
    ["joined.js", "it is no name of a function"],
  ] as const) {
    const { exitCode, said } = await broken("rules.ts#fullName", to);
    expect(exitCode, said).not.toBe(0);
    expect(said).toContain(what);
    expect(said).toMatch(new RegExp(`:${line}:`));
  }
  const typeless = await broken("type: text", "type: txet");
  expect(typeless.said).toContain("unknown type");
});
