/**
 * MySQL and MariaDB: tables, or columns, that get other names in a part of the log that is gone, or that is passed over: what may
 * have what rules hide is held back until the configuration says what is meant.
 * @module-tag heavy
 */
import { cp, rm } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import * as z from "zod";
import { CANARY, expectHidden, placesWith, SHOWN } from "../../support/daemon/canary.ts";
import { MysqlPipeline, type MysqlPipelineOptions } from "../../support/mysql/mysql-pipeline.ts";
import { isMysqlFrom, type MysqlFlavour, mysqlFlavours } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const FORM = "(id int primary key, mail varchar(80), note varchar(80))";

/** A sink that does not read where the others pass by. */
interface Beside {
  readonly without?: string;
  readonly paused?: string;
}

const MAIL = { columns: { mail: { mask: "redact" } } };
const SWAP = "rename table users to between_them, people to users, between_them to people";
const MOVED = "alter table users change mail mail_old varchar(80), add mail varchar(80)";
const PLAIN = ["create table plain (id int primary key, v varchar(80))", `insert into plain values (1, '${SHOWN}')`];

/** Two tables that look alike, one of them under rules. */
function twins(
  flavour: MysqlFlavour,
  kinds: MysqlPipelineOptions["kinds"],
  more: readonly string[] = [],
  rules: MysqlPipelineOptions["rules"] = {},
) {
  return MysqlPipeline.start(
    flavour,
    [
      `create table users ${FORM}`,
      `create table people ${FORM}`,
      `insert into users values (1, '${CANARY} a', 'x')`,
      `insert into people values (1, 'open', '${SHOWN}')`,
      ...more,
    ],
    { kinds, rules: { users: MAIL, people: {}, ...rules } },
  );
}

async function suspendedIn({ installation }: MysqlPipeline): Promise<unknown> {
  const { tables } = await installation.status();
  return tables.suspended.map(({ table, error }) => [table, error.code]);
}

