/** A server that somebody else runs, named by an environment variable. It is used, but never stopped or killed. */
import type { RunningService, ServiceName } from "./service.ts";

export function borrowed(name: ServiceName, variable: string, url: string, defaultPort: number): RunningService {
  const parsed = new URL(url);
  const refuse = async (): Promise<never> => {
    throw new Error(`${name} comes from ${variable} and is not ours to stop; start one with { own: true } for that`);
  };
  return {
    name,
    url,
    host: parsed.hostname,
    port: parsed.port === "" ? defaultPort : Number(parsed.port),
    pid: undefined,
    dataDir: undefined,
    logPath: undefined,
    stop: refuse,
    kill: refuse,
    start: refuse,
    pause: refuse,
    resume: refuse,
    async [Symbol.asyncDispose]() {},
  };
}
