/** VictoriaMetrics, which receives OTLP and answers PromQL, built from the Go module proxy. */
import { builtByGo } from "../packages/go-program.ts";
import { startOnePort } from "../processes/one-port.ts";
import { isThere } from "../processes/ready.ts";
import type { RunningService } from "../service.ts";
import { versions } from "../versions.ts";

const NAME = "victoria-metrics";
const PROGRAM = {
  name: NAME,
  path: "github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-metrics",
  version: versions.victoriaMetrics.version,
};

/** It scrapes nothing. OTLP is below /opentelemetry. */
export async function victoriaMetrics(): Promise<RunningService> {
  return await startOnePort({
    name: NAME,
    command: await builtByGo(PROGRAM),
    args: ({ dataDir, port }) => [
      `-storageDataPath=${dataDir}`,
      `-httpListenAddr=127.0.0.1:${port}`,
      "-search.latencyOffset=0s",
    ],
    env: ({ home }) => ({ HOME: home }),
    answers: (url) => isThere(`${url}/health`),
  });
}
