/** The store of a files sink in a bucket: what it does when S3 refuses, is away, answers late, or loses an answer. */
import { writeFileSync } from "node:fs";
import {
  CreateMultipartUploadCommand,
  ListMultipartUploadsCommand,
  PutObjectLockConfigurationCommand,
} from "@aws-sdk/client-s3";
import { expect, test, vi } from "vitest";
import { definition, factory } from "../../connectors/files/config.ts";
import type { BucketSettings } from "../../connectors/kit/bucket.ts";
import { S3Store } from "../../connectors/files/store/s3.ts";
import type { Sink } from "../../src/core/contracts/sink.ts";
import {
  DAY_MS,
  fileUsers,
  filesSample,
  foundIn,
  HOUR_MS,
  START_MS,
  userBatch,
} from "../support/warehouses/files-sample.ts";
import { fieldsOf, plainOf, readJson } from "../support/model/json-text.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { httpGateway, type Reply, s3Gateway, type Way } from "../support/network/http-gateway.ts";
import { type FreshBucket, freshBucket, mirrorBucket, removeBucket, s3Client } from "../support/run/services.ts";
import { selfSigned } from "../support/network/certificate.ts";
import { tcpProxy } from "../support/network/proxy.ts";
import { tlsFront } from "../support/network/tls-front.ts";
import { eventually } from "../support/run/waiting.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";
import { failure, checkpointAt, put, Reports, rowsBatch, timeout } from "../conformance/stage.ts";

function storeIn({ bucket, options }: FreshBucket, other: Partial<BucketSettings> = {}): S3Store {
  return new S3Store({ bucket, prefix: "changes/", ca: undefined, ...options, ...other });
}

async function sinkIn({ bucket, options }: FreshBucket, other: object = {}, roll: object = { rows: 1 }): Promise<Sink> {
  const parsed = definition.parse({
    path: `s3://${bucket}/changes`,
    format: "ndjson",
    roll,
    s3: { ...options, ...other },
  });
  return await factory.create({ name: "bronze", daemon: "shop", folder: "/", options: parsed }, quietLog);
}

async function dataKeys(bucket: FreshBucket): Promise<readonly string[]> {
  await using store = storeIn(bucket);
  return (await store.list("", timeout())).filter((key) => !key.startsWith("_millrace/"));
}

test("wrong credentials, a missing bucket and a server that is away have errors of their own", async () => {
  await using bucket = await freshBucket();
  const cases = [
    [{ secretAccessKey: "wrong" }, "MR2002", "blocked"],
    [{ accessKeyId: "nobody" }, "MR2002", "blocked"],
    [{ bucket: "there-is-none" }, "MR3229", "blocked"],
    [{ endpoint: "http://127.0.0.1:1" }, "MR2001", "retryable"],
  ] as const;
  for (const [other, code, kind] of cases) {
    await using store = storeIn(bucket, other);
    const found = await failure(store.list("", timeout()));
    expect({ code: found.code, kind: found.kind }).toEqual({ code, kind });
    expect(found.message).not.toContain(bucket.options.secretAccessKey);
  }
});

test("a file of several parts is there whole, and uploads that a killed process began are removed", async () => {
  await using bucket = await freshBucket();
  using folder = temporaryFolder();
  await using store = storeIn(bucket);
  const bytes = Buffer.alloc(40 * 1024 * 1024, "part of a file ");
  writeFileSync(folder.file("large"), bytes);
  await store.put("public.users/large", folder.file("large"), timeout());
  expect((await store.read("public.users/large", timeout()))?.equals(bytes)).toBe(true);
  using opened = s3Client(bucket.options);
  const name = `date=2026-11-20/${"1".padStart(19, "0")}-${"2".padStart(19, "0")}-3-1.parquet`;
  // Of other programs, and of a sink in a folder below.
  const others = ["changes/public.users/half", "changes/reports/year.csv", `changes/other/public.users/${name}`];
  for (const Key of [...others, `changes/public.users/${name}`])
    await opened.client.send(new CreateMultipartUploadCommand({ Bucket: bucket.bucket, Key }));
  await store.settle(timeout());
  const { Uploads = [] } = await opened.client.send(new ListMultipartUploadsCommand({ Bucket: bucket.bucket }));
  expect(new Set(Uploads.map(({ Key }) => Key))).toEqual(new Set(others));
});

