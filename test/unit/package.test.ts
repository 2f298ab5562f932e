/** What the manifest says the program runs on is what its sources import. */
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { EXTRA_PACKAGES } from "../../src/config/extras.ts";

const root = join(import.meta.dirname, "../..");
const manifest: Record<string, Record<string, string>> = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const { dependencies = {}, devDependencies = {}, peerDependencies = {}, peerDependenciesMeta = {} } = manifest;
/** Of a package or of Node, not for its types alone. */
const IMPORT = /^import (?!type )[^;"]* from "([^."][^"]*)";|\bimport\("([^."][^"]*)"\)/gm;

test("the dependencies, and the peers that are optional, are the packages that the program imports", () => {
  const imported = new Set<string>();
  for (const file of globSync("{src,connectors}/**/*.{ts,tsx}", { cwd: root })) {
    for (const [, still, lazy] of readFileSync(join(root, file), "utf8").matchAll(IMPORT)) {
      const [, name] = /^(?!node:)((?:@[^/]+\/)?[^/]+)/.exec(still ?? lazy ?? "") ?? [];
      if (name !== undefined) imported.add(name);
    }
  }
  expect([...imported].toSorted()).toEqual([...Object.keys(dependencies), ...Object.keys(peerDependencies)].toSorted());
});

test("each peer is optional, known by what needs it, and installed in a checkout in a version that it allows", () => {
  const extras = Object.values(EXTRA_PACKAGES).flat();
  expect(extras.toSorted()).toEqual(Object.keys(peerDependencies).toSorted());
  expect(peerDependenciesMeta).toEqual(Object.fromEntries(extras.map((name) => [name, { optional: true }])));
  for (const name of extras) expect(peerDependencies[name]?.replace("^", "")).toBe(devDependencies[name]);
});

test("each is one exact version", () => {
  const loose = Object.entries(dependencies).filter(([, version]) => !/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version));
  expect(loose).toEqual([]);
});
