/** Partitions that come and go between two looks at the catalogue leave nothing behind in a sink. */
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

const PREPARE = `
  create table parts (id int primary key, note text) partition by range (id);
  create table parts_a partition of parts for values from (0) to (100);
  create table parts_b partition of parts for values from (100) to (200);
  create table mid partition of parts for values from (300) to (400) partition by range (id);
  create table mid_a partition of mid for values from (300) to (350);
  create table aside (id int primary key, note text);
  create table seen (id int primary key);
  insert into parts select n, 'first' from generate_series(50, 149) n;
  insert into parts select n, 'deep' from generate_series(300, 340) n;
  insert into aside select n, 'apart' from generate_series(200, 249) n;`;

const HAPPENINGS: Readonly<Record<string, readonly string[]>> = {
  "one that is made, filled and dropped": [
    "create table parts_c partition of parts for values from (200) to (300)",
    "insert into parts select n, 'passing' from generate_series(200, 240) n",
    "drop table parts_c",
  ],
  "one that is attached, changed and detached": [
    "alter table parts attach partition aside for values from (200) to (300)",
    "insert into parts values (260, 'passing'); update parts set note = 'passing' where id between 200 and 210; delete from parts where id = 211",
    "alter table parts detach partition aside",
  ],
  "one that is changed while it is detached": [
    "alter table parts detach partition parts_b",
    "delete from parts_b where id < 120; update parts_b set note = 'apart'",
    "alter table parts attach partition parts_b for values from (100) to (200)",
  ],
  "one that is changed while it is detached, in one transaction": [
    `begin; alter table parts detach partition parts_b; delete from parts_b where id < 120; update parts_b set note = 'apart';
     alter table parts attach partition parts_b for values from (100) to (200); commit`,
  ],
  "one below another that is changed while that is detached": [
    "alter table parts detach partition mid; delete from mid where id < 320; alter table parts attach partition mid for values from (300) to (400)",
  ],
};

test.for(Object.entries(HAPPENINGS))("%s, while the daemon is down", { tags: "heavy" }, async ([, statements]) => {
  await using pipeline = await started();
  await pipeline.daemon.stop();
  for (const sql of statements) await pipeline.run(sql);
  await pipeline.start();
  await pipeline.expectEqual(["parts"]);
});

test.for(Object.entries(HAPPENINGS))("%s, between two looks", async ([, statements]) => {
  await using pipeline = await started();
  for (const sql of statements) {
    await pipeline.run(`${sql}; insert into seen values (${statements.indexOf(sql)})`);
    await eventually(async () => {
      const { rows } = await pipeline.sinks.target!.query("select id from public.seen");
      expect(rows).toHaveLength(statements.indexOf(sql) + 1);
    });
  }
  await pipeline.expectEqual(["parts"]);
});

async function started(): Promise<RunningPipeline> {
  const pipeline = await RunningPipeline.start(PREPARE, {
    kinds: ["postgres"],
    configure: (config) => ({ ...config, source: { ...config.source, heartbeat: "60s" } }),
  });
  await pipeline.expectEqual(["parts", "aside"]);
  return pipeline;
}
