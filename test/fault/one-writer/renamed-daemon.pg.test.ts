/** A daemon that got another name, with a state of its own, over targets that its former name filled. */
import { expect, test } from "vitest";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";

test("under its new name a daemon leaves no stale row, and its histories keep their past", async () => {
  await using first = await RunningPipeline.start(
    "create table item (id int primary key, name text); insert into item select g, 'first' from generate_series(1, 20) g",
    { kinds: ["postgres", "postgres-history"] },
  );
  const { installation, sinks, source } = first;
  await first.settled();
  await first.daemon.stop();
  // Rows of a later epoch than that in which the new name would begin by itself.
  expect(await installation.command("recover", "--anyway", "--yes")).toMatchObject({ exitCode: 0 });
  await first.start();
  await first.run("update item set name = 'second' where id <= 10");
  await first.expectEqual(["item"]);
  await first.daemon.stop();
  await first.run("update item set name = 'meanwhile' where id = 3; delete from item where id > 15");
  const past = "select _millrace_version::text as version, id, name from history.item";
  const { rows: before } = await sinks.target!.query(`${past} order by 1, 2`);
  await using renamed = new Installation({
    name: `${installation.name}_renamed`,
    source: { kind: "postgres", url: source.url },
    sinks: sinks.config,
  });
  expect(await renamed.command("run", "--once")).toMatchObject({ exitCode: 0 });
  const { rows: after } = await sinks.target!.query(
    `${past} where _millrace_version <= ${before.at(-1)?.["version"]} order by 1, 2`,
  );
  expect(after).toEqual(before);
  expect(await sinks.differences(source.url, renamed.folder, ["item"])).toEqual([]);
});
