import {
  sinkConnector,
  sourceConnector,
  type Connectors,
  type SinkConnector,
  type SourceConnector,
} from "../src/config/connectors.ts";

/**
 * The one list of connectors, a line for each kind. A module is loaded when a configuration names its kind. A URL of the
 * command line belongs to the first kind that knows it.
 */
const sinks = new Map<string, () => Promise<SinkConnector>>([
  ["clickhouse", async () => sinkConnector(await import("./clickhouse/config.ts"))],
  ["duckdb", async () => sinkConnector(await import("./duckdb/config.ts"))],
  ["ducklake", async () => sinkConnector(await import("./duckdb/lake/config.ts"))],
  ["elasticsearch", async () => sinkConnector(await import("./elasticsearch/config.ts"))],
  ["files", async () => sinkConnector(await import("./files/config.ts"))],
  ["kafka", async () => sinkConnector(await import("./kafka/config.ts"))],
  ["postgres", async () => sinkConnector(await import("./postgres/sink/config.ts"))],
  ["redis", async () => sinkConnector(await import("./redis/config.ts"))],
  ["sqlite", async () => sinkConnector(await import("./sqlite/config.ts"))],
]);

const sources = new Map<string, () => Promise<SourceConnector>>([
  ["kafka", async () => sourceConnector(await import("./kafka/source/config.ts"))],
  ["mysql", async () => sourceConnector(await import("./mysql/source/config.ts"))],
  ["postgres", async () => sourceConnector(await import("./postgres/source/config.ts"))],
]);

export const connectors: Connectors = {
  sourceKinds: [...sources.keys()],
  sinkKinds: [...sinks.keys()],
  source: (kind) => load(sources, kind),
  sink: (kind) => load(sinks, kind),
};

async function load<T>(list: ReadonlyMap<string, () => Promise<T>>, kind: string): Promise<T> {
  const entry = list.get(kind);
  if (entry === undefined) throw new RangeError(`no connector of kind ${kind}`);
  return await entry();
}
