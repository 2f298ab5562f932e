/** Rules per table: masks, dropped and renamed columns, row filters. What they hide is nowhere; the rest is equal. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { filesBelow } from "../../support/daemon/canary.ts";
import type { TableName } from "../../support/compare/compare.ts";
import { copyDuckdbFile, rowsInFile } from "../../support/warehouses/duckdb-file.ts";
import { hashedSql, partialSql, redactedSql } from "../../support/model/rules-view.ts";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { SINK_KINDS } from "../../support/daemon/sink-set.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";
import { eventually } from "../../support/run/waiting.ts";

const KEY = "a-key-of-the-tests-0123456789";
/** Not compressible, and too long to stay in the row. */
const LONG = "(select string_agg(md5(random()::text || g || i), '') from generate_series(1, 90) i)";
/** In every value that is hidden, and in no other. */
const CANARY = "Kanarienvogel";
/** It, and what stands in hidden columns of other types; not where it is a part of a hash. */
const HIDDEN = new RegExp(`${CANARY}|(?<![0-9a-f])7700\\d{4}(?![0-9a-f])|1990-01-01`);
/** In values that are not hidden: what is searched for it, and has it, can be searched for the others. */
const SHOWN = "Singvogel";

const RULES = {
  "public.*": { columns: { "*mail": { mask: "hash" } } },
  "public.person": {
    columns: {
      phone: { mask: "partial" },
      tax_number: { mask: "hash" },
      "note*": { mask: "redact" },
      notes_public: { mask: "none" },
      born: { mask: null },
      secret: { drop: true },
      status: { rename: "state" },
    },
    where: "status <> 'test' and (body is null or body not like 'hide%')",
  },
};

const VIEWS = `
  create view person_ruled as select id, ${hashedSql(KEY, "mail")} as mail, ${partialSql("phone")} as phone,
      ${hashedSql(KEY, "tax_number::text")} as tax_number, ${redactedSql("note")} as note, notes_public,
      null::date as born, status as state, body, n
    from person where status <> 'test' and (body is null or body not like 'hide%');
  create view account_ruled as select ${hashedSql(KEY, "mail")} as mail, no, plain from account`;

const PERSON: TableName = { schema: "public", table: "person", key: ["id"], shownBy: "person_ruled" };
const ACCOUNT: TableName = { schema: "public", table: "account", key: ["no"], shownBy: "account_ruled" };
const TABLES = [PERSON, ACCOUNT, "plain"];

const rows = (from: number, to: number, status = "case when g % 3 = 0 then 'test' else 'open' end") =>
  `insert into person select g, 'mail' || g % 40 || '@${CANARY}', '+49 ${CANARY} ' || g, 77000000 + g,
     case when g % 4 > 0 then 'note ${CANARY}' end, 'seen', '1990-01-01', 'secret ${CANARY}', ${status},
     case when g % 5 = 0 then null when g % 7 = 0 then 'hide' || ${LONG} else ${LONG} end, 0
   from generate_series(${from}, ${to}) g`;

let pipeline: RunningPipeline;

beforeAll(async () => {
  pipeline = await RunningPipeline.start(
    `create table person (id bigint primary key, mail text, phone text, tax_number int, note text, notes_public text,
       born date, secret text, status text, body text, n int);
     alter table person alter body set storage external;
     create table account (mail varchar(200), no int primary key, plain text);
     create table plain (id int primary key, v text);
     ${VIEWS}; ${rows(1, 300)};
     insert into account select 'mail' || g || '@${CANARY}', g, 'x' from generate_series(1, 40) g;
     insert into plain select g, 'v' || g from generate_series(1, 50) g`,
    { kinds: SINK_KINDS, configure: (config: PipelineConfig) => ({ ...config, tables: RULES, maskKey: KEY }) },
  );
});

afterAll(async () => {
  await pipeline?.[Symbol.asyncDispose]();
});

type Place = readonly [name: string, text: string];

/** All that the pipeline keeps and says. */
async function places(): Promise<readonly Place[]> {
  const { installation, daemon } = pipeline;
  const files = filesBelow(installation.folder, ["millrace.yaml"]);
  return [...files, ["log", daemon.said], ...(await everyRowOfTheSinks())];
}

const having = (what: RegExp, among: readonly Place[]) =>
  among.filter(([, text]) => what.test(text)).map(([name]) => name);

/** Where the hidden values turn up. */
async function leaks(): Promise<string[]> {
  return having(HIDDEN, await places());
}

