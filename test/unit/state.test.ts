import { spawn } from "node:child_process";
import { once } from "node:events";
import { randomUUID } from "node:crypto";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, expect, test } from "vitest";
import type { StateStore } from "../../src/core/contracts/state-store.ts";
import type { Position } from "../../src/core/model/position.ts";
import { systemClock } from "../../src/core/clock.ts";
import { openMemory } from "../../src/state/sqlite/open.ts";
import { openState } from "../../src/state/open.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";
import { complete } from "../support/daemon/complete.ts";
import { reportOf } from "../support/model/reports.ts";

const at = (commit: bigint, index = 0, epoch = 1): Position => ({ epoch, commit, index });

describe("the state file", () => {
  test("is created with its folder, readable by its owner only", async () => {
    using folder = temporaryFolder();
    const path = folder.file("deep/er/shop.db");
    const state = await openState(`sqlite:${path}`);
    await state.source.announce(1);
    expect(statSync(folder.file("deep")).mode & 0o777).toBe(0o700);
    for (const suffix of ["", "-wal", "-shm"]) expect(statSync(path + suffix).mode & 0o777).toBe(0o600);
    await state.close();
  });

  test("keeps everything over a restart", async () => {
    using folder = temporaryFolder();
    const url = `sqlite:${folder.file("s.db")}`;
    const first = await openState(url);
    await first.source.announce(3);
    await first.source.created({ system: "7", slot: "millrace_x" }, at(9n, 0, 3));
    await first.sinks.setCheckpoint(
      "w",
      at(2n ** 55n - 1n, 7),
      complete({ "public.a": "h1", "public.__proto__": "h2" }),
    );
    await first.close();
    const second = await openState(url);
    expect(await second.source.get()).toEqual({
      epoch: 3,
      makes: false,
      hasLooked: false,
      identity: { system: "7", slot: "millrace_x" },
      origin: at(9n, 0, 3),
      acknowledged: null,
      acknowledgedAt: null,
      foreseen: null,
    });
    expect((await second.sinks.get("w"))?.checkpoint).toEqual(at(2n ** 55n - 1n, 7));
    expect((await second.sinks.get("w"))?.tables).toEqual({ "public.a": "h1", "public.__proto__": "h2" });
    await second.close();
  });

  test("keeps no bytes of dead letters, reports and comparisons that are forgotten", async () => {
    using folder = temporaryFolder();
    const path = folder.file("s.db");
    const state = await openState(`sqlite:${path}`);
    const letter = { sink: "w", tableId: "public.a", op: "u", position: at(9n), code: "MR1", reason: "r" } as const;
    for (let i = 0; i < 100; i++) {
      const envelope = JSON.stringify({ after: { text: `in plain ${"text ".repeat(i % 10 === 0 ? 2_000 : 20)}` } });
      await state.deadLetters.add({ ...letter, key: [String(i)], envelope });
    }
    await state.deadLetters.forget("public.a");
    const sample = [{ kind: "extra", key: { id: "in plain" }, columns: [], why: "unknown" }] as const;
    await state.reports.add(reportOf({ id: "r", table: "public.a", sample }));
    await state.reports.forgetKeys("public.a");
    for (const [id, startedAt] of [
      ["c", "2999-01-01T00:00:00Z"],
      ["d", "2001-01-01T00:00:00Z"],
    ] as const)
      await state.comparisons.save(id, JSON.stringify({ startedAt, open: [{ table: "public.a", sample }] }));
    await state.comparisons.prune();
    await state.comparisons.save("e", JSON.stringify({ startedAt: "2999", open: [{ table: "public.a", sample }] }));
    await state.comparisons.forgetTable("public.a");
    await state.close();
    expect(readFileSync(path).includes("in plain")).toBe(false);
  });

  test("is refused when it is another program's, damaged, or newer, and is left as it was", async () => {
    using folder = temporaryFolder();
    const text = folder.file("text.db");
    writeFileSync(text, "this is not a database, only a longer text that fills the header of one\n".repeat(20));
    await expect(openState(`sqlite:${text}`)).rejects.toMatchObject({ code: "MR1204" });

    const foreign = folder.file("foreign.db");
    const other = new DatabaseSync(foreign);
    other.exec("CREATE TABLE customers (id INTEGER)");
    other.close();
    const before = readFileSync(foreign);
    await expect(openState(`sqlite:${foreign}`)).rejects.toMatchObject({ code: "MR1204" });
    expect(readFileSync(foreign).equals(before)).toBe(true);

    const newer = folder.file("newer.db");
    await (await openState(`sqlite:${newer}`)).close();
    const edited = new DatabaseSync(newer);
    edited.exec("INSERT INTO migration VALUES (9999, 'from_the_future', '')");
    edited.close();
    await expect(openState(`sqlite:${newer}`)).rejects.toMatchObject({ code: "MR1206" });
    await expect(openState(`sqlite:${newer}`, { readOnly: true })).rejects.toMatchObject({ code: "MR1206" });

    const damaged = folder.file("damaged.db");
    const whole = await openState(`sqlite:${damaged}`);
    for (let i = 0; i < 50; i++) await whole.snapshots.addKeys("s", "public.t", [[`${i}`.repeat(200)]]);
    await whole.close();
    const bytes = readFileSync(damaged);
    bytes.fill(0xff, 4096, bytes.length);
    writeFileSync(damaged, bytes);
    await expect(openState(`sqlite:${damaged}`)).rejects.toMatchObject({ code: "MR1204" });
  });

  test("belongs to one name", async () => {
    using folder = temporaryFolder();
    const url = `sqlite:${folder.file("s.db")}`;
    await (await openState(url, { name: "shop" })).close();
    await (await openState(url, { name: "shop" })).close();
    await expect(openState(url, { name: "crm" })).rejects.toMatchObject({ code: "MR1211" });
    await expect(openState(url, { name: "crm", readOnly: true })).rejects.toMatchObject({ code: "MR1211" });
  });

  describe("while its holder writes", () => {
    async function holding(path: string): Promise<StateStore> {
      const state = await openState(`sqlite:${path}`, { name: "shop" });
      await state.lease.acquire("this process", 60_000);
      for (let i = 0; i < 50; i++) await state.snapshots.addKeys("w", "public.t", [[`${i}`.repeat(200)]]);
      return state;
    }

    async function expectRefused(state: StateStore, message: string): Promise<void> {
      const error = { code: "MR1217", kind: "fatal", message: expect.stringContaining(message) };
      await expect(state.sinks.setPaused("w", true)).rejects.toMatchObject(error);
      // Whoever asks: others keep the first error to themselves.
      await expect(state.lease.renew(1, 60_000)).rejects.toMatchObject(error);
      await state.close();
    }

    async function expectWhole(path: string, isPaused = false): Promise<void> {
      const again = await openState(`sqlite:${path}`, { name: "shop" });
      // The process that put it back lives: its next run follows no death.
      expect(await again.lease.acquire("next", 60_000, () => true)).toMatchObject({
        taken: true,
        isInherited: isPaused,
      });
      expect((await again.snapshots.countKeys()).get("w")?.get("public.t")).toBe(50);
      expect((await again.sinks.get("w"))?.paused ?? false).toBe(isPaused);
      await again.sinks.setPaused("w", !isPaused);
      await again.close();
      if (!isPaused) await expectWhole(path, true);
    }

    test.each([
      ["removed", (path: string) => rmSync(path)],
      ["removed with what is beside it", (path: string) => rmSync(dirname(path), { recursive: true })],
      ["moved away", (path: string) => renameSync(path, `${path}.old`)],
    ])("it is put back when it is %s, with all that was stored", async (_, remove) => {
      using folder = temporaryFolder();
      const path = folder.file("own/s.db");
      const state = await holding(path);
      remove(path);
      await expectRefused(state, "what it held is there again");
      expect(statSync(path).mode & 0o777).toBe(0o600);
      expect(readdirSync(dirname(path)).filter((name) => name.endsWith(".new"))).toEqual([]);
      await expectWhole(path);
    });

    test("it has all that was stored when its log is removed", async () => {
      using folder = temporaryFolder();
      const path = folder.file("s.db");
      const state = await holding(path);
      rmSync(`${path}-wal`);
      await expectRefused(state, "-wal, was removed");
      await expectWhole(path);
    });

    test("another one in its place stays as it is, and gets nothing of its log", async () => {
      using folder = temporaryFolder();
      const [path, other] = [folder.file("s.db"), folder.file("other.db")];
      const before = await openState(`sqlite:${other}`, { name: "shop" });
      await before.lease.acquire("an earlier daemon", 60_000);
      for (let i = 0; i < 200; i++) await before.snapshots.addKeys("x", "public.u", [[`${i}`.repeat(300)]]);
      await before.close();
      const state = await holding(path);
      const bytes = readFileSync(other);
      renameSync(other, path);
      await expectRefused(state, "another file was put in the place");
      expect(readFileSync(path).equals(bytes)).toBe(true);
      const again = await openState(`sqlite:${path}`, { name: "shop" });
      expect((await again.snapshots.countKeys()).get("x")?.get("public.u")).toBe(200);
      await again.close();
    });

    test.each([
      ["has ended", true],
      ["still works", false],
    ])("a state that a command has made in its place, and %s, is none", async (_, ends) => {
      using folder = temporaryFolder();
      const path = folder.file("s.db");
      const state = await holding(path);
      rmSync(path);
      const command = await openState(`sqlite:${path}`, { name: "shop" });
      await command.sinks.setPaused("other", true);
      if (ends) await command.close();
      await expectRefused(state, "what it held is there again");
      if (!ends) await command.close();
      await expectWhole(path);
    });

    test("it is waited for where a reader keeps its log from being copied", async () => {
      using folder = temporaryFolder();
      const path = folder.file("s.db");
      const state = await holding(path);
      const reader = new DatabaseSync(path, { readOnly: true });
      reader.exec("BEGIN; SELECT count(*) FROM lease");
      await state.sinks.setPaused("w", false);
      rmSync(`${path}-wal`);
      await expect(state.sinks.setPaused("w", true)).rejects.toMatchObject({ reason: "passing" });
      reader.close();
      await expectRefused(state, "-wal, was removed");
      await expectWhole(path);
    });

    test("it is found by the next start where its process was killed before it had the name again", async () => {
      using folder = temporaryFolder();
      const path = folder.file("s.db");
      const state = await holding(path);
      await state.lease.release((await state.lease.current())!.number);
      await state.close();
      renameSync(path, `${path}.${randomUUID()}.new`);
      writeFileSync(`${path}.${randomUUID()}.new`, "as far as it came");
      await (await openState(`sqlite:${path}`, { name: "shop" })).close();
      expect(readdirSync(folder.path).filter((name) => name.endsWith(".new"))).toEqual([]);
      await expectWhole(path);
    });

    test.each([
      ["its log", (real: string) => rmSync(`${real}-wal`), "-wal, was removed"],
      ["the file", (real: string) => rmSync(real), "what it held is there again"],
      ["its folder", (real: string) => rmSync(dirname(real), { recursive: true }), "what it held is there again"],
    ])("behind a symbolic link, %s is missed and put back where the link leads", async (_, remove, message) => {
      using folder = temporaryFolder();
      const [path, real] = [folder.file("s.db"), folder.file("disk/real.db")];
      mkdirSync(dirname(real));
      symlinkSync(real, path);
      const state = await holding(path);
      remove(real);
      await expectRefused(state, message);
      expect([lstatSync(path).isSymbolicLink(), existsSync(real)]).toEqual([true, true]);
      await expectWhole(path);
    });

    test("it is waited for where it can't be put back", async () => {
      using folder = temporaryFolder();
      const path = folder.file("own/s.db");
      const state = await holding(path);
      rmSync(dirname(path), { recursive: true });
      writeFileSync(dirname(path), "in the way");
      const passing = { reason: "passing" };
      await expect(state.sinks.setPaused("w", true)).rejects.toMatchObject(passing);
      rmSync(dirname(path));
      await expectRefused(state, "what it held is there again");
      await expectWhole(path);
    });
  });

  test("is read beside its writer without changing it, and a missing one is said to be missing", async () => {
    using folder = temporaryFolder();
    const path = folder.file("s.db");
    await expect(openState(`sqlite:${path}`, { readOnly: true })).rejects.toMatchObject({ code: "MR1203" });
    expect(existsSync(path)).toBe(false);
    const writer = await openState(`sqlite:${path}`);
    const reader = await openState(`sqlite:${path}`, { readOnly: true });
    await writer.sinks.setPaused("w", true);
    expect((await reader.sinks.get("w"))?.paused).toBe(true);
    await expect(reader.sinks.setPaused("w", false)).rejects.toMatchObject({ code: "MR1202" });
    await writer.close();
    expect((await reader.sinks.get("w"))?.paused).toBe(true);
    await reader.close();
    const alone = await openState(`sqlite:${path}`, { readOnly: true });
    expect(await alone.sinks.all()).toHaveLength(1);
    await alone.close();
  });

  test("in a folder that can't be is named, and so is a URL that is none", async () => {
    using folder = temporaryFolder();
    writeFileSync(folder.file("file"), "");
    await expect(openState(`sqlite:${folder.file("file/s.db")}`)).rejects.toMatchObject({ code: "MR1202" });
    const error = await openState("mysql://root:hunter2@db/state").catch((e: unknown) => e);
    expect(error).toMatchObject({ code: "MR1201" });
    expect(String(error)).not.toContain("hunter2");
    await expect(openState("sqlite:")).rejects.toMatchObject({ code: "MR1201" });
  });

  test("locked by another process fails retryably, and says which", async () => {
    using folder = temporaryFolder();
    const path = folder.file("s.db");
    const state = await openState(`sqlite:${path}`);
    const program = `const file = new (require("node:sqlite").DatabaseSync)(${JSON.stringify(path)});
      file.exec("BEGIN IMMEDIATE"); console.log("locked"); setInterval(() => {}, 1000);`;
    const other = spawn(process.execPath, ["-e", program], { stdio: ["ignore", "pipe", "inherit"] });
    await once(other.stdout, "data");
    await expect(state.sinks.setPaused("w", true)).rejects.toMatchObject({
      code: "MR1209",
      kind: "retryable",
      message: expect.stringContaining(
        process.platform === "linux" ? `locked by pid ${other.pid} (` : "locked by another",
      ),
      hint: expect.not.stringContaining("disk"),
    });
    other.kill("SIGKILL");
    await once(other, "exit");
    await state.sinks.setPaused("w", true);
    await state.close();
  });
});

