import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { cacheDir, cached } from "../../scripts/services/packages/cache.ts";
import { parseLines, parseStanzas } from "../../scripts/services/packages/debian-sources.ts";

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "millrace-cache-"));
  vi.stubEnv("MILLRACE_CACHE", folder);
});

afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true });
});

describe("the cache folder", () => {
  test("is where the environment says", () => {
    expect(cacheDir()).toBe(folder);
    vi.stubEnv("MILLRACE_CACHE", undefined);
    vi.stubEnv("XDG_CACHE_HOME", "/x/cache");
    expect(cacheDir()).toBe("/x/cache/millrace");
  });

  test("is filled once, however many ask at the same time", async () => {
    let count = 0;
    const install = async (dir: string): Promise<void> => {
      count += 1;
      await writeFile(join(dir, "file"), "whole");
    };
    const paths = await Promise.all(Array.from({ length: 5 }, () => cached("thing", install)));
    expect(new Set(paths)).toEqual(new Set([join(folder, "thing")]));
    expect(count).toBe(1);
    expect(await readFile(join(folder, "thing", "file"), "utf8")).toBe("whole");
    expect(await readdir(folder)).toEqual(["thing"]);
  });

  test("keeps nothing of an installation that failed", async () => {
    const failing = cached("thing", async (dir) => {
      await writeFile(join(dir, "half"), "");
      throw new Error("no network");
    });
    await expect(failing).rejects.toThrow("no network");
    expect(await readdir(folder)).toEqual([]);
    await cached("thing", async () => {});
    expect(existsSync(join(folder, "thing"))).toBe(true);
  });

  test("does not wait for a process that died while it installed", async () => {
    // Above the greatest process id that Linux gives.
    await writeFile(join(folder, ".thing.lock"), "4194305");
    await cached("thing", async () => {});
    expect(await readdir(folder)).toEqual(["thing"]);
  });

  test("gives way to another that was faster", async () => {
    const name = `thing-${randomUUID()}`;
    const path = await cached(name, async (dir) => {
      await writeFile(join(dir, "file"), "slower");
      await rm(join(folder, `.${name}.lock`));
      await cached(name, (other) => writeFile(join(other, "file"), "faster"));
    });
    expect(await readFile(join(path, "file"), "utf8")).toBe("faster");
  });
});

describe("apt's sources", () => {
  test("are read from the format of .sources files", () => {
    const text = [
      "# comment",
      "Types: deb deb-src",
      "URIs: http://mirror.example/debian",
      "Suites: bookworm bookworm-updates",
      "Components: main",
      "# between",
      "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg",
      "",
      "Types: deb",
      "Enabled: no",
      "URIs: http://other.example/debian",
      "Suites: sid",
      "Components: main",
      "",
      "Types: deb",
      "URIs: http://inline.example/debian",
      "Suites: sid",
      "Components: main contrib",
      "Signed-By:",
      " -----BEGIN PGP PUBLIC KEY BLOCK-----",
      " .",
      "",
    ].join("\n");
    expect(parseStanzas(text)).toEqual([
      {
        uris: ["http://mirror.example/debian"],
        suites: ["bookworm", "bookworm-updates"],
        components: ["main"],
        signedBy: "/usr/share/keyrings/debian-archive-keyring.gpg",
      },
      {
        uris: ["http://inline.example/debian"],
        suites: ["sid"],
        components: ["main", "contrib"],
        signedBy: undefined,
      },
    ]);
  });

  test("are read from the format of .list files", () => {
    const text = [
      "# deb http://off.example/debian bookworm main",
      "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main contrib # ours",
      "deb-src http://mirror.example/debian bookworm main",
      "deb http://security.example/debian bookworm-security main",
    ].join("\n");
    expect(parseLines(text)).toEqual([
      {
        uris: ["http://mirror.example/debian"],
        suites: ["bookworm"],
        components: ["main", "contrib"],
        signedBy: "/k.gpg",
      },
      {
        uris: ["http://security.example/debian"],
        suites: ["bookworm-security"],
        components: ["main"],
        signedBy: undefined,
      },
    ]);
  });
});