/** Millrace's own rows too. */
async function everyRowOfTheSinks(): Promise<readonly Place[]> {
  const found: Place[] = [];
  const { target, keyPrefix, indexPrefix, config } = pipeline.sinks;
  const { rows: tables } = await target!.query<{ name: string }>(
    "select format('%I.%I', schemaname, tablename) as name from pg_tables where schemaname not in ('pg_catalog', 'information_schema')",
  );
  for (const { name } of tables) {
    const { rows: held } = await target!.query(`select t::text as row from ${name} t`);
    found.push([`postgres ${name}`, JSON.stringify(held)]);
  }
  const { url } = addressOf(config["elasticsearch"]);
  const answer = await fetch(`${url}/${indexPrefix}*/_search?size=5000&expand_wildcards=all`);
  expect(answer.status).toBe(200);
  found.push(["elasticsearch", await answer.text()]);
  using cache = pipeline.cache();
  for (const key of await cache.keys(`${keyPrefix}*`)) {
    if ((await cache.type(key)) === "hash") found.push([`redis ${key}`, JSON.stringify(await cache.hgetall(key))]);
  }
  using folder = temporaryFolder();
  copyDuckdbFile(join(pipeline.installation.folder, "warehouse.duckdb"), folder.file("copy.duckdb"));
  for (const [name, text] of await rowsInFile(folder.file("copy.duckdb"))) found.push([`duckdb ${name}`, text]);
  return found;
}

function addressOf(sink: object | undefined): { readonly url: string } {
  return { url: String(Object.entries(sink ?? {}).find(([key]) => key === "url")?.[1]) };
}

test("the first copy", async () => {
  await pipeline.expectEqual(TABLES);
  expect(await leaks()).toEqual([]);
});

test("status --tables says where each column goes", async () => {
  const { installation } = pipeline;
  const { stdout } = await installation.command("status", "--tables", "--json");
  const { tables }: { tables: { lineage: { table: string; columns: object[] }[] } } = JSON.parse(stdout);
  const of = (id: string) => tables.lineage.find(({ table }) => table === id);
  const hiddenBy = (column: string, table = "public.person") => ({ hiddenBy: { table, column }, renamedBy: null });
  const open = { mask: null, hiddenBy: null, renamedBy: null };
  expect(of("public.person")).toEqual({
    table: "public.person",
    computed: [],
    filtered: true,
    decidedBy: { where: "public.person" },
    columns: [
      { source: "id", target: "id", ...open },
      { source: "mail", target: "mail", mask: "hash", ...hiddenBy("*mail", "public.*") },
      { source: "phone", target: "phone", mask: "partial", ...hiddenBy("phone") },
      { source: "tax_number", target: "tax_number", mask: "hash", ...hiddenBy("tax_number") },
      { source: "note", target: "note", mask: "redact", ...hiddenBy("note*") },
      { source: "notes_public", target: "notes_public", mask: null, ...hiddenBy("notes_public") },
      { source: "born", target: "born", mask: "null", ...hiddenBy("born") },
      { source: "secret", target: null, mask: null, ...hiddenBy("secret") },
      { source: "status", target: "state", ...open, renamedBy: { table: "public.person", column: "status" } },
      { source: "body", target: "body", ...open },
      { source: "n", target: "n", ...open },
    ],
  });
  expect(of("public.plain")?.columns).toContainEqual({ source: "v", target: "v", ...open });
  const text = await installation.command("status", "--tables");
  expect(text.stdout).toContain("(dropped)");
});

test("hashes are equal across tables, where the values are", async () => {
  const { rows: joined } = await pipeline.sinks.target!.query<{ n: string }>(
    "select count(*) as n from public.person p join public.account a using (mail)",
  );
  const { rows: expected } = await pipeline.source.query<{ n: string }>(
    "select count(*) as n from person_ruled p join account a on p.mail = (select r.mail from account_ruled r where r.no = a.no)",
  );
  expect(joined).toEqual(expected);
  expect(Number(joined[0]?.n)).toBeGreaterThan(0);
});

test("rows that come to match, and rows that no longer do", async () => {
  await pipeline.run(rows(301, 400));
  await pipeline.run("update person set status = 'open', n = 1 where id % 6 = 0");
  await pipeline.run("update person set status = 'test', n = 2 where id % 8 = 0");
  await pipeline.run("update person set n = 3 where id % 7 = 0");
  await pipeline.run(
    "update person set body = 'hide', n = 4 where id % 11 = 0; update person set n = 5 where id % 11 = 0",
  );
  await pipeline.run(`begin; ${rows(401, 420, "'open'")}; update person set status = 'test' where id between 401 and 410;
    update person set n = 6 where id between 401 and 420; update person set status = 'open' where id < 405; commit`);
  await pipeline.run("delete from person where id % 13 = 0");
  await pipeline.expectEqual(TABLES);
});

test("keys that change, into and out of what is wanted", async () => {
  await pipeline.run("update person set id = id + 1000 where id between 20 and 40");
  await pipeline.run("update person set id = id + 1000, status = 'test' where id between 41 and 60");
  await pipeline.run("update person set id = id + 1000, status = 'open' where id between 61 and 80");
  await pipeline.run(`begin; update person set id = 5000, status = 'test' where id = 82; update person set id = 82 where id = 83;
    update person set id = 83, status = 'open' where id = 5000; commit`);
  await pipeline.expectEqual(TABLES);
});

