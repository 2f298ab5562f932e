/**
 * A state of every form so far, with rows in all of its tables, met by a program that has one migration more: opened by it, or
 * put back from an export, the state has all rows. A new migration needs its rows in `LATER`, nothing else.
 */
import { cpSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { pathToFileURL } from "node:url";
import { afterAll, expect, test, vi } from "vitest";
import type { StateDump } from "../../src/core/contracts/state-store.ts";
import { dumpOf, SEQUENCES } from "../../src/state/sqlite/dump.ts";
import type { expectDivision as ExpectDivision } from "../../src/sharing/divided-before.ts";
import type { openState as OpenState } from "../../src/state/open.ts";
import { migrate } from "../../src/state/sqlite/migrate.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const FOLDER = "migrations/state/sqlite";
const FORMS = readdirSync(FOLDER).length;
const EARLIER = Array.from({ length: FORMS }, (_, i) => i + 1);
const INVENTED = FORMS + 1;

/** A copy of this program with one migration more. */
const next = temporaryFolder();
for (const folder of ["src/core", "src/state", "src/sharing", "src/runtime", FOLDER])
  cpSync(folder, next.file(folder), { recursive: true });
writeFileSync(
  join(next.file(FOLDER), `${String(INVENTED).padStart(4, "0")}_invented.sql`),
  `ALTER TABLE notice ADD COLUMN invented TEXT;
   CREATE TABLE invented (one INTEGER PRIMARY KEY) STRICT;
   INSERT INTO invented SELECT id FROM pending_key;`,
);
const path = pathToFileURL(next.file("src/state/open.ts")).href;
// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a copy of that module
const { openState } = (await import(path)) as { openState: typeof OpenState };
const sharing = pathToFileURL(next.file("src/sharing/divided-before.ts")).href;
// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a copy of that module
const { expectDivision } = (await import(sharing)) as { expectDivision: typeof ExpectDivision };
afterAll(() => next[Symbol.dispose]());

/** As the first form has them. */
const FIRST = `
  INSERT INTO store VALUES (1, 'shop');
  INSERT INTO lease VALUES (1, 7, 'host pid 42', 0);
  INSERT INTO identity VALUES (1, 'a1b2');
  INSERT INTO source VALUES (1, 2, 1, 1, '{"systemIdentifier":"7"}', '2/100/0', '2/900/0', '2026-11-20T00:00:00Z', NULL);
  INSERT INTO sink VALUES ('warehouse', '2/950/3', '2/960/0', '{"public.orders":"h1"}', 1, NULL, '{"to":"2/400/0","anew":true,"id":"e5"}', '{"what":"w","since":"2026-11-20T00:00:00Z","until":"2026-11-20T00:00:00Z"}', '["public.out"]');
  INSERT INTO sink VALUES ('cache', NULL, NULL, '{}', 0, ${error("MR2001")}, NULL, NULL, '[]');
  INSERT INTO checkpoint VALUES ('follow', '2/950/3', '{}', 'b');
  INSERT INTO reserved_number VALUES ('lake', 1795665600123);
  INSERT INTO proof (sink, table_id, since, step, content) VALUES ('cache', 'public.orders', '2026-11-20T00:00:00Z', 4, '{}');
  INSERT INTO sink_session VALUES (2, 'cache', 's1', 4, 5, 1);
  INSERT INTO settled VALUES ('cache', 'public.orders', 6);
  INSERT INTO table_version VALUES ('public.orders', 3, '2/500/0', 'f3', '{"schema":"public","table":"orders"}');
  INSERT INTO table_rename VALUES ('2/500/0', '[{"from":"public.order","to":"public.orders"}]');
  INSERT INTO suspended_table VALUES ('', 'public.log', ${error("MR1303")}, NULL, NULL);
  INSERT INTO suspended_table VALUES ('cache', 'public.orders', ${error("MR1127")}, 'f3', NULL);
  INSERT INTO snapshot (id, sink, table_id, scope, condition, reason, state, sweep_below, cursor, rows_done, created_at) VALUES
    (4, 'warehouse', 'public.orders', 'table', NULL, 'new', 'done', '9', '["5"]', 50, '2026-11-19T00:00:00Z'),
    (5, 'warehouse', 'public.orders', 'where', 'id < 9', 'asked for', 'running', NULL, '["3"]', 30, '2026-11-20T00:00:00Z'),
    (6, 'cache', 'public.orders', 'table', NULL, 'new', 'waiting', NULL, NULL, 0, '2026-11-20T00:00:00Z');
  INSERT INTO pending_key VALUES (8, 'cache', 'public.orders', '["1","a"]', '');
  INSERT INTO dead_letter VALUES (9, 'cache', 'public.orders', '["2"]', 'u', '2/700/1', 'MR3109', 'r',
    '2026-11-20T00:00:00Z', 3, 'waiting', '{"op":"u"}');
  INSERT INTO report VALUES (3, 'r3', '{}', '{"id":"r3"}');
  INSERT INTO comparison VALUES ('c1', '{"tables":[]}');
  INSERT INTO audit VALUES (2, '2026-11-20T00:00:00Z', NULL, 'root', 'cli', 'pause', '{}', NULL, NULL, NULL);
  INSERT INTO notice VALUES ('n1', '{"id":"n1","what":"w"}');
  INSERT INTO ending VALUES (1, ${error("MR1201")})`;

/** What later forms brought, by their number. */
const LATER: Readonly<Record<number, string>> = {};

function error(code: string): string {
  return `'{"code":"${code}","message":"m","hint":null,"at":"2026-11-20T00:00:00Z"}'`;
}

/** A file as the version of that form left it. */
function written(path: string, form: number): StateDump["relations"] {
  const database = new DatabaseSync(path);
  try {
    migrate(database, path, 1);
    database.exec(FIRST);
    for (let number = 2; number <= form; number++) {
      migrate(database, path, number);
      database.exec(LATER[number] ?? "");
    }
    return dumpOf(database, 7).relations;
  } finally {
    database.close();
  }
}

function expectKept(now: StateDump, before: StateDump["relations"]): void {
  expect(now.migration).toBe(INVENTED);
  expect(now.relations["invented"]).toHaveLength(1);
  for (const [name, rows] of Object.entries(before)) {
    if (name === SEQUENCES) continue;
    expect(rows, `${name} has rows in this test`).not.toEqual([]);
    expect({ name, rows: now.relations[name] }).toMatchObject({ name, rows });
  }
}

test.each(EARLIER)("a file of form %i is migrated with its rows, and its daemon can work with it", async (form) => {
  using folder = temporaryFolder();
  const path = folder.file("shop.db");
  const before = written(path, form);
  const bytes = readFileSync(path);
  const read = await openState(`sqlite:${path}`, { name: "shop", readOnly: true });
  expectKept(await read.dump(), before);
  expect(await read.lease.unreleased()).toBeNull();
  await expect(read.sinks.setPaused("cache", true)).rejects.toMatchObject({ code: "MR1202" });
  await read.close();
  expect(readFileSync(path).equals(bytes)).toBe(true);
  const state = await openState(`sqlite:${path}`, { name: "shop" });
  try {
    const dump = await state.dump();
    expectKept(dump, before);
    const { lease } = await state.lease.acquire("host pid 43", 60_000);
    expect(lease.number).toBeGreaterThan(7);
    expect(await state.source.get()).toMatchObject({ epoch: 2, acknowledged: { epoch: 2, commit: 900n, index: 0 } });
    expect(await state.sinks.get("warehouse")).toMatchObject({ paused: true, covered: { commit: 960n } });
    // What was owed is owed still.
    const owed = (await state.snapshots.list()).map(({ id, state: now }) => ({ id, now }));
    expect(owed).toContainEqual({ id: 6, now: "waiting" });
    expect([...(await state.snapshots.countKeys()).values()].flatMap((counts) => [...counts.values()])).toEqual([1]);
    expect((await state.deadLetters.waiting()).get("cache")?.count).toBe(1);
    expect(await state.notices.list()).toMatchObject([{ id: "n1" }]);
  } finally {
    await state.close();
  }
});

test.each(EARLIER)("a file of form %i is read as it was at one moment, while its daemon writes", async (form) => {
  using folder = temporaryFolder();
  const path = folder.file("shop.db");
  const before = written(path, form);
  const daemon = new DatabaseSync(path);
  daemon.exec("PRAGMA journal_mode = WAL");
  // oxlint-disable-next-line typescript/unbound-method -- called with its database
  const { exec } = DatabaseSync.prototype;
  let copied = 0;
  const spy = vi.spyOn(DatabaseSync.prototype, "exec").mockImplementation(function (this: DatabaseSync, sql) {
    exec.call(this, sql);
    if (sql.includes("INSERT INTO main.") && copied++ === 0) exec.call(daemon, "DELETE FROM notice");
  });
  try {
    const read = await openState(`sqlite:${path}`, { name: "shop", readOnly: true });
    expectKept(await read.dump(), before);
    await read.close();
  } finally {
    spy.mockRestore();
    daemon.close();
  }
  expect(copied).toBeGreaterThan(1);
});

test.each(EARLIER)("how tables were divided is read of files of form %i, before anything is migrated", async (form) => {
  using folder = temporaryFolder();
  written(folder.file("shop.db"), form);
  const divided = { name: "shop", state: { url: `sqlite:${folder.file("shop.db")}` } };
  await expectDivision({ ...divided, division: null }, quietLog);
  await expect(expectDivision({ ...divided, division: "2 by id" }, quietLog)).rejects.toMatchObject({ code: "MR1330" });
});

test.each(EARLIER)("an export of form %i is put back with its rows", async (form) => {
  using folder = temporaryFolder();
  const relations = written(folder.file("old.db"), form);
  const state = await openState(`sqlite:${folder.file("new.db")}`, { name: "shop" });
  try {
    await state.lease.acquire("host pid 43", 60_000);
    await state.restore({ migration: form, leaseNumber: 7, relations });
    expectKept(await state.dump(), relations);
  } finally {
    await state.close();
  }
});
