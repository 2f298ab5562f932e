/** Buildah from Debian's packages: builds the Dockerfile with no daemon and nothing installed. It has to be root. */
import { cp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { command } from "../../../scripts/services/processes/command.ts";
import { debianAvailability, installDebian, type DebianRecipe } from "../../../scripts/services/packages/debian.ts";
import { printProgress } from "../../../scripts/services/packages/progress.ts";

const BUILDAH: DebianRecipe = {
  what: "Buildah",
  version: "of this release",
  suite: "own",
  packages: ["buildah"],
  megabytes: 40,
};
const PATCHELF: DebianRecipe = { ...BUILDAH, what: "patchelf", packages: ["patchelf"], megabytes: 10 };

/** Why images can't be built here; undefined if they can. */
export async function whyNoBuildah(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return "building an image without an engine takes root";
  const found = await debianAvailability(BUILDAH);
  return found.kind === "unavailable" ? `no Buildah: ${found.reason}` : undefined;
}

/** One store of images below a folder, and the program that fills it. */
export class ImageStore {
  readonly #folder: string;
  readonly #program: string;

  private constructor(folder: string) {
    this.#folder = folder;
    this.#program = join(folder, "buildah");
  }

  static async in(folder: string): Promise<ImageStore> {
    const store = new ImageStore(folder);
    await store.#install();
    const settings = {
      "storage.conf": `[storage]\ndriver = "vfs"\nrunroot = "${folder}/run"\ngraphroot = "${folder}/graph"\n`,
      "registries.conf": 'unqualified-search-registries = ["docker.io"]\n',
      "policy.json": '{ "default": [{ "type": "insecureAcceptAnything" }] }\n',
    };
    for (const [name, text] of Object.entries(settings)) await writeFile(join(folder, name), text);
    return store;
  }

  /** It starts itself again with an empty environment, so the path of its libraries has to be in the file. */
  async #install(): Promise<void> {
    const { root, libraryDirs } = await installDebian(BUILDAH, printProgress);
    const patchelf = (await installDebian(PATCHELF, printProgress)).run("usr/bin/patchelf", "patchelf");
    await cp(join(root, "usr/bin/buildah"), this.#program);
    const setPath = ["--force-rpath", "--set-rpath", libraryDirs.join(":"), this.#program];
    await command(patchelf.command, [...patchelf.args, ...setPath]);
  }

  /** Its mounts are its own, and end with it. */
  async buildah(subcommand: string, ...args: readonly string[]): Promise<string> {
    const own = ["--mount", "--propagation", "private", "--kill-child", this.#program];
    return await command("unshare", [...own, subcommand, ...args], {
      env: {
        CONTAINERS_STORAGE_CONF: join(this.#folder, "storage.conf"),
        CONTAINERS_REGISTRIES_CONF: join(this.#folder, "registries.conf"),
      },
    });
  }

  get trusting(): string {
    return `--signature-policy=${join(this.#folder, "policy.json")}`;
  }
}
