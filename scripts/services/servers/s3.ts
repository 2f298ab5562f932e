/** A server with S3's interface over a folder: Versity S3 Gateway, built from the Go module proxy. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { startContainer } from "../processes/container.ts";
import { builtByGo, goAvailability } from "../packages/go-program.ts";
import { startOnePort } from "../processes/one-port.ts";
import { waitUntilReady } from "../processes/ready.ts";
import {
  fetched,
  locateService,
  type Availability,
  type LocateOptions,
  type RunningService,
  type ServiceDefinition,
  type StartOptions,
} from "../service.ts";
import { startFound } from "../start-found.ts";
import { versions } from "../versions.ts";

const NAME = "s3";
const VARIABLE = "MILLRACE_TEST_S3_URL";
const PROGRAM = {
  name: "versitygw",
  path: "github.com/versity/versitygw/cmd/versitygw",
  version: versions.s3.version,
};

/** Of the server's only user. */
export const S3_LOGIN = { accessKeyId: "millracetest", secretAccessKey: "millracetestsecret" } as const;

async function locate(options: LocateOptions = {}): Promise<Availability> {
  return locateService(
    { variable: VARIABLE, image: versions.s3.image, native: () => goAvailability(PROGRAM) },
    options,
  );
}

async function start(options: StartOptions = {}): Promise<RunningService> {
  return await startFound(NAME, await locate(options), {
    defaultPort: 7070,
    container: startInContainer,
    native: () => startNative(options),
  });
}

function startInContainer(): Promise<RunningService> {
  return startContainer({
    name: NAME,
    image: versions.s3.image,
    containerPort: 7070,
    environment: { ROOT_ACCESS_KEY: S3_LOGIN.accessKeyId, ROOT_SECRET_KEY: S3_LOGIN.secretAccessKey },
    command: ["posix", "--sidecar", "/tmp", "/mnt"],
    url: (host, port) => `http://${host}:${port}`,
    ready: (url, signal) => waitUntilReady(() => answers(url), signal),
  });
}

async function startNative({ keepData }: StartOptions): Promise<RunningService> {
  const sideDir = (home: string): string => join(home, "attributes");
  return await startOnePort({
    name: NAME,
    keepData,
    command: await fetched(NAME, builtByGo(PROGRAM)),
    args: ({ home, dataDir, port }) => [
      "--port",
      `127.0.0.1:${port}`,
      "--quiet",
      "posix",
      "--sidecar",
      sideDir(home),
      dataDir,
    ],
    env: () => ({ ROOT_ACCESS_KEY: S3_LOGIN.accessKeyId, ROOT_SECRET_KEY: S3_LOGIN.secretAccessKey }),
    prepare: async ({ home }) => await mkdir(sideDir(home)),
    answers,
  });
}

/** Any answer will do: without a login it refuses to list. */
async function answers(url: string): Promise<void> {
  const answer = await fetch(url, { signal: AbortSignal.timeout(1_000) });
  await answer.body?.cancel();
}

export const s3: ServiceDefinition = { name: NAME, locate, start };
