/** An image under the name of the Dockerfile's base, made of the same parts: Debian, Node and npm. None can be pulled. */
import { appendFile, chmod, cp, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { command } from "../../../scripts/services/processes/command.ts";
import { installDebian, type DebianRecipe } from "../../../scripts/services/packages/debian.ts";
import { printProgress } from "../../../scripts/services/packages/progress.ts";
import { versions } from "../../../scripts/services/versions.ts";
import { ownEnvironment } from "../run/package.ts";
import type { ImageStore } from "./buildah.ts";

const DEBIAN: DebianRecipe = {
  what: "Debian's base",
  version: "of this release",
  suite: "own",
  packages: (
    "base-files base-passwd bash coreutils dash debianutils diffutils findutils grep gzip hostname libc-bin libstdc++6 " +
    "mawk sed tar util-linux"
  ).split(" "),
  megabytes: 30,
};
const FOLDERS = ["tmp", "var/tmp", "root", "home/node", "proc", "sys", "dev", "usr/local/bin"];
const NODE_USER = "1000:1000";

export async function makeBase(store: ImageStore, folder: string): Promise<void> {
  const root = join(folder, "base");
  await command("cp", ["--archive", (await installDebian(DEBIAN, printProgress)).root, root]);
  for (const path of FOLDERS) await mkdir(join(root, path), { recursive: true });
  for (const path of ["tmp", "var/tmp"]) await chmod(join(root, path), 0o1777);
  for (const name of ["passwd", "group"])
    await cp(join(root, `usr/share/base-passwd/${name}.master`), join(root, `etc/${name}`));
  await appendFile(join(root, "etc/passwd"), "node:x:1000:1000::/home/node:/bin/bash\n");
  await appendFile(join(root, "etc/group"), "node:x:1000:\n");
  await command("chown", ["-R", NODE_USER, join(root, "home/node")]);
  await cp(process.execPath, join(root, "usr/local/bin/node"));
  const prefix = join(root, "usr/local");
  await npm("install", "--global", "--prefix", prefix, "--prefer-offline", `npm@${versions.npm.version}`);
  const container = (await store.buildah("from", "scratch")).trim();
  await store.buildah("add", "--quiet", container, root, "/");
  await store.buildah(
    "config",
    "--env",
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    container,
  );
  await store.buildah("commit", store.trusting, "--rm", container, "docker.io/library/node:24-slim");
}

/** What npm has to know on this machine to reach its registry, as options of the build. */
export async function registryOptions(folder: string): Promise<string[]> {
  const settings = [`registry=${await npm("config", "get", "registry")}`];
  const authorities = await npm("config", "get", "cafile");
  const mounts = [`${join(folder, "npmrc")}:/usr/local/etc/npmrc:ro`];
  if (authorities !== "null" && authorities !== "") {
    settings.push("cafile=/usr/local/etc/authorities.pem");
    mounts.push(`${authorities}:/usr/local/etc/authorities.pem:ro`);
  }
  await writeFile(join(folder, "npmrc"), `${settings.join("\n")}\n`);
  const extra = process.env["NODE_EXTRA_CA_CERTS"] ?? "";
  return [...mounts.map((mount) => `--volume=${mount}`), ...(extra === "" ? [] : [`--secret=id=ca,src=${extra}`])];
}

async function npm(...args: readonly string[]): Promise<string> {
  const { PATH = "", HOME = "" } = ownEnvironment();
  return (await command("npm", args, { env: { PATH, HOME } })).trim();
}
