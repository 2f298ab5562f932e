/** A files sink of many tables: one does not wait for the other's files. */
import { expect, test } from "vitest";
import { FilesSink } from "../../connectors/files/sink.ts";
import { FolderStore } from "../../connectors/files/store/folder.ts";
import { systemClock } from "../../src/core/clock.ts";
import { checkpointAt, put, Reports, timeout, writes } from "../conformance/stage.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";
import { DAY_MS, foundIn, START_MS } from "../support/warehouses/files-sample.ts";

const tables = ["one", "two", "three"].map((table) => tableVersion({ table, columns: { id: "int4", v: "text" } }));

/** Nobody goes on before so many have come. */
class Meeting {
  readonly #size: number;
  #there = 0;
  #met = Promise.withResolvers<void>();

  constructor(size: number) {
    this.#size = size;
  }

  async join(): Promise<void> {
    const met = this.#met;
    if (++this.#there === this.#size) {
      this.#there = 0;
      this.#met = Promise.withResolvers();
      met.resolve();
    }
    await met.promise;
  }
}

class MeetingStore extends FolderStore {
  readonly #writing = new Meeting(tables.length);
  readonly #removing = new Meeting(tables.length);

  override async put(key: string, file: string, signal: AbortSignal): Promise<void> {
    await this.#writing.join();
    await super.put(key, file, signal);
  }

  override async remove(key: string, signal: AbortSignal): Promise<void> {
    if (!key.startsWith("_millrace/")) await this.#removing.join();
    await super.remove(key, signal);
  }
}

for (const format of ["ndjson", "parquet"] as const)
  test(`files of several tables are written, and removed, at the same time: ${format}`, async () => {
    using folder = temporaryFolder();
    let nowMs = START_MS;
    const sink = new FilesSink(
      {
        daemon: "shop",
        name: "bronze",
        format,
        roll: { rows: 1, bytes: 1_000_000, ageMs: DAY_MS },
        keepMs: DAY_MS,
        memoryLimit: "64MB",
        store: async () => new MeetingStore(folder.path),
      },
      { ...systemClock, now: () => nowMs },
    );
    await sink.open(1, timeout());
    const write = async (at: bigint) => {
      const written = tables.map((table) => writes(table, at, [put([String(at), "a"])]));
      const batch = { kind: "rows", tables: written, checkpoint: checkpointAt(at + 1n) } as const;
      await sink.apply({ ...batch, order: Uint16Array.of(0, 1, 2) }, new Reports(), timeout());
    };
    await write(10n);
    nowMs += 2 * DAY_MS;
    await write(20n);
    expect(foundIn(folder.path, format)).toEqual({ manifests: [2], areFilesThese: true });
    await sink.close();
  });
