/** `offsets`: operators put sinks elsewhere in the log, and every sink equals the source afterwards. */
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parseLsn } from "../../../connectors/postgres/source/wire/lsn.ts";
import { historyFaults, keepLog } from "../../support/compare/history.ts";
import { type CommandResult, Installation } from "../../support/daemon/daemon-process.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { elasticsearchUrl, freshDatabase } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";
import { CHOSEN_KINDS, SINK_KINDS, type SinkKind } from "../../support/daemon/sink-set.ts";
import { runInFile } from "../../support/warehouses/duckdb-file.ts";
import { searchCall } from "../../support/caches/search-rows.ts";

const BEYOND = "9223372036854775807";

/** The daemon must not run: nobody else may hold the DuckDB file. */
async function spoilRows(pipeline: RunningPipeline): Promise<void> {
  const statements = [
    `update public.orders set n = -1, _millrace_version = ${BEYOND} where id = 1`,
    "update public.orders set n = -2 where id = 2",
    "delete from public.orders where id = 3",
    `insert into public.orders (id, n, body, _millrace_version, _millrace_commit_time)
       values (1001, 0, 'nobody', ${BEYOND}, now()), (1002, 0, 'nobody', 1, now())`,
  ].join("; ");
  await pipeline.sinks.target?.query(statements);
  await runInFile(join(pipeline.installation.folder, "warehouse.duckdb"), statements);
  await spoilKeys(pipeline);
  await spoilDocuments(pipeline);
}

async function spoilKeys(pipeline: RunningPipeline): Promise<void> {
  using cache = pipeline.cache();
  const key = (id: number) => `${pipeline.sinks.keyPrefix}public:orders:${id}`;
  await cache.hset(key(1), "n", "-1", "_millrace_version", BEYOND);
  await cache.hset(key(2), "n", "-2");
  await cache.del(key(3));
  await cache.hset(key(1001), "id", "1001", "n", "0", "_millrace_version", BEYOND);
  await cache.hset(key(1002), "id", "1002", "n", "0");
}

async function spoilDocuments(pipeline: RunningPipeline): Promise<void> {
  const at = `/${pipeline.sinks.indexPrefix}public.orders/_doc`;
  const far = `version=${BigInt(BEYOND) - 1n}&version_type=external`;
  const put = async (path: string, n: number) => {
    const { status, text } = await searchCall(elasticsearchUrl(), "PUT", `${at}/${path}`, JSON.stringify({ id: 1, n }));
    if (status > 201) throw new Error(text);
  };
  await put(`1?${far}`, -1);
  await put("2", -2);
  await searchCall(elasticsearchUrl(), "DELETE", `${at}/3`);
  await put(`1001?${far}`, 0);
}

const ORDERS = `create table orders (id int primary key, n int not null, body text);
  create table notes (id int primary key, text text);
  insert into orders select g, 0, repeat(md5(g::text), 200) from generate_series(1, 40) g;
  insert into notes select g, 'note' from generate_series(1, 5) g`;
const TABLES = ["orders", "notes"];

/** Each kind of change: a replay begins in their midst. */
const MOVES = [
  "insert into orders select g, 1, repeat(md5(g::text), 200) from generate_series(41, 60) g",
  "update orders set n = n + 1 where id <= 50",
  "delete from orders where id between 10 and 20; update orders set id = id + 500 where id between 21 and 25",
  "truncate notes",
  "insert into notes values (1, 'again'), (7, 'new'); insert into orders values (10, 7, 'back')",
  "update orders set body = n::text where id between 30 and 35; update orders set n = 99 where id between 32 and 45",
];

/** Tables go, get other names, and are made again under names that others had. */
const REMADE = "create table orders (id int primary key, n int not null, body text)";
const OTHER_TABLES = [
  "update orders set n = n + 1 where id <= 20; delete from orders where id = 40",
  `alter table orders rename to archive; ${REMADE}; insert into orders select g, 5, 'again' from generate_series(30, 45) g`,
  "update archive set n = 50 where id < 5; delete from archive where id = 6; delete from orders where id = 31",
  "drop table notes; create table notes (id int primary key, text varchar(10), more int); insert into notes values (2, 'x', 1)",
  "alter table orders drop column body; alter table orders add column body text default 'd'; update orders set n = 9 where id > 40",
  `drop table archive; alter table orders rename to archive; ${REMADE}; insert into orders values (1, 1, 'third')`,
  "update archive set n = 10 where id = 33; update notes set more = 2",
];

