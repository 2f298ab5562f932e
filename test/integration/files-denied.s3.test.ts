/** One table's folder takes no files, shows none, or gives none away: the others get theirs, and nothing is lost unseen. */
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { FolderStore } from "../../connectors/files/store/folder.ts";
import { S3Store } from "../../connectors/files/store/s3.ts";
import type { Store } from "../../connectors/files/store/store.ts";
import { put, failure, Reports, rowsBatch, timeout } from "../conformance/stage.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { httpGateway, type HttpGateway } from "../support/network/http-gateway.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";
import { type FreshBucket, freshBucket } from "../support/run/services.ts";
import {
  DAY_MS,
  filesSample,
  fileUsers,
  HOUR_MS,
  manifestIn,
  manifestPaths,
  START_MS,
  userBatch,
} from "../support/warehouses/files-sample.ts";

const orders = tableVersion({ table: "orders", columns: { id: "int4", name: "text" } });
const both = (at: bigint) => ({
  ...rowsBatch(at, [fileUsers, [put([String(at), "a"])]], [orders, [put([String(at), "b"])]]),
  order: Uint16Array.of(0, 1),
});

test("files are made without a table whose folder takes none: the runtime is told, and at a start what was lost is known", async () => {
  using folder = temporaryFolder();
  const store = async () => new FolderStore(folder.path);
  const first = await filesSample(store, 1);
  await first.sink.prepare([fileUsers, orders], timeout());
  const inTheWay = join(folder.path, "public.users");
  writeFileSync(inTheWay, "");
  await first.sink.apply(both(100n), new Reports(), timeout());
  const [manifest = ""] = manifestPaths(folder.path);
  expect(manifestIn(manifest)).toMatchObject({
    files: [{ table: "public.orders" }],
    lost: [{ table: "public.users", rows: 1 }],
  });
  // With the next call, and once.
  const told = await failure(first.sink.verify(timeout()));
  expect(told).toMatchObject({ code: "MR3203", kind: "blocked", table: "public.users" });
  expect(told.message).toContain(inTheWay);
  await first.sink.verify(timeout());
  await first.sink.close();
  const second = await filesSample(store, 2);
  expect(await second.sink.missing([fileUsers, orders], timeout())).toEqual([fileUsers]);
  expect(await failure(second.sink.prepare([fileUsers], timeout()))).toMatchObject({ table: "public.users" });
  expect(await second.sink.missing([fileUsers], timeout())).toEqual([fileUsers]);
  await second.sink.prepare([orders], timeout());
  rmSync(inTheWay);
  await second.sink.prepare([fileUsers], timeout());
  await second.sink.apply(both(200n), new Reports(), timeout());
  expect(manifestIn(manifestPaths(folder.path)[1]!).files).toHaveLength(2);
  await second.sink.close();
  const third = await filesSample(store, 3);
  expect(await third.sink.missing([fileUsers, orders], timeout())).toEqual([]);
  await third.sink.close();
});

test("tables whose folders take no files are told together", async () => {
  using folder = temporaryFolder();
  const { sink } = await filesSample(async () => new FolderStore(folder.path), 1);
  for (const name of ["public.users", "public.orders"]) writeFileSync(join(folder.path, name), "");
  await sink.apply(both(100n), new Reports(), timeout());
  const told = await failure(sink.verify(timeout()));
  expect([told, ...told.further].map(({ table }) => table ?? "").toSorted()).toEqual(["public.orders", "public.users"]);
  await sink.verify(timeout());
  await sink.close();
});

test("a manifest without files, which a killed process left, keeps their table lost", async () => {
  using folder = temporaryFolder();
  let isKilled = false;
  const store = async (): Promise<Store> =>
    Object.assign(new FolderStore(folder.path), {
      create(key: string, pieces: readonly Buffer[], signal: AbortSignal) {
        if (isKilled && key.startsWith("_millrace/log/")) throw new Error("killed");
        isKilled ||= key.startsWith("_millrace/manifests/");
        return FolderStore.prototype.create.call(this, key, pieces, signal);
      },
    });
  const inTheWay = join(folder.path, "public.users");
  writeFileSync(inTheWay, "");
  const first = await filesSample(store, 1);
  await expect(first.sink.apply(both(100n), new Reports(), timeout())).rejects.toThrow("killed");
  await first.sink.close();
  rmSync(inTheWay);
  const second = await filesSample(async () => new FolderStore(folder.path), 2);
  expect(manifestPaths(folder.path)).toHaveLength(1);
  expect(await second.sink.missing([fileUsers, orders], timeout())).toEqual([fileUsers]);
  await second.sink.close();
});

