/** The state on a Postgres server: the promises of every store, and those about the way to the server. */
import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
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

test("a password is in no error", async () => {
  const refused = await openState("postgres://u:hunter2secret@127.0.0.1:1/x", { name: "shop" }).catch(
    (e: unknown) => e,
  );
  expect(refused).toMatchObject({ code: "MR1215" });
  expect(JSON.stringify(refused) + String(refused)).not.toContain("hunter2secret");
});
