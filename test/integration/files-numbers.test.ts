/** A files sink's numbers that readers compare: they grow from change to change, and a number that would end is refused. */
import { cpSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { FilesSink } from "../../connectors/files/sink.ts";
import { FolderStore } from "../../connectors/files/store/folder.ts";
import type { Store } from "../../connectors/files/store/store.ts";
import { systemClock } from "../../src/core/clock.ts";
import type { NumberStore } from "../../src/core/contracts/state-store.ts";
import { openMemory } from "../../src/state/sqlite/open.ts";
import { failure, put, Reports, rowsBatch, timeout } from "../conformance/stage.ts";
import { fieldsOf, plainOf, readJson } from "../support/model/json-text.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";
import { fileUsers, manifestIn, manifestPaths } from "../support/warehouses/files-sample.ts";

const YEAR_2286_MS = 10 ** 13;

interface Made {
  readonly store: () => Promise<Store>;
  readonly nowMs?: number;
  readonly daemon?: string;
  readonly numbers?: NumberStore;
}

function sinkOf({ store, nowMs, daemon = "shop", numbers }: Made): FilesSink {
  const roll = { rows: 1, bytes: 1_000_000, ageMs: 3_600_000 };
  const settings = {
    daemon,
    name: "bronze",
    format: "ndjson",
    roll,
    keepMs: null,
    memoryLimit: "64MB",
    store,
  } as const;
  const sink = new FilesSink(settings, nowMs === undefined ? systemClock : { ...systemClock, now: () => nowMs });
  if (numbers !== undefined) sink.keepIn(numbers);
  return sink;
}

async function write(sink: FilesSink, at: bigint, count = 1): Promise<void> {
  const entries = Array.from({ length: count }, (_, i) => put([String(at * 100n + BigInt(i)), "a"]));
  const batch = { ...rowsBatch(at, [fileUsers, entries]), order: new Uint16Array(count) };
  await sink.apply(batch, new Reports(), timeout());
}

function sequencesIn(folder: string): readonly bigint[] {
  const paths = manifestPaths(folder).flatMap((path) => manifestIn(path).files.map((file) => file.path));
  const lines = paths.flatMap((path) => readFileSync(join(folder, path), "utf8").trimEnd().split("\n"));
  return lines.map((line) => BigInt(plainOf(fieldsOf(readJson(line)).get("_millrace_sequence"))));
}

function expectGrowing(numbers: readonly bigint[]): void {
  for (const [i, number] of numbers.entries()) if (i > 0) expect(number > numbers[i - 1]!, numbers.join()).toBe(true);
}

/** The newest entry of the log says this too. */
function plant(folder: string, said: object): void {
  const under = join(folder, "_millrace/log");
  const path = join(under, readdirSync(under).toSorted().at(-1)!);
  const [head = "", ...rest] = readFileSync(path, "utf8").split("\n");
  writeFileSync(path, [JSON.stringify({ ...JSON.parse(head), ...said }), ...rest].join("\n"));
}

test("sequences differ up to the last one, and then the sink refuses with a number", async () => {
  using folder = temporaryFolder();
  const store = async () => new FolderStore(folder.path);
  const first = sinkOf({ store });
  await first.open(1, timeout());
  await write(first, 10n);
  await first.close();
  plant(folder.path, { sequence: Number.MAX_SAFE_INTEGER - 3 });
  const last = sinkOf({ store });
  await last.open(2, timeout());
  await write(last, 20n, 3);
  expectGrowing(sequencesIn(folder.path));
  const refused = await failure(write(last, 30n));
  expect({ code: refused.code, kind: refused.kind }).toEqual({ code: "MR2035", kind: "fatal" });
  await last.close();
  expect(sequencesIn(folder.path).at(-1)).toBe(BigInt(Number.MAX_SAFE_INTEGER - 1));
});

test("numbers of manifests and entries that would be too long for their names are refused", async () => {
  const number = 10 ** 15 - 1;
  using folder = temporaryFolder();
  const store = async () => new FolderStore(folder.path);
  const first = sinkOf({ store });
  await first.open(1, timeout());
  await write(first, 10n);
  await first.close();
  const rename = (under: string, to: string): void => {
    const path = join(folder.path, "_millrace", under);
    renameSync(join(path, readdirSync(path)[0]!), join(path, to));
  };
  plant(folder.path, { manifest: { number, ordinal: 1 } });
  rename("manifests", `${number}.json`);
  const last = sinkOf({ store });
  await last.open(2, timeout());
  expect((await failure(write(last, 20n))).code).toBe("MR2035");
  await last.close();
  plant(folder.path, { since: number });
  rename("log", String(number));
  expect((await failure(sinkOf({ store }).open(3, timeout()))).code).toBe("MR2035");
});

test("a clock that is set back, or far ahead, makes no number fall or end", async () => {
  using folder = temporaryFolder();
  const store = async () => new FolderStore(folder.path);
  let lease = 1;
  for (const nowMs of [Date.now(), Date.now() - 3_600_000, Number.MAX_SAFE_INTEGER, YEAR_2286_MS, Date.now()]) {
    const sink = sinkOf({ store, nowMs });
    await sink.open(lease++, timeout());
    await write(sink, BigInt(lease * 10), 2);
    await sink.close();
    if (lease === 4) rmSync(join(folder.path, "_millrace/log"), { recursive: true });
  }
  expectGrowing(sequencesIn(folder.path));
  const manifests = manifestPaths(folder.path).map(manifestIn);
  expect(manifests.map(({ ordinal }) => ordinal)).toEqual(manifests.map((_, i) => i + 1));
});

test.for([
  ["emptied", 0],
  ["an older copy", 1],
] as const)(
  "numbers do not fall when the path is %s and the clock is set back: the state knows them",
  async ([, kept]) => {
    using folder = temporaryFolder();
    const path = folder.file("changes");
    const state = openMemory(systemClock);
    let [lease, nowMs] = [1, Date.now()];
    const writeThree = async (): Promise<void> => {
      const sink = sinkOf({ store: async () => new FolderStore(path), nowMs, numbers: state.numbers });
      await sink.open(lease++, timeout());
      await write(sink, BigInt(lease * 10), 3);
      await sink.close();
    };
    await writeThree();
    cpSync(path, folder.file("older"), { recursive: true });
    await writeThree();
    const seen = { sequence: sequencesIn(path).at(-1)!, manifest: manifestPaths(path).at(-1)! };
    rmSync(path, { recursive: true });
    if (kept === 1) cpSync(folder.file("older"), path, { recursive: true });
    nowMs -= 3_600_000;
    await writeThree();
    expectGrowing([seen.sequence, ...sequencesIn(path).slice(kept * 3)]);
    expect(manifestPaths(path)).toHaveLength(kept + 1);
    expect(manifestPaths(path).at(-1)! > seen.manifest).toBe(true);
    await state.close();
  },
);

/** What an earlier sink has used up does not count: MR2035 says that an empty path begins by the clock. */
test("numbers that have run out begin again in an empty path", async () => {
  using folder = temporaryFolder();
  const state = openMemory(systemClock);
  let lease = 1;
  const sinkIn = (path: string): FilesSink =>
    sinkOf({ store: async () => new FolderStore(folder.file(path)), numbers: state.numbers });
  const first = sinkIn("first");
  await first.open(lease++, timeout());
  await write(first, 10n);
  await first.close();
  plant(folder.file("first"), { sequence: Number.MAX_SAFE_INTEGER - 1 });
  const last = sinkIn("first");
  await last.open(lease++, timeout());
  expect((await failure(write(last, 20n, 3))).code).toBe("MR2035");
  await last.close();
  for (let at = 3; at < 5; at++) {
    const next = sinkIn("second");
    await next.open(lease++, timeout());
    await write(next, BigInt(at * 10));
    await next.close();
  }
  expectGrowing(sequencesIn(folder.file("second")));
  await state.close();
});

/** A folder that does something else before, or in place of, creating an object. */
class SlowFolder extends FolderStore {
  readonly #before: (create: () => Promise<boolean>) => Promise<void>;

  constructor(path: string, before: (create: () => Promise<boolean>) => Promise<void>) {
    super(path);
    this.#before = before;
  }

  override async create(key: string, pieces: readonly Buffer[], signal: AbortSignal): Promise<boolean> {
    const held = pieces.map((piece) => Buffer.from(piece));
    await this.#before(() => super.create(key, held, timeout()));
    return await super.create(key, pieces, signal);
  }
}

const GIVEN_UP = "the request was given up";

test.for([
  ["the same process", 1, "shop"],
  ["the next process", 2, "shop"],
  ["another daemon", 2, "other"],
] as const)("an entry that comes late, while %s opens the sink", async ([, lease, daemon]) => {
  using folder = temporaryFolder();
  let isSlow = false;
  let arrive: (() => Promise<boolean>) | null = null;
  const first = sinkOf({
    store: async () =>
      new SlowFolder(folder.path, async (create) => {
        if (!isSlow) return;
        arrive = create;
        throw new Error(GIVEN_UP);
      }),
  });
  await first.open(1, timeout());
  await write(first, 10n);
  isSlow = true;
  await expect(write(first, 20n)).rejects.toThrow(GIVEN_UP);
  const next = sinkOf({
    daemon,
    store: async () =>
      new SlowFolder(folder.path, async () => {
        const late = arrive;
        arrive = null;
        if (late !== null) expect(await late()).toBe(true);
      }),
  });
  if (daemon === "other") {
    expect(await failure(next.open(lease, timeout()))).toMatchObject({
      code: "MR3121",
      kind: "fatal",
      message: expect.stringContaining("has the changes of shop/bronze (daemon and sink)"),
    });
  } else {
    const held = await next.open(lease, timeout());
    expect(held?.position.commit).toBe(21n);
    await write(next, 30n);
    expect(sequencesIn(folder.path)).toHaveLength(3);
    expectGrowing(sequencesIn(folder.path));
  }
  await next.close();
});

test("an entry that comes later still is no stranger's, and goes with the old ones", async () => {
  using folder = temporaryFolder();
  let isSlow = false;
  let arrive: (() => Promise<boolean>) | null = null;
  const store = async () =>
    new SlowFolder(folder.path, async (create) => {
      if (!isSlow) return;
      isSlow = false;
      arrive = create;
      throw new Error(GIVEN_UP);
    });
  const sink = sinkOf({ store });
  await sink.open(1, timeout());
  await write(sink, 10n);
  isSlow = true;
  await expect(write(sink, 20n)).rejects.toThrow(GIVEN_UP);
  expect((await sink.open(1, timeout()))?.position.commit).toBe(11n);
  for (const at of [20n, 30n]) await write(sink, at);
  expect(await arrive!()).toBe(true);
  await sink.verify(timeout());
  await write(sink, 40n);
  expect((await sink.open(2, timeout()))?.position.commit).toBe(41n);
  await write(sink, 50n);
  expect(readdirSync(join(folder.path, "_millrace/log"))).toHaveLength(1);
  expect(sequencesIn(folder.path)).toHaveLength(5);
  await sink.close();
});

test("what another process begins while the sink is forgotten stays", async () => {
  using folder = temporaryFolder();
  const store = async () => new FolderStore(folder.path);
  const next = sinkOf({ store, daemon: "next" });
  let isForgetting = false;
  const meet = async (): Promise<void> => {
    if (!isForgetting) return;
    isForgetting = false;
    expect(await next.open(2, timeout())).toBeNull();
    await write(next, 30n);
  };
  class Met extends FolderStore {
    override async list(...list: Parameters<FolderStore["list"]>): Promise<readonly string[]> {
      await meet();
      return await super.list(...list);
    }
    override async remove(...one: Parameters<FolderStore["remove"]>): Promise<void> {
      await meet();
      await super.remove(...one);
    }
  }
  const first = sinkOf({ store: async () => new Met(folder.path) });
  await first.open(1, timeout());
  await write(first, 10n);
  await write(first, 20n);
  isForgetting = true;
  await first.forget(timeout());
  expect(isForgetting).toBe(false);
  await next.verify(timeout());
  await write(next, 40n);
  await next.close();
  const again = sinkOf({ store, daemon: "next" });
  expect((await again.open(3, timeout()))?.position.commit).toBe(41n);
  expectGrowing(sequencesIn(folder.path));
  await again.close();
  await first.close();
});