/** Answers as a bucket whose policy denies these requests below one table's folder. */
async function denying(
  { options: { endpoint } }: FreshBucket,
  isDenied: (method: string) => boolean,
  { status, code } = { status: 403, code: "AccessDenied" },
): Promise<HttpGateway> {
  return await httpGateway(endpoint, async ({ method, path, pass }) => {
    if (!isDenied(method) || !decodeURIComponent(path).includes("public.users")) return await pass();
    const body = method === "HEAD" ? "" : `<Error><Code>${code}</Code><Message>as S3 says it</Message></Error>`;
    return { status, headers: { "content-type": "application/xml" }, body };
  });
}

function through({ bucket, options }: FreshBucket, { url: endpoint }: HttpGateway): () => Promise<Store> {
  return async () => new S3Store({ bucket, prefix: "changes/", ca: undefined, ...options, endpoint });
}

test("a table whose files may not be seen or removed has its files all the same, and hints say it", async () => {
  await using bucket = await freshBucket();
  let denied: readonly string[] = ["GET", "HEAD"];
  await using gateway = await denying(bucket, (method) => denied.includes(method));
  const store = through(bucket, gateway);
  const first = await filesSample(store, 1);
  await first.write(100n, START_MS);
  await first.sink.verify(timeout());
  await first.sink.close();
  const { sink, write } = await filesSample(store, 2);
  expect(sink.hints).toMatchObject([{ table: "public.users", what: expect.stringContaining("MR2008") }]);
  denied = ["DELETE"];
  await write(200n, START_MS + 100 * DAY_MS);
  await sink.verify(timeout());
  expect(sink.hints).toMatchObject([{ table: "public.users", what: expect.stringContaining("older than `keep`") }]);
  denied = [];
  await write(300n, START_MS + 100 * DAY_MS + HOUR_MS);
  expect(sink.hints).toEqual([]);
  await sink.close();
});

test("a table whose folder takes no objects is told as a lacking right, before its rows are read", async () => {
  await using bucket = await freshBucket();
  let isDenied = true;
  await using gateway = await denying(bucket, (method) => isDenied && method === "POST");
  const { sink } = await filesSample(through(bucket, gateway), 1);
  await sink.prepare([orders], timeout());
  const told = await failure(sink.prepare([fileUsers, orders], timeout()));
  expect(told).toMatchObject({ code: "MR2008", kind: "blocked", reason: "privilege", table: "public.users" });
  expect(told.message).toContain("public.users");
  isDenied = false;
  await sink.prepare([fileUsers, orders], timeout());
  await sink.apply(userBatch(100n, "1"), new Reports(), timeout());
  await sink.close();
});

test("a table whose files of one format a policy denies is told before its rows are read, and a right on the bucket by its name", async () => {
  await using bucket = await freshBucket();
  let denied = /\.ndjson$/;
  const body = "<Error><Code>AccessDenied</Code><Message>as S3 says it</Message></Error>";
  const answer = { status: 403, headers: { "content-type": "application/xml" }, body };
  await using gateway = await httpGateway(bucket.options.endpoint, async ({ path, pass }) =>
    denied.test(decodeURIComponent(path.replace(/\?(uploads|x-id).*$/, ""))) ? answer : await pass(),
  );
  const { sink } = await filesSample(through(bucket, gateway), 1);
  const told = await failure(sink.prepare([fileUsers], timeout()));
  expect(told).toMatchObject({ code: "MR2008", kind: "blocked", reason: "privilege", table: "public.users" });
  denied = /\?.*uploads/;
  expect((await failure(sink.open(2, timeout()))).message).toContain("lacks a right on the bucket");
  await sink.close();
});

test("files that a full bucket takes no more are made when it does: no change is left out", async () => {
  await using bucket = await freshBucket();
  let isFull = true;
  // As MinIO says it of a bucket's quota. A manifest is small enough.
  const full = { status: 400, code: "XMinioAdminBucketQuotaExceeded" };
  await using gateway = await denying(bucket, (method) => isFull && method === "PUT", full);
  const store = through(bucket, gateway);
  const first = await filesSample(store, 1);
  const failed = await failure(first.sink.apply(both(100n), new Reports(), timeout()));
  expect(failed).toMatchObject({ code: "MR2027", kind: "blocked", table: undefined });
  await first.sink.close();
  isFull = false;
  const second = await filesSample(store, 2);
  expect(await second.sink.missing([fileUsers, orders], timeout())).toEqual([]);
  await second.sink.verify(timeout());
  await using read = await store();
  const [manifest = ""] = await read.list("_millrace/manifests/", timeout());
  const made: unknown = JSON.parse(String(await read.read(manifest, timeout())));
  expect(made).toMatchObject({ files: [{ table: "public.users" }, { table: "public.orders" }] });
  expect(made).not.toHaveProperty("lost");
  await second.sink.close();
});
