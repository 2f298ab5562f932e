/** Whether a container engine answers, and a server in a container as a RunningService. */
import { freePort } from "./port.ts";
import type { RunningService, ServiceName } from "../service.ts";

const ANSWER_WITHIN_MS = 2_000;

export type Engine = { readonly kind: "answers" } | { readonly kind: "silent"; readonly reason: string };

let engine: Promise<Engine> | undefined;

/** Asked once per process. MILLRACE_CONTAINERS=off says that containers are not wanted. */
export function containerEngine(): Promise<Engine> {
  engine ??= askEngine();
  return engine;
}

async function askEngine(): Promise<Engine> {
  if (process.env["MILLRACE_CONTAINERS"] === "off") return { kind: "silent", reason: "MILLRACE_CONTAINERS=off" };
  const late = new Promise<Engine>((resolve) => {
    setTimeout(() => resolve({ kind: "silent", reason: "no answer in time" }), ANSWER_WITHIN_MS).unref();
  });
  return Promise.race([askTestcontainers(), late]);
}

async function askTestcontainers(): Promise<Engine> {
  try {
    const { getContainerRuntimeClient } = await import("testcontainers");
    await getContainerRuntimeClient();
    return { kind: "answers" };
  } catch (error) {
    return { kind: "silent", reason: error instanceof Error ? error.message : String(error) };
  }
}

export interface ContainerSpec {
  readonly name: ServiceName;
  readonly image: string;
  readonly containerPort: number;
  /** Where the host has it, if whoever starts it has to know that before. Default: a free port. */
  readonly port?: number;
  readonly environment?: Readonly<Record<string, string>>;
  readonly command?: readonly string[];
  url(host: string, port: number): string;
  ready(url: string, signal: AbortSignal): Promise<void>;
}

const READY_WITHIN_MS = 180_000;

export async function startContainer(spec: ContainerSpec): Promise<RunningService> {
  const { GenericContainer, Wait, getContainerRuntimeClient } = await import("testcontainers");
  // A port of our own choice: one chosen by the engine would be another one after each restart.
  const port = spec.port ?? (await freePort());
  const container = new GenericContainer(spec.image)
    .withEnvironment({ ...spec.environment })
    .withExposedPorts({ container: spec.containerPort, host: port })
    .withWaitStrategy(Wait.forListeningPorts())
    .withStartupTimeout(READY_WITHIN_MS);
  if (spec.command !== undefined) container.withCommand([...spec.command]);
  const started = await container.start();
  const handle = (await getContainerRuntimeClient()).container.getById(started.getId());
  const url = spec.url(started.getHost(), port);
  const ready = (): Promise<void> => spec.ready(url, AbortSignal.timeout(READY_WITHIN_MS));
  try {
    await ready();
  } catch (error) {
    await started.stop({ timeout: 0 });
    throw error;
  }
  return {
    name: spec.name,
    url,
    host: started.getHost(),
    port,
    pid: undefined,
    dataDir: undefined,
    logPath: undefined,
    async stop() {
      await handle.stop();
    },
    async kill() {
      await handle.kill();
    },
    async start() {
      await handle.start();
      await ready();
    },
    async pause() {
      await handle.pause();
    },
    async resume() {
      await handle.unpause();
    },
    async [Symbol.asyncDispose]() {
      await started.stop({ timeout: 0 });
    },
  };
}