describe.each(mysqlFlavours)("%s", (flavour) => {
  test.each([
    ["offsets", {}, ["offsets", "reset", "--to", "latest", "--yes"], 0],
    ["offsets of the sink that is left", { without: "duckdb" }, ["offsets", "reset", "--to", "latest", "--yes"], 0],
    [
      "offsets beside a paused sink",
      { paused: "duckdb" },
      ["offsets", "reset", "--sink", "files", "--to", "latest", "--yes"],
      0,
    ],
    ["a recovery", {}, ["recover", "--anyway", "--yes"], 1],
  ] as const)("%s past a swap", async (_, beside: Beside, command, exitCode) => {
    await using pipeline = await twins(flavour, ["files", "duckdb"], PLAIN);
    const { installation, source } = pipeline;
    const suspended = (): Promise<unknown> => suspendedIn(pipeline);
    const people = `${source.name}.people`;
    await pipeline.settled();
    if (beside.paused !== undefined)
      expect(await installation.command("pause", "--sink", beside.paused)).toMatchObject({ exitCode: 0 });
    await pipeline.daemon.stop();
    if (beside.without !== undefined) {
      delete pipeline.sinks.config[beside.without];
      pipeline.configure({}, { users: MAIL, people: {} });
    }
    await pipeline.run(SWAP, `insert into people values (2, '${CANARY} b', 'y')`);
    // A recovery compares, and names the table that it can't read.
    expect((await installation.command(...command)).exitCode).toBe(exitCode);
    await pipeline.start(beside.paused === undefined);
    await eventually(async () => expect(await suspended()).toEqual([[people, "MR1033"]]));
    await pipeline.run(
      `insert into people values (3, '${CANARY} c', 'z')`,
      "insert into plain values (2, 'mark 7f3a')",
    );
    await eventually(async () => expect((await placesWith("mark 7f3a", pipeline)).length).toBeGreaterThan(0));
    await expectHidden(pipeline);
    // It stays so over a restart, until the configuration hides the same there.
    await pipeline.kill();
    await pipeline.start(beside.paused === undefined);
    await eventually(async () => expect(await suspended()).toEqual([[people, "MR1033"]]));
    await pipeline.kill();
    pipeline.configure({}, { users: MAIL, people: MAIL });
    await pipeline.start(beside.paused === undefined);
    if (beside.paused !== undefined) {
      // Before the daemon listens, a command finds its lease and nobody to ask.
      await installation.status();
      expect(await installation.command("resume", "--sink", beside.paused)).toMatchObject({ exitCode: 0 });
    }
    await eventually(async () => expect(await suspended()).toEqual([]));
    await pipeline.settled();
    await expectHidden(pipeline);
  });

  test.each([
    ["a swap", SWAP, "people", "MR1033", "people (id, mail, note)"],
    ["other names of columns", MOVED, "users", "MR1025", "users (id, mail_old, note)"],
  ])("%s, of which an older copy of the state that was put back does not know", async (_, change, table, code, row) => {
    await using pipeline = await twins(flavour, ["files", "duckdb"], PLAIN);
    const { installation, source } = pipeline;
    const held = [[`${source.name}.${table}`, code]];
    await pipeline.settled();
    await pipeline.daemon.stop();
    const [state, older] = [join(installation.folder, ".millrace"), join(installation.folder, "older")];
    await cp(state, older, { recursive: true });
    await pipeline.start();
    await pipeline.run(
      change,
      `insert into ${row} values (2, '${CANARY} b', 'y')`,
      "insert into plain values (2, 'mark 5b1c')",
    );
    await eventually(async () => expect(await suspendedIn(pipeline)).toEqual(held));
    await eventually(async () => expect((await placesWith("mark 5b1c", pipeline)).length).toBeGreaterThan(0));
    await pipeline.daemon.stop();
    await rm(state, { recursive: true });
    await cp(older, state, { recursive: true });
    await pipeline.start();
    await pipeline.run(
      `insert into ${row} values (3, '${CANARY} c', 'z')`,
      "insert into plain values (3, 'mark 7f3a')",
    );
    await eventually(async () => expect((await placesWith("mark 7f3a", pipeline)).length).toBeGreaterThan(0));
    await expectHidden(pipeline);
    await eventually(async () => expect(await suspendedIn(pipeline)).toEqual(held));
  });

  test("tail and rules try behind other names that the daemon has not read", async () => {
    const more = ["staff", "team"].map((table) => `create table ${table} ${FORM}`);
    await using pipeline = await twins(flavour, ["files"], [...PLAIN, ...more], { staff: MAIL, team: MAIL });
    const { installation, source } = pipeline;
    await pipeline.settled();
    await pipeline.daemon.stop();
    await pipeline.run(
      SWAP,
      "rename table staff to crew",
      "alter table crew change mail post varchar(80)",
      MOVED.replace("users", "team"),
    );
    const isNewer = flavour === "mysql" && isMysqlFrom(flavour, "8.4");
    const [rows] = await source.connection.query(isNewer ? "show binary log status" : "show master status");
    const [end] = z.array(z.tuple([z.string(), z.coerce.string()]).rest(z.unknown())).parse(rows);
    const from = end!.slice(0, 2).join(":");
    await pipeline.run(
      `insert into people values (2, '${CANARY} b', 'y')`,
      `insert into crew values (2, '${CANARY} c', 'y')`,
      `insert into team (id, mail_old, note) values (2, '${CANARY} d', 'y')`,
      "insert into plain values (2, 'later')",
    );
    const tail = await installation.command("tail", "--from", from, "--limit", "1");
    expect(tail.stdout).toContain("later");
    expect(tail.stdout).not.toContain(CANARY);
    for (const [table, code] of [
      ["people", "MR1033"],
      ["crew", "MR1033"],
      ["team", "MR1025"],
    ] as const) {
      const held = await installation.command("rules", "try", `${source.name}.${table}`);
      expect(held).toMatchObject({ exitCode: 2, stdout: expect.not.stringContaining(CANARY) });
      expect(held.stderr).toContain(code);
    }
    const users = await installation.command("rules", "try", `${source.name}.users`);
    expect(users).toMatchObject({ exitCode: 0, stdout: expect.stringContaining(SHOWN) });
    const plain = await installation.command("rules", "try", `${source.name}.plain`);
    expect(plain).toMatchObject({ exitCode: 0, stdout: expect.stringContaining("later") });
  });
});
