/** Jaeger, which receives traces by OTLP and answers questions about them, built from the Go module proxy. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { builtByGo, type GoProgram } from "./go-program.ts";
import { startGuarded } from "./guarded.ts";
import { freePort } from "./port.ts";
import { waitUntilReady } from "./ready.ts";
import { temporaryHome } from "./run-user.ts";
import type { RunningService } from "./service.ts";
import { versions } from "./versions.ts";

const NAME = "jaeger";
const PROGRAM: GoProgram = {
  name: NAME,
  path: "github.com/jaegertracing/jaeger/cmd/all-in-one",
  version: versions.jaeger.version,
  replaces: true,
};

export interface RunningJaeger extends RunningService {
  /** OTLP over HTTP; `url` answers questions. */
  readonly otlpUrl: string;
}

/** It keeps traces in memory. */
export async function jaeger(): Promise<RunningJaeger> {
  const program = await builtByGo(PROGRAM);
  const home = await temporaryHome(NAME, undefined);
  const dataDir = join(home, "data");
  const ports = await Promise.all(Array.from({ length: 7 }, () => freePort()));
  const at = (which: number): string => `127.0.0.1:${ports[which]}`;
  const url = `http://${at(0)}`;
  const service = await startGuarded({
    name: NAME,
    url,
    host: "127.0.0.1",
    port: ports[0]!,
    dataDir,
    removeDirs: [home],
    process: {
      command: program,
      args: [
        `--query.http-server.host-port=${at(0)}`,
        `--collector.otlp.http.host-port=${at(1)}`,
        `--query.grpc-server.host-port=${at(2)}`,
        `--collector.otlp.grpc.host-port=${at(3)}`,
        `--collector.grpc-server.host-port=${at(4)}`,
        `--collector.http-server.host-port=${at(5)}`,
        `--admin.http.host-port=${at(6)}`,
      ],
      env: { HOME: home, LC_ALL: "C", TZ: "UTC" },
      cwd: home,
      logPath: join(home, "server.log"),
      user: undefined,
    },
    stopSteps: [{ signal: "SIGTERM", waitMs: 10_000 }],
    endSteps: [],
    prepare: async () => await mkdir(dataDir),
    ready: (signal) => waitUntilReady(() => answers(`http://${at(6)}`), signal),
  });
  return Object.assign(service, { otlpUrl: `http://${at(1)}` });
}

async function answers(url: string): Promise<void> {
  const answer = await fetch(`${url}/`, { signal: AbortSignal.timeout(1_000) });
  if (!answer.ok) throw new Error("not ready");
  await answer.body?.cancel();
}
