/** A files sink with `keep`: what is older goes, with its manifests, and the rest of what readers find stays as it is. */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { FolderStore } from "../../connectors/files/store/folder.ts";
import {
  DAY_MS,
  filesSample,
  foundIn,
  HOUR_MS,
  manifestIn,
  manifestPaths,
  START_MS,
} from "../support/warehouses/files-sample.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

test("files go when they are older than `keep`, each with its manifest, and the newest manifest stays", async () => {
  using folder = temporaryFolder();
  const store = async () => new FolderStore(folder.path);
  const { sink, write } = await filesSample(store, 1);
  for (let hour = 0; hour < 24; hour += 6) await write(BigInt(100 + hour), START_MS + hour * HOUR_MS);
  expect(foundIn(folder.path)).toEqual({ manifests: [1, 2, 3, 4], areFilesThese: true });
  await write(200n, START_MS + 30 * HOUR_MS);
  expect(foundIn(folder.path)).toEqual({ manifests: [3, 4, 5], areFilesThese: true });
  await write(300n, START_MS + 100 * DAY_MS);
  expect(foundIn(folder.path)).toEqual({ manifests: [6], areFilesThese: true });
  await sink.close();
  // The numbers go on, although the log begins again.
  rmSync(join(folder.path, "_millrace/log"), { recursive: true });
  const again = await filesSample(store, 2);
  await again.write(400n, START_MS + 100 * DAY_MS);
  expect(foundIn(folder.path)).toEqual({ manifests: [6, 7], areFilesThese: true });
  await again.sink.close();
});

test("what a killed process has half removed goes too", async () => {
  using folder = temporaryFolder();
  const store = async () => new FolderStore(folder.path);
  const kept = await filesSample(store, 1, null);
  for (let i = 0; i < 3; i++) await kept.write(BigInt(100 + i), START_MS + i);
  await kept.write(200n, START_MS + 100 * DAY_MS);
  expect(foundIn(folder.path)).toEqual({ manifests: [1, 2, 3, 4], areFilesThese: true });
  await kept.sink.close();
  const [first = ""] = manifestPaths(folder.path);
  rmSync(join(folder.path, manifestIn(first).files[0]!.path));
  const { sink, write } = await filesSample(store, 2);
  await write(300n, START_MS + 100 * DAY_MS);
  expect(foundIn(folder.path)).toEqual({ manifests: [4, 5], areFilesThese: true });
  await sink.close();
});