test("objects go when they are older than `keep`, each with its manifest; a pass that S3 breaks off goes on the next time", async () => {
  await using bucket = await freshBucket();
  let isRemoving = true;
  await using between = await s3Gateway(bucket.options.endpoint, (method) =>
    method === "DELETE" && !isRemoving ? "busy" : "pass",
  );
  const store = async () => storeIn(bucket, { endpoint: between.url });
  const found = async () => {
    using folder = temporaryFolder();
    await mirrorBucket(bucket, folder.path);
    return foundIn(folder.file("changes"));
  };
  const { sink, write } = await filesSample(store, 1);
  for (let hour = 0; hour < 24; hour += 6) await write(BigInt(100 + hour), START_MS + hour * HOUR_MS);
  expect(await found()).toEqual({ manifests: [1, 2, 3, 4], areFilesThese: true });
  await write(200n, START_MS + 30 * HOUR_MS);
  expect(await found()).toEqual({ manifests: [3, 4, 5], areFilesThese: true });
  isRemoving = false;
  await failure(write(300n, START_MS + 100 * DAY_MS));
  await sink.close();
  isRemoving = true;
  const again = await filesSample(store, 2);
  await again.write(400n, START_MS + 100 * DAY_MS);
  await again.sink.close();
  expect(await found()).toEqual({ manifests: [6, 7], areFilesThese: true });
});

test("a bucket that goes away is noticed, with an error that names it", async () => {
  await using bucket = await freshBucket();
  const sink = await sinkIn(bucket);
  await sink.open(1, timeout());
  await sink.apply(userBatch(10n, "1"), new Reports(), timeout());
  await removeBucket(bucket.bucket, bucket.options);
  expect((await failure(sink.apply(userBatch(20n, "2"), new Reports(), timeout()))).code).toBe("MR3229");
  expect((await failure(sink.open(2, timeout()))).code).toBe("MR3229");
  await sink.close();
});

test("a clock that is an hour wrong is put right by the server's; where that does not help, the error says so and nothing is lost", async () => {
  await using bucket = await freshBucket();
  vi.useFakeTimers({ toFake: ["Date"], now: Date.now() - 3_600_000 });
  try {
    await using store = storeIn(bucket);
    expect(await store.create("_millrace/at", [Buffer.from("another time")], timeout())).toBe(true);
  } finally {
    vi.useRealTimers();
  }
  let isWrong = false;
  await using between = await s3Gateway(bucket.options.endpoint, () => (isWrong ? "skewed" : "pass"));
  const sink = await sinkIn(bucket, { endpoint: between.url });
  await sink.open(1, timeout());
  isWrong = true;
  const error = await failure(sink.apply(userBatch(10n, "1"), new Reports(), timeout()));
  expect({ code: error.code, kind: error.kind }).toEqual({ code: "MR3230", kind: "blocked" });
  isWrong = false;
  await sink.open(1, timeout());
  await sink.apply(userBatch(10n, "1"), new Reports(), timeout());
  await sink.close();
  expect(await dataKeys(bucket)).toHaveLength(1);
});

test("a login that ends is told, and the one in the file is taken at the next opening", async () => {
  await using bucket = await freshBucket();
  using folder = temporaryFolder();
  const { endpoint, accessKeyId, secretAccessKey, ...others } = bucket.options;
  let way: Way = "pass";
  await using between = await s3Gateway(endpoint, () => way);
  const file = folder.file("credentials");
  const give = (secret: string): void =>
    writeFileSync(file, `[default]\naws_access_key_id = ${accessKeyId}\naws_secret_access_key = ${secret}\n`);
  vi.stubEnv("AWS_SHARED_CREDENTIALS_FILE", file);
  try {
    give(secretAccessKey);
    const path = `s3://${bucket.bucket}/changes`;
    const s3 = { ...others, endpoint: between.url };
    const options = definition.parse({ path, format: "ndjson", roll: { rows: 1 }, s3 });
    const sink = await factory.create({ name: "bronze", daemon: "shop", folder: "/", options }, quietLog);
    await sink.open(1, timeout());
    await sink.apply(userBatch(10n, "1"), new Reports(), timeout());
    way = "expired";
    const told = await failure(sink.apply(userBatch(20n, "2"), new Reports(), timeout()));
    expect(told).toMatchObject({ code: "MR2002", kind: "blocked", reason: "login" });
    expect(told.message).toContain("ExpiredToken");
    way = "pass";
    give("wrong-secret");
    expect(await failure(sink.open(2, timeout()))).toMatchObject({ code: "MR2002", kind: "blocked" });
    give(secretAccessKey);
    await sink.open(2, timeout());
    await sink.apply(userBatch(20n, "2"), new Reports(), timeout());
    await sink.close();
  } finally {
    vi.unstubAllEnvs();
  }
  expect(await dataKeys(bucket)).toHaveLength(2);
});

