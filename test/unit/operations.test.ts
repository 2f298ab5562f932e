/** What deploy/ has for operators: it names metrics that exist, and each alert has its section. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parse } from "yaml";
import * as z from "zod";
import { PrometheusMetrics } from "../../src/ops/metrics.ts";

const ROOT = join(import.meta.dirname, "../..");
const text = (path: string) => readFileSync(join(ROOT, path), "utf8");
const RULES = "deploy/prometheus/millrace.rules.yml";
const ALERT = z.object({
  alert: z.string(),
  expr: z.string(),
  annotations: z.object({ summary: z.string(), description: z.string(), runbook: z.string() }),
});
const { groups } = z.object({ groups: z.array(z.object({ rules: z.array(ALERT) })) }).parse(parse(text(RULES)));
const alerts = groups.flatMap(({ rules }) => rules);

test("each alert has its section, which shows its expression; and no section is of another one", () => {
  expect(alerts.length).toBeGreaterThan(10);
  const sections = new Map(
    [...text("docs/runbooks.md").matchAll(/^### (\w+)\n([^#]*)/gm)].map(([, name = "", body = ""]) => [name, body]),
  );
  for (const { alert, expr, annotations } of alerts) {
    expect(annotations.runbook).toBe(`docs/runbooks.md#${alert.toLowerCase()}`);
    expect(sections.get(alert)).toContain(`\`${expr}\``);
  }
  expect([...sections.keys()].toSorted()).toEqual(alerts.map(({ alert }) => alert).toSorted());
});

test("the formula is of this package", () => {
  const { version, license } = z
    .object({ version: z.string(), license: z.string() })
    .parse(parse(text("package.json")));
  const formula = text("deploy/homebrew/millrace.rb");
  expect(formula).toContain(`/millrace-${version}.tgz"`);
  expect(formula).toContain(`license "${license}"`);
});

test.each([RULES, "deploy/grafana/millrace.json"])("%s names metrics that a scrape has", (path) => {
  const known = new Set(
    new PrometheusMetrics().definitions.flatMap(({ name, type }) =>
      type === "histogram" ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
    ),
  );
  const named = [...text(path).matchAll(/\b(?:millrace|process)_[a-z_]+[a-z]\b(?=[{)" ]|$)/gm)].map(([name]) => name);
  expect(named.length).toBeGreaterThan(10);
  expect(named.filter((name) => !known.has(name))).toEqual([]);
});
