/** What becomes of what a comparison has found. */
import { generateKeyPairSync } from "node:crypto";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { Secrets } from "../../src/config/secrets/secrets.ts";
import { type DriftSample, type ReconcileDocument, withoutKeysOf } from "../../src/core/contracts/reconciliation.ts";
import { keepReport, ReportFolder } from "../../src/reconcile/report/report-folder.ts";
import { proofsOf, signedReport } from "../../src/reconcile/report/signature.ts";
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
    sign: null,
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

test("a report that is in a folder stays: a copy of it may be unsigned, or hold values", async () => {
  using folder = temporaryFolder();
  const reports = ReportFolder.open(folder.path);
  const found = reportOf({ id: "n1", different: 1, sample: sample.slice(0, 1) });
  const { privateKey } = generateKeyPairSync("ed25519");
  const signed = signedReport(reportOf({ id: "n1", different: 1 }), privateKey, null);
  expect(await reports.write(signed, [])).toBe(true);
  expect(await reports.write(found, [])).toBe(false);
  expect(JSON.parse(readFileSync(folder.file("shop-n1.json"), "utf8"))).toEqual(signed);
  for (const ending of ["json", "md", "html"])
    expect(readFileSync(folder.file(`shop-n1.${ending}`), "utf8")).not.toContain("a-private-value");
});

test("what can't be written or kept is logged, and hinders nothing else", async () => {
  using folder = temporaryFolder();
  const state = await openState(`sqlite:${folder.file("s.db")}`);
  const reports = ReportFolder.open(folder.file("reports"));
  rmSync(folder.file("reports"), { recursive: true });
  const said: string[] = [];
  const logger = { ...quietLog, error: (_fields: object, message: string) => void said.push(message) };
  const { privateKey: sign } = generateKeyPairSync("ed25519");
  const parts = { reports: state.reports, folder: reports, sign, redact: (text: string) => text, logger };
  await keepReport(parts, reportOf({ id: "n1", missing: 1 }));
  expect(said).toEqual([expect.stringMatching(/folder of reports/)]);
  expect(await state.reports.list()).toHaveLength(1);
  await state.close();
  await keepReport(parts, reportOf({ id: "n2" }));
  expect(said).toHaveLength(4);
});

test("signed reports in the folder follow each other, whatever was kept or written alone when the process ended", async () => {
  using temporary = temporaryFolder();
  const path = temporary.file("reports");
  const state = await openState(`sqlite:${temporary.file("s.db")}`);
  const { privateKey: sign, publicKey } = generateKeyPairSync("ed25519");
  const of = { reports: state.reports, sign, redact: (json: string) => json, logger: quietLog };
  const keep = async (id: string, folder: ReportFolder | null, reports = state.reports): Promise<void> =>
    await keepReport({ ...of, reports, folder }, { ...reportOf({ id }), finishedAt: `2026-11-20T02:0${id}:00.000Z` });
  const inFolder = () => {
    const files = readdirSync(path).filter((file) => file.endsWith(".json"));
    const found = files.map((file): ReconcileDocument => JSON.parse(readFileSync(`${path}/${file}`, "utf8")));
    return proofsOf(found, publicKey).map(({ id, problem }) => `${id} ${problem}`);
  };
  await keep("1", ReportFolder.open(path));
  // Killed before it is written.
  await keep("2", null);
  const folder = ReportFolder.open(path);
  await keep("3", folder);
  expect(inFolder()).toEqual(["1 null", "2 null", "3 null"]);
  // The state does not take it.
  const full = Object.assign(Object.create(state.reports), {
    add: async () => await Promise.reject(new Error("full")),
  });
  await keep("4", folder, full);
  expect(inFolder()).toEqual(["1 null", "2 null", "3 null"]);
  // Somebody has taken the reports away, and for a while none can be written.
  rmSync(path, { recursive: true });
  await keep("5", folder);
  await keep("6", folder);
  ReportFolder.open(path);
  await keep("7", folder);
  expect(inFolder()).toEqual(["5 null", "6 null", "7 null"]);
  await state.close();
});

describe("signed reports", () => {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const at = (id: string, minute: number) => ({ ...reportOf({ id }), finishedAt: `2026-11-20T02:0${minute}:00.000Z` });
  const first = signedReport(at("a", 1), privateKey, null);
  const second = signedReport(at("b", 2), privateKey, first);
  const third = signedReport(at("c", 3), privateKey, second);
  const problems = (reports: readonly ReconcileDocument[], key = publicKey) =>
    proofsOf(reports, key).map(({ problem }) => problem);

  test("of two daemons in one folder follow each other's own", () => {
    const others = [at("x", 1), at("y", 3)].map((one) => ({ ...one, name: "other" }));
    const one = signedReport(others[0]!, privateKey, null);
    expect(problems([first, one, second, third, signedReport(others[1]!, privateKey, one)])).toEqual(
      Array.from({ length: 5 }, () => null),
    );
  });

  test("follow each other by what they name, whatever the clock said", () => {
    const early = signedReport(at("b", 0), privateKey, first);
    const late = signedReport(at("c", 3), privateKey, early);
    expect(proofsOf([late, early, first], publicKey)).toMatchObject(
      ["a", "b", "c"].map((id) => ({ id, problem: null })),
    );
    expect(problems([early, late])).toEqual([null, null]);
  });

  test("are right in any order of the files, in any order of the fields, and without those that were deleted as old", () => {
    expect(problems([third, first, second])).toEqual([null, null, null]);
    expect(problems([second, third])).toEqual([null, null]);
    const turned = Object.fromEntries(Object.entries(third).toReversed());
    expect(problems([first, second, { ...third, ...turned }])).toEqual([null, null, null]);
    // The one that keys were removed from, since rules hide them, is known by what it was.
    const shown = withoutKeysOf("public.orders", second);
    expect(signedReport(at("c", 3), privateKey, shown)).toEqual(third);
    expect(problems([first, shown])).toEqual([null, "it is not signed"]);
    expect(proofsOf([first], null)[0]).toMatchObject({ problem: null, by: expect.stringMatching(/^[0-9a-f]{64}$/) });
  });

  test("whatever is changed, left out, put in or signed by another is named", () => {
    const changed = { ...second, tables: second.tables.map((row) => ({ ...row, missing: row.missing + 1 })) };
    expect(problems([first, changed, third])).toEqual([
      null,
      "it was changed after it was signed",
      "the report before it was replaced: b",
    ]);
    expect(problems([first, third])).toEqual([null, "the report before it is missing: b"]);
    const other = generateKeyPairSync("ed25519");
    const forged = signedReport(at("b", 2), other.privateKey, first);
    expect(problems([first, forged, third])).toEqual([
      null,
      "another key has signed it",
      "the report before it was replaced: b",
    ]);
    const begun = signedReport(at("d", 4), privateKey, null);
    expect(problems([third, begun])).toEqual([null, "it follows no report: the state was new then"]);
    const branch = signedReport(at("d", 4), privateKey, first);
    expect(problems([first, second, third, branch])).toEqual([null, null, null, "it follows a, not c"]);
    expect(problems([at("a", 1)])).toEqual(["it is not signed"]);
    const linked = { ...third.signature!, previous: { id: "b", sha256: "00" } };
    expect(problems([first, second, { ...third, signature: linked }])[2]).toBe("it was changed after it was signed");
    const noKey = { ...third.signature!, key: "AAAA" };
    expect(proofsOf([{ ...third, signature: noKey }], null)[0]?.problem).toBe("its key can't be read");
  });
});
