/** The demo's sinks: as millrace.yaml names them and as the comparison reads them. */
import { join } from "node:path";
import type { SinkAddress } from "../../test/support/compare/compare.ts";
import type { SinkName } from "./options.ts";
import type { Servers } from "./servers.ts";

export interface DemoSink {
  readonly name: SinkName;
  readonly yaml: string;
  readonly address: SinkAddress;
}

export function sinksOf(servers: Servers, folder: string, without: readonly SinkName[]): readonly DemoSink[] {
  const { replicaUrl, searchUrl, cacheUrl, prefix } = servers;
  const prefixLine = prefix === "" ? "" : `    prefix: "${prefix}"\n`;
  const all: DemoSink[] = [
    {
      name: "warehouse",
      yaml: "    kind: duckdb\n    path: ./warehouse.duckdb\n",
      address: { kind: "duckdb", path: join(folder, "warehouse.duckdb") },
    },
    {
      name: "replica",
      yaml: `    kind: postgres\n    url: ${replicaUrl}\n`,
      address: { kind: "postgres", url: replicaUrl },
    },
  ];
  if (searchUrl !== undefined) {
    const yaml = `    kind: elasticsearch\n    url: ${searchUrl}\n${prefixLine}`;
    all.push({ name: "search", yaml, address: { kind: "elasticsearch", url: searchUrl, prefix } });
  }
  if (cacheUrl !== undefined) {
    const yaml = `    kind: redis\n    url: ${cacheUrl}\n${prefixLine}`;
    all.push({ name: "cache", yaml, address: { kind: "redis", url: cacheUrl, prefix } });
  }
  return all.filter(({ name }) => !without.includes(name));
}
