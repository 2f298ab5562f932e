/** Programs that are built from the Go module proxy: `go` must be on the PATH. */
import { join } from "node:path";
import { cached, isCached } from "./cache.ts";
import { command, onPath } from "../processes/command.ts";
import type { Availability } from "../service.ts";

export interface GoProgram {
  readonly name: string;
  /** Of its main package. */
  readonly path: string;
  /** Without `v`. */
  readonly version: string;
  /** Its go.mod replaces modules, which `go install` refuses; as a dependency it is built without the replacements. */
  readonly replaces?: true;
}

export async function goAvailability({
  name,
  version,
}: GoProgram): Promise<Extract<Availability, { kind: "native" | "unavailable" }>> {
  const built = cacheName({ name, version });
  if (isCached(built)) return { kind: "native", version, missing: [] };
  if (onPath("go") === undefined) return { kind: "unavailable", reason: "go is not installed, which builds it" };
  return { kind: "native", version, missing: [{ what: built, from: "the Go module proxy", megabytes: 80 }] };
}

/** Where the program is; the first call builds it, which takes minutes. */
export async function builtByGo(program: GoProgram): Promise<string> {
  const { name, path, version, replaces = false } = program;
  const folder = await cached(cacheName(program), async (dir) => {
    const options = { cwd: dir, env: { GOBIN: dir, GOFLAGS: "-p=1" } };
    const module = `${path}@v${version}`;
    const steps = [
      ["mod", "init", "program"],
      ["get", module],
      ["build", "-o", name, path],
    ];
    for (const args of replaces ? steps : [["install", module]]) await command("go", args, options);
  });
  return join(folder, name);
}

function cacheName({ name, version }: Pick<GoProgram, "name" | "version">): string {
  return `${name}-${version}`;
}