async function held(kinds: readonly SinkKind[] = CHOSEN_KINDS): Promise<RunningPipeline> {
  const pipeline = await RunningPipeline.start(ORDERS, { kinds });
  await pipeline.settled();
  return pipeline;
}

/** While one sink is paused the source keeps the log for it, so the others can go back. */
async function moveWhilePaused(
  pipeline: RunningPipeline,
  sink: string,
  moves: readonly string[] = MOVES,
): Promise<Place[]> {
  await command(pipeline, 0, "pause", "--sink", sink);
  const places: Place[] = [];
  for (const sql of moves) {
    places.push(await now(pipeline));
    await pipeline.run(sql);
  }
  places.push(await now(pipeline));
  await othersReach(pipeline, sink, places.at(-1)!);
  return places;
}

async function othersReach(pipeline: RunningPipeline, sink: string, { lsn }: Place): Promise<void> {
  const end = parseLsn(lsn);
  await eventually(async () => {
    const { sinks } = await pipeline.installation.status();
    for (const { name, position } of sinks) {
      if (name !== sink && parseLsn(position ?? "0/0") < end) throw new Error(`${name} is at ${position}`);
    }
  });
}

interface Place {
  readonly lsn: string;
  readonly time: string;
}

async function now(pipeline: RunningPipeline): Promise<Place> {
  const { rows } = await pipeline.source.query<Place>(
    "select pg_current_wal_lsn()::text as lsn, to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') as time",
  );
  return rows[0]!;
}

async function command(
  pipeline: RunningPipeline,
  exitCode: number,
  ...args: readonly string[]
): Promise<CommandResult> {
  const result = await pipeline.installation.command(...args);
  expect(result, `${args.join(" ")}\n${result.stdout}\n${result.stderr}`).toMatchObject({ exitCode });
  return result;
}

async function reset(pipeline: RunningPipeline, ...args: readonly string[]): Promise<CommandResult> {
  return await command(pipeline, 0, "offsets", "reset", ...args, "--yes");
}

async function noteCountIn({ sinks }: RunningPipeline): Promise<number> {
  const { rows } = await sinks.target!.query<object>("select id from notes");
  return rows.length;
}

async function goOn(pipeline: RunningPipeline, resumed: string, tables = TABLES): Promise<void> {
  await command(pipeline, 0, "resume", "--sink", resumed);
  await pipeline.start();
  await pipeline.expectEqual(tables);
}

describe("the sinks equal the source after a reset", () => {
  test("to the earliest place, for all of them", { tags: "heavy" }, async () => {
    await using pipeline = await held();
    await moveWhilePaused(pipeline, "redis");
    await pipeline.daemon.stop();
    const plan = await command(pipeline, 4, "offsets", "reset", "--to", "earliest");
    expect(plan.stdout).toContain("applied again");
    await reset(pipeline, "--to", "earliest");
    await goOn(pipeline, "redis");
  });

  test(
    "to places from before tables went, got other names, and were made again under those of others",
    { tags: "heavy" },
    async () => {
      await using pipeline = await held(["redis", "duckdb", "postgres", "postgres-soft", "elasticsearch", "files"]);
      const places = await moveWhilePaused(pipeline, "redis", OTHER_TABLES);
      for (const to of [places[4]!.lsn, places[2]!.lsn, "earliest"]) {
        await pipeline.daemon.stop();
        for (const sink of ["duckdb", "postgres", "postgres-soft", "elasticsearch", "files"])
          await reset(pipeline, "--sink", sink, "--to", to);
        pipeline.daemon = pipeline.installation.run();
        await othersReach(pipeline, "redis", places.at(-1)!);
      }
      await pipeline.daemon.stop();
      await goOn(pipeline, "redis", ["orders", "notes", "archive"]);
    },
  );

  test(
    "to a place from before rows that went without a word in the log: what it still has of them does not stay",
    { tags: "long" },
    async () => {
      await using pipeline = await held(["redis", "duckdb", "postgres"]);
      await command(pipeline, 0, "pause", "--sink", "redis");
      await pipeline.run("insert into notes select g, 'note' from generate_series(11, 20) g");
      await eventually(async () => expect(await noteCountIn(pipeline)).toBe(15));
      const publication = `millrace_${pipeline.installation.name}`;
      await pipeline.run(`alter publication ${publication} set (publish = 'insert')`);
      await pipeline.run("delete from notes where id > 10");
      await pipeline.run(`alter publication ${publication} set (publish = 'insert, update, delete, truncate')`);
      await eventually(async () => expect(await noteCountIn(pipeline)).toBe(5), { withinMs: 60_000 });
      await pipeline.daemon.stop();
      await reset(pipeline, "--to", "earliest");
      await goOn(pipeline, "redis");
    },
  );

  test("to a position, for one of them, and to a time, for another", async () => {
    await using pipeline = await held(["duckdb", "postgres", "redis"]);
    const places = await moveWhilePaused(pipeline, "redis");
    await pipeline.daemon.stop();
    await reset(pipeline, "--sink", "postgres", "--to", places[2]!.lsn);
    const { stdout } = await reset(pipeline, "--sink", "duckdb", "--to", places[4]!.time, "--json");
    expect(JSON.parse(stdout)).toMatchObject({ applied: true, sinks: [{ name: "duckdb", effect: "replay" }] });
    const shown = JSON.parse((await command(pipeline, 0, "offsets", "show", "--json")).stdout);
    expect(shown).toMatchObject({
      source: { position: expect.stringMatching(/^[0-9A-F]+\/[0-9A-F]+$/), epoch: 1 },
      sinks: [{ name: "duckdb", reset: { anew: false } }, { name: "postgres" }, { name: "redis" }],
    });
    await goOn(pipeline, "redis");
  });

  test("to a snapshot, with rows that were spoiled by hand in every sink", { tags: "heavy" }, async () => {
    await using pipeline = await held(SINK_KINDS);
    await pipeline.daemon.stop();
    await spoilRows(pipeline);
    await reset(pipeline, "--to", "snapshot");
    await pipeline.start();
    await pipeline.expectEqual(TABLES);
    // Versions too: what moves from now on arrives.
    await pipeline.run(
      "update orders set n = n + 7 where id < 4; delete from orders where id = 4; insert into orders values (1001, 1, 'x')",
    );
    await pipeline.expectEqual(TABLES);
  });
});