test("what a sink is owed starts again where it was begun: it may have passed what is wanted now", async () => {
  const { snapshots, bonds } = openMemory(systemClock);
  const asked = { tableId: "public.t", sink: "s", scope: { kind: "differences" }, reason: "asked" } as const;
  const begun = await snapshots.add(asked);
  await bonds.enter("s", { own: undefined, owed: ["public.t", "public.u"], reason: "it was put back" });
  expect(await snapshots.finish(begun)).toBe(false);
  const [again, first] = await snapshots.differences();
  expect(again).toMatchObject({ id: begun.id, attempt: begun.attempt + 1, needed: true });
  expect(first).toMatchObject({ tableId: "public.u", attempt: begun.attempt });
  expect(await snapshots.finish(again!)).toBe(true);
});

test("the oldest keys are found among any number of listed ones, and of others", async () => {
  const [few, many] = [await costOfOldest(1_000), await costOfOldest(30_000)];
  // In the order of their age alone, or with a look at all, they cost as many times as much as there are keys.
  expect(many / few).toBeLessThan(5);
});

test("a table to read is listed, and ends, among any number of others that wait", async () => {
  const [few, many] = [await costOfReads(1_000), await costOfReads(30_000)];
  expect(many / few).toBeLessThan(5);
});

/** Processor time of listing, ending and looking for reads, while that many wait. */
async function costOfReads(count: number): Promise<number> {
  using folder = temporaryFolder();
  const state = await openState(`sqlite:${folder.file("s.db")}`);
  const { snapshots } = state;
  const readOf = (tableId: string) => ({ tableId, sink: "s", scope: { kind: "table" }, reason: "new" }) as const;
  await snapshots.addAll(Array.from({ length: count }, (_, i) => readOf(`public.t${i}`)));
  const before = process.cpuUsage();
  for (let round = 0; round < 300; round++) {
    await snapshots.finish(await snapshots.add(readOf(`public.n${round}`)));
    expect(await snapshots.differences()).toEqual([]);
  }
  const { user, system } = process.cpuUsage(before);
  await state.close();
  return user + system;
}

