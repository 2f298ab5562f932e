/** Data files of a lake that are gone or spoiled: which table they concern, and what becomes of it. */
import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Lake } from "../../connectors/duckdb/lake/lake.ts";
import { lakeSink, type LakeSinkOptions } from "../../connectors/duckdb/lake/sink.ts";
import type { MillraceError } from "../../src/core/errors.ts";
import { failure, put, remove, Reports, rowsBatch, timeout } from "../conformance/stage.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { complete } from "../support/daemon/complete.ts";
import { lakeTarget, type LakeTarget } from "../support/warehouses/ducklake-target.ts";
import { eventually } from "../support/run/waiting.ts";
import { DEFAULT_FORM, type TargetForm } from "../../connectors/warehouse/own-columns.ts";

const COLUMNS = {
  columns: { id: "int8", v: "text" },
  key: ["id"],
} as const;
const kept = tableVersion({ table: "kept", ...COLUMNS });
const spoiled = tableVersion({ table: "spoiled", ...COLUMNS });

/** Enough for a file. */
const rows = Array.from({ length: 500 }, (_, i) => put([`${i}`, `value ${i}`]));

const SPOILING: Readonly<Record<string, (file: string, bytes: Buffer) => void>> = {
  gone: (file) => rmSync(file),
  empty: (file) => writeFileSync(file, ""),
  "cut short": (file, bytes) => writeFileSync(file, bytes.subarray(0, bytes.length / 2)),
  zeros: (file, bytes) => writeFileSync(file, Buffer.alloc(bytes.length)),
  "other bytes in front": (file, bytes) => writeFileSync(file, withNoise(bytes, 50, 1_000)),
  "other bytes at the start": (file, bytes) => writeFileSync(file, withNoise(bytes, 4, 40)),
  "other bytes at the end": (file, bytes) =>
    writeFileSync(file, withNoise(bytes, bytes.length - 200, bytes.length - 8)),
};

/** What DuckDB says of the others differs alone. */
const PLAIN = new Set(["gone", "zeros"]);

for (const how of Object.keys(SPOILING)) {
  const options = PLAIN.has(how) ? {} : { tags: "heavy" };
  test(`a mirror's table with a file that is ${how} is lost, and made again`, options, () => lostAndMadeAgain(how));
}

async function lostAndMadeAgain(how: string): Promise<void> {
  await using target = await lakeTarget("sqlite");
  const sink = await written(target);
  spoil(target, how);
  const error = await rewriting(sink);
  expect(error).toMatchObject({ code: "MR3226", kind: "reopen", lostTables: ["public.spoiled"] });
  expect(error.message).toContain("public.spoiled");
  await sink.open(2, timeout());
  // The table is still held: it is not made again before the sink has stored that it is not.
  await sink.prepare([kept, spoiled], timeout());
  expect(await rewriting(sink)).toMatchObject({ code: "MR3226", lostTables: ["public.spoiled"] });
  await sink.open(3, timeout());
  const { checkpoint } = rowsBatch(1n, [kept, rows]);
  await sink.apply(
    { kind: "checkpoint", checkpoint: { ...checkpoint, tables: complete({ "public.kept": "1" }) } },
    new Reports(),
    timeout(),
  );
  await sink.prepare([kept, spoiled], timeout());
  await sink.apply(rowsBatch(2n, [kept, rows.slice(0, 200)], [spoiled, rows.slice(0, 300)]), new Reports(), timeout());
  expect([(await target.readRows(kept)).length, (await target.readRows(spoiled)).length]).toEqual([500, 300]);
  await sink.close();
}

