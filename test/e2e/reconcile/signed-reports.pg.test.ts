/** Reports that an auditor accepts: signed with the operator's key, chained, checked without daemon, state or configuration. */
import { execFileSync } from "node:child_process";
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { ReconcileDocument, ReportSummary } from "../../../src/core/contracts/reconciliation.ts";
import { reconcile } from "../../support/daemon/reconciled.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { runCli } from "../../support/daemon/cli.ts";
import { eventually } from "../../support/run/waiting.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";

test("each comparison's report is signed and names its positions; what is changed or missing is named", async () => {
  using folder = temporaryFolder();
  const key = folder.file("report.key");
  // As docs/reconcile.md makes them.
  execFileSync("openssl", ["genpkey", "-algorithm", "ed25519", "-out", key], { stdio: "ignore" });
  execFileSync("openssl", ["pkey", "-in", key, "-pubout", "-out", folder.file("report.pub")]);
  const reports = folder.file("reports");
  await using pipeline = await RunningPipeline.start("create table a (id int primary key); insert into a values (1)", {
    kinds: ["postgres"],
    configure: (config) => ({ ...config, reconcile: { reports, sign: `\${file:${key}}` } }),
  });
  await pipeline.settled();
  for (let i = 2; i < 5; i++) {
    await pipeline.run(`insert into a values (${i})`);
    expect((await reconcile(pipeline.installation)).exitCode).toBe(0);
  }
  await pipeline.restart();
  await pipeline.sinks.target!.query("delete from a where id = 2");
  // The daemon's own file, signed and without values, stays.
  expect((await reconcile(pipeline.installation, "--report", reports, "--show-values")).exitCode).toBe(3);

  const shown = JSON.parse((await pipeline.installation.command("report", "show", "--json")).stdout);
  expect(shown).toMatchObject({
    version: expect.stringMatching(/^\d+\.\d+\.\d+/),
    config: expect.stringMatching(/^[0-9a-f]{64}$/),
    tables: [
      {
        sourceRows: 4,
        sinkRows: 3,
        missing: 1,
        positions: { from: expect.stringMatching(/^[0-9A-F]+\/[0-9A-F]+$/) },
        coverage: [{ upTo: null, rows: 4, at: expect.any(String), position: expect.stringMatching(/^[0-9A-F]+\//) }],
      },
    ],
    signature: { previous: { id: expect.any(String) } },
  });

  // In another place, with nothing but the files and the public key.
  const elsewhere = folder.file("elsewhere");
  cpSync(reports, elsewhere, { recursive: true });
  const verify = (...paths: string[]) =>
    runCli(["report", "verify", ...paths, "--key", folder.file("report.pub"), "--json"], { folder: folder.path });
  expect(await verify(elsewhere)).toMatchObject({ exitCode: 0 });
  expect(await pipeline.installation.command("report", "verify")).toMatchObject({
    exitCode: 0,
    stdout: expect.stringMatching(/(.* right .*\n){4}.*\nsigned by [0-9a-f]{64}\n/),
  });
  const files = readdirSync(elsewhere)
    .filter((name) => name.endsWith(".json"))
    .toSorted()
    .map((name) => join(elsewhere, name));
  expect(files).toHaveLength(4);
  const text = readFileSync(files[3]!, "utf8");
  writeFileSync(files[3]!, text.replace('"missing": 1', '"missing": 0'));
  const changed = await verify(elsewhere);
  expect(changed.exitCode).toBe(1);
  expect(JSON.parse(changed.stdout)).toMatchObject({
    right: false,
    reports: [
      { problem: null },
      { problem: null },
      { problem: null },
      { problem: "it was changed after it was signed" },
    ],
  });
  writeFileSync(files[3]!, text);
  rmSync(files[1]!);
  expect(JSON.parse((await verify(elsewhere)).stdout).reports[1].problem).toMatch(/^the report before it is missing/);
  expect(await verify(join(elsewhere, "none.json"))).toMatchObject({ exitCode: 2 });
  expect(await verify(folder.file("report.pub"))).toMatchObject({ exitCode: 2 });
});

test("what the continuous comparison has proven is a report of the same chain, with a daemon and without one", async () => {
  using folder = temporaryFolder();
  const key = folder.file("report.key");
  execFileSync("openssl", ["genpkey", "-algorithm", "ed25519", "-out", key], { stdio: "ignore" });
  const reports = folder.file("reports");
  await using pipeline = await RunningPipeline.start(
    "create table a (id int primary key); insert into a select generate_series(1, 9)",
    {
      kinds: ["postgres"],
      configure: (config) => ({
        ...config,
        reconcile: { reports, sign: `\${file:${key}}`, continuous: { maxAge: "1h", share: "100%" } },
      }),
    },
  );
  await pipeline.settled();
  const { installation } = pipeline;
  const proof = async () => {
    const { exitCode, stdout, stderr } = await installation.command("report", "proof", "--json");
    const found: ReconcileDocument = JSON.parse(stdout);
    return { exitCode, stderr, found };
  };
  const first = await eventually(async () => {
    const made = await proof();
    expect(made).toMatchObject({ exitCode: 0 });
    return made.found;
  });
  const place = { at: expect.any(String), position: expect.stringMatching(/^[0-9A-F]+\//) };
  expect(first).toMatchObject({
    kind: "proof",
    drift: false,
    notComparable: [],
    tables: [{ sourceRows: 9, sinkRows: 9, coverage: [{ upTo: null, rows: 9, ...place }], listing: place }],
    signature: { key: expect.any(String) },
  });
  expect((await reconcile(installation)).exitCode).toBe(0);
  await pipeline.daemon.stop();
  const { found: last } = await proof();
  const list = JSON.parse((await installation.command("report", "list", "--json")).stdout).reports;
  expect(list.slice(0, 3).map(({ kind }: ReportSummary) => kind ?? null)).toEqual(["proof", null, "proof"]);
  expect(last.signature!.previous!.id).toBe(list[1].id);
  expect(await installation.command("report", "verify")).toMatchObject({ exitCode: 0 });
  // The last comparison is the one that somebody asked for.
  const status = JSON.parse((await installation.command("status", "--json")).stdout);
  expect(status.reconcile.last.id).toBe(list[1].id);
});
