/** What becomes of what a comparison has found. */
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { expect, test } from "vitest";
import { Secrets } from "../../src/config/secrets/secrets.ts";
import type { DriftSample } from "../../src/core/contracts/reconciliation.ts";
import { ReportFolder } from "../../src/reconcile/report/report-folder.ts";
import { keepReport } from "../../src/reconcile/report/reporting.ts";
import { openState } from "../../src/state/open.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { reportOf } from "../support/model/reports.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const sample: DriftSample[] = Array.from({ length: 500 }, (_, i) => ({
  kind: "different",
  key: { id: String(i) },
  columns: ["mail"],
  why: "unknown",
  values: { mail: { expected: "a-private-value", found: null } },
}));

test("it is kept, and written, without secrets, values and more rows than somebody reads", async () => {
  using folder = temporaryFolder();
  const state = await openState(`sqlite:${folder.file("s.db")}`);
  const secrets = new Secrets();
  secrets.add("1000");
  const parts = {
    reports: state.reports,
    folder: ReportFolder.open(folder.file("deep/reports")),
    redact: (json: string) => secrets.redactJson(json),
    logger: quietLog,
  };
  const found = reportOf({ id: "n1", different: 1_000, compared: 1_000, sample });
  await keepReport(parts, { ...found, notComparable: [{ sink: "w", table: null, reason: "password=1000 is wrong" }] });
  const kept = await state.reports.get("n1");
  // A password of digits takes no figure's place.
  expect(kept).toMatchObject({ tables: [{ different: 1_000 }], notComparable: [{ reason: "password=*** is wrong" }] });
  expect(kept?.tables[0]?.sample).toHaveLength(100);
  const files = readdirSync(folder.file("deep/reports")).toSorted();
  expect(files).toEqual(["shop-n1.html", "shop-n1.json", "shop-n1.md"]);
  const texts = files.map((file) => readFileSync(folder.file(`deep/reports/${file}`), "utf8"));
  for (const text of [...texts, JSON.stringify(kept)]) {
    expect(text).not.toMatch(/a-private-value|password=1000/);
  }
  await state.close();
});

test("what can't be written or kept is logged, and hinders nothing else", async () => {
  using folder = temporaryFolder();
  const state = await openState(`sqlite:${folder.file("s.db")}`);
  const reports = ReportFolder.open(folder.file("reports"));
  rmSync(folder.file("reports"), { recursive: true });
  const said: string[] = [];
  const logger = { ...quietLog, error: (_fields: object, message: string) => void said.push(message) };
  const parts = { reports: state.reports, folder: reports, redact: (text: string) => text, logger };
  await keepReport(parts, reportOf({ id: "n1", missing: 1 }));
  expect(said).toEqual([expect.stringMatching(/folder of reports/)]);
  expect(await state.reports.list()).toHaveLength(1);
  await state.close();
  await keepReport(parts, reportOf({ id: "n2" }));
  expect(said).toHaveLength(3);
});