const CHANGES = 8;

test("a busy, slow server that loses answers: each change is in the files once", { tags: "heavy" }, async () => {
  await using bucket = await freshBucket();
  let count = 0;
  await using between = await s3Gateway(bucket.options.endpoint, (method) => {
    count++;
    if (count % 7 === 0) return "busy";
    if (method === "PUT" && count % 5 === 0) return "lose";
    return count % 11 === 0 ? "late" : "pass";
  });
  const sink = await sinkIn(bucket, { endpoint: between.url });
  let held = await sink.open(1, timeout());
  for (let i = 1; i <= CHANGES; i++) {
    const at = BigInt(i * 10);
    while (held === null || held.position.commit !== at + 1n) {
      try {
        await sink.apply(userBatch(at, String(i)), new Reports(), timeout());
        held = checkpointAt(at + 1n);
      } catch {
        // As the runtime does: it opens the sink again, and looks whether the batch is done.
        held = await reopened(sink);
      }
    }
  }
  await sink.close();
  await using store = storeIn(bucket);
  const lines = await Promise.all(
    (await dataKeys(bucket)).map(async (key) =>
      String(await store.read(key, timeout()))
        .trimEnd()
        .split("\n"),
    ),
  );
  const ids = lines.flat().map((line) => Number(plainOf(fieldsOf(readJson(line)).get("id"))));
  expect(ids.toSorted((a, b) => a - b)).toEqual(Array.from({ length: CHANGES }, (_, i) => i + 1));
});

async function reopened(sink: Sink) {
  for (;;) {
    try {
      return await sink.open(1, timeout());
    } catch (error) {
      if ((await failure(Promise.reject(error))).kind !== "retryable") throw error;
    }
  }
}

/** Before it creates an object, something else happens. */
class SlowBucket extends S3Store {
  readonly #before: () => Promise<void>;

  constructor(bucket: FreshBucket, before: () => Promise<void>) {
    super({ bucket: bucket.bucket, prefix: "changes/", ca: undefined, ...bucket.options });
    this.#before = before;
  }

  override async create(key: string, pieces: readonly Buffer[], signal: AbortSignal): Promise<boolean> {
    await this.#before();
    return await super.create(key, pieces, signal);
  }
}

test.for([
  ["this process opens the sink again", 1],
  ["the next process opens the sink", 2],
] as const)("a request that was given up is done late, while %s", async ([, lease]) => {
  await using bucket = await freshBucket();
  await using proxy = await tcpProxy(bucket.options.endpoint);
  const before = await filesSample(
    async () => storeIn(bucket, { endpoint: proxy.url(bucket.options.endpoint) }),
    1,
    null,
  );
  await before.write(10n, START_MS);
  proxy.stall("toServer");
  const batch = before.sink.apply(userBatch(20n, "20"), new Reports(), AbortSignal.timeout(500));
  await expect(batch).rejects.toThrow(/abort|timeout/i);
  await using observer = storeIn(bucket);
  const countOf = async (): Promise<number> => (await observer.list("_millrace/log/", timeout())).length;
  const count = await countOf();
  let isLate = true;
  const store = async () =>
    new SlowBucket(bucket, async () => {
      if (!isLate) return;
      isLate = false;
      await proxy.resume();
      await eventually(async () => expect(await countOf()).toBe(count + 1));
    });
  const after = await filesSample(store, lease, null);
  await after.write(30n, START_MS);
  await after.sink.close();
  const lines = await Promise.all(
    (await dataKeys(bucket)).map(async (key) => String(await observer.read(key, timeout())).trimEnd()),
  );
  const ids = lines.flatMap((text) => text.split("\n").map((line) => plainOf(fieldsOf(readJson(line)).get("id"))));
  expect(ids.toSorted()).toEqual(["10", "20", "30"]);
});

