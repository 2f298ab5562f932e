/**
 * Processes share the tables of a log, and two tables of different shares have one index, because the name of one is too long.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { definition, factory } from "../../../connectors/elasticsearch/config.ts";
import { shareOf } from "../../../src/core/sharing/share.ts";
import { SharedTables } from "../../support/kafka/shared-tables.ts";
import { quietLog } from "../../support/run/quiet-log.ts";
import { elasticsearchUrl } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

/** In an index's name each of these is three characters. */
const SCHEMA = '"'.repeat(60);
const SHARES = { count: 2, by: "id" } as const;

/** The cut name of one is the whole name of the other. */
async function pairOf(prefix: string): Promise<readonly [string, string]> {
  const options = definition.parse({ url: elasticsearchUrl(), prefix });
  const sink = await factory.create({ name: "search", daemon: "shop", folder: "/", options }, quietLog);
  try {
    for (let i = 0; i < 10_000; i++) {
      const long = `t${i}${'"'.repeat(40)}`;
      const target = sink.target({ schema: SCHEMA, table: long });
      // Not within a character.
      if (/%.?$/.test(target.replace(/_[0-9a-f]{8}$/, ""))) continue;
      const cut = decodeURIComponent(target.slice(prefix.length)).slice(SCHEMA.length + 1);
      const isOne = sink.target({ schema: SCHEMA, table: cut }) === target;
      const [one, other] = [long, cut].map((table) => shareOf({ schema: SCHEMA, table }, SHARES));
      if (isOne && one !== other) return [long, cut];
    }
    throw new Error("no name is cut to one of the other share");
  } finally {
    await sink.close();
  }
}

test("they are suspended by number in both shares, and `check` names the pair in both", async () => {
  const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;
  await using shared = await SharedTables.start(
    "create table other (id int primary key, n int); insert into other values (1, 1)",
    { kinds: ["elasticsearch"], shares: 2 },
  );
  await shared.spread(2);
  await shared.expectEqual(["other"]);
  const { applying } = shared.through;
  const pair = await pairOf(applying.sinks.indexPrefix);
  const tables = pair.map((table) => `${quoted(SCHEMA)}.${quoted(table)}`);
  await shared.source.query(`create schema ${quoted(SCHEMA)};
    ${tables.map((table) => `create table ${table} (id int primary key, n int); insert into ${table} values (1, 1)`).join(";\n")}`);
  const suspended = async (): Promise<readonly string[]> => {
    const { shares } = JSON.parse(await shared.command(0, "status", "--json"));
    return shares.flatMap((status: { tables: { suspended: { error: { code: string } }[] } }) =>
      status.tables.suspended.map(({ error }) => error.code),
    );
  };
  await eventually(async () => expect(await suspended()).toEqual(["MR1305", "MR1305"]), {
    withinMs: 60_000,
    everyMs: 500,
  });
  const { exitCode, stdout } = await applying.installation.command("check", "--json");
  expect(exitCode).toBe(1);
  for (const { findings } of JSON.parse(stdout).shares) {
    const [found, ...more] = findings.filter(({ level }: { level: string }) => level === "error");
    expect(more).toEqual([]);
    expect(found).toMatchObject({ id: "MR1305", what: expect.stringContaining(pair[0]) });
    expect(found.what).toContain(pair[1]);
  }
});