/** Processor time of looks at what is to be read next, among that many keys. */
async function costOfOldest(count: number): Promise<number> {
  using folder = temporaryFolder();
  const state = await openState(`sqlite:${folder.file("s.db")}`);
  const { snapshots } = state;
  const keys = Array.from({ length: count }, (_, i) => [String(i)]);
  await snapshots.addKeys("paused", "public.a", keys);
  await snapshots.addKeys("s", "public.a", keys);
  await snapshots.addKeys("s", "public.b", [["1"]]);
  const before = process.cpuUsage();
  for (let round = 0; round < 50; round++) {
    expect(await snapshots.keys(["s"], null, 1)).toHaveLength(1);
    expect(await snapshots.keys(["s"], await snapshots.tablesOfKeys(), 1)).toHaveLength(1);
  }
  const { user, system } = process.cpuUsage(before);
  await state.close();
  return user + system;
}

test("of very many discarded letters the keys of the oldest are listed: their rows lack what was refused", async () => {
  const { deadLetters, snapshots } = openMemory(systemClock);
  const letter = { sink: "s", tableId: "public.a", op: "u", code: "MR3998", reason: "too long", envelope: "{}" };
  for (let i = 0; i < 10_002; i++) await deadLetters.add({ ...letter, key: [String(i)], position: at(BigInt(i)) });
  const ids = (await deadLetters.list()).map(({ id }) => id);
  await deadLetters.settle(ids, { from: "waiting", to: "discarded" });
  expect(await deadLetters.lacking("s")).toHaveLength(10_000);
  expect((await snapshots.keys(["s"], null, 9)).map(({ tableId, key }) => [tableId, key[0]])).toEqual([
    ["public.a", "0"],
    ["public.a", "1"],
  ]);
});

