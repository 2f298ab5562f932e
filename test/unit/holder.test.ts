import { spawn } from "node:child_process";
import { once } from "node:events";
import { expect, test } from "vitest";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { loadConfig } from "../../src/config/load.ts";
import { systemClock } from "../../src/core/clock.ts";
import { MillraceError } from "../../src/core/errors.ts";
import type { StateStore } from "../../src/core/contracts/state-store.ts";
import { type Logger, SILENT } from "../../src/core/contracts/telemetry.ts";
import { runDaemon } from "../../src/daemon/daemon.ts";
import { type HeldState, holdingState } from "../../src/daemon/held-state.ts";
import { holderName, isGone, LEASE_MS, localPid } from "../../src/daemon/lease.ts";
import { connectors } from "../../connectors/registry.ts";
import { Secrets } from "../../src/config/secrets/secrets.ts";
import { openState } from "../../src/state/open.ts";
import { runCli } from "../support/daemon/cli.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";
import { eventually } from "../support/run/waiting.ts";

test("a process id of another host of the same name, or of an earlier boot, says nothing of a process here", () => {
  const own = holderName();
  expect(localPid(own)).toBe(process.pid);
  const gone = own.replace(/ pid \d+ /, " pid 4194999 ");
  expect(isGone(gone)).toBe(true);
  const elsewhere = gone.replace(
    / in ([0-9a-f]{8})/,
    (_, start: string) => ` in ${start === "00000000" ? "1" : "0"}0000000`,
  );
  expect(elsewhere).not.toBe(gone);
  expect([localPid(elsewhere), isGone(elsewhere)]).toEqual([null, false]);
});

/** A configuration whose servers are all away. */
function away() {
  const folder = temporaryFolder();
  const sinks = "{ cache: { kind: redis, url: 'redis://127.0.0.1:1' } }";
  const source = "{ kind: postgres, url: 'postgres://127.0.0.1:1/d' }";
  writeFileSync(
    folder.file("millrace.yaml"),
    `name: shop\nsource: ${source}\nsinks: ${sinks}\nadmin: { listen: false }\n`,
  );
  return folder;
}

/** With its state as an earlier command left it. */
async function stopped() {
  const folder = away();
  const asked = async (...command: readonly string[]) => {
    const { exitCode, stdout } = await runCli([...command, "--json"], { folder: folder.path });
    const answer: unknown = JSON.parse(stdout);
    return { exitCode, answer };
  };
  expect(await asked("pause", "--sink", "cache")).toMatchObject({ exitCode: 0 });
  const state = await openState(`sqlite:${folder.file(".millrace/shop.db")}`, { name: "shop" });
  await state.sinks.setPaused("cache", false);
  return {
    state,
    asked,
    [Symbol.asyncDispose]: async () => {
      await state.close();
      folder[Symbol.dispose]();
    },
  };
}

const ELSEWHERE = "another-host pid 1 in 0 since now";

test("no command writes to the state of a daemon that it can't ask", async () => {
  await using opened = await stopped();
  const { state, asked } = opened;
  const { lease } = await state.lease.acquire(ELSEWHERE, LEASE_MS);
  expect(await asked("pause", "--sink", "cache")).toMatchObject({ exitCode: 4, answer: { error: { code: "MR1213" } } });
  expect((await state.sinks.get("cache"))?.paused).toBe(false);
  await state.lease.release(lease.number);
  expect(await asked("pause", "--sink", "cache")).toMatchObject({ exitCode: 0 });
});

test.each([
  ["pause", "--sink", "cache"],
  ["offsets", "reset", "--to", "latest"],
])("a holder that died before the clock was set back keeps `%s` out for seconds, not hours", async (...command) => {
  await using opened = await stopped();
  const { state, asked } = opened;
  await state.lease.acquire(ELSEWHERE, 3 * 3_600_000);
  const { exitCode, answer } = await asked(...command);
  expect({ exitCode, answer }).toMatchObject({ exitCode: 4, answer: { error: { code: "MR1213" } } });
  expect(JSON.stringify(answer)).toContain("for 15 s, unless it renews it");
  expect((await state.sinks.get("cache"))?.paused).toBe(false);
  expect((await state.lease.current())?.leftMs).toBeLessThanOrEqual(LEASE_MS);
});

