/**
 * An operator's reset leaves a gap in the log between two daemons: the plan says so, and the applying side can begin behind it.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import type { CommandResult, Installation } from "../../support/daemon/daemon-process.ts";
import { ThroughKafka } from "../../support/kafka/through-kafka.ts";

const ITEMS = `create table item (id int primary key, n int);
  insert into item select g, 0 from generate_series(1, 300) g`;

async function command(on: Installation, exitCode: number, ...args: readonly string[]): Promise<CommandResult> {
  const result = await on.command(...args);
  expect(result, `${args.join(" ")}\n${result.stdout}\n${result.stderr}`).toMatchObject({ exitCode });
  return result;
}

test("a log that was reset over changes has a gap, and the earliest place of the applying side is behind it", async () => {
  await using through = await ThroughKafka.start(ITEMS, { kinds: ["postgres", "redis"] });
  const { applying, capture } = through;
  const { installation } = applying;
  await applying.expectEqual(["item"]);
  await through.capturing.stop();
  await applying.run("update item set n = 1 where id < 40; delete from item where id > 290");
  const reset = ["offsets", "reset", "--sink", "log", "--to", "latest"];
  const { stdout } = await command(capture, 4, ...reset);
  expect(stdout).toMatch(/nothing is read again.*MR2010.*recover/);
  const { sinks } = JSON.parse((await command(capture, 0, ...reset, "--yes", "--json")).stdout);
  expect(sinks).toMatchObject([{ name: "log", effect: "gap", tables: [] }]);
  through.capturing = capture.run();
  await through.capturing.streaming();
  await applying.run("insert into item values (1000, 0)");
  const { stderr } = await applying.daemon.ended;
  expect(stderr).toContain("MR2010");
  await command(installation, 0, "recover", "--yes");
  applying.daemon = installation.run();
  await applying.daemon.streaming();
  await applying.expectEqual(["item"]);

  await applying.run("update item set n = 2 where id < 20");
  await applying.expectEqual(["item"]);
  await applying.daemon.stop();
  await command(installation, 0, "offsets", "reset", "--to", "earliest", "--yes");
  await applying.run("update item set n = 3 where id between 10 and 30");
  applying.daemon = installation.run();
  await applying.daemon.streaming();
  await applying.expectEqual(["item"]);
});
