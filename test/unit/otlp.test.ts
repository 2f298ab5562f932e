/** What an OpenTelemetry receiver is sent: the numbers of `/metrics`, under their names, again and again. */
import { once } from "node:events";
import { copyFile } from "node:fs/promises";
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { inspect } from "node:util";
import * as api from "@opentelemetry/api";
import { resourceFromAttributes } from "@opentelemetry/resources";
import * as sdk from "@opentelemetry/sdk-metrics";
import { expect, test } from "vitest";
import { systemClock } from "../../src/core/clock.ts";
import type { Logger } from "../../src/core/contracts/telemetry.ts";
import { type Measured, metricData } from "../../src/ops/otlp/metric-data.ts";
import { pushTelemetry, spanData } from "../../src/ops/otlp/otlp-push.ts";
import { BATCHES_MAX, TracedBatches } from "../../src/ops/otlp/traced-batches.ts";
import { NO_TLS_KEYS } from "../../src/tls/options.ts";
import { selfSigned } from "../support/network/certificate.ts";
import { noMetrics } from "../support/model/scripted.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";
import { tlsFront } from "../support/network/tls-front.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { eventually } from "../support/run/waiting.ts";

const TIMES = { startMs: 1_000, nowMs: 2_500 };
const CONSTANTS = { api, sdk };

test("counters are sums, gauges without unknown values are gauges, buckets count alone", () => {
  const bucket = (le: number | string, value: number) => ({ metricName: "h_bucket", value, labels: { le, sink: "w" } });
  const values = [
    bucket(1, 2),
    bucket(5, 2),
    bucket("+Inf", 3),
    { metricName: "h_sum", value: 9.5, labels: { sink: "w" } },
    { metricName: "h_count", value: 3, labels: { sink: "w" } },
  ];
  const metrics = metricData(
    [
      { name: "c_total", help: "c", type: "counter", values: [{ value: 7, labels: { table: 'ä"\n' } }] },
      {
        name: "g",
        help: "g",
        type: "gauge",
        values: [
          { value: Number.NaN, labels: {} },
          { value: -1, labels: {} },
        ],
      },
      { name: "unknown", help: "g", type: "gauge", values: [{ value: Number.NaN, labels: {} }] },
      { name: "h", help: "h", type: "histogram", values },
    ],
    TIMES,
    CONSTANTS,
  );
  const times = { startTime: [1, 0], endTime: [2, 500_000_000] };
  expect(metrics).toMatchObject([
    {
      descriptor: { name: "c_total", description: "c" },
      isMonotonic: true,
      dataPoints: [{ ...times, value: 7, attributes: { table: 'ä"\n' } }],
    },
    { descriptor: { name: "g" }, dataPoints: [{ value: -1 }] },
    {
      descriptor: { name: "h" },
      dataPoints: [
        {
          attributes: { sink: "w" },
          value: { buckets: { boundaries: [1, 5], counts: [2, 0, 1] }, sum: 9.5, count: 3 },
        },
      ],
    },
  ]);
});

const ONE_GAUGE = {
  intervalMs: 20,
  clock: systemClock,
  name: "shop",
  version: "1",
  collect: async (): Promise<readonly Measured[]> => [
    { name: "g", help: "g", type: "gauge", values: [{ value: 1, labels: {} }] },
  ],
  takeBatches: null,
};

const PARTS = { source: 0.25, internal: 0.5, sink: 1.25 };

test("a step is a trace: the whole, and a part for each stretch of its time, one behind the other", () => {
  const batch = { sink: "w", rowCount: 3, tables: ["public.a", 'b"\n'], endMs: 10_000, parts: PARTS };
  const origin = { resource: resourceFromAttributes({}), instrumentationScope: { name: "millrace", version: "1" } };
  const spans = spanData([batch, batch], origin, api);
  const [whole] = spans;
  const { traceId, spanId } = whole!.spanContext();
  const seen = spans.slice(0, 4).map((span) => {
    expect(span.spanContext().traceId).toBe(traceId);
    return [span.name, span.startTime, span.endTime, span.duration, span.parentSpanContext?.spanId];
  });
  expect(seen).toEqual([
    ["apply", [8, 0], [10, 0], [2, 0], undefined],
    ["capture", [8, 0], [8, 250_000_000], [0, 250_000_000], spanId],
    ["queue", [8, 250_000_000], [8, 750_000_000], [0, 500_000_000], spanId],
    ["write", [8, 750_000_000], [10, 0], [1, 250_000_000], spanId],
  ]);
  expect(whole!.attributes).toEqual({ "millrace.sink": "w", "millrace.rows": 3, "millrace.tables": batch.tables });
  const ids = new Set(spans.map((span) => span.spanContext().spanId));
  expect(ids.size).toBe(8);
  expect(new Set(spans.map((span) => span.spanContext().traceId)).size).toBe(2);
});

