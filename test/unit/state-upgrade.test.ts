/**
 * A state of every earlier form, with rows in all of its tables: opened by this version, or put back from an export, it has
 * them all.
 */
import { readdirSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import type { StateDump, StateRow } from "../../src/core/contracts/state-store.ts";
import { dumpOf, SEQUENCES } from "../../src/state/sqlite/dump.ts";
import { migrate } from "../../src/state/sqlite/migrate.ts";
import { openState } from "../../src/state/open.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const FORMS = readdirSync("migrations/state/sqlite").length;
const EARLIER = Array.from({ length: FORMS - 1 }, (_, i) => i + 1);

/** As the first version wrote them. */
const FIRST = `
  INSERT INTO store VALUES (1, 'shop');
  INSERT INTO lease VALUES (1, 7, 'host pid 42', 0);
  INSERT INTO source VALUES (1, 2, '{"systemIdentifier":"7"}', '2/100/0', '2/900/0');
  INSERT INTO sink VALUES ('warehouse', '2/950/3', '2/960/0', '{"public.orders":"h1"}', 1, NULL);
  INSERT INTO sink VALUES ('cache', NULL, NULL, '{}', 0, '{"code":"MR3401","message":"m","hint":null,"at":"2026-11-20T00:00:00Z"}');
  INSERT INTO table_version VALUES ('public.orders', 3, '2/500/0', 'f3', '{"schema":"public","table":"orders"}');
  INSERT INTO table_aside VALUES ('public.log', '{"code":"MR1303","message":"m","hint":null,"at":"2026-11-20T00:00:00Z"}');
  INSERT INTO refill (id, sink, table_id, scope, condition, reason, state, sweep_below, cursor, rows_done, created_at) VALUES
    (4, 'warehouse', 'public.orders', 'table', NULL, 'new', 'done', '9', '["5"]', 50, '2026-11-19T00:00:00Z'),
    (5, 'warehouse', 'public.orders', 'where', 'id < 9', 'asked for', 'running', NULL, '["3"]', 30, '2026-11-20T00:00:00Z'),
    (6, 'cache', 'public.orders', 'table', NULL, 'new', 'waiting', NULL, NULL, 0, '2026-11-20T00:00:00Z');
  INSERT INTO pending_key VALUES (8, 'cache', 'public.orders', '["1","a"]');
  INSERT INTO dead_letter VALUES (9, 'cache', 'public.orders', '["2"]', 'u', '2/700/1', 'MR3405', 'r', '{"op":"u"}',
    '2026-11-20T00:00:00Z', 'waiting');`;

/** What came later, by the form that brought it. */
const LATER: Readonly<Record<number, string>> = {
  3: `UPDATE sink SET reset = '{"to":"2/400/0","anew":true}' WHERE name = 'warehouse'; UPDATE source SET acknowledged_at = '2026-11-20T00:00:00Z'`,
  6: `INSERT INTO report VALUES (3, 'r3', '{}', '{"id":"r3"}')`,
  7: `INSERT INTO comparison VALUES ('c1', '{"tables":[]}')`,
  8: `INSERT INTO identity VALUES (1, 'a1b2'); INSERT INTO sink_session VALUES (2, 'cache', 's1', 4, 5);
      INSERT INTO settled VALUES ('cache', 'public.orders', 6)`,
  9: `INSERT INTO suspended_table VALUES ('cache', 'public.orders', '{"code":"MR1310","message":"m","hint":null,"at":"2026-11-20T00:00:00Z"}')`,
  11: "UPDATE dead_letter SET attempts = 3",
  12: `INSERT INTO audit VALUES (2, '2026-11-20T00:00:00Z', NULL, 'root', 'cli', 'pause', '{}', NULL, NULL, NULL)`,
};

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

/** Reads that were under way begin again where an earlier form does not tell what they need: their checkpoint is void. */
const VOID = new Set(["state", "sweep_below", "cursor", "rows_done", "needed", "attempt", "held", "started_at"]);

function expectKept(now: StateDump, before: StateDump["relations"]): void {
  for (const [name, rows] of Object.entries(before)) {
    if (name === SEQUENCES) continue;
    const kept = (row: StateRow) =>
      Object.fromEntries(Object.entries(row).filter(([column]) => name !== "refill" || !VOID.has(column)));
    const found = now.relations[name] ?? [];
    expect({ name, rows: found }).toMatchObject({ name, rows: rows.map(kept) });
    expect(found.length, name).toBe(rows.length);
  }
}

test.each(EARLIER)("a file of form %i is migrated with its rows, and its daemon can work with it", async (form) => {
  using folder = temporaryFolder();
  const path = folder.file("shop.db");
  const before = written(path, form);
  await expect(openState(`sqlite:${path}`, { name: "shop", readOnly: true })).rejects.toMatchObject({ code: "MR1207" });
  const state = await openState(`sqlite:${path}`, { name: "shop" });
  try {
    const dump = await state.dump();
    expect(dump.migration).toBe(FORMS);
    expectKept(dump, before);
    const { lease } = await state.lease.acquire("host pid 43", 60_000);
    expect(lease.number).toBeGreaterThan(7);
    expect(await state.source.get()).toMatchObject({ epoch: 2, acknowledged: { epoch: 2, commit: 900n, index: 0 } });
    expect(await state.sinks.get("warehouse")).toMatchObject({ paused: true, covered: { commit: 960n } });
    // What was owed is owed still.
    const owed = (await state.snapshots.list()).map(({ id, state: now }) => ({ id, now }));
    expect(owed).toContainEqual({ id: 6, now: "waiting" });
    expect(await state.snapshots.countKeys()).toBe(1);
    expect((await state.deadLetters.waiting()).get("cache")?.count).toBe(1);
    expect(await state.notices.list()).toEqual([]);
  } finally {
    await state.close();
  }
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