test("TLS: an authority of one's own is trusted by `s3.ca`, another is refused, and so is a file that holds none", async () => {
  await using bucket = await freshBucket();
  await using own = await selfSigned(["localhost"]);
  await using other = await selfSigned(["localhost"]);
  await using front = await tlsFront(bucket.options.endpoint, own);
  const opened = async (options: object): Promise<void> => {
    const sink = await sinkIn(bucket, options);
    try {
      await sink.open(1, timeout());
    } finally {
      await sink.close();
    }
  };
  await opened({ endpoint: front.url, ca: own.certificatePath });
  const refused = [
    [{ endpoint: front.url }, /not signed by an authority that is trusted/],
    [{ endpoint: front.url, ca: other.certificatePath }, /not signed by an authority that is trusted/],
    [{ endpoint: front.url, ca: other.keyPath }, /`ca` names holds no certificate/],
    [{ endpoint: bucket.options.endpoint.replace("http:", "https:") }, /does not speak TLS/],
  ] as const;
  for (const [options, said] of refused) {
    const error = await failure(opened(options));
    expect(error).toMatchObject({ code: "MR2003", kind: "blocked", message: expect.stringMatching(said) });
    expect(error.hint).toMatch(/`s3\.ca`/);
  }
});

test("a file and a manifest that somebody removes from the bucket are named, and the manifests say what is lost", async () => {
  await using bucket = await freshBucket();
  await using store = storeIn(bucket);
  const { sink, write } = await filesSample(async () => storeIn(bucket), 1, null);
  for (const at of [100n, 200n, 300n]) await write(at, START_MS);
  const [first = ""] = await dataKeys(bucket);
  await store.remove(first, timeout());
  const manifests = await store.list("_millrace/manifests/", timeout());
  await store.remove(manifests[1]!, timeout());
  const found = await failure(sink.verify(timeout()));
  expect({ code: found.code, kind: found.kind }).toEqual({ code: "MR3110", kind: "reopen" });
  expect(found.message).toContain(first);
  expect(found.message).toContain(manifests[1]);
  await sink.open(2, timeout());
  expect(await sink.presence.missing([fileUsers], timeout())).toEqual([fileUsers]);
  await sink.verify(timeout());
  expect(await sink.presence.missing([fileUsers], timeout())).toEqual([]);
  const lostIn = async (number: number): Promise<unknown> => {
    const bytes = await store.read(manifests[number - 1]!, timeout());
    const manifest: { files: readonly unknown[]; lost: unknown } = JSON.parse(bytes!.toString());
    return { files: manifest.files, lost: manifest.lost };
  };
  expect(await lostIn(1)).toEqual({ files: [], lost: [expect.objectContaining({ path: first, rows: 1 })] });
  expect(await lostIn(2)).toEqual({ files: [], lost: "all" });
  await sink.close();
});

test("keys stay within what S3 takes, whatever the names and the prefix", async () => {
  await using bucket = await freshBucket();
  const options = (prefix: string) => ({
    path: `s3://${bucket.bucket}/${prefix}`,
    format: "ndjson",
    roll: { rows: 1 },
    s3: bucket.options,
  });
  const longest = Array.from({ length: 5 }, () => "é".repeat(69)).join("/");
  expect(() => definition.parse(options(`${longest}/ééééé`))).toThrow("at most 700 bytes");
  const context = { name: "bronze", daemon: "shop", folder: "/", options: definition.parse(options(longest)) };
  const sink = await factory.create(context, quietLog);
  const table = { ...fileUsers, schema: "日".repeat(21), table: "é".repeat(31) };
  await sink.open(1, timeout());
  await sink.prepare([table], timeout());
  const batch = { ...rowsBatch(10n, [table, [put(["1", "a"])]]), order: Uint16Array.of(0) };
  await sink.apply(batch, new Reports(), timeout());
  await sink.close();
  await using store = storeIn(bucket, { prefix: `${longest}/` });
  const keys = await store.list("", timeout());
  expect(keys.filter((key) => key.endsWith(".ndjson"))).toHaveLength(1);
  expect(Math.max(...keys.map((key) => Buffer.byteLength(`${longest}/${key}`)))).toBeLessThanOrEqual(1_024);
});

