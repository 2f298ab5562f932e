/**
 * What `documents plan` and `check` say of the disk before a first start, beside the file that it makes.
 * @module-tag heavy
 */
import { statSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import * as z from "zod";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";

const PLAN = z.object({
  tables: z.array(
    z.object({
      table: z.string(),
      columns: z.array(z.string()),
      rowCount: z.number().nullable(),
      bytes: z.number().nullable(),
    }),
  ),
});

const TREES = [
  {
    name: "numbers with several ways to them",
    tables: `create table top (id int primary key, n int);
      create table item (id int primary key, top_id int references top, part_id int, quantity int, left_out text);
      create index on item (top_id);
      insert into top select g, g from generate_series(1, 20000) g;
      insert into item select g, 1 + g % 20000, 1 + g % 5000, g % 9, repeat('x', 300) from generate_series(1, 100000) g`,
    columns: ["id", "top_id", "quantity"],
  },
  {
    name: "texts",
    tables: `create table top (id uuid primary key default gen_random_uuid(), n int unique);
      create table item (id bigint primary key, top_id uuid references top, said text, at timestamptz, price numeric(10,2));
      create index on item (top_id);
      insert into top (n) select g from generate_series(1, 10000) g;
      insert into item select g, top.id, repeat(md5(g::text), 1 + g % 9), now() - g * interval '1 s', g % 10000 * 0.01
        from generate_series(1, 50000) g join top on n = 1 + g % 10000`,
    columns: ["id", "top_id", "said", "at", "price"],
  },
];

test.each(TREES)("$name", async ({ tables, columns }) => {
  const fields = columns.filter((name) => name !== "top_id");
  await using pipeline = await RunningPipeline.start(tables, {
    kinds: ["sqlite"],
    configure: (config) => ({
      ...config,
      documents: {
        tops: {
          from: "public.top",
          columns: ["n"],
          with: { items: { from: "public.item", many: true, columns: fields, orderBy: ["id"] } },
        },
      },
      sinks: { sqlite: { ...config.sinks["sqlite"], documents: ["tops"] } },
    }),
  });
  const { installation } = pipeline;
  await pipeline.settled();
  await pipeline.daemon.stop();
  await pipeline.run("analyze");
  const plan = PLAN.parse(JSON.parse((await installation.command("documents", "plan", "--json")).stdout));
  expect(plan.tables.map((one) => one.table)).toEqual(["public.item", "public.top"]);
  expect(plan.tables[0]!.columns.toSorted()).toEqual(columns.toSorted());
  const planned = plan.tables.reduce((sum, { bytes }) => sum + (bytes ?? Number.NaN), 0);
  const { size } = statSync(join(installation.folder, `.millrace/${pipeline.source.name}-documents.db`));
  expect(planned / size).toBeGreaterThan(0.7);
  expect(planned / size).toBeLessThan(1.5);
  const { stdout } = await installation.command("check", "--json");
  const checked = z.object({ findings: z.array(z.object({ id: z.string(), level: z.string(), what: z.string() })) });
  const finding = checked.parse(JSON.parse(stdout)).findings.find((one) => one.id === "nest");
  expect(finding).toMatchObject({
    level: "ok",
    what: expect.stringMatching(/^documents take about [\d.]+ MB in .*public\.item/),
  });
});