test("a reset that is killed wherever it is being applied is done at last", { tags: "long" }, async () => {
  await using pipeline = await held(["postgres", "redis"]);
  await moveWhilePaused(pipeline, "redis");
  await pipeline.daemon.stop();
  await command(pipeline, 0, "resume", "--sink", "redis");
  await reset(pipeline, "--sink", "postgres", "--to", "earliest");
  await reset(pipeline, "--sink", "redis", "--to", "snapshot");
  for (const at of ["reset.listed", "reset.expelled", "reset.noted", "reset.settled"]) {
    const killed = pipeline.installation.run({ MILLRACE_FAILPOINTS: `${at}=kill` });
    expect((await killed.ended).signal, at).toBe("SIGKILL");
    await pipeline.run("update orders set n = n - 5 where id = 2");
  }
  await pipeline.start();
  await pipeline.expectEqual(TABLES);
});

describe("a log that is read again into histories", () => {
  const HISTORIES = {
    orders:
      "select concat_ws(' ', _millrace_op, id, n, length(body), _millrace_version, _millrace_offset) as line from @.orders order by _millrace_version, _millrace_offset, line",
    notes:
      "select concat_ws(' ', _millrace_op, id, text, _millrace_version, _millrace_offset) as line from @.notes order by _millrace_version, _millrace_offset, line",
  };

  /** All rows of both warehouses, in the order of the log. */
  async function histories({ sinks, installation }: RunningPipeline): Promise<Readonly<Record<string, string[]>>> {
    const found: Record<string, string[]> = {};
    for (const [table, sql] of Object.entries(HISTORIES)) {
      const { rows } = await sinks.target!.query<{ line: string }>(sql.replace("@", "history"));
      found[`postgres ${table}`] = rows.map(({ line }) => line);
      const { stdout } = await installation.command("query", sql.replace("@", "public"), "--json", "--limit", "5000");
      const answer: { rows: readonly { line: string }[]; truncated: boolean } = JSON.parse(stdout);
      expect(answer.truncated).toBe(false);
      found[`duckdb ${table}`] = answer.rows.map(({ line }) => line);
    }
    return found;
  }

  test("doubles nothing and keeps the order, killed in the midst of it too", { tags: "long" }, async () => {
    await using pipeline = await RunningPipeline.start(
      `${ORDERS}; alter table orders alter body set storage external`,
      {
        kinds: ["postgres", "postgres-history", "duckdb-history"],
      },
    );
    await pipeline.settled();
    await keepLog(pipeline.source);
    // The mirror keeps the log for the histories.
    const places = await moveWhilePaused(pipeline, "postgres");
    await pipeline.daemon.stop();
    let before = await histories(pipeline);
    expect(Object.values(before).map((lines) => lines.length > 5)).toEqual([true, true, true, true]);
    const resets: readonly (readonly [to: string, killedAt: string | null])[] = [
      ["earliest", null],
      [places[1]!.lsn, "postgres-sink.before-commit=kill"],
      [places[3]!.time, "duckdb.rows-written=kill"],
      ["earliest", "sink.applied=kill@3"],
    ];
    for (const [to, killedAt] of resets) {
      const { stdout } = await reset(pipeline, "--to", to, "--json");
      const effects: { sinks: readonly { name: string; effect: string }[] } = JSON.parse(stdout);
      expect(effects.sinks.filter(({ name }) => name.endsWith("history"))).toMatchObject([
        { effect: "replay" },
        { effect: "replay" },
      ]);
      await pipeline.run(
        "update orders set n = n + 1 where id between 28 and 48; insert into notes values (3, 'again')",
      );
      await pipeline.run("delete from notes where id = 3");
      if (killedAt !== null) {
        const killed = pipeline.installation.run({ MILLRACE_FAILPOINTS: killedAt });
        expect((await killed.ended).signal, killedAt).toBe("SIGKILL");
      }
      await pipeline.start(false);
      await othersReach(pipeline, "postgres", await now(pipeline));
      await pipeline.daemon.stop();
      const after = await histories(pipeline);
      for (const [name, lines] of Object.entries(before)) {
        expect({ to, name, lines: after[name]!.slice(0, lines.length) }).toEqual({ to, name, lines });
        const added = name.endsWith("orders") ? 21 : 2;
        expect({ to, name, added: after[name]!.length - lines.length }).toEqual({ to, name, added });
      }
      before = after;
    }
    await goOn(pipeline, "postgres");
    const { source, sinks } = pipeline;
    const tables = TABLES.map((table) => ({ schema: "public", table, key: ["id"] }));
    const { changeCount, ...found } = await historyFaults(source, sinks.target!, "history", tables);
    expect(found).toEqual({ faults: [], earlierCount: 0 });
    expect(changeCount).toBeGreaterThan(150);
    const changes = (lines: readonly string[]) => lines.filter((line) => !line.startsWith("r "));
    for (const table of TABLES)
      expect(changes(before[`duckdb ${table}`]!)).toEqual(changes(before[`postgres ${table}`]!));
  });
});

