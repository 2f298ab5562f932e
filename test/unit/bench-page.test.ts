import { expect, test } from "vitest";
import { page } from "../../bench/page.ts";
import { outcomeOf, render } from "../../bench/report.ts";

const html = page(
  [
    {
      name: "apply-redis",
      lines: [
        { work: "inserts", who: "millrace", figures: { "rows/s": 100_000 } },
        { work: "inserts", who: "millrace, live", figures: { "rows/s": 50_000 } },
        { work: "inserts", who: "a <peer>", figures: { "rows/s": 200_000 } },
        { work: "all", who: "millrace", figures: { "peak memory MiB": 188 } },
      ],
      ratios: [
        { what: "inserts", value: 0.5, target: 0.8, atLeast: true },
        { what: "p50, ms", value: 0.5, target: 2, atLeast: false },
        { what: "a difference", value: -17.8, target: 3, atLeast: false },
        { what: "of nothing", value: Number.NaN, target: 1, atLeast: true },
      ],
    },
  ],
  { command: "npm run bench -- all --report", at: new Date(0) },
);

test("the report needs nothing but itself, and names its command", () => {
  expect(html).not.toMatch(/https?:|src=|@import|<script|<link/);
  expect(html).toContain("npm run bench -- all --report");
  expect(html).toContain("a &lt;peer&gt;");
});

test("bars are as long as their figures, and tell what missed", () => {
  const widths = [...html.matchAll(/<rect class="(\w+)"[^>]*width="([\d.]+)%"/g)].map(([, color, width]) => [
    Number(width),
    color,
  ]);
  // Three rates, one ratio that missed, one that is met and one below nothing; what was not measured has none.
  expect(widths).toHaveLength(6);
  const [own, live, peer, missed, met, below] = widths;
  expect(live![1]).toBe(own![1]);
  expect(peer![1]).not.toBe(own![1]);
  expect(below![0]).toBe(0);
  expect(html).toContain("-17.8 (≤ 3, met)");
  expect(Number(own![0]) * 2).toBeCloseTo(Number(peer![0]));
  expect(missed![1]).not.toBe(met![1]);
  expect(html).not.toMatch(/NaN<|="-/);
});

test("a benchmark that throws is told with its message, and the others stay", async () => {
  const logged: string[] = [];
  const options = { scale: 1, runs: 1, log: (line: string) => logged.push(line), takes: () => true };
  const thrown = async (): Promise<never> => Promise.reject(new Error("contents differ: <3> & <4>"));
  const outcomes = [
    await outcomeOf("copy", thrown, options),
    await outcomeOf("latency", async () => ({ name: "latency", lines: [], ratios: [] }), options),
  ];
  expect(outcomes).toMatchObject([{ name: "copy", failure: "contents differ: <3> & <4>" }, { name: "latency" }]);
  expect(logged.join()).toMatch(/copy failed: Error: contents differ/);
  expect(outcomes.map(render)[0]).toContain("FAILED contents differ: <3> & <4>");
  const shown = page(outcomes, { command: "npm run bench -- copy latency", at: new Date(0) });
  expect(shown).toContain("failed: contents differ: &lt;3&gt; &amp; &lt;4&gt;");
  expect(shown).toContain("<h2>latency</h2>");
});