/** A page, by nothing that knows S3; and nothing at all. */
const PAGES = [
  {
    status: 200,
    headers: { "content-type": "text/html", etag: '"5f3-108"' },
    body: "<html><body>Welcome</body></html>",
  },
  { status: 200, headers: {}, body: "" },
] as const;
const CUT_LIST = "<ListBucketResult><Name>any</Name><IsTruncated>true</IsTruncated></ListBucketResult>";

test("what a proxy answers in place of S3 counts for nothing: neither as done, nor as an empty bucket", async () => {
  await using bucket = await freshBucket();
  using folder = temporaryFolder();
  let answers: ((method: string, path: string) => boolean) | null = null;
  let answer: Reply = PAGES[0];
  await using between = await httpGateway(bucket.options.endpoint, async ({ method, path, pass }) =>
    answers?.(method, path) === true ? answer : await pass(),
  );
  await using store = storeIn(bucket, { endpoint: between.url });
  const file = (bytes: number): string => {
    writeFileSync(folder.file("made"), Buffer.alloc(bytes));
    return folder.file("made");
  };
  const key = "public.users/made.parquet";
  await store.put(key, file(10), timeout());
  const told = new Set<string>();
  const meets = async (name: string, isIt: NonNullable<typeof answers>, work: () => Promise<unknown>) => {
    for (const page of PAGES) {
      answer = page;
      answers = isIt;
      const error = await failure(work());
      told.add(`${name}: ${error.code} ${error.kind}`);
      answers = null;
    }
  };
  await meets(
    "list",
    (method) => method === "GET",
    () => store.list("", timeout()),
  );
  await meets(
    "read",
    (method) => method === "GET",
    () => store.read(key, timeout()),
  );
  await meets(
    "has",
    (method) => method === "HEAD",
    () => store.has(key, timeout()),
  );
  await meets(
    "create",
    (method) => method === "PUT",
    () => store.create("a", [Buffer.from("a")], timeout()),
  );
  await meets(
    "put",
    (method) => method === "PUT",
    () => store.put(key, file(10), timeout()),
  );
  const large = 17 * 1024 * 1024;
  const posts = (what: string) => (method: string, path: string) => method === "POST" && path.includes(what);
  await meets("begin", posts("uploads"), () => store.put(key, file(large), timeout()));
  await meets(
    "part",
    (method) => method === "PUT",
    () => store.put(key, file(large), timeout()),
  );
  await meets("complete", posts("uploadId"), () => store.put(key, file(large), timeout()));
  await meets(
    "settle",
    (method, path) => method === "GET" && path.includes("uploads"),
    () => store.settle(timeout()),
  );
  expect([...told].filter((one) => !one.endsWith(": MR2001 retryable"))).toEqual([]);
  answers = (method) => method === "DELETE";
  answer = PAGES[0];
  expect(await failure(store.remove(key, timeout()))).toMatchObject({ code: "MR2001", kind: "retryable" });
  // A list that is not at its end, without a word of where it goes on.
  answers = (method) => method === "GET";
  answer = { status: 200, headers: { "content-type": "application/xml" }, body: CUT_LIST };
  expect(await failure(store.list("", timeout()))).toMatchObject({ code: "MR2001", kind: "retryable" });
  // Without a word of S3 an object is not gone.
  answers = (method) => method === "HEAD";
  answer = { status: 404, headers: {}, body: "" };
  expect(await store.has(key, timeout())).toBe(true);
  answers = null;
  expect(await store.list("", timeout())).toEqual([key]);
  expect(await store.has("nothing", timeout())).toBe(false);
  // As servers do that have a type for whatever they answer.
  answers = (method) => method === "DELETE";
  answer = { status: 204, headers: { "content-type": "text/html; charset=UTF-8" }, body: "" };
  await store.remove(key, timeout());
});