describe("after SIGKILL", () => {
  test("everything that had resolved is there", async () => {
    using folder = temporaryFolder();
    for (const lineCount of [7, 60, 201]) {
      // Each its own: a writer that is killed late leaves places behind those of the next.
      const path = folder.file(`${lineCount}.db`);
      const said = await runUntilKilled(path, lineCount);
      const state = await openState(`sqlite:${path}`);
      const commit = async (sink: string, of: "checkpoint" | "covered") => (await state.sinks.get(sink))?.[of]?.commit;
      expect(await commit("a", "checkpoint")).toBeGreaterThanOrEqual(BigInt(said.written));
      expect(await commit("b", "covered")).toBeGreaterThanOrEqual(BigInt(said.acknowledged));
      const keys = new Set((await state.snapshots.keys(["a", "b", "s"], null, 100_000)).map((k) => k.key[0]));
      const letters = new Set((await state.deadLetters.list()).map((l) => l.key[0]));
      for (let i = 1; i <= said.key; i++) expect(keys).toContain(String(i));
      for (let i = 1; i <= said.letter; i++) expect(letters).toContain(String(i));
      // Acknowledged and covered are written in one transaction: never one without the other.
      expect((await state.source.get())?.acknowledged).toEqual((await state.sinks.get("b"))?.covered);
      const { lease } = await state.lease.acquire("tester", 1);
      expect(lease.holder).toBe("writer");
      await state.lease.release(lease.number);
      await state.close();
      expect(said.written).toBeGreaterThan(0);
    }
  });
});

async function runUntilKilled(path: string, lineCount: number) {
  const script = new URL("../support/load/state-writer.ts", import.meta.url).pathname;
  const child = spawn(process.execPath, [script, path], { stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    output += chunk;
    if (output.split("\n").length > lineCount) child.kill("SIGKILL");
  });
  const [, signal] = await once(child, "close");
  expect(signal).toBe("SIGKILL");
  const said = { written: 0, acknowledged: 0, key: 0, letter: 0 };
  for (const line of output.split("\n").slice(0, -1)) {
    const [what, number] = line.split(" ");
    if (what === "written" || what === "acknowledged" || what === "key" || what === "letter")
      said[what] = Number(number);
  }
  return said;
}
