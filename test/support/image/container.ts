/**
 * Runs an image as an engine would that is told to be strict: process 1 of its own process namespace, the image's user
 * without capabilities, a read-only root with no other folder to
 * write than the mounts, and the image's own environment, folder, entry point and health check. The
 * network is the machine's.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import type { CliResult } from "../daemon/cli.ts";
import { eventually } from "../run/waiting.ts";
import type { ImageStore } from "./buildah.ts";

const imageShape = z.object({
  Docker: z.object({
    config: z.object({
      User: z.string(),
      Env: z.array(z.string()),
      Cmd: z.array(z.string()),
      Entrypoint: z.array(z.string()),
      WorkingDir: z.string(),
      Volumes: z.record(z.string(), z.unknown()),
      Healthcheck: z.object({ Test: z.tuple([z.literal("CMD")], z.string()) }),
    }),
  }),
});
type ImageConfig = z.infer<typeof imageShape>["Docker"]["config"];

export interface UnpackedImage {
  readonly root: string;
  readonly config: ImageConfig;
}

export async function unpackImage(store: ImageStore, image: string): Promise<UnpackedImage> {
  const { Docker } = imageShape.parse(JSON.parse(await store.buildah("inspect", "--type", "image", image)));
  const container = (await store.buildah("from", store.trusting, "--pull-never", image)).trim();
  return { root: (await store.buildah("mount", container)).trim(), config: Docker.config };
}

export interface ContainerOptions {
  /** By the path inside, each as it may be used there. */
  readonly mounts: Readonly<Record<string, { readonly from: string; readonly isReadOnly: boolean }>>;
  readonly environment: Readonly<Record<string, string>>;
}

export class Container {
  readonly #image: UnpackedImage;
  readonly #options: ContainerOptions;

  constructor(image: UnpackedImage, options: ContainerOptions) {
    this.#image = image;
    this.#options = options;
    for (const inside of Object.keys(options.mounts)) mkdirSync(join(image.root, inside), { recursive: true });
  }

  /** The image's program with other arguments, to its end: `docker run --rm IMAGE …`. */
  async run(...args: readonly string[]): Promise<CliResult> {
    return await ended(this.#spawn(args));
  }

  /** The image as it is: `docker run -d IMAGE`. */
  start(): RunningContainer {
    return new RunningContainer(this.#spawn(this.#image.config.Cmd), this.#image.config, this.#environment());
  }

  #spawn(args: readonly string[]): ChildProcess {
    const { root, config } = this.#image;
    const binds = Object.entries(this.#options.mounts).flatMap(([inside, { from, isReadOnly }]) => [
      `mount --bind '${from}' "$ROOT${inside}"`,
      ...(isReadOnly ? [`mount -o remount,bind,ro "$ROOT${inside}"`] : []),
    ]);
    const script = [
      "set -e",
      'mount --bind "$ROOT" "$ROOT"',
      ...binds,
      'mount -t proc proc "$ROOT/proc"',
      'mount --rbind /dev "$ROOT/dev"',
      'mount -o remount,bind,ro "$ROOT"',
      'exec chroot "$ROOT" "$@"',
    ];
    const inside = [...this.#environment(), ...config.Entrypoint, ...args];
    const own = ["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"];
    return spawn("unshare", [...own, "sh", "-c", script.join("\n"), "sh", ...asUser(config.User), ...inside], {
      env: { PATH: process.env["PATH"], ROOT: root },
      stdio: ["ignore", "pipe", "pipe"],
    });
  }

  #environment(): readonly string[] {
    const { config, root } = this.#image;
    const own = Object.entries(this.#options.environment).map(([name, value]) => `${name}=${value}`);
    const home = homeOf(config.User, root);
    return ["/usr/bin/env", "-i", "-C", config.WorkingDir, `HOME=${home}`, ...config.Env, ...own];
  }
}

export class RunningContainer implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #config: ImageConfig;
  readonly #environment: readonly string[];
  /** When it has ended. */
  readonly result: Promise<CliResult>;

  constructor(child: ChildProcess, config: ImageConfig, environment: readonly string[]) {
    this.#child = child;
    this.#config = config;
    this.#environment = environment;
    this.result = ended(child);
  }

  /** `docker exec`: also inside its namespaces, as its user. */
  async exec(...command: readonly string[]): Promise<CliResult> {
    const into = ["--target", String(await this.#first()), "--mount", "--pid", "--root"];
    const user = asUser(this.#config.User);
    return await ended(
      spawn("nsenter", [...into, ...user, ...this.#environment, ...command], { stdio: ["ignore", "pipe", "pipe"] }),
    );
  }

  /** The image's own check, as an engine runs it. */
  async isHealthy(): Promise<boolean> {
    const [, ...command] = this.#config.Healthcheck.Test;
    return (await this.exec(...command)).exitCode === 0;
  }

  /** What the first process may do, from its own account. */
  async status(): Promise<Readonly<Record<string, string>>> {
    const text = readFileSync(`/proc/${await this.#first()}/status`, "utf8");
    return Object.fromEntries(
      [...text.matchAll(/^(\w+):\s*(.*)$/gm)].map(([, name = "", value = ""]) => [name, value]),
    );
  }

  /** `docker stop` and `docker kill`. */
  async end(signal: "SIGTERM" | "SIGKILL"): Promise<CliResult> {
    process.kill(await this.#first(), signal);
    return await this.result;
  }

  /** The process that is 1 inside, by its number outside: the only child of `unshare`. */
  async #first(): Promise<number> {
    const { pid, exitCode, signalCode } = this.#child;
    if (exitCode !== null || signalCode !== null) {
      const { stdout, stderr } = await this.result;
      throw new Error(`the container has ended with ${exitCode ?? signalCode}:\n${stdout}${stderr}`);
    }
    return await eventually(() => {
      const found = /^\d+/.exec(readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8"));
      if (found === null) throw new Error("the container has no process");
      return Number(found[0]);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.result;
  }
}

function asUser(user: string): readonly string[] {
  const kept = ["--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"];
  return ["/usr/bin/setpriv", `--reuid=${user}`, `--regid=${user}`, ...kept];
}

function homeOf(user: string, root: string): string {
  const entries = readFileSync(join(root, "etc/passwd"), "utf8").split("\n");
  return entries.map((line) => line.split(":")).find(([name]) => name === user)?.[5] ?? "/";
}

async function ended(child: ChildProcess): Promise<CliResult> {
  let stdout = "";
  let stderr = "";
  child.stdout?.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const [exitCode] = await once(child, "close");
  return { exitCode, stdout, stderr };
}
