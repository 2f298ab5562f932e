/** The state on a Postgres server: the promises of every store, and those about the way to the server. */
import { randomUUID } from "node:crypto";
import { Client } from "pg";
import { expect, test, vi } from "vitest";
import { openState } from "../../src/state/open.ts";
import { type OpenStore, stateStoreSuite } from "../conformance/state.ts";
import { tcpProxy } from "../support/network/proxy.ts";
import { freshDatabase, type FreshDatabase } from "../support/run/services.ts";
import { eventually } from "../support/run/waiting.ts";

const at = (commit: bigint) => ({ epoch: 1, commit, index: 0 });

stateStoreSuite(async (): Promise<OpenStore> => {
  const database = await freshDatabase();
  const name = `n${randomUUID().slice(0, 8)}`;
  const opened = [await openState(database.url, { name })];
  return {
    state: opened[0]!,
    another: async () => {
      const state = await openState(database.url, { name });
      opened.push(state);
      return state;
    },
    pass: async (ms) => {
      await database.query(`update millrace.state set expires_at = expires_at - ${ms} * interval '1 ms'`);
    },
    async [Symbol.asyncDispose]() {
      for (const state of opened) await state.close();
      await database[Symbol.asyncDispose]();
    },
  };
});

async function rowCount(database: FreshDatabase): Promise<number> {
  const { rows } = await database.query<{ count: number }>("select count(*)::int as count from millrace.state_row");
  return rows[0]!.count;
}

test("names share a database and nothing else; one that is not there is said to be missing", async () => {
  await using database = await freshDatabase();
  await expect(openState(database.url, { name: "shop", readOnly: true })).rejects.toMatchObject({ code: "MR1203" });
  const shop = await openState(database.url, { name: "shop" });
  const crm = await openState(database.url, { name: "crm" });
  await shop.sinks.setCheckpoint("w", at(1n), {});
  expect(await crm.sinks.all()).toEqual([]);
  await expect(openState(database.url, { name: "other", readOnly: true })).rejects.toMatchObject({ code: "MR1203" });
  const reader = await openState(database.url, { name: "shop", readOnly: true });
  expect(await reader.sinks.all()).toHaveLength(1);
  await expect(reader.sinks.setPaused("w", true)).rejects.toMatchObject({ code: "MR1202" });
  for (const state of [shop, crm, reader]) await state.close();
});

test("what has resolved is on the server; a broken line is mended while the lease lasts", async () => {
  await using database = await freshDatabase();
  await using proxy = await tcpProxy(database.url);
  const state = await openState(proxy.url(database.url), { name: "shop" });
  await state.lease.acquire("one", 20_000);
  const before = await rowCount(database);
  await Promise.all(["a", "b", "c"].map((name) => state.sinks.setCheckpoint(name, at(7n), {})));
  expect(await rowCount(database)).toBe(before + 3);
  proxy.cut();
  await state.sinks.setCheckpoint("d", at(8n), {});
  expect(await rowCount(database)).toBe(before + 4);
  await state.close();
});

test("once the lease may be another's, nothing is written any more", async () => {
  await using database = await freshDatabase();
  await using proxy = await tcpProxy(database.url);
  const state = await openState(proxy.url(database.url), { name: "shop" });
  const { lease } = await state.lease.acquire("one", 2_500);
  await proxy.refuse();
  proxy.cut();
  const written = state.sinks.setCheckpoint("w", at(9n), {});
  await expect(written).rejects.toMatchObject({ code: "MR1215", kind: "fatal" });
  await proxy.resume();
  await expect(state.sinks.all()).rejects.toMatchObject({ code: "MR1215" });
  const other = await openState(database.url, { name: "shop" });
  await eventually(async () => (await other.lease.acquire("two", 20_000)).taken);
  expect(await state.lease.renew(lease.number, 10_000)).toBe(false);
  expect(await other.sinks.all()).toEqual([]);
  for (const one of [state, other]) await one.close();
});

