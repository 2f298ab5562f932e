/** Rules of MySQL and MariaDB that fit nothing: found by `check`, and refused at the start. rules.pg has all other ways. */
import { writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { filesBelow } from "../support/daemon/canary.ts";
import { runCli } from "../support/daemon/cli.ts";
import type { FreshMysqlDatabase } from "../support/mysql/mysql-database.ts";
import { freshMysqlDatabase, mysqlFlavours, mysqlUrl } from "../support/run/services.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const CANARY = "CanaryMisspelt";
const MAIL = { columns: { mail: { mask: "redact" } } };

/** By what is wrong: the key of `tables`, given the database's name, and what is said of it. */
const WRONG: Readonly<Record<string, readonly [(name: string) => readonly [string, object], RegExp]>> = {
  "a table in another case": [
    (name) => [`${name}.USERS`, MAIL],
    /\.USERS" is no captured table; did you mean ".*\.users"/,
  ],
  "a mistyped table": [(name) => [`${name}.user`, MAIL], /\.user" is no captured table; did you mean ".*\.users"/],
  "a mistyped database": [
    (name) => [`${name}s.users`, MAIL],
    /s\.users" is no captured table; did you mean ".*\.users"/,
  ],
  "a mistyped database with a wildcard": [(name) => [`${name}s.*`, MAIL], /s\.\*" matches no captured table/],
  "a mistyped column": [
    (name) => [`${name}.users`, { columns: { mial: { mask: "redact" } } }],
    /users has no column "mial"/,
  ],
  "a column that no table has": [
    (name) => [`${name}.*`, { columns: { "*phone*": { drop: true } } }],
    /has a column that matches "\*phone\*"/,
  ],
};

describe.each(mysqlFlavours)("%s", (flavour) => {
  let database: FreshMysqlDatabase;

  beforeAll(async () => {
    database = await freshMysqlDatabase(mysqlUrl(flavour));
    await database.connection.query("create table users (id int primary key, mail varchar(40))");
    await database.connection.query(`insert into users values (1, '${CANARY}')`);
  });

  afterAll(async () => {
    await database?.[Symbol.asyncDispose]();
  });

  async function tried(args: readonly string[], tables: object) {
    using folder = temporaryFolder();
    const config = {
      name: database.name,
      source: { kind: "mysql", url: mysqlUrl(flavour), tables: [`${database.name}.*`] },
      sinks: { out: { kind: "files", path: "./out", format: "ndjson" } },
      tables,
      admin: { listen: false },
    };
    writeFileSync(folder.file("millrace.yaml"), stringify(config));
    const result = await runCli(args, { folder: folder.path });
    const shown = filesBelow(folder.path).flatMap(([name, text]) => (text.includes(CANARY) ? [name] : []));
    return { ...result, shown };
  }

  test.each(Object.entries(WRONG))("%s", async (_what, [rule, says]) => {
    const tables = Object.fromEntries([rule(database.name)]);
    const checked = await tried(["check", "--json"], tables);
    const { findings }: { findings: { part: string; id: string; level: string; what: string }[] } = JSON.parse(
      checked.stdout,
    );
    expect(findings.filter(({ part, level }) => part === "rules" && level === "error")).toEqual([
      expect.objectContaining({ id: "MR1021", level: "error", what: expect.stringMatching(says) }),
    ]);
    expect(checked.exitCode).toBe(1);
    const started = await tried(["run", "--once"], tables);
    expect(started.stderr).toMatch(/error MR1021/);
    expect(started.stderr).toMatch(says);
    expect(started).toMatchObject({ exitCode: 2, shown: [] });
  });
});
