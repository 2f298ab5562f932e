/**
 * One verdict: status, its exit code, readiness, `wait` and the dashboard say the same, and are green only when it is true.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { freePort } from "../../../scripts/services/processes/port.ts";
import type { StatusDocument } from "../../../src/core/contracts/status.ts";
import { axeFindings, DashboardBrowser } from "../../support/daemon/dashboard-browser.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

/** The page asks every two seconds. */
const PATIENCE = { timeout: 60_000 };

let pipeline: RunningPipeline;
let browser: DashboardBrowser;
let url: string;

beforeAll(async () => {
  const port = await freePort();
  url = `http://127.0.0.1:${port}`;
  pipeline = await RunningPipeline.start("create table item (id int primary key); insert into item values (1)", {
    kinds: ["redis"],
    isProxied: true,
    configure: (config) => ({ ...config, admin: { listen: `127.0.0.1:${port}` } }),
  });
  await pipeline.settled();
  browser = await DashboardBrowser.connect(url);
});

afterAll(async () => {
  await browser?.[Symbol.asyncDispose]();
  await pipeline?.[Symbol.asyncDispose]();
});

interface Said {
  readonly ready: boolean;
  readonly exitCode: number | null;
  readonly text: string;
  readonly status: StatusDocument;
}

/** What each of them says; the command comes last, and nothing changes meanwhile. */
async function said({ installation }: RunningPipeline = pipeline, at: string = url): Promise<Said> {
  const answer = await fetch(`${at}/readyz`);
  const ready = answer.status === 200;
  expect(await answer.json()).toMatchObject({ ready });
  const status = await installation.status();
  const { exitCode, stdout: text } = await installation.command("status", "--exit-code");
  return { ready, exitCode, text, status };
}

/** A command with a file of which a variable is missing. */
async function bare(...args: string[]) {
  const { installation } = pipeline;
  const text = installation.text.replace(/url: postgres.*/, "url: ${SET_FOR_THE_DAEMON_ALONE}");
  expect(text).not.toBe(installation.text);
  writeFileSync(join(installation.folder, "bare.yaml"), text);
  return await installation.command(...args, "-c", "bare.yaml");
}

const conditionOf = ({ conditions }: StatusDocument, kind: string) => conditions.find((one) => one.kind === kind);

async function allIsWell(): Promise<void> {
  await eventually(async () => {
    const { ready, exitCode, text, status } = await said();
    expect({ ready, exitCode, conditions: status.conditions }).toEqual({ ready: true, exitCode: 0, conditions: [] });
    expect(text).toContain("all is well");
  });
}

test("a sink that is away: not ready, the same beginning at each try, and well again when it is", async () => {
  await using seen = await browser.open(null);
  const { page } = seen;
  await allIsWell();
  await page.getByRole("heading", { name: "All is well" }).waitFor(PATIENCE);
  const redis = pipeline.sinks.proxies.get("redis")!;
  await redis.refuse();
  redis.cut();
  await pipeline.run("insert into item values (2)");
  await page.getByRole("heading", { name: "Not ready; nothing needs you so far" }).waitFor(PATIENCE);
  await page.getByText("Sink redis does not take rows").waitFor(PATIENCE);
  const { ready, exitCode, text, status } = await said();
  expect({ ready, exitCode }).toEqual({ ready: false, exitCode: 3 });
  expect(text).toContain("sink redis does not take rows");
  expect(text).not.toContain("all is well");
  const first = conditionOf(status, "sink.failing");
  expect(first).toMatchObject({ sink: "redis", blocks: ["ready", "wait"], since: expect.any(String) });
  await eventually(async () => {
    const later = conditionOf(await pipeline.installation.status(), "sink.failing");
    expect(later?.since).toBe(first?.since);
    expect(Date.parse(later?.lastTried ?? "")).toBeGreaterThan(Date.parse(first?.lastTried ?? ""));
  });
  expect(await pipeline.installation.command("wait", "--timeout", "1s")).toMatchObject({
    exitCode: 5,
    stdout: expect.stringContaining("sink redis does not take rows"),
  });
  // Who pauses it has decided: nothing is asked of anybody but to resume it.
  await pipeline.installation.command("pause", "--sink", "redis");
  await eventually(async () => expect(await said()).toMatchObject({ ready: true }));
  const paused = conditionOf((await said()).status, "sink.paused");
  expect(paused).toMatchObject({ fix: "millrace resume --sink redis", meanwhile: expect.stringContaining("MR") });
  await redis.resume();
  await pipeline.installation.command("resume", "--sink", "redis");
  await pipeline.settled();
  await allIsWell();
  await page.getByRole("heading", { name: "All is well" }).waitFor(PATIENCE);
});

