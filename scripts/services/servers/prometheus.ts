/** Prometheus, for the alert rules under deploy/; and promtool, which checks them. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { borrowed } from "../borrowed.ts";
import { command } from "../processes/command.ts";
import { debianAvailability, type DebianFolder, installDebian, type DebianRecipe } from "../packages/debian.ts";
import { startOnePort } from "../processes/one-port.ts";
import { printProgress } from "../packages/progress.ts";
import { isThere } from "../processes/ready.ts";
import {
  fetched,
  type Availability,
  type LocateOptions,
  type ProgressListener,
  type RunningService,
  type ServiceDefinition,
  ServiceUnavailableError,
  type StartOptions,
} from "../service.ts";
import { versions } from "../versions.ts";

const NAME = "prometheus";
const VARIABLE = "MILLRACE_TEST_PROMETHEUS_URL";

const recipe: DebianRecipe = {
  what: "Prometheus",
  version: "of this release",
  suite: versions.prometheus.suite,
  packages: ["prometheus"],
  megabytes: 40,
};

export interface PrometheusOptions extends StartOptions {
  /** By name; `prometheus.yml` is the configuration. */
  readonly files?: Readonly<Record<string, string>>;
}

async function locate({ own = false, nativeOnly = false }: LocateOptions = {}): Promise<Availability> {
  const url = process.env[VARIABLE];
  if (url !== undefined && url !== "" && !own && !nativeOnly) return { kind: "environment", variable: VARIABLE, url };
  const found = await debianAvailability(recipe);
  return found.kind === "native" ? found : { ...found, reason: `${found.reason}; ${VARIABLE} is not set` };
}

async function start(options: PrometheusOptions = {}): Promise<RunningService> {
  const found = await locate(options);
  if (found.kind === "environment") return borrowed(NAME, found.variable, found.url, 9090);
  if (found.kind === "unavailable") throw new ServiceUnavailableError(NAME, found.reason);
  const server = (await unpacked(options.onProgress)).run("usr/bin/prometheus", "prometheus");
  return await startOnePort({
    name: NAME,
    keepData: options.keepData,
    command: server.command,
    args: ({ home, dataDir, port }) => [
      ...server.args,
      `--config.file=${join(home, "prometheus.yml")}`,
      `--storage.tsdb.path=${dataDir}`,
      `--web.listen-address=127.0.0.1:${port}`,
    ],
    env: ({ home }) => ({ HOME: home }),
    prepare: async ({ home }) => {
      const files = { "prometheus.yml": "global: {}\n", ...options.files };
      for (const [name, text] of Object.entries(files)) await writeFile(join(home, name), text);
    },
    answers: (url) => isThere(`${url}/-/ready`),
  });
}

function unpacked(onProgress: ProgressListener = printProgress): Promise<DebianFolder> {
  return fetched(NAME, installDebian(recipe, onProgress));
}

/** Runs promtool in a folder; throws with what it says if it finds something wrong. */
export async function promtool(args: readonly string[], cwd: string): Promise<string> {
  const program = (await unpacked()).run("usr/bin/promtool", "promtool");
  return await command(program.command, [...program.args, ...args], { cwd });
}

export const prometheus: ServiceDefinition<PrometheusOptions> = { name: NAME, locate, start };
