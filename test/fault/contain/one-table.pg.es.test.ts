/** What a target refuses of one table holds up neither its sink nor the others, and passes by itself. */
import { expect, test } from "vitest";
import type { StatusDocument } from "../../../src/core/contracts/status.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { searchCall } from "../../support/caches/search-rows.ts";
import { elasticsearchUrl } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";

const PREPARED = `create table held (id int primary key, name text);
  insert into held select g, 'n' || g from generate_series(1, 50) g;
  create table free (id int primary key, name text);
  insert into free select g, 'n' || g from generate_series(1, 50) g`;

async function suspended(pipeline: RunningPipeline): Promise<StatusDocument["tables"]["suspended"]> {
  return (await pipeline.installation.ask<StatusDocument>("GET", "/api/v1/status"))!.tables.suspended;
}

test.for(["elasticsearch", "postgres"] as const)(
  "%s: the table is suspended there while the others go on, and read when it can be written again",
  async (kind) => {
    await using pipeline = await RunningPipeline.start(PREPARED, { kinds: [kind] });
    await pipeline.settled();
    const setBlock = async (isSet: boolean): Promise<void> => {
      if (kind === "postgres") {
        // Fails at the commit only: no row of the batch is refused.
        await pipeline.sinks.target!.query(
          isSet
            ? `create function refuse() returns trigger language plpgsql as
                 $$ begin raise exception 'no' using errcode = 'ZZ001'; end $$;
               create constraint trigger refuses after insert or update on public.held
                 deferrable initially deferred for each row execute function refuse()`
            : "drop trigger refuses on public.held",
        );
        return;
      }
      const path = `/${pipeline.sinks.indexPrefix}public.held/_settings`;
      const body = JSON.stringify({ "index.blocks.write": isSet ? true : null });
      const { status, text } = await searchCall(elasticsearchUrl(), "PUT", path, body);
      if (status !== 200) throw new Error(text);
    };
    await setBlock(true);
    await pipeline.run(`update held set name = 'since' where id < 10; update free set name = 'since' where id < 10;
      delete from held where id = 20; insert into free values (100, 'new')`);
    await eventually(async () => {
      expect(await suspended(pipeline)).toMatchObject([
        { sink: kind, table: "public.held", error: { code: "MR1324" } },
      ]);
    });
    await pipeline.run("update free set name = 'later' where id > 40; update held set name = 'later' where id > 40");
    await eventually(async () => {
      const differences = await pipeline.sinks.differences(pipeline.source.url, pipeline.installation.folder, ["free"]);
      expect(differences).toEqual([]);
    });
    const { exitCode, stdout } = await pipeline.installation.command("status", "--exit-code");
    expect({ exitCode, stdout }).toMatchObject({ exitCode: 3, stdout: expect.stringContaining("MR1324") });
    await setBlock(false);
    await eventually(async () => expect(await suspended(pipeline)).toEqual([]), { withinMs: 60_000 });
    await pipeline.run("update held set name = 'last' where id = 1");
    await pipeline.expectEqual(["held", "free"]);
  },
);

test("postgres: a table that the sink's role may not make is suspended while the others go on", async () => {
  await using pipeline = await RunningPipeline.start(`create schema closed; create schema more; ${PREPARED}`, {
    kinds: ["postgres"],
  });
  await pipeline.settled();
  await pipeline.daemon.stop();
  const target = pipeline.sinks.target!;
  const role = `${pipeline.source.name}_role`;
  await target.query(`create role ${role} login password 'x'`);
  try {
    await target.query(`grant create, temporary on database "${target.name}" to ${role}; create schema closed;
      do $$ declare t record; begin for t in select format('%I.%I', schemaname, tablename) as name from pg_tables
          where schemaname in ('public', '_millrace') loop execute format('alter table %s owner to ${role}', t.name); end loop; end $$;
      grant all on schema public, _millrace to ${role}`);
    const url = new URL(target.url);
    url.username = role;
    url.password = "x";
    pipeline.installation.configure({
      name: pipeline.source.name,
      source: { kind: "postgres", url: pipeline.source.url, heartbeat: "500ms" },
      sinks: { postgres: { kind: "postgres", url: url.href } },
    });
    await pipeline.start();
    await pipeline.run(`create table closed.t (id int primary key); insert into closed.t values (1);
      create table more.t (id int primary key); insert into more.t values (1); update free set name = 'since'`);
    await eventually(async () => {
      expect(await suspended(pipeline)).toMatchObject([
        { table: "closed.t", error: { code: "MR1324", message: expect.stringContaining("MR2008") } },
      ]);
    });
    await eventually(async () => {
      const { rows } = await target.query(
        "select (select count(*) from more.t)::int as n, (select count(*) from free where name = 'since')::int as m",
      );
      expect(rows).toEqual([{ n: 1, m: 50 }]);
    });
    await target.query(`grant all on schema closed to ${role}`);
    await eventually(async () => expect(await suspended(pipeline)).toEqual([]), { withinMs: 60_000 });
    await pipeline.expectEqual(["held", "free", { schema: "closed", table: "t" }, { schema: "more", table: "t" }]);
  } finally {
    await pipeline.daemon.stop();
    await target.query(`drop owned by ${role} cascade; drop role ${role}`);
  }
});