test.for([
  [
    "soft",
    { ...DEFAULT_FORM, deletes: "soft" },
    { kind: "blocked", table: "public.spoiled", hint: expect.stringContaining("drop the table") },
  ],
  ["history", { ...DEFAULT_FORM, mode: "history" }, { kind: "blocked", table: undefined }],
] as const satisfies readonly (readonly [string, TargetForm, object])[])(
  "what only this table holds is kept: %s",
  async ([, form, expected]) => {
    await using target = await lakeTarget("sqlite", form);
    const sink = await written(target);
    spoil(target, "gone");
    const error = await rewriting(sink);
    expect(error).toMatchObject({ code: "MR3226", lostTables: [], ...expected });
    expect(error.message).toMatch(/spoiled\/ducklake-.*\.parquet/);
    await sink.close();
  },
);

test("a table that is reset is emptied without its lost file", async () => {
  await using target = await lakeTarget("sqlite");
  const sink = await written(target);
  spoil(target, "gone");
  expect(await failure(sink.expel([kept, spoiled], 0n, timeout()))).toMatchObject({ lostTables: ["public.spoiled"] });
  await sink.open(2, timeout());
  await sink.expel([kept, spoiled], 0n, timeout());
  await sink.prepare([kept, spoiled], timeout());
  await sink.apply(rowsBatch(2n, [kept, rows], [spoiled, rows]), new Reports(), timeout());
  expect([(await target.readRows(kept)).length, (await target.readRows(spoiled)).length]).toEqual([500, 500]);
  await sink.close();
});

test("a lost table that the next process has made again is not dropped by the one before", async () => {
  await using target = await lakeTarget("sqlite");
  const sink = await written(target);
  spoil(target, "gone");
  expect(await rewriting(sink)).toMatchObject({ lostTables: ["public.spoiled"] });
  const { checkpoint } = rowsBatch(1n, [kept, rows]);
  await sink.open(2, timeout());
  await sink.apply(
    { kind: "checkpoint", checkpoint: { ...checkpoint, tables: complete({ "public.kept": "1" }) } },
    new Reports(),
    timeout(),
  );
  const next = target.makeSink();
  await next.open(3, timeout());
  await target.query(`drop table lake.public.spoiled`);
  await next.prepare([kept, spoiled], timeout());
  await next.apply(rowsBatch(3n, [spoiled, rows]), new Reports(), timeout());
  expect(await failure(sink.prepare([kept, spoiled], timeout()))).toMatchObject({ code: "MR3109", kind: "fatal" });
  expect(await target.readRows(spoiled)).toHaveLength(rows.length);
  for (const one of [sink, next]) await one.close();
});

test("what maintenance could not read is lost too, and it joins the files of the other tables", async () => {
  await using target = await lakeTarget("sqlite");
  const sink = await written(target, { everyMs: 500, keepSnapshotsMs: 60_000 });
  // Of files with many deleted rows the rest is written again.
  const gone = rows.slice(0, 250).map((_, i) => remove([`${i}`, null]));
  await sink.apply(rowsBatch(2n, [kept, gone], [spoiled, gone]), new Reports(), timeout());
  spoil(target, "gone");
  await eventually(async () => {
    expect(await failure(sink.verify(timeout()))).toMatchObject({ code: "MR3226", lostTables: ["public.spoiled"] });
  });
  await sink.close();
});

test("files that are gone when the sink is opened: a mirror's table is missing, and made again; one whose files are back is not", async () => {
  await using target = await lakeTarget("sqlite");
  await (await written(target)).close();
  const folder = join(target.options.place.data, "public", "spoiled");
  renameSync(folder, `${folder}-away`);
  const first = target.makeSink();
  await first.open(2, timeout());
  expect(await first.missing([kept, spoiled], timeout())).toEqual([spoiled]);
  await first.close();
  renameSync(`${folder}-away`, folder);
  const sink = target.makeSink();
  await sink.open(3, timeout());
  expect(await sink.missing([kept, spoiled], timeout())).toEqual([]);
  rmSync(folder, { recursive: true });
  await sink.open(4, timeout());
  expect(await sink.missing([kept, spoiled], timeout())).toEqual([spoiled]);
  const { checkpoint } = rowsBatch(1n, [kept, rows]);
  await sink.apply(
    { kind: "checkpoint", checkpoint: { ...checkpoint, tables: complete({ "public.kept": "1" }) } },
    new Reports(),
    timeout(),
  );
  await sink.prepare([kept, spoiled], timeout());
  await sink.apply(rowsBatch(2n, [spoiled, rows.slice(0, 300)]), new Reports(), timeout());
  expect([(await target.readRows(kept)).length, (await target.readRows(spoiled)).length]).toEqual([500, 300]);
  expect(await sink.missing([kept, spoiled], timeout())).toEqual([]);
  await sink.close();
});

