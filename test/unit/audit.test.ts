/** The audit log's bounds, and what it keeps of actions that fail. */
import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import type { AuditBeginning } from "../../src/core/audit/audit-store.ts";
import { audited } from "../../src/core/audit/audited.ts";
import { systemClock } from "../../src/core/clock.ts";
import { MillraceError } from "../../src/core/errors.ts";
import { Connection } from "../../src/state/sqlite/connection.ts";
import { migrate } from "../../src/state/sqlite/migrate.ts";
import { AUDIT_COUNT_MAX, AUDIT_DAYS_MAX, SqliteAudit } from "../../src/state/sqlite/stores/audit.ts";

const DAY_MS = 86_400_000;
const PAUSE: AuditBeginning = { who: "alice", via: "socket", action: "pause", subject: {}, before: null };

function opened() {
  const database = new DatabaseSync(":memory:");
  migrate(database, "of a test");
  let laterMs = 0;
  const clock = { ...systemClock, now: () => Date.now() + laterMs };
  const audit = new SqliteAudit(new Connection(database, "of a test", clock));
  return { audit, database, pass: (days: number) => (laterMs += days * DAY_MS) };
}

test("it keeps the newest, up to a number and an age", async () => {
  const { audit, database, pass } = opened();
  const first = await audit.begin(PAUSE);
  pass(AUDIT_DAYS_MAX - 1);
  const second = await audit.begin(PAUSE);
  expect((await audit.list(10)).map(({ id }) => id)).toEqual([second, first]);
  pass(2);
  const third = await audit.begin(PAUSE);
  expect((await audit.list(10)).map(({ id }) => id)).toEqual([third, second]);
  database.exec(`UPDATE sqlite_sequence SET seq = ${second + AUDIT_COUNT_MAX - 1} WHERE name = 'audit'`);
  const last = await audit.begin(PAUSE);
  expect((await audit.list(10)).map(({ id }) => id)).toEqual([last, third]);
});

test("an action that fails is kept with its number, and one that never ends without an end", async () => {
  const { audit } = opened();
  const state = { audit, sinks: { all: async () => [] }, deadLetters: { waiting: async () => new Map() } };
  const refused = new MillraceError({ code: "MR1114", kind: "fatal", message: "there is no sink" });
  const failing = audited(state, PAUSE, async () => {
    throw refused;
  });
  await expect(failing).rejects.toBe(refused);
  await new Promise<void>((begun) => {
    void audited(state, PAUSE, async () => {
      begun();
      return await new Promise<never>(() => {});
    });
  });
  expect(await audit.list(2)).toMatchObject([
    { error: null, endedAt: null, after: null },
    { error: "MR1114", endedAt: expect.any(String), after: null },
  ]);
});

test("of a long list in an answer it keeps the number, and the first", async () => {
  const { audit } = opened();
  const state = { audit, sinks: { all: async () => [] }, deadLetters: { waiting: async () => new Map() } };
  const waiting = Array.from({ length: 51 }, (_, i) => i);
  await audited(state, PAUSE, async () => ({ waiting, failed: waiting.slice(0, 50) }));
  expect((await audit.list(1))[0]?.after).toEqual({
    sinks: {},
    waiting: { count: 51, first: waiting.slice(0, 50) },
    failed: waiting.slice(0, 50),
  });
});
