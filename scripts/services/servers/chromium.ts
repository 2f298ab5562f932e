/** Chromium without a window, controlled over its debugging port, for testing pages. */
import { join } from "node:path";
import { borrowed } from "../borrowed.ts";
import { onPath } from "../processes/command.ts";
import { debianAvailability, installDebian, type DebianRecipe } from "../packages/debian.ts";
import { startOnePort } from "../processes/one-port.ts";
import { printProgress } from "../packages/progress.ts";
import { isThere } from "../processes/ready.ts";
import {
  fetched,
  ServiceUnavailableError,
  type Availability,
  type LocateOptions,
  type RunningService,
  type ServiceDefinition,
  type StartOptions,
} from "../service.ts";
import { versions } from "../versions.ts";

const NAME = "chromium";
const VARIABLE = "MILLRACE_TEST_CHROMIUM_URL";
const { suite } = versions.chromium;

const recipe: DebianRecipe = {
  what: "Chromium",
  version: "of this release",
  suite,
  packages: ["chromium-headless-shell", "chromium-common", "fontconfig-config", "fonts-dejavu-core"],
  megabytes: 140,
};

/** Installed browsers are used as they are: nothing has to be fetched. */
const INSTALLED = ["google-chrome", "chromium"] as const;

const FLAGS = [
  "--headless",
  // The sandbox is not available as root, and in most containers.
  "--no-sandbox",
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--no-first-run",
  "--no-default-browser-check",
  "--disable-background-networking",
  "--disable-component-update",
  "--remote-debugging-address=127.0.0.1",
];

interface Program {
  readonly path: string;
  readonly env: Readonly<Record<string, string>>;
}

/** No container: it would see neither the tests' pages nor their ports. */
async function locate({ own = false, nativeOnly = false }: LocateOptions = {}): Promise<Availability> {
  const url = process.env[VARIABLE];
  if (url !== undefined && url !== "" && !own && !nativeOnly) return { kind: "environment", variable: VARIABLE, url };
  if (installed() !== undefined) return { kind: "native", version: "as installed", missing: [] };
  const found = await debianAvailability(recipe);
  return found.kind === "native" ? found : { ...found, reason: `${found.reason}; ${VARIABLE} is not set` };
}

async function start(options: StartOptions = {}): Promise<RunningService> {
  const found = await locate(options);
  if (found.kind === "environment") return borrowed(NAME, found.variable, found.url, 9222);
  if (found.kind === "unavailable") throw new ServiceUnavailableError(NAME, found.reason);
  const { path, env } = installed() ?? (await unpacked(options));
  return await startOnePort({
    name: NAME,
    keepData: options.keepData,
    command: path,
    args: ({ dataDir, port }) => [
      ...FLAGS,
      `--remote-debugging-port=${port}`,
      `--user-data-dir=${dataDir}`,
      "about:blank",
    ],
    env: ({ home }) => ({ HOME: home, ...env }),
    answers: (url) => isThere(`${url}/json/version`),
  });
}

function installed(): Program | undefined {
  const path = INSTALLED.map(onPath).find((found) => found !== undefined);
  return path === undefined ? undefined : { path, env: { PATH: process.env["PATH"] ?? "" } };
}

/**
 * Its processes start each other by the path of the first one, so it is not started through the folder's own loader:
 * the packages are of the machine's release, and fit the machine's loader.
 */
async function unpacked({ onProgress = printProgress }: StartOptions): Promise<Program> {
  const { root, libraryDirs } = await fetched(NAME, installDebian(recipe, onProgress));
  const libraries = [...libraryDirs, ...libraryDirs.map((dir) => join(dir, "pulseaudio"))];
  return {
    path: join(root, "usr/lib/chromium/chromium-headless-shell"),
    env: {
      LD_LIBRARY_PATH: libraries.join(":"),
      FONTCONFIG_PATH: join(root, "etc/fonts"),
      XDG_DATA_HOME: join(root, "usr/share"),
    },
  };
}

export const chromium: ServiceDefinition = { name: NAME, locate, start };