test("a process that outlasts a failure still knows that the daemon before it died, until it is stopped", async () => {
  using folder = temporaryFolder();
  const open = () => openState(`sqlite:${folder.file("shop.db")}`, { name: "shop" });
  const died = await open();
  await died.lease.acquire("a daemon that dies", 0);
  await died.close();
  const away = new MillraceError({ code: "MR2001", kind: "retryable", message: "the source is away" });
  const parts = { clock: systemClock, logger: SILENT, redact: (json: string) => json, open, outlasts: () => true };
  const { signal } = new AbortController();
  const follows: boolean[] = [];
  const run = async (fails: boolean): Promise<unknown> =>
    await holdingState(
      parts,
      async ({ isInherited }) => {
        follows.push(isInherited);
        if (fails) throw away;
      },
      signal,
    );
  await expect(run(true)).rejects.toBe(away);
  await expect(run(true)).rejects.toBe(away);
  await run(false);
  await run(false);
  expect(follows).toEqual([true, true, true, false]);
});

test("a run that is stopped ends so, whatever the state answers at that moment", async () => {
  using folder = temporaryFolder();
  const open = () => openState(`sqlite:${folder.file("shop.db")}`, { name: "shop" });
  const parts = { clock: systemClock, logger: SILENT, redact: (json: string) => json, open };
  const stop = new AbortController();
  const run = async (): Promise<never> => {
    stop.abort();
    throw new MillraceError({ code: "MR1215", kind: "retryable", message: "the state's server is away" });
  };
  await expect(holdingState(parts, run, stop.signal)).resolves.toBeNull();
});

test("a run begins again with the state that was put in the place of its own", async () => {
  using folder = temporaryFolder();
  const path = folder.file("shop.db");
  const open = () => openState(`sqlite:${path}`, { name: "shop" });
  const parts = { clock: systemClock, logger: SILENT, redact: (json: string) => json, open };
  const follows: boolean[] = [];
  const run = async ({ state, isInherited }: HeldState): Promise<boolean | undefined> => {
    follows.push(isInherited);
    if (follows.length === 1) {
      await state.sinks.setPaused("w", true);
      rmSync(path);
      await state.sinks.setPaused("x", true);
    }
    return (await state.sinks.get("w"))?.paused;
  };
  await expect(holdingState(parts, run, new AbortController().signal)).resolves.toBe(true);
  expect(follows).toEqual([false, false]);
});

test.each([false, true])(
  "`run --once` that is stopped is not done (its state is locked then: %s)",
  async (isLocked) => {
    using folder = away();
    const config = await loadConfig(folder.file("millrace.yaml"), {
      connectors,
      environment: {},
      secrets: new Secrets(),
    });
    const stop = new AbortController();
    const told = (_: object, message: string): void => {
      if (message.includes(isLocked ? "what has to be stored waits" : "millrace is running")) stop.abort();
    };
    const logger: Logger = { debug: told, info: told, warn: told, error: told, child: () => logger };
    using other = new DatabaseSync(":memory:");
    const lock = (state: StateStore): StateStore => {
      other.exec(`ATTACH '${folder.file(".millrace/shop.db")}' AS shop`);
      if (isLocked) other.exec("BEGIN IMMEDIATE; DELETE FROM shop.lease");
      return state;
    };
    const options = { once: true, logger, redact: (json: string) => json, wrap: { state: lock } };
    const { missing } = await runDaemon(config, options, stop.signal);
    expect(missing).toEqual([expect.stringContaining("stopped")]);
  },
);

test.runIf(process.platform === "linux")(
  "a process that was killed is gone, though its parent does not ask how it ended",
  async () => {
    // The shell becomes a program that never asks after the child.
    const parent = spawn("sh", ["-c", "sleep 60 & echo $!; exec sleep 60"], { stdio: ["ignore", "pipe", "inherit"] });
    try {
      const [line] = await once(parent.stdout, "data");
      const pid = Number(String(line));
      const child = holderName().replace(/ pid \d+ /, ` pid ${pid} `);
      expect(isGone(child)).toBe(false);
      await eventually(async () => expect(readFileSync(`/proc/${parent.pid}/comm`, "utf8").trim()).toBe("sleep"));
      process.kill(pid, "SIGKILL");
      await eventually(async () => expect(isGone(child)).toBe(true));
      expect(() => process.kill(pid, 0)).not.toThrow();
    } finally {
      parent.kill("SIGKILL");
    }
  },
);
