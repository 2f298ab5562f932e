import { definition, factory } from "../../connectors/elasticsearch/config.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { tcpProxy } from "../support/network/proxy.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { documentLanding } from "../support/caches/redis-rows.ts";
import { aliasOf, readDocuments, searchCall } from "../support/caches/search-rows.ts";
import { elasticsearchUrl, freshIndexPrefix } from "../support/run/services.ts";
import { type SinkTarget, sinkConformance } from "./sink.ts";

const documents = tableVersion({ table: "documents", columns: { id: "int8", body: "jsonb" } });

sinkConformance({
  name: "elasticsearch",
  target: searchTarget,
  landed: documentLanding,
  room: /^\/.* of node \S/,
  transactional: false,
  namesMeet: true,
  needsPlainVectors: true,
  // `e2e/capture/hostile-names` and `e2e/schema/shapes` have these in an engine.
  heavy: ["names", "shapes", "compacted changes"],
  refusal: () => ({
    table: documents,
    good: (i) => [`${i}`, '{"a": 1}'],
    // Deeper than the engine's parser goes.
    bad: (i) => [`${i}`, `${"[".repeat(2_000)}${"]".repeat(2_000)}`],
  }),
});

async function searchTarget(): Promise<SinkTarget> {
  const url = elasticsearchUrl();
  const indices = freshIndexPrefix(url);
  const { prefix } = indices;
  const proxy = await tcpProxy(url);
  const options = definition.parse({ url: proxy.url(url), prefix, replicas: 0 });
  const pathOf = (table: TableVersion): string => `/${encodeURIComponent(aliasOf(prefix, table))}`;
  return {
    makeSink: (_, daemon = "shop") => factory.create({ name: "search", daemon, folder: "/", options }, quietLog),
    check: async (tables, daemon, signal) =>
      await factory.check({ name: "search", daemon, folder: "/", options }, signal, tables),
    readRows: (table) => readDocuments(url, prefix, table),
    wipe: async () => indices[Symbol.asyncDispose](),
    cut: async () => proxy.cut(),
    occupy: async (table) => void (await searchCall(url, "PUT", pathOf(table))),
    async obstruct(table) {
      await searchCall(url, "PUT", `${pathOf(table)}/_settings`, '{"index.blocks.write": true}');
      return {
        async [Symbol.asyncDispose]() {
          await searchCall(url, "PUT", `${pathOf(table)}/_settings`, '{"index.blocks.write": null}');
        },
      };
    },
    async [Symbol.asyncDispose]() {
      await proxy[Symbol.asyncDispose]();
      await indices[Symbol.asyncDispose]();
    },
  };
}
