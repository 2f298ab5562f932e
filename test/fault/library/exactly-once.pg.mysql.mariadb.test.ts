/** A program that stores its position in its own database is killed 15 times: each transaction has its effect exactly once. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { Example } from "../../support/library/example.ts";
import { changesOf, hasPosition, mysqlOrders, postgresOrders, sums, write } from "../../support/library/turnover.ts";
import { freshDatabase, mysqlFlavours, mysqlUrl } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

/** Null: at some moment under load. */
const KILLS: readonly (string | null)[] = [
  "source.announced=kill",
  "source.created=kill",
  "sink.applied=kill@3",
  null,
  "ack.computed=kill@2",
  "ack.stored=kill",
  null,
  "sink.applied=kill@20",
  null,
  "ack.stored=kill@2",
  null,
  "sink.prepared=kill",
  "sink.applied=kill",
  null,
  null,
];

for (const kind of ["postgres", ...mysqlFlavours] as const)
  test(`each transaction's effect exactly once under 15 kills: ${kind}`, { tags: ["heavy"] }, async () => {
    await using source =
      kind === "postgres" ? await postgresOrders(await freshDatabase()) : await mysqlOrders(mysqlUrl(kind));
    await using target = await freshDatabase();
    const environment = { ...source.environment, TARGET: target.url };
    for (const entry of KILLS.slice(0, 2)) {
      await using first = new Example("exactly-once.ts", { ...environment, MILLRACE_FAILPOINTS: entry ?? "" });
      await first.ended;
      expect(first.exit, first.output).toBe("SIGKILL");
    }
    if (!source.isHeldByStart) {
      await using first = new Example("exactly-once.ts", environment);
      await eventually(async () => expect(await hasPosition(target), first.output).toBe(true), { withinMs: 60_000 });
    }
    await source.count();
    const stopping = new AbortController();
    const writing = write(source, stopping.signal);
    writing.catch(() => undefined);
    for (const entry of KILLS.slice(2)) {
      await using program = new Example("exactly-once.ts", {
        ...environment,
        ...(entry === null ? {} : { MILLRACE_FAILPOINTS: entry }),
      });
      if (entry === null) {
        const before = await changesOf(target);
        await eventually(async () => (await changesOf(target)) > before + 20 || program.exit !== null);
        await sleep(Math.random() * 300);
        await program.end("SIGKILL");
      } else await Promise.race([program.ended, sleep(30_000)]);
      expect({ entry, exit: program.exit }, program.output).toEqual({ entry, exit: "SIGKILL" });
    }
    stopping.abort();
    await writing;
    await using last = new Example("exactly-once.ts", environment);
    const expected = await source.expected();
    await eventually(async () => expect(await sums(target, "turnover"), last.output).toEqual(expected), {
      withinMs: 60_000,
    });
    expect(expected.length).toBeGreaterThan(3);
    // Nothing comes twice behind that.
    await source.run("insert into orders values (-1, 0, 1, 'last')");
    const later = await source.expected();
    await eventually(async () => expect(await sums(target, "turnover")).toEqual(later));
    expect(await last.end(), last.output).toBe(0);
  });