test("old rows in the log are as little seen", async () => {
  await pipeline.run("alter table person replica identity full");
  await pipeline.run(
    "update person set n = 7 where id % 2 = 0; update person set id = id + 3000 where id between 90 and 95",
  );
  await pipeline.run("update person set status = 'test' where id between 96 and 99; delete from person where id = 100");
  await pipeline.expectEqual(TABLES);
  await pipeline.run("alter table person replica identity default; update person set n = 8");
  await pipeline.expectEqual(TABLES);
  expect(await leaks()).toEqual([]);
});

test("tail and dead letters show what sinks would get", async () => {
  await pipeline.sinks.target!.query("alter table public.person add constraint small check (n < 1000)");
  const tailing = pipeline.installation.command("tail", "--limit", "5", "--tables", "public.person");
  await eventually(async () => {
    await pipeline.run(
      "update person set n = 1001 where id = 1; update person set n = 9, mail = mail where id in (2, 4, 5)",
    );
    const { sinks } = await pipeline.installation.status();
    expect(sinks.find(({ name }) => name === "postgres")?.deadLetters).toBe(1);
  });
  const stop = setInterval(() => void pipeline.run("update person set n = n where id in (2, 4, 5)"), 300);
  const { stdout, exitCode } = await tailing;
  clearInterval(stop);
  expect(exitCode).toBe(0);
  expect(stdout).toContain('"state":"open"');
  expect(stdout).not.toContain(CANARY);
  const letters = await pipeline.installation.command("dlq", "list", "--json");
  expect(letters.stdout).toContain("public.person");
  expect(await leaks()).toEqual([]);
  await pipeline.run("update person set n = 0 where id = 1");
  await pipeline.expectEqual(TABLES);
});

test("old rows, deleted keys, refused rows and their errors hide as much, wherever they are looked at", async () => {
  const { installation, source } = pipeline;
  await pipeline.daemon.stop();
  pipeline.daemon = installation.run({}, "--log-level", "debug");
  await pipeline.daemon.streaming();
  await pipeline.run(
    `alter table person replica identity full; update person set notes_public = '${SHOWN}' where id < 30`,
  );
  await pipeline.settled();
  // What is not yet in the cache can be read again.
  await installation.ask("POST", "/api/v1/pause", { sink: "redis" });
  const { rows: from } = await source.query<{ lsn: string }>("select pg_current_wal_lsn()::text as lsn");
  await pipeline.sinks.target!.query(`create function public.refuse() returns trigger language plpgsql as $$ begin
      if new.n = 2000 then raise exception 'refused: %', new using detail = new::text; end if; return new; end $$;
    create trigger refuse before insert or update on public.person for each row execute function public.refuse()`);
  await pipeline.run(
    "update person set n = 1001, mail = 'another' || mail, tax_number = tax_number + 1 where id in (2, 4)",
  );
  await pipeline.run("update person set n = 2000, phone = phone || '0' where id = 5");
  await pipeline.run("update person set id = id + 9000, n = 1002, secret = secret || 'x' where id in (7, 8)");
  await pipeline.run(
    `${rows(9100, 9104, "'open'")}; update person set n = 2000, notes_public = '${SHOWN}' where id = 9101`,
  );
  await pipeline.run("delete from person where id in (10, 9102); delete from account where no = 3");
  using cache = pipeline.cache();
  await cache
    .multi()
    .del(`${pipeline.sinks.keyPrefix}public:person:17`)
    .rpush(`${pipeline.sinks.keyPrefix}public:person:17`, "x")
    .exec();
  await pipeline.run("update person set n = 12, born = '1990-01-01' where id = 17");
  await eventually(async () => {
    const { sinks } = await installation.status();
    expect(sinks.find(({ name }) => name === "postgres")?.deadLetters).toBeGreaterThanOrEqual(5);
  });

  const said: Place[] = [];
  const say = async (...args: readonly string[]) => {
    const { stdout, stderr } = await installation.command(...args);
    said.push([args.join(" "), stdout + stderr]);
    return stdout;
  };
  const tailed = await say("tail", "--from", from[0]!.lsn, "--limit", "12", "--log-level", "debug");
  const envelopes = tailed
    .trim()
    .split("\n")
    .map((line): { op: string; before: object | null } => JSON.parse(line));
  expect(new Set(envelopes.map(({ op }) => op))).toEqual(new Set(["c", "u", "d"]));
  expect(envelopes.filter(({ before }) => before !== null && "mail" in before).length).toBeGreaterThan(5);
  await installation.ask("POST", "/api/v1/resume", { sink: "redis" });
  await pipeline.settled();
  const { letters }: { letters: readonly { id: number; sink: string }[] } = JSON.parse(
    await say("dlq", "list", "--json", "--all"),
  );
  expect(new Set(letters.map(({ sink }) => sink))).toEqual(new Set(["postgres", "redis"]));
  for (const name of ["postgres", "redis"]) {
    await say("dlq", "show", String(letters.findLast(({ sink }) => sink === name)?.id), "--show-values");
  }
  for (const command of ["dlq list", "status --tables"]) await say(...command.split(" "));

  const all = [...said, ...(await places())];
  expect(having(HIDDEN, all)).toEqual([]);
  const shown = having(new RegExp(SHOWN), all);
  for (const place of [
    /^tail/,
    /^dlq show/,
    /^postgres public.person/,
    /^duckdb .*person/,
    /^elasticsearch/,
    /^redis .*person/,
    /\.db/,
  ]) {
    expect(shown).toContainEqual(expect.stringMatching(place));
  }
  await pipeline.sinks.target!.query("drop function public.refuse cascade");
  await cache.del(`${pipeline.sinks.keyPrefix}public:person:17`);
  await pipeline.run(
    "alter table person replica identity default; update person set n = 0 where n between 12 and 2000",
  );
  await pipeline.expectEqual(TABLES);
});

