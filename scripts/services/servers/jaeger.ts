/** Jaeger, which receives traces by OTLP and answers questions about them, built from the Go module proxy. */
import { builtByGo, type GoProgram } from "../packages/go-program.ts";
import { startOnePort } from "../processes/one-port.ts";
import { freePort } from "../processes/port.ts";
import { isThere } from "../processes/ready.ts";
import type { RunningService } from "../service.ts";
import { versions } from "../versions.ts";

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
  const others = await Promise.all(Array.from({ length: 6 }, () => freePort()));
  const [otlp, grpcQuery, grpcOtlp, grpcCollector, collector, admin] = others.map((port) => `127.0.0.1:${port}`);
  const service = await startOnePort({
    name: NAME,
    command: await builtByGo(PROGRAM),
    args: ({ port }) => [
      `--query.http-server.host-port=127.0.0.1:${port}`,
      `--collector.otlp.http.host-port=${otlp}`,
      `--query.grpc-server.host-port=${grpcQuery}`,
      `--collector.otlp.grpc.host-port=${grpcOtlp}`,
      `--collector.grpc-server.host-port=${grpcCollector}`,
      `--collector.http-server.host-port=${collector}`,
      `--admin.http.host-port=${admin}`,
    ],
    env: ({ home }) => ({ HOME: home }),
    answers: () => isThere(`http://${admin}/`),
  });
  return Object.assign(service, { otlpUrl: `http://${otlp}` });
}
