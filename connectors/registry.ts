import {
  sinkConnector,
  sourceConnector,
  type Connectors,
  type SinkConnector,
  type SourceConnector,
} from "../src/config/connectors.ts";

/** The one list of connectors: kind -> what loads it. A module is loaded when a configuration names its kind. */
const sinks = new Map<string, () => Promise<SinkConnector>>([
  [
    "duckdb",
    async () => {
      const { definition, factory } = await import("./duckdb/config.ts");
      return sinkConnector(definition, factory);
    },
  ],
  [
    "elasticsearch",
    async () => {
      const { definition, factory } = await import("./elasticsearch/config.ts");
      return sinkConnector(definition, factory);
    },
  ],
  [
    "postgres",
    async () => {
      const { definition, factory } = await import("./postgres/sink/config.ts");
      return sinkConnector(definition, factory);
    },
  ],
  [
    "redis",
    async () => {
      const { definition, factory } = await import("./redis/config.ts");
      return sinkConnector(definition, factory);
    },
  ],
]);

const sources = new Map<string, () => Promise<SourceConnector>>([
  [
    "mysql",
    async () => {
      const { sourceDefinition, sourceFactory } = await import("./mysql/source/config.ts");
      return sourceConnector(sourceDefinition, sourceFactory);
    },
  ],
  [
    "postgres",
    async () => {
      const { sourceDefinition, sourceFactory } = await import("./postgres/source/config.ts");
      return sourceConnector(sourceDefinition, sourceFactory);
    },
  ],
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