test.for(["a page", "nothing", "an empty list"])(
  "changes that wait for their files stay where a proxy answers the first list of the log by %s",
  async (what) => {
    await using bucket = await freshBucket();
    const roll = { rows: 100 };
    const first = await sinkIn(bucket, {}, roll);
    await first.open(1, timeout());
    await first.apply(userBatch(10n, "1"), new Reports(), timeout());
    await first.close();
    let isFirst = true;
    const empty = {
      status: 200,
      headers: { "content-type": "application/xml" },
      body: "<ListBucketResult><Name>any</Name><IsTruncated>false</IsTruncated></ListBucketResult>",
    };
    const answer = what === "a page" ? PAGES[0] : what === "nothing" ? PAGES[1] : empty;
    await using between = await httpGateway(bucket.options.endpoint, async ({ path, pass }) => {
      if (!isFirst || !decodeURIComponent(path).includes("prefix=changes/_millrace/log")) return await pass();
      isFirst = false;
      return answer;
    });
    const second = await sinkIn(bucket, { endpoint: between.url }, roll);
    if (answer !== empty)
      expect(await failure(second.open(2, timeout()))).toMatchObject({ code: "MR2001", kind: "retryable" });
    const held = await second.open(2, timeout());
    expect(isFirst).toBe(false);
    expect(held?.position.commit).toBe(11n);
    await second.close();
    const third = await sinkIn(bucket, {}, { rows: 1 });
    await third.open(3, timeout());
    await third.apply(userBatch(20n, "2"), new Reports(), timeout());
    await third.close();
    await using store = storeIn(bucket);
    const texts = await Promise.all((await dataKeys(bucket)).map((key) => store.read(key, timeout())));
    expect(texts.map(String).join("").split("\n").filter(Boolean)).toHaveLength(2);
  },
);

/** As AWS answers; the server of these tests knows neither. */
const RULES = `<LifecycleConfiguration>
  <Rule><ID>old</ID><Status>Enabled</Status><Filter><Prefix>changes/public</Prefix></Filter>
    <Expiration><Days>30</Days></Expiration></Rule>
  <Rule><ID>all</ID><Status>Enabled</Status><Filter><Prefix></Prefix></Filter>
    <Transition><Days>9</Days><StorageClass>GLACIER</StorageClass></Transition></Rule>
  <Rule><ID>other</ID><Status>Enabled</Status><Filter><Prefix>elsewhere/</Prefix></Filter>
    <Expiration><Days>1</Days></Expiration></Rule>
  <Rule><ID>tagged</ID><Status>Enabled</Status><Filter><Tag><Key>a</Key><Value>b</Value></Tag></Filter>
    <Expiration><Days>1</Days></Expiration></Rule>
  <Rule><ID>off</ID><Status>Disabled</Status><Filter><Prefix></Prefix></Filter>
    <Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>`;
const VERSIONS = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";

test("check names what a bucket does by itself to the files of the sink, and nothing where it may not look", async () => {
  await using bucket = await freshBucket();
  const found = async (endpoint: string): Promise<readonly string[]> => {
    await using store = storeIn(bucket, { endpoint });
    return (await store.rules(timeout())).map(({ what }) => what);
  };
  expect(await found(bucket.options.endpoint)).toEqual([]);
  using opened = s3Client(bucket.options);
  const lock = { ObjectLockEnabled: "Enabled", Rule: { DefaultRetention: { Mode: "GOVERNANCE", Days: 2 } } } as const;
  await opened.client.send(
    new PutObjectLockConfigurationCommand({ Bucket: bucket.bucket, ObjectLockConfiguration: lock }),
  );
  const place = `s3://${bucket.bucket}/changes/`;
  const locked = `object lock (GOVERNANCE) keeps each object below ${place} for 2 days`;
  expect(await found(bucket.options.endpoint)).toEqual([expect.stringContaining(locked)]);
  await using aws = await httpGateway(bucket.options.endpoint, async ({ path, pass }) => {
    const { searchParams } = new URL(path, "http://bucket");
    const body = searchParams.has("lifecycle") ? RULES : searchParams.has("versioning") ? VERSIONS : null;
    return body === null ? await pass() : { status: 200, headers: { "content-type": "application/xml" }, body };
  });
  expect(await found(aws.url)).toEqual([
    expect.stringContaining(`rule "old" of the bucket deletes objects below ${place} after 30 days`),
    expect.stringContaining(`rule "all" of the bucket moves objects below ${place} to GLACIER`),
    expect.stringContaining("keeps old versions, and no rule ends them"),
    expect.stringContaining(locked),
  ]);
  const options = definition.parse({ path: place, s3: { ...bucket.options, endpoint: aws.url } });
  const findings = await factory.check({ name: "bronze", daemon: "shop", folder: "/", options }, timeout());
  expect(findings.map(({ id, level }) => `${id} ${level}`)).toEqual([
    "files.path ok",
    ...Array.from({ length: 4 }, () => "files.bucket warning"),
  ]);
});