test("a state is loaded in pages: neither many rows nor large ones come in one answer", async () => {
  await using database = await freshDatabase();
  const daemon = await openState(database.url, { name: "shop" });
  await daemon.lease.acquire("one", 60_000);
  const keys = Array.from({ length: 12_000 }, (_, i) => [String(i)]);
  await daemon.snapshots.addKeys("w", "public.t", keys);
  const envelope = JSON.stringify({ after: "x".repeat(3 * 1024 * 1024) });
  const refused = { tableId: "public.t", op: "c", position: at(1n), code: "MR3998", reason: "too long", envelope };
  for (const id of ["1", "2", "3", "4"]) await daemon.deadLetters.add({ sink: "w", key: [id], ...refused });
  const query = vi.spyOn(Client.prototype, "query");
  const reader = await openState(database.url, { name: "shop", readOnly: true });
  expect([...(await reader.snapshots.countKeys())]).toEqual([["w", new Map([["public.t", 12_000]])]]);
  const answers: readonly unknown[] = await Promise.all(query.mock.results.map(({ value }) => value));
  query.mockRestore();
  const pages = answers.map((answer) => contentsIn(answer)).filter(({ length }) => length > 0);
  expect(pages.flat().filter((content) => content.length > 1_000_000)).toHaveLength(4);
  for (const page of pages) {
    expect(page.length).toBeLessThanOrEqual(5_000);
    expect(page.join("").length).toBeLessThan(12 * 1024 * 1024);
  }
  expect(await reader.deadLetters.envelope(4)).toBe(envelope);
  for (const one of [daemon, reader]) await one.close();
});

/** Of the state's rows in an answer. */
function contentsIn(answer: unknown): readonly string[] {
  if (typeof answer !== "object" || answer === null || !("rows" in answer) || !Array.isArray(answer.rows)) return [];
  return answer.rows.flatMap((row: { content?: string }) => row.content ?? []);
}

test("who does not hold the lease writes only while nobody does", async () => {
  await using database = await freshDatabase();
  const daemon = await openState(database.url, { name: "shop" });
  const command = await openState(database.url, { name: "shop" });
  await command.sinks.setPaused("w", true);
  const { lease } = await daemon.lease.acquire("elsewhere pid 1", 20_000);
  expect((await daemon.sinks.get("w"))?.paused).toBe(true);
  await expect(command.sinks.setPaused("w", false)).rejects.toMatchObject({ code: "MR1213" });
  await daemon.lease.release(lease.number);
  await command.sinks.setPaused("w", false);
  expect((await daemon.sinks.get("w"))?.paused).toBe(false);
  for (const one of [daemon, command]) await one.close();
});

test("a server that went back to an earlier moment, also to before the lease, is noticed at the next write or renewal", async () => {
  await using database = await freshDatabase();
  const daemon = await openState(database.url, { name: "shop" });
  const goBack = async (): Promise<void> => {
    await daemon.snapshots.addKeys("w", "public.t", [["1"]]);
    await database.query(`update millrace.state set revision = revision - 1;
      delete from millrace.state_row where relation = 'pending_key'`);
  };
  await daemon.lease.acquire("one", 20_000);
  await goBack();
  await expect(daemon.sinks.setPaused("w", true)).rejects.toMatchObject({ code: "MR1217", kind: "fatal" });
  await expect(daemon.snapshots.countKeys()).rejects.toMatchObject({ code: "MR1217" });
  const { lease } = await daemon.lease.acquire("one", 20_000, () => true);
  expect((await daemon.snapshots.countKeys()).size).toBe(0);
  expect(await daemon.sinks.all()).toEqual([]);
  expect(await daemon.lease.renew(lease.number, 20_000)).toBe(true);
  await goBack();
  await expect(daemon.lease.renew(lease.number, 20_000)).rejects.toMatchObject({ code: "MR1217" });
  const again = await daemon.lease.acquire("one", 20_000, () => true);
  await database.query("update millrace.state set lease_number = lease_number - 1, revision = revision - 1");
  await expect(daemon.lease.renew(again.lease.number, 20_000)).rejects.toMatchObject({ code: "MR1217" });
  await daemon.close();
});