test.for([
  ["all files of a mirror", DEFAULT_FORM, "", { message: expect.stringContaining("and so are all others") }],
  ["files with soft deletes", { ...DEFAULT_FORM, deletes: "soft" }, "public/spoiled", { table: "public.spoiled" }],
  ["files of a history", { ...DEFAULT_FORM, mode: "history" }, "public/spoiled", { table: undefined }],
] as const satisfies readonly (readonly [string, TargetForm, string, object])[])(
  "what is gone when the sink is opened, and is not filled again, is told: %s",
  async ([, form, gone, expected]) => {
    await using target = await lakeTarget("sqlite", form);
    await (await written(target)).close();
    rmSync(join(target.options.place.data, gone), { recursive: true });
    const sink = target.makeSink();
    await sink.open(2, timeout());
    const told = await failure(sink.missing([kept, spoiled], timeout()));
    expect(told).toMatchObject({ code: "MR3226", kind: "blocked", lostTables: [], ...expected });
    expect(told.message).toMatch(/ducklake-.*\.parquet/);
    await sink.close();
  },
);

test("files that go while the sink is open and no row moves are noticed", async () => {
  await using target = await lakeTarget("sqlite");
  const sink = await written(target, null, 0);
  await sink.verify(timeout());
  spoil(target, "gone");
  await eventually(async () => {
    expect(await failure(sink.verify(timeout()))).toMatchObject({ code: "MR3226", lostTables: ["public.spoiled"] });
  });
  await sink.close();
});

test("the files are listed while another writer has its turn", async () => {
  await using target = await lakeTarget("sqlite");
  const sink = await written(target, null, 0);
  spoil(target, "gone");
  const lake = await Lake.acquire(target.options);
  await lake.exclusively(async () => {
    expect(await failure(sink.verify(timeout()))).toMatchObject({ code: "MR3226", lostTables: ["public.spoiled"] });
  });
  await lake.release();
  await sink.close();
});

async function written(target: LakeTarget, maintenance: LakeSinkOptions["maintenance"] = null, listedMs?: number) {
  const listed = listedMs === undefined ? {} : { listedMs };
  const sink = lakeSink({ ...target.options, maintenance, ...listed });
  await sink.open(1, timeout());
  await sink.prepare([kept, spoiled], timeout());
  const batch = rowsBatch(1n, [kept, rows], [spoiled, rows]);
  const tables = complete({ "public.kept": "1", "public.spoiled": "1" });
  await sink.apply({ ...batch, checkpoint: { ...batch.checkpoint, tables } }, new Reports(), timeout());
  return sink;
}

async function rewriting(sink: ReturnType<typeof lakeSink>): Promise<MillraceError> {
  return await failure(sink.apply(rowsBatch(2n, [kept, rows], [spoiled, rows]), new Reports(), timeout()));
}

function spoil(target: LakeTarget, how: string): void {
  const folder = join(target.options.place.data, "public", "spoiled");
  for (const name of readdirSync(folder)) SPOILING[how]!(join(folder, name), readFileSync(join(folder, name)));
}

function withNoise(bytes: Buffer, from: number, to: number): Buffer {
  const noisy = Buffer.from(bytes);
  for (let i = from; i < to; i++) noisy[i] = (i * 7919) & 255;
  return noisy;
}
