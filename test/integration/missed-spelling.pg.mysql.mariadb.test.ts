/** Tables that a rule misses by the spelling of a letter: `check` names each, and a start writes all tables but these. */
import { writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { stringify } from "yaml";
import { filesBelow } from "../support/daemon/canary.ts";
import { runCli } from "../support/daemon/cli.ts";
import {
  freshDatabase,
  freshMysqlDatabase,
  type MysqlFlavour,
  mysqlFlavours,
  mysqlUrl,
} from "../support/run/services.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const CANARY = "CanaryMisspelt";
/** The accent is a part of its letter, and a character of its own. */
const COMPOSED = "pr\u00e9nom";
const APART = COMPOSED.normalize("NFD");

interface Database extends AsyncDisposable {
  readonly name: string;
  readonly schema: string;
  readonly source: { readonly kind: string; readonly url: string };
  readonly query: (sql: string) => Promise<unknown>;
}

/** `"` quotes names in each. */
async function databaseOf(kind: "postgres" | MysqlFlavour): Promise<Database> {
  if (kind === "postgres") {
    const database = await freshDatabase();
    return Object.assign(database, { schema: "public", source: { kind, url: database.url } });
  }
  const database = await freshMysqlDatabase(mysqlUrl(kind));
  const { name, connection } = database;
  await connection.query("set session sql_mode = concat(@@session.sql_mode, ',ANSI_QUOTES')");
  const query = (sql: string) => connection.query(sql);
  return Object.assign(database, { schema: name, source: { kind: "mysql", url: mysqlUrl(kind) }, query });
}

test.each(["postgres", ...mysqlFlavours] as const)("%s", async (kind) => {
  await using database = await databaseOf(kind);
  const { name, schema, source } = database;
  const tables = {
    users: ["mail", COMPOSED],
    capitals: ["Mail"],
    accents: [APART],
    Users: ["note"],
  };
  for (const [table, columns] of Object.entries(tables)) {
    const texts = columns.map((column) => `"${column}" varchar(40)`).join(", ");
    await database.query(`create table "${table}" ("id" int primary key, ${texts})`);
    await database.query(`insert into "${table}" values (1, ${columns.map(() => `'${CANARY}'`).join(", ")})`);
  }
  using folder = temporaryFolder();
  const config = {
    name,
    source: { ...source, tables: [`${schema}.*`] },
    sinks: { out: { kind: "files", path: "./out", format: "ndjson" } },
    tables: {
      [`${schema}.*`]: { columns: { mail: { mask: "redact" }, [COMPOSED]: { mask: "redact" } } },
      [`${schema}.users`]: { where: "id > 0" },
    },
    admin: { listen: false },
  };
  writeFileSync(folder.file("millrace.yaml"), stringify(config));
  const checked = await runCli(["check", "--json"], { folder: folder.path });
  const { findings }: { findings: { id: string; level: string; what: string }[] } = JSON.parse(checked.stdout);
  const errors = findings.filter(({ level }) => level === "error");
  expect(
    errors.map(({ id, what }) => `${id} ${/(column "\S+" of )?table \S+ differs/.exec(what)?.[0]}`).toSorted(),
  ).toEqual([
    `MR1034 column "Mail" of table ${schema}.capitals differs`,
    `MR1034 column "${APART}" of table ${schema}.accents differs`,
    `MR1034 table ${schema}.Users differs`,
  ]);
  expect(checked.exitCode).toBe(1);
  const started = await runCli(["run", "--once"], { folder: folder.path });
  for (const table of ["accents", "capitals", "Users"])
    expect(started.stderr).toMatch(new RegExp(`"table":"${schema}\\.${table}".*"code":"MR1034"`));
  expect(started.exitCode).toBe(1);
  const written = filesBelow(folder.file("out")).map(([, text]) => text);
  expect(written.some((text) => text.includes("[redacted]"))).toBe(true);
  const shown = filesBelow(folder.path).flatMap(([name, text]) => (text.includes(CANARY) ? [name] : []));
  expect(shown).toEqual([]);
});
