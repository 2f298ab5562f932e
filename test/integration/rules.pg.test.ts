/** Rules that can't be: each is refused at the start with its number, its place and exit code 2, and found by `check`. */
import { writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { runCli } from "../support/daemon/cli.ts";
import { type FreshDatabase, freshDatabase } from "../support/run/services.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const KEY = "a-key-of-the-tests-0123456789";
let database: FreshDatabase;

beforeAll(async () => {
  database = await freshDatabase();
  await database.query(
    "create table person (id int, part int, mail text, phone text, at timestamptz, primary key (id, part))",
  );
  await database.query("create table other (id int primary key, name text)");
  await database.query(
    "create table keyed (id int primary key, mail text unique, no int not null unique); alter table keyed replica identity full",
  );
});

afterAll(async () => {
  await database?.[Symbol.asyncDispose]();
});

interface Refused {
  readonly tables: object;
  /** What the sink takes. */
  readonly taken?: readonly string[];
  readonly maskKey?: string;
  readonly code: string;
  /** Where, and what. */
  readonly says: RegExp;
}

const person = (rule: object, more: object = {}) => ({ "public.person": { columns: rule, ...more } });

/** Seen in the file alone. */
const AT_LOADING: Readonly<Record<string, Refused>> = {
  "a condition that can't be parsed": {
    tables: person({}, { where: "mail = 'a' and" }),
    code: "MR1020",
    says: /millrace\.yaml:\d+:\d+: tables\.public\.person\.where: at character 15: expected a column/,
  },
  "a hash without key": {
    tables: person({ mail: { mask: "hash" } }),
    code: "MR1005",
    says: /columns\.mail: .*maskKey/,
  },
  "a short key": {
    tables: person({ mail: { mask: "hash" } }),
    maskKey: "short",
    code: "MR1005",
    says: /maskKey: .*16/,
  },
  "an unknown mask": { tables: person({ mail: { mask: "hsah" } }), code: "MR1005", says: /"hash"/ },
  "a reserved name": { tables: person({ mail: { rename: "_millrace_x" } }), code: "MR1005", says: /_millrace_/ },
  "a column that is dropped and masked": {
    tables: person({ mail: { drop: true, mask: "redact" } }),
    code: "MR1005",
    says: /dropped/,
  },
  "a column that is not dropped": {
    tables: person({ mail: { drop: false } }),
    code: "MR1005",
    says: /drop: expected true; `mask: none` shows/,
  },
  "a rule that says nothing": { tables: person({ mail: {} }), code: "MR1005", says: /mask, drop or rename/ },
  "a table without schema": { tables: { person: {} }, code: "MR1005", says: /schema\.table/ },
  "an empty key": { tables: { "public.person": { key: [] } }, code: "MR1005", says: /key: .*at least one column/ },
  "a key that names a column twice": {
    tables: { "public.person": { key: ["id", "id"] } },
    code: "MR1005",
    says: /key: .*twice/,
  },
  "a misspelt key": { tables: person({}, { were: "id = 1" }), code: "MR1004", says: /where/ },
};

/** Seen beside the source's tables. */
const AT_THE_SOURCE: Readonly<Record<string, Refused>> = {
  "an unknown column": {
    tables: person({ emial: { mask: "redact" } }),
    code: "MR1021",
    says: /millrace\.yaml:\d+:\d+: tables\.public\.person\.columns\.emial: table public\.person has no column "emial"/,
  },
  "a column that no table has": {
    tables: { "public.*": { columns: { nobody: { drop: true } } } },
    code: "MR1021",
    says: /none of the tables that public\.\* matches has a column "nobody"/,
  },
  "a table in the singular": {
    tables: { "public.persn": { columns: { mail: { mask: "redact" } } } },
    code: "MR1021",
    says: /millrace\.yaml:\d+:\d+: tables\.public\.persn: "public\.persn" is no captured table; did you mean "public\.person"\?/,
  },
  "a table in another case": {
    tables: { "public.Person": { columns: { mail: { mask: "redact" } } } },
    code: "MR1021",
    says: /tables\.public\.Person: .* did you mean "public\.person"\?/,
  },
  "a schema that is misspelt": {
    tables: { "publik.*": { columns: { mail: { mask: "redact" } } } },
    code: "MR1021",
    says: /"publik\.\*" matches no captured table; did you mean "public\.\*"\?/,
  },
  "a rule that only filters a table that is not there": {
    tables: { "public.perso?": {}, "public.pers": { where: "id > 1" } },
    code: "MR1021",
    says: /tables\.public\.pers: /,
  },
  "a sink's table that is not there": {
    tables: {},
    taken: ["public.person", "public.others"],
    code: "MR1021",
    says: /millrace\.yaml:\d+:\d+: sinks\.w\.tables: "public\.others" is no captured table; did you mean "public\.other"\?/,
  },
  "a glob over columns that matches none": {
    tables: person({ "*emial*": { mask: "redact" } }),
    code: "MR1021",
    says: /columns\.\*emial\*: table public\.person has no column that matches "\*emial\*"/,
  },
  "a glob over columns in another case": {
    tables: { "public.*": { columns: { "*Mail": { mask: "redact" } } } },
    code: "MR1021",
    says: /none of the tables that public\.\* matches has a column that matches "\*Mail"/,
  },
  "names that clash": {
    tables: person({ mail: { rename: "phone" } }),
    code: "MR1023",
    says: /columns\.mail: columns "mail" and "phone" .* "phone"/,
  },
  "two of the same name": {
    tables: person({ mail: { rename: "x" }, phone: { rename: "x" } }),
    code: "MR1023",
    says: /"x"/,
  },
  "a masked key": {
    tables: person({ part: { mask: "hash" } }),
    maskKey: KEY,
    code: "MR1023",
    says: /columns\.part: column "part" is in the key of table public\.person; it can't be masked/,
  },
  "a dropped key, by a glob": {
    tables: person({ "p*t": { drop: true } }),
    code: "MR1023",
    says: /it can't be dropped/,
  },
  "a key over an unknown column": {
    tables: { "public.person": { key: ["id", "prat"] } },
    code: "MR1021",
    says: /tables\.public\.person\.key: table public\.person: .* has no column "prat"/,
  },
  "a key that no table has": {
    tables: { "public.*": { key: ["nobody"] } },
    code: "MR1021",
    says: /public\.\*\.key: none of the tables that public\.\* matches has a column "nobody"/,
  },
  "a key outside of the replica identity": {
    tables: { "public.person": { key: ["mail"] } },
    code: "MR1026",
    says: /tables\.public\.person\.key: .*"mail" is not in its replica identity/,
  },
  "a key that nothing guards": {
    tables: { "public.person": { key: ["id"] } },
    code: "MR1026",
    says: /no unique constraint over not-null columns/,
  },
  "a key that is chosen and masked": {
    tables: { "public.keyed": { key: ["no"], columns: { no: { mask: "redact" } } } },
    code: "MR1023",
    says: /column "no" is in the key/,
  },
  "globs of which neither is more exact": {
    tables: { "public.p*n": { where: "id > 1" }, "public.pe*": { where: "id > 2" } },
    code: "MR1023",
    says: /"public\.p\*n" and "public\.pe\*" say different things of table public\.person/,
  },
  "columns' globs of which neither is more exact": {
    tables: person({ "ma*l": { mask: "redact" }, "m*il": { mask: "none" } }),
    code: "MR1023",
    says: /say different things of column "mail"/,
  },
  "a mask of a wider glob over the key": {
    tables: { "public.*": { columns: { "p*t": { mask: "redact" } } }, "public.person": { where: "id > 1" } },
    code: "MR1023",
    says: /public\.\*\.columns\.p\*t: column "part" is in the key of table public\.person/,
  },
  "names that clash under two globs": {
    tables: { "public.*": { columns: { mail: { rename: "x" } } }, ...person({ phone: { rename: "x" } }) },
    code: "MR1023",
    says: /columns "mail" and "phone" of table public\.person would both be named "x"/,
  },
  "a condition on an unknown column": {
    tables: person({}, { where: "id > 1 and status = 'x'" }),
    code: "MR1020",
    says: /where: at character 12: there is no column "status"/,
  },
  "a condition of the wrong type": {
    tables: person({}, { where: "at > 'CanaryYesterday'" }),
    code: "MR1020",
    says: /where: at character 6: column "at" is timestamp with time zone/,
  },
};

type Tried = Pick<Refused, "tables" | "taken" | "maskKey"> & {
  readonly captured?: readonly string[];
  /** What the state's file has. */
  readonly state?: string;
};

async function tried(args: readonly string[], { tables, taken, captured, maskKey, state }: Tried) {
  using folder = temporaryFolder();
  if (state !== undefined) writeFileSync(folder.file("state.db"), state);
  const config = {
    name: database.name,
    source: { kind: "postgres", url: database.url, ...(captured === undefined ? {} : { tables: captured }) },
    sinks: { w: { kind: "duckdb", path: "w.db", ...(taken === undefined ? {} : { tables: taken }) } },
    tables,
    ...(state === undefined ? {} : { state: "sqlite:state.db" }),
    ...(maskKey === undefined ? {} : { maskKey }),
    admin: { listen: false },
  };
  writeFileSync(folder.file("millrace.yaml"), stringify(config));
  return await runCli(args, { folder: folder.path });
}

describe("wrong in the file", () => {
  test.each(Object.entries(AT_LOADING))("%s", async (_what, refused) => {
    const { exitCode, stderr } = await tried(["check"], refused);
    expect(stderr).toMatch(new RegExp(`error ${refused.code}`));
    expect(stderr).toMatch(refused.says);
    expect(exitCode).toBe(2);
  });
});

describe("wrong beside the tables", () => {
  test.each(Object.entries(AT_THE_SOURCE))("%s", async (_what, refused) => {
    const { stdout, exitCode } = await tried(["check", "--json"], refused);
    const { findings }: { findings: { part: string; id: string; level: string; what: string }[] } = JSON.parse(stdout);
    expect(findings.filter(({ part, level }) => part === "rules" && level === "error")).toEqual([
      expect.objectContaining({ id: refused.code, level: "error", what: expect.stringMatching(refused.says) }),
    ]);
    expect(exitCode).toBe(1);
  });

  test.each(Object.entries(AT_THE_SOURCE))("%s, at a start", { tags: "heavy" }, async (_what, refused) => {
    const { stderr, exitCode } = await tried(["run", "--once"], refused);
    expect(stderr).toMatch(new RegExp(`error ${refused.code}`));
    expect(stderr).toMatch(refused.says);
    expect(stderr).not.toContain("CanaryYesterday");
    expect(exitCode).toBe(2);
  });
});

test("what comes later is optional", async () => {
  const tables = {
    "public.later": { optional: true, columns: { secret: { drop: true } } },
    "publik.*": { optional: true, where: "id > 1" },
    "public.person": {
      columns: { later: { mask: "redact", optional: true }, "*later*": { drop: true, optional: true } },
    },
  };
  const { stdout } = await tried(["check", "--json"], { tables, taken: ["public.person", "public.later"] });
  const { findings }: { findings: { part: string; level: string; what: string }[] } = JSON.parse(stdout);
  expect(findings.filter(({ part }) => part === "rules")).toEqual([
    expect.objectContaining({ level: "ok", what: "the rules fit their tables" }),
    expect.objectContaining({ level: "ok", what: expect.stringMatching(/^new tables that "\*\.\*" takes in/) }),
  ]);
});

test("what tables under rules were named before is not known without the state, and nothing is shown or promised then", async () => {
  await database.query("insert into other values (1, 'in clear') on conflict do nothing");
  const tables = { "public.*": { columns: { "*mail*": { mask: "redact" } } } };
  const damaged = { tables, state: "this is no state" };
  const shown = await tried(["rules", "try", "public.other", "--limit", "1"], damaged);
  expect(shown).toMatchObject({ exitCode: 1, stdout: "", stderr: expect.stringMatching(/MR12\d\d/) });
  expect((await tried(["rules", "try", "public.other", "--limit", "1"], { tables })).stdout).toContain("in clear");
  const { stdout } = await tried(["check", "--json"], damaged);
  const { findings }: { findings: { part: string; id: string; level: string }[] } = JSON.parse(stdout);
  expect(findings.filter(({ part }) => part === "rules")).toMatchObject([
    { id: "rules.unknown", level: "warning" },
    { id: "rules.new-tables", level: "ok" },
  ]);
  expect(findings.filter(({ part }) => part === "state")).toMatchObject([{ level: "error" }]);
});

test("an exclusion that leaves out nothing is named", async () => {
  const { stdout, exitCode } = await tried(["check", "--json"], {
    tables: {},
    captured: ["public.*", "publik.*", "!public.othre", "!public.keyed", "!other.person"],
    taken: ["public.*", "Public.*", "!public.Persn", "!public.Other", "!public.keyed"],
  });
  const { findings }: { findings: { part: string; level: string; what: string }[] } = JSON.parse(stdout);
  expect(findings.filter(({ part }) => part === "rules").map(({ level, what }) => [level, what])).toEqual([
    ["warning", '"publik.*" in source.tables matches no table'],
    ["warning", '"!public.othre" in source.tables leaves out no table'],
    ["warning", '"!other.person" in source.tables leaves out no table'],
    ["warning", '"Public.*" in sinks.w.tables matches no table'],
    ["warning", '"!public.Persn" in sinks.w.tables leaves out no table'],
    ["warning", '"!public.keyed" in sinks.w.tables leaves out no table'],
  ]);
  expect(exitCode).toBe(0);
});

test("a refused start has made nothing at the source", async () => {
  const { rows } = await database.query(
    "select slot_name from pg_replication_slots where database = current_database()",
  );
  expect(rows).toEqual([]);
});