test("a row that is gone from the server is told as that, and nobody is said to have taken the lease over", async () => {
  await using database = await freshDatabase();
  const daemon = await openState(database.url, { name: "shop" });
  const { lease } = await daemon.lease.acquire("one", 20_000);
  await database.query("delete from millrace.state");
  const gone = { code: "MR1209", message: expect.stringContaining("row is gone") };
  await expect(daemon.lease.renew(lease.number, 20_000)).rejects.toMatchObject(gone);
  await expect(daemon.sinks.setPaused("w", true)).rejects.toMatchObject(gone);
  await daemon.close();
});

test("what was given up arrives late, after what was written since: it changes nothing", async () => {
  await using database = await freshDatabase();
  await using proxy = await tcpProxy(database.url);
  const daemon = await openState(proxy.url(database.url), { name: "shop" });
  await daemon.lease.acquire("one", 20_000);
  const held = proxy.hold("WITH held");
  const first = daemon.sinks.setPaused("w", false);
  await held.reached;
  proxy.halfClose("client");
  await first;
  await daemon.sinks.setPaused("w", true);
  await held.release();
  await daemon.sinks.setPaused("x", false);
  const reader = await openState(database.url, { name: "shop", readOnly: true });
  expect((await reader.sinks.get("w"))?.paused).toBe(true);
  for (const one of [daemon, reader]) await one.close();
});

test("a restored state raises the number of its own lease alone, however late", async () => {
  await using database = await freshDatabase();
  await using proxy = await tcpProxy(database.url);
  const former = await openState(proxy.url(database.url), { name: "shop" });
  const daemon = await openState(database.url, { name: "shop" });
  await former.lease.acquire("one", 20_000);
  const dump = { ...(await former.dump()), leaseNumber: Date.now() * 2 };
  const held = proxy.hold("greatest(lease_number,");
  const restored = former.restore(dump);
  await held.reached;
  await database.query("update millrace.state set expires_at = clock_timestamp() - interval '1 s'");
  const { lease } = await daemon.lease.acquire("two", 20_000);
  const refused = expect(restored).rejects.toMatchObject({ code: "MR1210" });
  await held.release();
  await refused;
  expect(await daemon.lease.renew(lease.number, 20_000)).toBe(true);
  for (const one of [former, daemon]) await one.close();
});

test("a holder that stood still for longer than its lease does not write over what a command wrote meanwhile", async () => {
  await using database = await freshDatabase();
  const daemon = await openState(database.url, { name: "shop" });
  const command = await openState(database.url, { name: "shop" });
  const { lease } = await daemon.lease.acquire("elsewhere pid 1", 20_000);
  await daemon.sinks.setCheckpoint("w", at(1n), {});
  await database.query("update millrace.state set expires_at = clock_timestamp() - interval '1 s'");
  await command.sinks.setPaused("w", true);
  const stale = daemon.sinks.setCheckpoint("w", at(2n), {});
  await expect(stale).rejects.toMatchObject({ code: "MR1217" });
  await expect(daemon.lease.renew(lease.number, 20_000)).rejects.toMatchObject({ code: "MR1217" });
  expect((await command.sinks.get("w"))?.paused).toBe(true);
  for (const one of [daemon, command]) await one.close();
});

test("a password is in no error", async () => {
  const refused = await openState("postgres://u:hunter2secret@127.0.0.1:1/x", { name: "shop" }).catch(
    (e: unknown) => e,
  );
  expect(refused).toMatchObject({ code: "MR1215" });
  expect(JSON.stringify(refused) + String(refused)).not.toContain("hunter2secret");
});