interface Trouble {
  /** Settings of the index of `held`. */
  readonly settings: Readonly<Record<string, unknown>>;
  readonly mended: Readonly<Record<string, unknown>>;
  readonly sql: string;
}

const TROUBLES: Readonly<Record<string, Trouble>> = {
  "emptied while its index is read-only": {
    settings: { "index.blocks.read_only": true },
    mended: { "index.blocks.read_only": null },
    sql: "truncate held",
  },
  "changed in its shape while its index is read-only": {
    settings: { "index.blocks.read_only": true },
    mended: { "index.blocks.read_only": null },
    sql: "alter table held add column more int default 5; insert into held values (200, 'with more', 6)",
  },
};

test.for(Object.entries(TROUBLES))(
  "elasticsearch: a table %s is suspended while the others go on",
  { tags: "heavy" },
  async ([what, { settings, mended, sql }], { skip }) => {
    skip(!isLongForm() && what.startsWith("changed"), "it is part of the long form");
    await using pipeline = await RunningPipeline.start(PREPARED, { kinds: ["elasticsearch"] });
    await pipeline.settled();
    const index = `/${pipeline.sinks.indexPrefix}public.held`;
    const call = async (method: "PUT", path: string, body: object): Promise<void> => {
      const { status, text } = await searchCall(
        elasticsearchUrl(),
        method,
        `${index}${path}`,
        body && JSON.stringify(body),
      );
      if (status !== 200) throw new Error(text);
    };
    await call("PUT", "/_settings", settings);
    await pipeline.run(`${sql}; update free set name = 'since' where id < 10; insert into free values (100, 'new')`);
    await eventually(
      async () => {
        expect(await suspended(pipeline)).toMatchObject([
          { sink: "elasticsearch", table: "public.held", error: { code: "MR1324" } },
        ]);
      },
      { withinMs: 90_000 },
    );
    await pipeline.run("update free set name = 'later' where id > 40");
    await eventually(async () => {
      const differences = await pipeline.sinks.differences(pipeline.source.url, pipeline.installation.folder, ["free"]);
      expect(differences).toEqual([]);
    });
    await call("PUT", "/_settings", mended);
    await eventually(async () => expect(await suspended(pipeline)).toEqual([]), { withinMs: 90_000 });
    await pipeline.run("insert into held values (300, 'last')");
    await pipeline.expectEqual(["held", "free"]);
  },
);

test(
  "elasticsearch: a table whose index has no shard is suspended while the others go on",
  { tags: "long" },
  async () => {
    await using pipeline = await RunningPipeline.start("create table free (id int primary key, name text)", {
      kinds: ["elasticsearch"],
    });
    await pipeline.settled();
    const { indexPrefix } = pipeline.sinks;
    const call = async (method: "PUT" | "DELETE", path: string, body?: object): Promise<void> => {
      const { status, text } = await searchCall(elasticsearchUrl(), method, path, body && JSON.stringify(body));
      if (status !== 200) throw new Error(text);
    };
    const template = `/_index_template/${indexPrefix}held`;
    const setting = "index.routing.allocation.require._name";
    // No node has that name.
    const settings = { [setting]: "nobody" };
    await call("PUT", template, {
      index_patterns: [`${indexPrefix}public.held*`],
      template: { settings },
      priority: 500,
    });
    try {
      await pipeline.run(`create table held (id int primary key, name text);
      insert into held select g, 'n' || g from generate_series(1, 50) g; insert into free values (1, 'new')`);
      await eventually(
        async () => {
          expect(await suspended(pipeline)).toMatchObject([
            { sink: "elasticsearch", table: "public.held", error: { code: "MR1324" } },
          ]);
        },
        { withinMs: 120_000 },
      );
    } finally {
      await call("DELETE", template);
    }
    await pipeline.run("insert into free values (2, 'later'); insert into held values (100, 'later')");
    await eventually(async () => {
      const differences = await pipeline.sinks.differences(pipeline.source.url, pipeline.installation.folder, ["free"]);
      expect(differences).toEqual([]);
    });
    await call("PUT", `/${indexPrefix}public.held/_settings`, { [setting]: null });
    await eventually(async () => expect(await suspended(pipeline)).toEqual([]), { withinMs: 90_000 });
    await pipeline.expectEqual(["held", "free"]);
  },
);
