/** What `helm install` would send to a cluster. */
import { readFileSync, writeFileSync } from "node:fs";
import { StatefulSet } from "kubernetes-models/apps/v1";
import { CronJob } from "kubernetes-models/batch/v1";
import { ConfigMap, Service } from "kubernetes-models/v1";
import { expect, test } from "vitest";
import { parse, parseAllDocuments, stringify } from "yaml";
import { command } from "../../scripts/services/processes/command.ts";
import { builtByGo } from "../../scripts/services/packages/go-program.ts";
import { kubeconform } from "../../scripts/services/tools/kubeconform.ts";
import { versions } from "../../scripts/services/versions.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const CHART = "deploy/helm";
const HELM = { name: "helm", path: "helm.sh/helm/v3/cmd/helm", version: versions.helm.version };

/** The example in the chart's values: what stands behind `#`. */
const [, example = ""] = readFileSync(`${CHART}/values.yaml`, "utf8").split("sources: {}\n");
const { shop } = parse(example.replaceAll(/^#/gm, ""));

/** The chart's resources for these sources, by kind and name. */
async function rendered(sources: object): Promise<ReadonlyMap<string, unknown>> {
  using folder = temporaryFolder();
  const values = folder.file("values.yaml");
  writeFileSync(values, stringify({ sources }));
  const text = await command(await builtByGo(HELM), ["template", "release", CHART, "--values", values]);
  const documents = parseAllDocuments(text).map((document) => document.toJS());
  return new Map(documents.map((one) => [`${one.kind} ${one.metadata.name}`, one]));
}

test(
  "each source has a daemon, its configuration and its comparison, which fit together",
  { tags: "long" },
  async () => {
    const { resources: _, storage: _storage, ...plain } = shop;
    const all = await rendered({ shop, crm: { ...plain, reconcile: "" } });
    expect([...all.keys()].toSorted()).toEqual([
      "ConfigMap millrace-crm",
      "ConfigMap millrace-shop",
      "CronJob millrace-shop-reconcile",
      "Service millrace-crm",
      "Service millrace-shop",
      "StatefulSet millrace-crm",
      "StatefulSet millrace-shop",
    ]);
    const valid = <T extends { validate(): void }>(model: new (data: never) => T, name: string): T => {
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the model checks it
      const made = new model(all.get(`${model.name} ${name}`) as never);
      made.validate();
      return made;
    };
    for (const name of ["millrace-shop", "millrace-crm"]) {
      const daemon = valid(StatefulSet, name).spec!;
      const pod = daemon.template.spec!;
      expect(valid(Service, name).spec!.selector).toEqual(daemon.template.metadata!.labels);
      expect(daemon.selector.matchLabels).toEqual(daemon.template.metadata!.labels);
      expect(pod.volumes!.find((volume) => volume.name === "config")?.configMap?.name).toBe(name);
      expect(pod.containers[0]!.envFrom).toEqual([{ secretRef: { name: "millrace-shop" } }]);
      expect(pod.containers[0]!.resources).toEqual(shop.resources);
      expect(parse(valid(ConfigMap, name).data!["millrace.yaml"]!)).toEqual(shop.config);
    }
    const { schedule, jobTemplate } = valid(CronJob, "millrace-shop-reconcile").spec;
    const nightly = jobTemplate.spec!.template.spec!;
    expect(schedule).toBe(shop.reconcile);
    expect(nightly.volumes!.find(({ name }) => name === "state")?.persistentVolumeClaim?.claimName).toBe(
      "state-millrace-shop-0",
    );
    for (const { image, securityContext } of [
      ...nightly.containers,
      ...valid(StatefulSet, "millrace-shop").spec!.template.spec!.containers,
    ]) {
      expect(image).toMatch(/^example\.com\/millrace:\d+\.\d+\.\d+$/);
      expect(securityContext).toMatchObject({ readOnlyRootFilesystem: true, allowPrivilegeEscalation: false });
    }
  },
);

test("a changed configuration replaces the pod, and what is misspelt is refused", { tags: "long" }, async () => {
  const podOf = async (source: object) => {
    const found = (await rendered({ shop: source })).get("StatefulSet millrace-shop");
    return JSON.stringify(found, ["spec", "template", "metadata", "annotations", "checksum/config"]);
  };
  expect(await podOf(shop)).toEqual(await podOf({ ...shop, storage: "1Gi" }));
  expect(await podOf(shop)).not.toEqual(await podOf({ ...shop, config: { ...shop.config, name: "other" } }));
  for (const wrong of [{ secrets: "x" }, { config: {} }, { reconcile: false }])
    await expect(rendered({ shop: { ...shop, ...wrong } })).rejects.toThrow(/schema/);
  await expect(rendered({ Shop: shop })).rejects.toThrow(/schema/);
});

test.each(["1.25.0", "1.37.0"])("kubeconform takes them for Kubernetes %s", { tags: "long" }, async (kubernetes) => {
  using folder = temporaryFolder();
  const file = folder.file("built.yaml");
  const all = await rendered({ shop });
  writeFileSync(file, [...all.values()].map((one) => stringify(one)).join("---\n"));
  expect(await kubeconform(file, kubernetes)).toMatch(/ 4 resources .* Valid: 4, Invalid: 0, Errors: 0, Skipped: 0/);
});
