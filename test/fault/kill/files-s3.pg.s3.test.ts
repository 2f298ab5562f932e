/** Daemons are killed while they make files in a bucket: readers find each change once. */
import { test } from "vitest";
import { killedAtEach } from "../../support/faults/files-kills.ts";
import { FilesReader } from "../../support/warehouses/files-reader.ts";
import { mirrorBucket } from "../../support/run/services.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";

const FAILPOINTS: Readonly<Record<string, number>> = {
  "files.fenced": 1,
  "files.entry-written": 8,
  "files.publication-stored": 2,
  "files.file-written": 4,
  "files.before-manifest": 2,
  "files.manifest-written": 2,
  "files.publication-done": 2,
  "sink.applied": 20,
};

test("killed at its failpoints, each change is in the files once", { tags: "long" }, async () => {
  using folder = temporaryFolder();
  await killedAtEach(FAILPOINTS, "files-s3", async ({ sinks }) => {
    await mirrorBucket(sinks.bucket!, folder.path);
    return new FilesReader(folder.file("changes"));
  });
});
