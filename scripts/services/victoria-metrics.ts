/** VictoriaMetrics, which receives OTLP and answers PromQL, built from the Go module proxy. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { builtByGo } from "./go-program.ts";
import { startGuarded } from "./guarded.ts";
import { freePort } from "./port.ts";
import { waitUntilReady } from "./ready.ts";
import { temporaryHome } from "./run-user.ts";
import type { RunningService } from "./service.ts";
import { versions } from "./versions.ts";

const NAME = "victoria-metrics";
const PROGRAM = {
  name: NAME,
  path: "github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-metrics",
  version: versions.victoriaMetrics.version,
};

/** It scrapes nothing. OTLP is below /opentelemetry. */
export async function victoriaMetrics(): Promise<RunningService> {
  const program = await builtByGo(PROGRAM);
  const home = await temporaryHome(NAME, undefined);
  const dataDir = join(home, "data");
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  return startGuarded({
    name: NAME,
    url,
    host: "127.0.0.1",
    port,
    dataDir,
    removeDirs: [home],
    process: {
      command: program,
      args: [`-storageDataPath=${dataDir}`, `-httpListenAddr=127.0.0.1:${port}`, "-search.latencyOffset=0s"],
      env: { HOME: home, LC_ALL: "C", TZ: "UTC" },
      cwd: home,
      logPath: join(home, "server.log"),
      user: undefined,
    },
    stopSteps: [{ signal: "SIGTERM", waitMs: 10_000 }],
    endSteps: [],
    prepare: async () => await mkdir(dataDir),
    ready: (signal) => waitUntilReady(() => answers(url), signal),
  });
}

async function answers(url: string): Promise<void> {
  const answer = await fetch(`${url}/health`, { signal: AbortSignal.timeout(1_000) });
  if (!answer.ok) throw new Error("not ready");
  await answer.body?.cancel();
}
