/**
 * `telemetry.otlp` into real receivers. Their first starts build them, which takes minutes.
 * @module-tag long
 */
import { expect, test } from "vitest";
import * as z from "zod";
import { jaeger } from "../../../scripts/services/servers/jaeger.ts";
import { freePort } from "../../../scripts/services/processes/port.ts";
import { victoriaMetrics } from "../../../scripts/services/servers/victoria-metrics.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

const ANSWER = z.object({
  data: z.object({
    result: z.array(z.object({ metric: z.record(z.string(), z.string()), value: z.tuple([z.number(), z.string()]) })),
  }),
});

test("a receiver gets the numbers of /metrics under their names, and the daemon goes on without it", async () => {
  await using server = await victoriaMetrics();
  const listen = `127.0.0.1:${await freePort()}`;
  const otlp = { endpoint: `${server.url}/opentelemetry`, interval: "5s" };
  await using pipeline = await RunningPipeline.start(
    "create table item (id int primary key); insert into item select generate_series(1, 20)",
    { kinds: ["postgres"], configure: (config) => ({ ...config, telemetry: { otlp }, admin: { listen } }) },
  );
  await pipeline.settled();
  const ask = async (query: string) => {
    const answer = await fetch(`${server.url}/api/v1/query?query=${encodeURIComponent(query)}`);
    return ANSWER.parse(await answer.json()).data.result.map(({ metric, value: [, value] }) => ({ metric, value }));
  };
  const of = { "service.instance.id": pipeline.installation.name, "service.name": "millrace" };
  await eventually(
    async () => {
      expect(await ask("millrace_source_up")).toMatchObject([{ metric: of, value: "1" }]);
      expect(await ask(`sum(millrace_sink_rows_total{sink="postgres", table="public.item"})`)).toMatchObject([
        { value: "20" },
      ]);
      expect(await ask(`millrace_sink_state{state="streaming"}`)).toMatchObject([{ metric: of, value: "1" }]);
      const [count] = await ask(`millrace_sink_apply_seconds_count{sink="postgres"}`);
      const [all] = await ask(`millrace_sink_apply_seconds_bucket{sink="postgres", le="+Inf"}`);
      expect(Number(count?.value)).toBeGreaterThan(0);
      expect(all?.value).toBe(count?.value);
    },
    { withinMs: 60_000, everyMs: 500 },
  );
  const scraped = await (await fetch(`http://${listen}/metrics`)).text();
  const names = [...scraped.matchAll(/^(\w+)/gm)].map(([name]) => name);
  const received = new Set((await ask(`{__name__=~".+"}`)).map(({ metric }) => metric["__name__"]));
  expect(names.length).toBeGreaterThan(100);
  expect(names.filter((name) => !received.has(name))).toEqual([]);

  await server[Symbol.asyncDispose]();
  await eventually(() => pipeline.daemon.said.includes("metrics could not be sent to telemetry.otlp"), {
    withinMs: 30_000,
  });
  await pipeline.run("insert into item values (21)");
  await pipeline.expectEqual(["item"]);
});

const TRACES = z.object({
  data: z.array(
    z.object({
      spans: z.array(
        z.object({
          operationName: z.string(),
          spanID: z.string(),
          references: z.array(z.object({ refType: z.string(), spanID: z.string() })),
          startTime: z.number(),
          duration: z.number(),
          tags: z.array(z.object({ key: z.string(), value: z.unknown() })),
        }),
      ),
      processes: z.record(z.string(), z.object({ serviceName: z.string() })),
    }),
  ),
});

test("a receiver of traces alone gets each step, with the parts of its time; that it takes no metrics stops nothing", async () => {
  await using server = await jaeger();
  const otlp = { endpoint: server.otlpUrl, interval: "5s", traces: { share: 1 } };
  await using pipeline = await RunningPipeline.start("create table item (id int primary key)", {
    kinds: ["postgres"],
    configure: (config) => ({ ...config, telemetry: { otlp } }),
  });
  await pipeline.settled();
  await pipeline.run("insert into item values (1), (2), (3)");
  await pipeline.expectEqual(["item"]);
  const traces = async () => {
    const answer = await fetch(`${server.url}/api/traces?service=millrace`);
    return TRACES.parse(await answer.json()).data;
  };
  await eventually(async () => (await traces()).length === 1, { withinMs: 60_000, everyMs: 500 });
  const [trace] = await traces();
  expect(Object.values(trace!.processes)).toMatchObject([{ serviceName: "millrace" }]);
  const spans = new Map(trace!.spans.map((span) => [span.operationName, span]));
  const { spanID, startTime, duration, tags } = spans.get("apply")!;
  expect(Object.fromEntries(tags.map(({ key, value }) => [key, value]))).toMatchObject({
    "millrace.sink": "postgres",
    "millrace.rows": 3,
    "millrace.tables": '["public.item"]',
  });
  const parts = ["capture", "queue", "write"].map((name) => spans.get(name)!);
  expect(parts.map(({ references }) => references)).toMatchObject(parts.map(() => [{ refType: "CHILD_OF", spanID }]));
  // Microseconds; each is rounded.
  const sum = parts.reduce((all, part) => all + part.duration, 0);
  expect(Math.abs(sum - duration)).toBeLessThan(5);
  expect(parts.every((part) => part.startTime >= startTime && part.startTime <= startTime + duration + 5)).toBe(true);
  expect(pipeline.daemon.said).toContain("metrics could not be sent to telemetry.otlp");
});