describe("refused", () => {
  test("while a daemon runs; outside of the log, with the range; and what is no place", async () => {
    await using pipeline = await held(["postgres"]);
    const shown = JSON.parse((await command(pipeline, 0, "offsets", "show", "--json")).stdout);
    expect(shown.sinks[0].position).toMatch(/^[0-9A-F]+\/[0-9A-F]+$/);
    const refused = await command(pipeline, 4, "offsets", "reset", "--to", "snapshot", "--yes");
    expect(refused.stderr).toContain(`pid ${pipeline.daemon.pid}`);
    await pipeline.daemon.stop();
    for (const to of ["0/1", "FFFF/0", "2001-01-01T00:00:00Z"]) {
      const { stderr } = await command(pipeline, 4, "offsets", "reset", "--to", to, "--yes");
      expect(stderr).toMatch(/MR1118.*from [0-9A-F]+\/[0-9A-F]+ to [0-9A-F]+\/[0-9A-F]+/);
    }
    await command(pipeline, 2, "offsets", "reset", "--to", "yesterday", "--yes");
    await command(pipeline, 2, "offsets", "reset", "--to", "latest", "--sink", "nowhere", "--yes");
    await pipeline.start();
    await pipeline.expectEqual(TABLES);
  });

  test(
    "a time since the daemon stopped is a place, although nothing was committed before it",
    { tags: "long" },
    async () => {
      await using pipeline = await held(["postgres"]);
      await pipeline.daemon.stop();
      const { time } = await now(pipeline);
      await pipeline.run("insert into orders values (300, 1, 'late')");
      await reset(pipeline, "--to", time);
      await pipeline.start();
      await pipeline.expectEqual(TABLES);
    },
  );
});

