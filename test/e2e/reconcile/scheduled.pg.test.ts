/** Comparisons that come by themselves, what is kept of them, and who is told. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { ReportSummary } from "../../../src/core/contracts/reconciliation.ts";
import type { ProofRecord } from "../../../src/core/contracts/state-store.ts";
import type { StatusDocument } from "../../../src/core/contracts/status.ts";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { listener } from "../../support/network/listener.ts";
import { reconcile } from "../../support/daemon/reconciled.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

const TABLES = `create table item (id int primary key, name text); insert into item select g, 'n' || g from generate_series(1, 200) g;
  create table loose (id int primary key); insert into loose select generate_series(1, 50)`;
const EVERY_SECOND = "* * * * * *";

test("a planned comparison is reported in the state, as files and to a webhook, and its report outlives the daemon", async () => {
  // A busy machine has other conditions to tell of.
  const isDrift = (text: string): boolean => text.includes("comparison.drift");
  let refusals = 0;
  await using listening = await listener((_, text) => (isDrift(text) && refusals++ === 0 ? 503 : 200));
  await using pipeline = await RunningPipeline.start(TABLES, {
    kinds: ["postgres"],
    configure: (config) => ({
      ...config,
      tables: { "public.loose": { reconcile: { maxDrift: 2 } } },
      reconcile: {
        schedule: EVERY_SECOND,
        timeZone: "UTC",
        reports: "./out/reports",
      },
      notify: { webhook: `${listening.url}/a-secret-place`, after: "0s" },
    }),
  });
  const { installation, sinks } = pipeline;
  await pipeline.settled();
  const heard = () => listening.heard.filter(({ text }) => isDrift(text));
  // Within the threshold: known to the report, and to nobody else.
  await sinks.target!.query("delete from public.loose where id <= 2");
  const asked = async () => (await installation.ask<{ reports: ReportSummary[] }>("GET", "/api/v1/reports"))!.reports;
  await eventually(async () => expect((await asked())[0]).toMatchObject({ drift: true, alarm: false, missing: 2 }));
  const { next, last } = (await installation.ask<StatusDocument>("GET", "/api/v1/status"))!.reconcile;
  expect(last).toMatchObject({ drift: true, alarm: false, missing: 2 });
  expect(Date.parse(next!)).toBeGreaterThan(Date.parse(last!.startedAt));
  expect(heard()).toEqual([]);
  await sinks.target!.query("delete from public.item where id = 7");
  const drift = { kind: "comparison.drift", what: expect.stringMatching(/^3 rows differed in the comparison /) };
  const began = expect.arrayContaining([expect.objectContaining(drift)]);
  const message = { event: "conditions", name: pipeline.source.name, began };
  await eventually(() => expect(heard().length).toBeGreaterThan(1));
  const [first] = heard();
  expect(first).toMatchObject({ method: "POST", path: "/a-secret-place", body: message });
  expect(JSON.stringify(first)).not.toMatch(/sample|"key"/);
  const id = (await asked()).findLast(({ alarm }) => alarm)?.id ?? "none";
  // The one that was not taken came again.
  expect(new Set(heard().map(({ signed }) => signed["webhook-id"])).size).toBe(1);
  const listed = await installation.command("report", "list", "--json");
  expect(listed.exitCode, listed.stderr).toBe(0);
  expect(JSON.parse(listed.stdout)).toEqual({
    reports: expect.arrayContaining([expect.objectContaining({ id, alarm: true, missing: 3 })]),
  });
  await pipeline.daemon.stop();
  expect(pipeline.daemon.said).not.toContain("a-secret-place");

  const folder = join(installation.folder, "out", "reports");
  const files = readdirSync(folder).filter((file) => file.includes(id));
  expect(files.toSorted()).toEqual(["html", "json", "md"].map((ending) => `${pipeline.source.name}-${id}.${ending}`));
  const [html = "", json = ""] = files.toSorted().map((file) => readFileSync(join(folder, file), "utf8"));
  expect(html).toMatch(/Content-Security-Policy.*3 rows differ.*Past runs/s);
  const shown = await installation.command("report", "show", id, "--json");
  expect(JSON.parse(shown.stdout)).toEqual(JSON.parse(json));
  const text = await installation.command("report", "show", id);
  expect(text.stdout).toMatch(/missing id "7"/);
  expect(await installation.command("report", "show", "none")).toMatchObject({
    exitCode: 1,
    stderr: expect.stringContaining("MR1114"),
  });

  // Without a daemon the thresholds, the state and the files are the same.
  const loose = await reconcile(installation, "--tables", "public.loose");
  expect(loose).toMatchObject({ exitCode: 0, found: { drift: true, alarm: false } });
  const strict = await reconcile(installation, "--report", "./by-hand");
  expect(strict).toMatchObject({ exitCode: 3, found: { drift: true, alarm: true } });
  const newest = await installation.command("report", "show", "--json");
  expect(JSON.parse(newest.stdout)).toEqual(strict.found);
  expect(readdirSync(join(installation.folder, "by-hand"))).toHaveLength(3);
  expect(readdirSync(folder).filter((file) => file.includes(strict.found.id))).toHaveLength(3);

  // A full one renews the proofs of what is equal, or was repaired.
  const proofs = async (): Promise<readonly ProofRecord[]> =>
    JSON.parse((await installation.command("proofs", "list", "--json")).stdout).proofs;
  const differing = await proofs();
  expect(Object.fromEntries(differing.map(({ table, missing }) => [table, missing]))).toEqual({
    "public.item": 1,
    "public.loose": 2,
  });
  for (const { provenAt } of differing) expect(provenAt === null || provenAt < strict.found.startedAt).toBe(true);
  const { found: repaired } = await reconcile(installation, "--repair");
  const proven = await proofs();
  expect(proven.map(({ missing, ranges }) => [missing, ranges])).toEqual([
    [0, 1],
    [0, 1],
  ]);
  for (const { provenAt } of proven)
    expect(provenAt! >= repaired.startedAt && provenAt! <= repaired.finishedAt).toBe(true);
  expect(await reconcile(installation, "--mode", "fast")).toMatchObject({ exitCode: 0 });
  expect(await proofs()).toEqual(proven);
});

test("a folder of reports that can't be written to is an error of the configuration before anything begins", async () => {
  await using installation = new Installation({
    name: "unwritable",
    source: { kind: "postgres", url: "postgres://127.0.0.1:1/none" },
    sinks: { w: { kind: "duckdb", path: "./w.duckdb" } },
    reconcile: { schedule: "0 2 * * *", reports: "./millrace.yaml/reports" },
  });
  for (const command of ["run", "check"]) {
    const { exitCode, stdout, stderr } = await installation.command(command);
    expect({ exitCode, said: stdout + stderr }).toEqual({
      exitCode: command === "run" ? 2 : 1,
      said: expect.stringMatching(
        command === "run" ? /millrace\.yaml:\d+:\d+: reconcile\.reports: .*can't be/ : /reports/,
      ),
    });
  }
});
