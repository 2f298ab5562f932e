/** kubeconform, built from the Go module proxy, with the schemas of Kubernetes' versions that a Python package carries. */
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cached } from "../packages/cache.ts";
import { command } from "../processes/command.ts";
import { builtByGo } from "../packages/go-program.ts";
import { pythonFolder } from "../packages/python.ts";
import { versions } from "../versions.ts";

const PROGRAM = {
  name: "kubeconform",
  path: "github.com/yannh/kubeconform/cmd/kubeconform",
  version: versions.kubeconform.version,
};
const SCHEMAS = { name: "kubernetes-validate", version: versions.kubeconform.schemas };

/** Rejects if a manifest of the file is not one that this version of Kubernetes takes. Unknown fields are errors. */
export async function kubeconform(file: string, kubernetes: string): Promise<string> {
  const location = join(await schemas(kubernetes), "{{ .ResourceKind }}{{ .KindSuffix }}.json");
  const options = ["-strict", "-summary", "-kubernetes-version", kubernetes, "-schema-location", location];
  return await command(await builtByGo(PROGRAM), [...options, file]);
}

/** The package's schemas, which refer to each other by addresses on the web, made to refer to the files beside them. */
async function schemas(kubernetes: string): Promise<string> {
  return await cached(`kubernetes-schemas-${kubernetes}-${SCHEMAS.version}`, async (folder) => {
    const packaged = join(await pythonFolder(SCHEMAS), "kubernetes_validate/kubernetes-json-schema");
    const from = join(packaged, `v${kubernetes}-local-strict`);
    for (const name of await readdir(from)) {
      const text = (await readFile(join(from, name), "utf8")).replaceAll(
        '"/api/_definitions.json#',
        '"_definitions.json#',
      );
      const { $id: _, ...schema }: Record<string, unknown> = JSON.parse(text);
      await writeFile(join(folder, name), JSON.stringify(schema));
    }
  });
}