test("truncate", async () => {
  await pipeline.run("truncate account; insert into account values ('a@b', 1, 'y')");
  await pipeline.expectEqual(TABLES);
});

test("rules that change between two runs", async () => {
  await pipeline.daemon.stop();
  await pipeline.run(
    `create view person_other as select id, ${redactedSql("mail")} as mail, phone as telephone, tax_number, note, notes_public, born, secret, body, n
       from person where id < 200 or n is null;
     update person set n = 10 where id % 9 = 0`,
  );
  const { source, sinks, tables: _, ...config } = configured();
  const other = {
    "public.person": {
      columns: { mail: { mask: "redact" }, phone: { rename: "telephone" }, status: { drop: true } },
      where: "id < 200 or n is null",
    },
  };
  pipeline.installation.configure({ ...config, source, sinks, tables: other, maskKey: KEY });
  await pipeline.start();
  await pipeline.run("update person set n = 11 where id % 10 = 0");
  await pipeline.expectEqual([{ ...PERSON, shownBy: "person_other" }, "account", "plain"]);
  await pipeline.daemon.stop();
  pipeline.installation.configure({ ...config, source, sinks });
  await pipeline.start();
  await pipeline.expectEqual(["person", "account", "plain"]);
  await pipeline.daemon.stop();
  pipeline.installation.configure({ ...config, source, sinks, tables: RULES, maskKey: KEY });
  await pipeline.start();
  await pipeline.expectEqual(TABLES);
});

function configured(): PipelineConfig {
  const { source, sinks, installation } = pipeline;
  return {
    name: installation.name,
    source: { kind: "postgres", url: source.url, heartbeat: "500ms" },
    sinks: sinks.config,
  };
}

test("a kill in the middle of other rules", { tags: "long" }, async () => {
  const config = configured();
  await pipeline.kill();
  pipeline.installation.configure({ ...config, tables: { "public.person": { columns: { mail: { drop: true } } } } });
  await pipeline.run(
    "create view person_short as select id, phone, tax_number, note, notes_public, born, secret, status, body, n from person",
  );
  await pipeline.start(false);
  await eventually(() => expect(pipeline.daemon.said).toContain("millrace is running"));
  await pipeline.kill();
  await pipeline.start();
  await pipeline.expectEqual([{ ...PERSON, shownBy: "person_short" }, "account"]);
  await pipeline.daemon.stop();
  pipeline.installation.configure({ ...config, tables: RULES, maskKey: KEY });
  await pipeline.start();
  await pipeline.expectEqual(TABLES);
});

test("a hidden column that is renamed while rows flow suspends its table", async () => {
  const secret = `${CANARY} afterwards`;
  await pipeline.run(`alter table account rename mail to contact; insert into account values ('${secret}', 2, 'z')`);
  await eventually(async () => {
    const { tables } = await pipeline.installation.status();
    expect(tables.suspended.map(({ table, error }) => [table, error.code])).toEqual([["public.account", "MR1025"]]);
  });
  await pipeline.run("update plain set v = 'on' where id = 1");
  await eventually(async () => {
    const { source, sinks, installation } = pipeline;
    expect(await sinks.differences(source.url, installation.folder, ["plain", PERSON])).toEqual([]);
  });
  expect(having(new RegExp(secret), await places())).toEqual([]);
  expect(readFileSync(join(pipeline.installation.folder, "millrace.yaml"), "utf8")).toContain(KEY);
  expect(pipeline.daemon.said).not.toContain(KEY);
});
