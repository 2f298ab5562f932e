/**
 * Filters over values that the log leaves out, with random changes: mirrors equal the source, and a history has what triggers of the
 * source wrote down of the rows that match: all of it where the log has whole old rows, else nothing that never was.
 * @module-tag long
 */
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { Random, testSeed } from "../../support/run/random.ts";

const FILTERS: Readonly<Record<string, string>> = {
  one: "a like 'x%'",
  two: "a like 'x%' and n < 50",
  three: "a like 'x%' or b like 'y%'",
  four: "not (a like 'x%') and b is not null",
  five: "a < b",
  six: "n < 50",
  seven: "n < 50 or a like 'x%'",
};
const names = Object.keys(FILTERS);
const KINDS = ["postgres", "postgres-soft", "postgres-history"] as const;
const STEPS = 400;

const PREPARE = `create table audit (at bigserial, t text, id int, op text, n int, a text);
${names
  .map(
    (t) => `create table ${t} (id int primary key, n int, a text collate "C", b text collate "C");
  alter table ${t} alter a set storage external, alter b set storage external;
  insert into ${t} select g, g * 7 % 100, case when g % 2 = 0 then repeat('x', 3000) else repeat('q', 3000) end, case when g % 3 = 0 then repeat('y', 3000) when g % 3 = 1 then repeat('k', 3000) end from generate_series(1, 30) g;
  create function audit_${t}() returns trigger language plpgsql as $$
  declare was bool := false; is_now bool := false;
  begin
    if tg_op <> 'INSERT' then execute 'select coalesce((select ${FILTERS[t]!.replaceAll("'", "''")} from (select ($1).*) s), false)' using old into was; end if;
    if tg_op <> 'DELETE' then execute 'select coalesce((select ${FILTERS[t]!.replaceAll("'", "''")} from (select ($1).*) s), false)' using new into is_now; end if;
    if tg_op = 'UPDATE' and new.id <> old.id then
      if was then insert into audit (t, id, op) values ('${t}', old.id, 'd'); end if;
      if is_now then insert into audit (t, id, op, n, a) values ('${t}', new.id, 'u', new.n, left(new.a, 1) || right(new.a, 9)); end if;
      return null;
    end if;
    if is_now then insert into audit (t, id, op, n, a) values ('${t}', new.id, case tg_op when 'INSERT' then 'c' else 'u' end, new.n, left(new.a, 1) || right(new.a, 9));
    elsif was then insert into audit (t, id, op) values ('${t}', old.id, 'd'); end if;
    return null;
  end $$;
  insert into audit (t, id, op, n, a) select '${t}', id, 'r', n, left(a, 1) || right(a, 9) from ${t} where ${FILTERS[t]};
  create trigger audit after insert or update or delete on ${t} for each row execute function audit_${t}();`,
  )
  .join("\n")}`;

function statement(random: Random, t: string): string {
  const from = 1 + random.below(40);
  const to = from + random.pick([0, 0, 0, 2, 10]);
  const range = `id between ${from} and ${to}`;
  const big = (): string =>
    random.pick([
      "null",
      "'x'",
      ...["x", "q", "y", "k"].map((c) => `repeat('${c}', 3000) || ${random.below(100000)}::text`),
    ]);
  return random.pick([
    `update ${t} set n = ${random.below(100)} where ${range}`,
    `update ${t} set n = ${random.below(100)} where ${range}`,
    `update ${t} set n = n + 1 where ${range}`,
    `update ${t} set a = ${big()} where ${range}`,
    `update ${t} set b = ${big()} where ${range}`,
    `update ${t} set a = ${big()}, n = ${random.below(100)} where ${range}`,
    `delete from ${t} where ${range}`,
    `insert into ${t} select g, ${random.below(100)}, ${big()}, ${big()} from generate_series(${from}, ${to}) g on conflict do nothing`,
    `insert into ${t} select g, ${random.below(100)}, ${big()}, ${big()} from generate_series(${from}, ${to}) g on conflict (id) do update set n = excluded.n`,
    `update ${t} set id = id + 100 where ${range} and not exists (select from ${t} x where x.id between ${from + 100} and ${to + 100})`,
    `update ${t} set id = id - 100 where id > 100 and not exists (select from ${t} x where x.id < 100)`,
    `update ${t} set id = 200 - id where id = ${from} and not exists (select from ${t} x where x.id = ${200 - from})`,
  ]);
}

interface Told {
  readonly id: number;
  readonly op: string;
  readonly n: number | null;
  readonly a: string | null;
  readonly unknown?: string | null;
}

const shown = (rows: readonly Told[]): string[] =>
  rows.map(({ id, op, n, a }) => (op === "d" ? `${id} d` : `${id} ${op} ${n} ${a}`));
const COLUMNS = "id, n, left(a, 1) || right(a, 9) as a, left(b, 1) || right(b, 9) as b";

test.for([["FULL"], ["DEFAULT"], ["kills"]])("%s", async ([how]) => {
  const random = new Random(testSeed());
  await using pipeline = await RunningPipeline.start(PREPARE, {
    kinds: KINDS,
    configure: (config) => ({
      ...config,
      source: { ...config.source, tables: ["public.*", "!public.audit"] },
      tables: Object.fromEntries(names.map((t) => [`public.${t}`, { where: FILTERS[t] }])),
    }),
  });
  if (how === "FULL") for (const t of names) await pipeline.run(`alter table ${t} replica identity full`);
  await pipeline.settled();
  for (let i = 0; i < STEPS; i++) {
    const t = random.pick(names);
    const statements = Array.from({ length: random.pick([1, 1, 1, 2, 4]) }, () =>
      statement(random, random.chance(0.8) ? t : random.pick(names)),
    );
    await pipeline.run(statements.join("; "));
    if (random.chance(0.02)) await pipeline.settled();
    if (how === "kills" && random.chance(0.02)) {
      await pipeline.kill();
      await pipeline.start(false);
    }
  }
  await pipeline.settled();
  const target = pipeline.sinks.target!;
  for (const t of names) {
    const { rows } = await pipeline.source.query(`select ${COLUMNS} from ${t} where ${FILTERS[t]} order by id`);
    const latest = `(select distinct on (id) * from history.${t} order by id, _millrace_version desc, _millrace_offset desc) s`;
    for (const from of [t, `soft.${t} where not _millrace_deleted`, `${latest} where _millrace_op <> 'd'`]) {
      const found = await target.query(`select ${COLUMNS} from ${from} order by id`);
      expect.soft({ from, rows: found.rows }).toEqual({ from, rows });
    }
    const wrote = `select id, op, n, a from audit where t = '${t}' order by id, at`;
    const { rows: audited } = await pipeline.source.query<Told>(wrote);
    const { rows: told } = await target.query<Told>(
      `select id, _millrace_op as op, n, left(a, 1) || right(a, 9) as a, _millrace_unchanged::text as unknown
        from history.${t} order by id, _millrace_version, _millrace_offset`,
    );
    if (how === "FULL") expect.soft({ t, told: shown(told) }).toEqual({ t, told: shown(audited) });
    const states = new Set(audited.map(({ id, n, a }) => `${id} ${n} ${a}`));
    const never = told.filter(
      ({ id, op, n, a, unknown }) => op !== "d" && unknown === null && !states.has(`${id} ${n} ${a}`),
    );
    expect.soft({ t, never }).toEqual({ t, never: [] });
  }
});