describe("export and import", () => {
  test(
    "of places that the source has forgotten is refused with the range, and changes nothing",
    { tags: "heavy" },
    async () => {
      await using pipeline = await held(["postgres"]);
      await pipeline.run("update orders set n = 1 where id < 30");
      await pipeline.settled();
      await pipeline.daemon.stop();
      await command(pipeline, 0, "offsets", "export", "offsets.json");
      await pipeline.start();
      await pipeline.run("update orders set n = 2 where id < 30");
      await pipeline.settled();
      await pipeline.daemon.stop();
      // The sink is set back to what it was at the export, as from a backup; the source was told to forget what lies behind.
      await pipeline.sinks.target!.query(`update _millrace.progress set tables = '{}', "commit" = 1`);
      const before = (await command(pipeline, 0, "offsets", "show", "--json")).stdout;
      const refused = await command(pipeline, 4, "offsets", "import", "offsets.json", "--yes");
      expect(refused.stderr).toMatch(/MR1118.*can be read from [0-9A-F/]+ to [0-9A-F/]+/s);
      expect((await command(pipeline, 0, "offsets", "show", "--json")).stdout).toBe(before);
    },
  );

  test("go on on another machine without loss, from where the first one was", async () => {
    await using pipeline = await held(["postgres", "redis"]);
    await moveWhilePaused(pipeline, "redis");
    await pipeline.daemon.stop();
    await command(pipeline, 0, "resume", "--sink", "redis");
    await command(pipeline, 0, "offsets", "export", "offsets.json");
    const file = join(pipeline.installation.folder, "offsets.json");
    expect(statSync(file).mode & 0o777).toBe(0o600);
    await pipeline.run("update orders set n = 123 where id < 30; delete from orders where id = 31");

    await using elsewhere = new Installation({
      name: pipeline.source.name,
      source: { kind: "postgres", url: pipeline.source.url },
      sinks: pipeline.sinks.config,
    });
    const plan = await elsewhere.command("offsets", "import", file);
    expect(plan, plan.stderr).toMatchObject({ exitCode: 4, stdout: expect.stringContaining("there is no state yet") });
    expect(await elsewhere.command("offsets", "import", file, "--yes")).toMatchObject({ exitCode: 0 });
    const daemon = elsewhere.run();
    await daemon.streaming();
    expect(await elsewhere.command("wait")).toMatchObject({ exitCode: 0 });
    expect(await pipeline.sinks.differences(pipeline.source.url, elsewhere.folder, TABLES)).toEqual([]);
    // It went on in the log: what was truncated meanwhile is all that is read again.
    const read = new Set((await elsewhere.command("snapshot", "list")).stdout.match(/public\.\w+/g));
    expect([...read]).toEqual(["public.notes"]);
    expect(await elsewhere.command("offsets", "import", file, "--yes")).toMatchObject({ exitCode: 4 });
    await daemon.stop();
    const over = await elsewhere.command("offsets", "import", file);
    expect(over).toMatchObject({ exitCode: 4, stdout: expect.stringContaining("replaces this state") });
  });

  test("does not overwrite a file unless it is told to", { tags: "long" }, async () => {
    await using pipeline = await held(["postgres"]);
    const { folder } = pipeline.installation;
    const file = join(folder, "offsets.json");
    writeFileSync(file, "an earlier one\n");
    const refused = await command(pipeline, 4, "offsets", "export", "offsets.json", "--json");
    expect(JSON.parse(refused.stdout)).toMatchObject({
      error: { code: "MR1112", hint: expect.stringMatching(/--force/) },
    });
    expect(readFileSync(file, "utf8")).toBe("an earlier one\n");
    await command(pipeline, 0, "offsets", "export", "offsets.json", "--force");
    expect(JSON.parse(readFileSync(file, "utf8"))).toMatchObject({ format: "millrace-offsets" });
    await command(pipeline, 0, "offsets", "export", "another.json");
    expect(readdirSync(folder).filter((name) => name.includes(".json"))).toEqual(["another.json", "offsets.json"]);
  });

  test("of another name, another server or a changed file are refused", async () => {
    await using pipeline = await held(["postgres"]);
    await pipeline.daemon.stop();
    await command(pipeline, 0, "offsets", "export", "offsets.json");
    const file = join(pipeline.installation.folder, "offsets.json");
    const text = readFileSync(file, "utf8");
    writeFileSync(`${file}.changed`, text.replace(/"epoch":1/, '"epoch":2'));
    expect((await command(pipeline, 2, "offsets", "import", `${file}.changed`, "--yes")).stderr).toContain("MR1140");
    const config = {
      name: pipeline.source.name,
      source: { kind: "postgres", url: pipeline.source.url },
      sinks: pipeline.sinks.config,
    };
    await using other = await freshDatabase();
    for (const wrong of [
      { ...config, name: "another" },
      { ...config, source: { kind: "postgres", url: other.url } },
    ]) {
      await using elsewhere = new Installation(wrong);
      const refused = await elsewhere.command("offsets", "import", file, "--yes");
      expect(refused, refused.stdout).toMatchObject({ exitCode: 4, stderr: expect.stringContaining("MR1122") });
    }
  });
});
