/** What `kubectl apply -k deploy/kubernetes/shop` would send to a cluster. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { StatefulSet } from "kubernetes-models/apps/v1";
import { CronJob } from "kubernetes-models/batch/v1";
import { ConfigMap, Service } from "kubernetes-models/v1";
import { expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { command } from "../../scripts/services/processes/command.ts";
import { builtByGo } from "../../scripts/services/packages/go-program.ts";
import { kubeconform } from "../../scripts/services/tools/kubeconform.ts";
import { versions } from "../../scripts/services/versions.ts";
import { runCli } from "../support/daemon/cli.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const FOLDER = "deploy/kubernetes/shop";
const KUSTOMIZE = {
  name: "kustomize",
  path: "sigs.k8s.io/kustomize/kustomize/v5",
  version: versions.kustomize.version,
};

test("the manifests are built, each is valid, and they fit together", { tags: "long" }, async () => {
  const built = await command(await builtByGo(KUSTOMIZE), ["build", FOLDER]);
  const byKind = new Map(
    parseAllDocuments(built).map((document): [unknown, unknown] => [document.get("kind"), document.toJS()]),
  );
  expect(new Set(byKind.keys())).toEqual(new Set(["ConfigMap", "CronJob", "Service", "StatefulSet"]));
  const valid = <T extends { validate(): void }>(model: new (data: never) => T): T => {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the model checks it
    const made = new model(byKind.get(model.name) as never);
    made.validate();
    expect(made).toMatchObject({ metadata: { namespace: "millrace-shop" } });
    return made;
  };
  const configMap = valid(ConfigMap);
  const service = valid(Service);
  const set = valid(StatefulSet);
  const daemon = set.spec!;
  const nightly = valid(CronJob).spec.jobTemplate.spec!.template.spec!;
  const pod = daemon.template.spec!;
  const claim = `${daemon.volumeClaimTemplates![0]!.metadata!.name!}-${set.metadata!.name!}-0`;
  expect(nightly.volumes!.find(({ name }) => name === "state")?.persistentVolumeClaim?.claimName).toBe(claim);
  for (const { containers, volumes, securityContext } of [pod, nightly]) {
    expect(securityContext).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } });
    expect(volumes!.find(({ name }) => name === "config")?.configMap?.name).toBe(configMap.metadata!.name);
    for (const { image, securityContext: own } of containers) {
      expect(image).toBe("example.com/millrace:0.1.0");
      expect(own).toMatchObject({ readOnlyRootFilesystem: true, allowPrivilegeEscalation: false });
    }
  }
  expect(service.spec!.selector).toEqual(daemon.template.metadata!.labels);
});

test.each(["1.25.0", "1.37.0"])("kubeconform takes them for Kubernetes %s", { tags: "long" }, async (kubernetes) => {
  using folder = temporaryFolder();
  const file = folder.file("built.yaml");
  const built = await command(await builtByGo(KUSTOMIZE), ["build", FOLDER]);
  writeFileSync(file, built);
  expect(await kubeconform(file, kubernetes)).toMatch(/ 4 resources .* Valid: 4, Invalid: 0, Errors: 0, Skipped: 0/);
  writeFileSync(file, built.replace("serviceName:", "serviceNam:"));
  await expect(kubeconform(file, kubernetes)).rejects.toThrow();
});

test("the configuration in them is one that Millrace takes", async () => {
  using folder = temporaryFolder();
  const text = readFileSync(join(FOLDER, "millrace.yaml"), "utf8").replaceAll("/var/lib/millrace", folder.path);
  writeFileSync(folder.file("millrace.yaml"), text);
  const nowhere = "postgres://u:p@127.0.0.1:1/d";
  const environment = { SHOP_DATABASE_URL: nowhere, WAREHOUSE_URL: nowhere, MILLRACE_VIEWER_TOKEN: "t".repeat(32) };
  const { exitCode, stdout, stderr } = await runCli(["check"], { folder: folder.path, environment });
  // Nothing listens there: that is all that is wrong.
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 1 });
  expect(stdout).toMatch(/ECONNREFUSED/);
  expect(`${stdout}${stderr}`).not.toMatch(/MR10\d\d/);
});