test("a first copy that runs is never well", async () => {
  const at = `http://127.0.0.1:${await freePort()}`;
  await using copying = await RunningPipeline.start(
    "create table item (id int primary key, t text); insert into item select g, repeat('x', 200) from generate_series(1, 20000) g",
    {
      kinds: ["redis"],
      isProxied: true,
      untilStreaming: false,
      configure: (config) => ({ ...config, admin: { listen: new URL(at).host } }),
    },
  );
  const redis = copying.sinks.proxies.get("redis")!;
  redis.limit(20_000);
  await eventually(
    async () =>
      expect(conditionOf(await copying.installation.status(), "daemon.copying")?.what).toMatch(
        /^first copy: 0 of 1 table/,
      ),
    // A slot waits for transactions that other tests hold open at this server.
    { withinMs: 120_000 },
  );
  await using looking = await DashboardBrowser.connect(at);
  await using seen = await looking.open(null);
  const { page } = seen;
  await page.getByRole("heading", { name: "Not ready; nothing needs you so far" }).waitFor(PATIENCE);
  await page.getByText("First copy: 0 of 1 table").waitFor(PATIENCE);
  const { ready, exitCode, text } = await said(copying, at);
  expect({ ready, exitCode }).toEqual({ ready: false, exitCode: 3 });
  expect(text).toContain("! first copy: 0 of 1 table");
  await redis.resume();
  await copying.settled();
  await page.getByRole("heading", { name: "All is well" }).waitFor(PATIENCE);
});

test("beside a daemon, commands that ask it need nothing of the source and the sinks", { tags: "heavy" }, async () => {
  expect(await bare("status", "--exit-code")).toMatchObject({
    exitCode: 0,
    stdout: expect.stringContaining("all is well"),
  });
  expect(await bare("wait")).toMatchObject({ exitCode: 0 });
  expect(await bare("top", "--once")).toMatchObject({ exitCode: 0 });
  for (const list of ["dlq", "report", "audit", "snapshot", "schema"])
    expect(await bare(list, "list")).toMatchObject({ exitCode: 0 });
  for (const words of [
    "status --tables",
    "offsets show",
    "schema show public.item",
    "pause --sink redis",
    "resume",
    "pause --tables public.item",
    "resume --tables public.item",
    "snapshot start --tables public.item",
    "dlq replay --all",
    "dlq discard --all",
    "reconcile",
  ])
    expect({ words, ...(await bare(...words.split(" "))) }).toMatchObject({ words, exitCode: 0 });
  expect(await bare("schema", "approve", "public.item")).toMatchObject({
    stderr: expect.stringContaining('table "public.item" is not suspended'),
  });
});

test("a config file that was changed is told until it says the same again", async () => {
  const { installation } = pipeline;
  const path = join(installation.folder, "millrace.yaml");
  const before = readFileSync(path);
  writeFileSync(path, `${before.toString()}\n# later\n`);
  const { ready, exitCode, text, status } = await said();
  expect({ ready, exitCode }).toEqual({ ready: true, exitCode: 0 });
  expect(text).toContain("! the config file was changed, and the daemon runs with what it said before");
  expect(status.conditions).toMatchObject([{ kind: "config.changed", level: "watch", since: expect.any(String) }]);
  writeFileSync(path, before);
  await allIsWell();
});

test("a daemon that is gone, or does not answer, is never well", { tags: "heavy" }, async () => {
  await using seen = await browser.open(null);
  const { page } = seen;
  const gone = page.getByRole("heading", { name: "The daemon does not answer" });
  await page.getByRole("heading", { name: "All is well" }).waitFor(PATIENCE);
  pipeline.daemon.signal("SIGSTOP");
  try {
    await gone.waitFor(PATIENCE);
    await page.getByText("It has said nothing since").waitFor(PATIENCE);
  } finally {
    pipeline.daemon.signal("SIGCONT");
  }
  await page.getByRole("heading", { name: "All is well" }).waitFor(PATIENCE);
  await pipeline.kill();
  await gone.waitFor(PATIENCE);
  await page.getByText("It can't be reached since").waitFor(PATIENCE);
  expect(await page.getByText("All is well").count()).toBe(0);
  expect(await axeFindings(page)).toEqual([]);
  expect(await pipeline.installation.command("status", "--exit-code")).toMatchObject({
    exitCode: 1,
    stdout: expect.stringContaining("nothing is copied while no daemon runs"),
  });
  const { exitCode, stdout } = await bare("status", "--exit-code", "--json");
  expect(exitCode).toBe(1);
  const { conditions }: StatusDocument = JSON.parse(stdout);
  const [absent] = conditions;
  expect(absent).toMatchObject({ kind: "daemon.absent", level: "act" });
  expect(Math.abs(Date.now() - Date.parse(absent?.since ?? ""))).toBeLessThan(120_000);
});
