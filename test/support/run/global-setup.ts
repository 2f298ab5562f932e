/** Once for a run: compiles the program if tests start it, starts the servers that the test files need, and tells the tests where they are. */
import { readFileSync, statfsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { freemem, tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import type { TestProject } from "vitest/node";
import { definitionOf } from "../../../scripts/services/definitions.ts";
import { type RunningService, type ServiceName, ServiceUnavailableError } from "../../../scripts/services/service.ts";
import { compileProgram } from "./program.ts";
import { servicesStartedFor } from "./service-suffixes.ts";

const IN_MEMORY = "/dev/shm";
const GIB = 2 ** 30;
/** A whole run has some two gigabytes there at a time at most, and leaves nothing. */
const FREE_BYTES_MIN = 8 * GIB;
const MEMORY_BYTES_MIN = 12 * GIB;

/** Where tests and their servers write: in memory where there is plenty, as nothing of it has to outlive the machine. */
function scratchFolder(): string {
  try {
    const { bavail, bsize } = statfsSync(IN_MEMORY);
    return bavail * bsize >= FREE_BYTES_MIN && freemem() >= MEMORY_BYTES_MIN ? IN_MEMORY : tmpdir();
  } catch {
    // No Linux.
    return tmpdir();
  }
}

/** What a test learns of a server: where it is, or why it is not there. */
export type ProvidedService =
  | {
      readonly kind: "up";
      readonly url: string;
      readonly socketDir: string | undefined;
      /** Of Postgres: server_version_num; else 0. */
      readonly version: number;
    }
  | { readonly kind: "unavailable"; readonly reason: string };

export type ProvidedServices = Partial<Record<ServiceName, ProvidedService>>;

declare module "vitest" {
  interface ProvidedContext {
    services: ProvidedServices;
  }
}

const INTERNAL_ERRORS_MAX = 20;

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  process.env["TMPDIR"] ??= scratchFolder();
  const paths = project.vitest.state.getPaths();
  if (paths.some(startsProgram)) await compileProgram();
  // Of a start of the daemon a tenth is compiling.
  const compiled = await mkdtemp(join(tmpdir(), "millrace-compiled-"));
  process.env["MILLRACE_TEST_COMPILED"] = compiled;
  const names = [...new Set(paths.flatMap(servicesStartedFor))];
  const running: RunningService[] = [];
  const stopAll = async (): Promise<void> => {
    for (const service of running) tellOfInternalErrors(service);
    await Promise.all(running.map((service) => service[Symbol.asyncDispose]()));
    await rm(compiled, { recursive: true, force: true });
  };
  const provided: ProvidedServices = {};
  const startOne = async (name: ServiceName): Promise<void> => {
    try {
      const service = await definitionOf(name).start();
      running.push(service);
      const socketDir = "socketDir" in service && typeof service.socketDir === "string" ? service.socketDir : undefined;
      const version = name === "postgres" ? await versionOf(service.url) : 0;
      provided[name] = { kind: "up", url: service.url, socketDir, version };
    } catch (error) {
      if (!(error instanceof ServiceUnavailableError)) throw error;
      provided[name] = { kind: "unavailable", reason: error.message };
    }
  };
  try {
    await Promise.all(names.map(startOne));
  } catch (error) {
    await stopAll();
    throw error;
  }
  project.provide("services", provided);
  return stopAll;
}

const STARTS = /support\/(daemon\/(canary|cli|daemon-process|demo-process|running-pipeline)|run\/program)/;

/** Most unit tests start nothing: a changed line is seen to be wrong without a build. */
function startsProgram(file: string): boolean {
  const isUnit = /\/test\/unit\//.test(file);
  return !isUnit || STARTS.test(readFileSync(file, "utf8"));
}

/** What Postgres calls internal (SQLSTATE XX…) should never be; whoever reads a failed run has the server's log no more. */
function tellOfInternalErrors({ name, logPath }: RunningService): void {
  if (name !== "postgres" || logPath === undefined) return;
  const lines = readFileSync(logPath, "utf8").split("\n");
  for (const line of new Set(lines.filter((text) => / XX[0-9A-Z]{3} /.test(text)).slice(-INTERNAL_ERRORS_MAX)))
    process.stdout.write(`${name}: ${line}\n`);
}

async function versionOf(url: string): Promise<number> {
  const client = new Client({ connectionString: url });
  await client.connect();
  const { rows } = await client.query<{ version: number }>(
    "select current_setting('server_version_num')::int as version",
  );
  await client.end();
  return rows[0]?.version ?? 0;
}
