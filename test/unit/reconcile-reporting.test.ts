/** What becomes of what a comparison has found. */
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { expect, test } from "vitest";
import { Secrets } from "../../src/config/secrets/secrets.ts";
import type { DriftSample } from "../../src/core/contracts/reconciliation.ts";
import { ReportFolder } from "../../src/reconcile/report/report-folder.ts";
import { Reporting } from "../../src/reconcile/report/reporting.ts";
import { openState } from "../../src/state/open.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { reportOf } from "../support/model/reports.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const NEVER = new AbortController().signal;
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
  const told: object[] = [];
  const secrets = new Secrets();
  secrets.add("1000");
  const reporting = new Reporting(
    {
      reports: state.reports,
      folder: ReportFolder.open(folder.file("deep/reports")),
      tell: async (alarm) => void told.push(alarm),
      redact: (json) => secrets.redactJson(json),
      logger: quietLog,
    },
    NEVER,
  );
  const found = reportOf({ id: "n1", different: 1_000, compared: 1_000, sample });
  await reporting.keep({ ...found, notComparable: [{ sink: "w", table: null, reason: "password=1000 is wrong" }] });
  await reporting.settled();
  const kept = await state.reports.get("n1");
  // A password of digits takes no figure's place.
  expect(kept).toMatchObject({ tables: [{ different: 1_000 }], notComparable: [{ reason: "password=*** is wrong" }] });
  expect(kept?.tables[0]?.sample).toHaveLength(100);
  const files = readdirSync(folder.file("deep/reports")).toSorted();
  expect(files).toEqual(["shop-n1.html", "shop-n1.json", "shop-n1.md"]);
  const texts = files.map((file) => readFileSync(folder.file(`deep/reports/${file}`), "utf8"));
  for (const text of [...texts, JSON.stringify(kept), JSON.stringify(told)]) {
    expect(text).not.toMatch(/a-private-value|password=1000/);
  }
  expect(told).toMatchObject([{ event: "drift", id: "n1", drifted: [{ table: "public.orders", different: 1_000 }] }]);
  await state.close();
});

test("what can't be written, kept or told is logged, and hinders nothing else", async () => {
  using folder = temporaryFolder();
  const state = await openState(`sqlite:${folder.file("s.db")}`);
  const reports = ReportFolder.open(folder.file("reports"));
  rmSync(folder.file("reports"), { recursive: true });
  const said: string[] = [];
  const logger = { ...quietLog, error: (_fields: object, message: string) => void said.push(message) };
  const tell = async (): Promise<never> => Promise.reject(new Error("nobody listens"));
  const reporting = new Reporting(
    { reports: state.reports, folder: reports, tell, redact: (text) => text, logger },
    NEVER,
  );
  await reporting.keep(reportOf({ id: "n1", missing: 1 }));
  await reporting.settled();
  expect(said).toEqual([expect.stringMatching(/folder of reports/), expect.stringMatching(/webhook/)]);
  expect(await state.reports.list()).toHaveLength(1);
  await state.close();
  await reporting.keep(reportOf({ id: "n2" }));
  expect(said).toHaveLength(4);
});
