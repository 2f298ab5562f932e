/**
 * Daemons are killed while files are made: readers find each change once, and the rows that they leave equal the source.
 * @module-tag heavy
 */
import { join } from "node:path";
import { test } from "vitest";
import { killedAtEach } from "../../support/faults/files-kills.ts";
import { FilesReader } from "../../support/warehouses/files-reader.ts";

/** Each at a random passage up to that one; the first two are only on a first start. */
const FAILPOINTS: Readonly<Record<string, number>> = {
  "source.created": 1,
  "copy.block-queued": 4,
  "files.fenced": 1,
  "files.before-entry": 8,
  "files.entry-written": 8,
  "files.publication-stored": 2,
  "files.file-written": 4,
  "files.before-manifest": 2,
  "files.manifest-written": 2,
  "files.publication-done": 2,
  "fan-out.dispatched": 50,
  "sink.applied": 20,
  "ack.computed": 3,
  "ack.stored": 3,
  "snapshot.chunk-read": 2,
  "snapshot.chunk-durable": 2,
  "snapshot.swept": 2,
};
test("killed at its failpoints, each change is in the files once", async () => {
  await killedAtEach(
    FAILPOINTS,
    "files",
    async ({ installation }) => new FilesReader(join(installation.folder, "changes")),
  );
});
