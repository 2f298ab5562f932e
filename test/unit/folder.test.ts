import fs, { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { join, relative } from "node:path";
import { describe, expect, test } from "vitest";
import { FolderStore } from "../../connectors/files/store/folder.ts";
import { makeFolder, writeWhole } from "../../src/core/files.ts";
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

describe("names that survive a crash of the machine", () => {
  /** The folders that are synced while `work` runs, below `root`. */
  async function synced(root: string, work: () => unknown): Promise<readonly string[]> {
    const found = new Set<string>();
    const { openSync, fsyncSync } = fs;
    const { open } = fs.promises;
    const paths = new Map<number, string>();
    fs.openSync = (path, ...rest) => {
      const file = openSync(path, ...rest);
      paths.set(file, String(path));
      return file;
    };
    fs.fsyncSync = (file) => {
      found.add(paths.get(file) ?? "");
      fsyncSync(file);
    };
    fs.promises.open = async (path, ...rest) => {
      const file = await open(path, ...rest);
      const datasync = file.datasync.bind(file);
      file.datasync = async () => {
        found.add(String(path));
        await datasync();
      };
      return file;
    };
    syncBuiltinESMExports();
    try {
      await work();
    } finally {
      Object.assign(fs, { openSync, fsyncSync });
      fs.promises.open = open;
      syncBuiltinESMExports();
    }
    return [...found]
      .filter((path) => statSync(path, { throwIfNoEntry: false })?.isDirectory() === true)
      .map((path) => relative(root, path))
      .toSorted();
  }

  test("of folders: the folder above each new one is synced", async () => {
    using folder = temporaryFolder();
    expect(await synced(folder.path, () => makeFolder(folder.file("a/b/c")))).toEqual(["", "a", "a/b"]);
    expect(await synced(folder.path, () => makeFolder(folder.file("a/b/c")))).toEqual([]);
  });

  test("of a file that takes the place of another", async () => {
    using folder = temporaryFolder();
    expect(await synced(folder.path, () => writeWhole(folder.file("report.json"), "{}", 0o600))).toEqual([""]);
    expect(readFileSync(folder.file("report.json"), "utf8")).toBe("{}");
  });

  test("of objects in a folder: also those of folders that a killed process has made", async () => {
    using folder = temporaryFolder();
    const { signal } = new AbortController();
    mkdirSync(folder.file("t/date=2026-11-20"), { recursive: true });
    await using store = new FolderStore(folder.path);
    const create = (key: string) => () => store.create(key, [Buffer.from("x")], signal);
    const above = ["", "_millrace", "t"];
    expect(await synced(folder.path, create("t/date=2026-11-20/1"))).toEqual(
      [...above, "t/date=2026-11-20"].filter((one) => one !== "_millrace"),
    );
    expect(await synced(folder.path, create("t/date=2026-11-20/2"))).toEqual(["t/date=2026-11-20"]);
    expect(await synced(folder.path, create("t/date=2026-11-21/1"))).toEqual(["", "t", "t/date=2026-11-21"]);
  });
});

test("what a killed process with our number left beside a file, as another container has it, is in no way", () => {
  using folder = temporaryFolder();
  const path = folder.file("report.json");
  writeFileSync(`${path}.${process.pid}.new`, "half");
  writeWhole(path, "whole", 0o600);
  expect(readFileSync(path, "utf8")).toBe("whole");
  expect(readdirSync(folder.path)).toContain(`report.json.${process.pid}.new`);
});