test("slow steps are kept all, and of the others an even share; no more than a send may have", () => {
  const counted: string[] = [];
  const metrics = { ...noMetrics, rowsApplied: (sink: string, table: string) => void counted.push(sink + table) };
  const batches = new TracedBatches({ now: () => 7 }, metrics, { share: 0.25, slowMs: 2_000 });
  const batch = (seconds: number, sink = "w"): void => {
    batches.rowsApplied(sink, "a", "put", 2);
    batches.rowsApplied(sink, "b", "delete", 1);
    batches.commitToApply(sink, seconds, PARTS);
  };
  for (let i = 0; i < 8; i++) batch(1.999);
  expect(batches.take()).toEqual(
    [0, 1].map(() => ({ sink: "w", rowCount: 3, tables: ["a", "b"], endMs: 7, parts: PARTS })),
  );
  expect(counted).toHaveLength(16);
  batch(2);
  batch(2, "other");
  expect(batches.take().map(({ sink }) => sink)).toEqual(["w", "other"]);
  // Rows that did not come by the stream have no parts.
  batches.rowsApplied("w", "a", "put", 2);
  batches.commitToApply("w", 5, null);
  expect(batches.take()).toEqual([]);
  for (let i = 0; i <= BATCHES_MAX; i++) batch(3);
  expect(batches.take()).toHaveLength(BATCHES_MAX);
  expect(batches.take()).toEqual([]);
});

test("headers go with each request; a receiver that refuses is told once, and is sent to again", async () => {
  const seen: { readonly url: string | undefined; readonly headers: IncomingHttpHeaders; readonly bytes: number }[] =
    [];
  let status = 400;
  const server = createServer((request, answer: ServerResponse) => {
    let bytes = 0;
    request.on("data", (chunk: Buffer) => (bytes += chunk.length));
    request.on("end", () => {
      seen.push({ url: request.url, headers: request.headers, bytes });
      answer.writeHead(status).end();
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a TCP server's address
  const { port } = server.address() as AddressInfo;
  const said: string[] = [];
  const logger: Logger = {
    ...quietLog,
    warn: (_fields, text) => void said.push(text),
    info: (_f, text) => void said.push(text),
  };
  const stop = new AbortController();
  const pushing = pushTelemetry(
    {
      endpoint: `http://127.0.0.1:${port}/below/`,
      headers: { authorization: "Bearer x", "x-scope": "shop" },
      tls: NO_TLS_KEYS,
      ...ONE_GAUGE,
      takeBatches: () => [{ sink: "w", rowCount: 1, tables: ["t"], endMs: 1, parts: PARTS }],
      logger,
    },
    stop.signal,
  );
  try {
    await eventually(() => seen.length >= 6);
    seen.sort((a, b) => String(a.url).localeCompare(String(b.url)));
    expect(seen.at(-1)).toMatchObject({ url: "/below/v1/traces", headers: { authorization: "Bearer x" } });
    expect(seen[0]).toMatchObject({
      url: "/below/v1/metrics",
      headers: { authorization: "Bearer x", "x-scope": "shop", "content-type": "application/x-protobuf" },
    });
    expect(seen[0]!.bytes).toBeGreaterThan(50);
    const away = (what: string) => `${what} could not be sent to telemetry.otlp; they are sent on`;
    expect(said.toSorted()).toEqual([away("metrics"), away("traces")]);
    status = 200;
    await eventually(() => said.length === 4);
    const back = (what: string) => `telemetry.otlp takes ${what} again`;
    expect(said.slice(2).toSorted()).toEqual([back("metrics"), back("traces")]);
  } finally {
    stop.abort();
    await expect(pushing).rejects.toMatchObject({ name: "AbortError" });
    server.close();
  }
});

test("TLS: an authority of one's own and a client certificate are trusted; any other is told by number, and files are read again", async () => {
  let count = 0;
  const server = createServer((request, answer: ServerResponse) => {
    request.resume().on("end", () => void (count++, answer.writeHead(200).end()));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a TCP server's address
  const { port } = server.address() as AddressInfo;
  await using own = await selfSigned(["localhost"]);
  await using client = await selfSigned(["client"]);
  await using front = await tlsFront(`http://127.0.0.1:${port}`, own, client);
  using folder = temporaryFolder();
  const ca = folder.file("ca.pem");
  const said: string[] = [];
  const logger: Logger = {
    ...quietLog,
    warn: (fields, text) => void said.push(`${text}: ${inspect(fields)}`),
    info: (_fields, text) => void said.push(text),
  };
  const stop = new AbortController();
  await copyFile(client.certificatePath, ca);
  const pushing = pushTelemetry(
    {
      endpoint: front.url,
      headers: {},
      tls: { ca, cert: client.certificatePath, certKey: client.keyPath, serverName: undefined },
      ...ONE_GAUGE,
      logger,
    },
    stop.signal,
  );
  try {
    await eventually(() => said.length === 1);
    expect(said[0]).toContain("MR1158");
    expect(said[0]).toContain("not signed by an authority that is trusted");
    expect(count).toBe(0);
    await copyFile(own.certificatePath, ca);
    await eventually(() => count > 1);
    expect(said[1]).toBe("telemetry.otlp takes metrics again");
  } finally {
    stop.abort();
    await expect(pushing).rejects.toMatchObject({ name: "AbortError" });
    server.close();
  }
});
