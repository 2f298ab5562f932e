import { readdirSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { makeFolder } from "../../src/core/folder.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

test("a folder is made with those above it, and one that is there stays as it is", () => {
  using folder = temporaryFolder();
  const path = join(folder.path, "a", "b", "c");
  makeFolder(path, 0o700);
  makeFolder(path, 0o755);
  expect(statSync(path).mode & 0o777).toBe(0o700);
  expect(statSync(join(folder.path, "a")).mode & 0o777).toBe(0o700);
  symlinkSync(join(folder.path, "a"), join(folder.path, "link"));
  makeFolder(join(folder.path, "link"));
  makeFolder(join(folder.path, "link", "d"));
  expect(readdirSync(join(folder.path, "a")).toSorted()).toEqual(["b", "d"]);
});

test("what is no folder, or can't be made one, is told in the system's words", () => {
  using folder = temporaryFolder();
  const file = join(folder.path, "file");
  writeFileSync(file, "");
  const nowhere = join(folder.path, "nowhere");
  symlinkSync(join(folder.path, "missing"), nowhere);
  expect(() => makeFolder(file)).toThrow(/EEXIST/);
  expect(() => makeFolder(join(file, "below"))).toThrow(/EEXIST/);
  expect(() => makeFolder(nowhere)).toThrow(/EEXIST/);
});

// Below /proc the system says ENOENT although the folder above is there: Node's own recursive form never comes back.
test("a place where the system lets nobody make a folder is told", () => {
  expect(() => makeFolder("/proc/reports/of/a/night")).toThrow(/\/proc\/reports/);
});
