/** `millrace drill` of a daemon that follows a log in Kafka. */
import { expect, test } from "vitest";
import { ThroughKafka } from "../../support/kafka/through-kafka.ts";

const MADE = `create table orders (id int primary key, n int); create table notes (id int primary key, text text);
  insert into orders select g, g from generate_series(1, 500) g; insert into notes select g, 'note' from generate_series(1, 50) g`;
const TABLES = ["orders", "notes"];

test("connections to brokers and sinks break and recover, and all is equal", { tags: "heavy" }, async () => {
  await using through = await ThroughKafka.start(MADE, { kinds: ["postgres", "redis"] });
  const { applying } = through;
  await applying.expectEqual(TABLES);
  await applying.daemon.stop();
  await applying.run("update orders set n = n + 1 where id <= 250; delete from notes where id <= 5");
  const { exitCode, stdout, stderr } = await applying.installation.command(
    "drill",
    "--minutes",
    "0.4",
    "--yes",
    "--json",
  );
  expect(exitCode, stdout + stderr).toBe(0);
  const report: { breaks: { what: string; connections: number | null; recoveryMs: number | null }[] } =
    JSON.parse(stdout);
  expect(report.breaks.every(({ recoveryMs }) => recoveryMs !== null)).toBe(true);
  expect(report.breaks.find(({ what }) => what === "cut")?.connections).toBeGreaterThan(0);
  await applying.start();
  await applying.expectEqual(TABLES);
});
