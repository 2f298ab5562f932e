/**
 * A lake in a bucket that S3 does not give: each cause has a number of its own, nothing is lost, and no secret is told.
 * @module-tag heavy
 */
import { writeFileSync } from "node:fs";
import { S3Client } from "@aws-sdk/client-s3";
import { expect, test, vi } from "vitest";
import type { Batch } from "../../src/core/model/batch.ts";
import { placeOf } from "../../connectors/duckdb/lake/place.ts";
import { lakeSink } from "../../connectors/duckdb/lake/sink.ts";
import { lookForLogin } from "../../connectors/kit/bucket-login.ts";
import { users } from "../conformance/sink-rows.ts";
import { failure, put, Reports, rowsBatch, timeout } from "../conformance/stage.ts";
import { lakeTarget } from "../support/warehouses/ducklake-target.ts";
import { s3Gateway, type Way } from "../support/network/http-gateway.ts";
import { selfSigned } from "../support/network/certificate.ts";
import { tlsFront } from "../support/network/tls-front.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";
import { freshBucket } from "../support/run/services.ts";
import { eventually } from "../support/run/waiting.ts";
import { DEFAULT_FORM } from "../../connectors/warehouse/own-columns.ts";
import type { Sink } from "../../src/core/contracts/sink.ts";

const SECRETS = /wrong-secret|millracetestsecret/;
/** More than the catalogue keeps itself. */
const ROWS = 300;
const DAY_MS = 86_400_000;

test("wrong keys, no bucket, no server, a busy one and a wrong clock are told apart, and the step is done afterwards", async () => {
  const bucket = await freshBucket();
  await using target = await lakeTarget("sqlite", DEFAULT_FORM, bucket);
  let way: Way = "pass";
  await using between = await s3Gateway(bucket.options.endpoint, () => way);
  const sinkWith = (options: object, name = bucket.bucket): Sink => {
    const s3 = { ...bucket.options, ...options };
    const { catalog } = target.options.place;
    const place = placeOf({ catalog: `sqlite:${catalog}`, data: `s3://${name}/lake`, s3 }, "/");
    return lakeSink({ ...target.options, place });
  };
  let lease = 1;
  const apply = (sink: Sink): Promise<void> => fill(sink, lease++);
  const cases = [
    ["pass", { secretAccessKey: "wrong-secret" }, "MR2002", "blocked"],
    ["pass", { accessKeyId: "nobody" }, "MR2002", "blocked"],
    ["pass", { endpoint: "http://127.0.0.1:1" }, "MR2001", "retryable"],
    ["busy", { endpoint: between.url }, "MR2001", "retryable"],
    ["skewed", { endpoint: between.url }, "MR3230", "blocked"],
  ] as const;
  for (const [now, options, code, kind] of cases) {
    way = now;
    const found = await failure(apply(sinkWith(options)));
    expect({ options, code: found.code, kind: found.kind }).toEqual({ options, code, kind });
    for (const text of [found.message, found.hint, String(found.cause)]) expect(text).not.toMatch(SECRETS);
  }
  way = "pass";
  const sink = sinkWith({ endpoint: between.url });
  expect(await sink.look(timeout())).toBeNull();
  await apply(sink);
  expect(await target.readRows(users)).toHaveLength(ROWS);
  const held = await target.makeSink().look(timeout());
  expect(held?.position.commit).toBe(11n);
});

test("a login that ends, or whose file changes, is replaced while the sink is open", async () => {
  await using bucket = await freshBucket();
  await using target = await lakeTarget("sqlite", DEFAULT_FORM, bucket);
  let way: Way = "pass";
  await using between = await s3Gateway(bucket.options.endpoint, () => way);
  using folder = temporaryFolder();
  const file = folder.file("credentials");
  const { accessKeyId, secretAccessKey, ...others } = bucket.options;
  const write = (secret: string): void =>
    writeFileSync(file, `[default]\naws_access_key_id = ${accessKeyId}\naws_secret_access_key = ${secret}\n`);
  vi.stubEnv("AWS_SHARED_CREDENTIALS_FILE", file);
  write(secretAccessKey);
  const { catalog } = target.options.place;
  const s3 = { ...others, endpoint: between.url };
  const place = placeOf({ catalog: `sqlite:${catalog}`, data: `s3://${bucket.bucket}/lake`, s3 }, "/");
  const sink = lakeSink({ ...target.options, place });
  await sink.open(1, timeout());
  await sink.prepare([users], timeout());
  await sink.apply(rows(1, 10n), new Reports(), timeout());
  const attempt = () => failure(sink.apply(rows(2, 20n), new Reports(), timeout()));
  way = "expired";
  expect(await attempt()).toMatchObject({ code: "MR2002", kind: "blocked" });
  // Read again, and wrong; then right.
  way = "pass";
  write("wrong-secret");
  expect(await attempt()).toMatchObject({ code: "MR2002", kind: "blocked" });
  write(secretAccessKey);
  await sink.apply(rows(2, 20n), new Reports(), timeout());
  await sink.close();
  expect(await target.readRows(users)).toHaveLength(2 * ROWS);
  vi.unstubAllEnvs();
});

test("AWS' client looks for keys again too, at its own times", async () => {
  using folder = temporaryFolder();
  const file = folder.file("credentials");
  const write = (secret: string): void =>
    writeFileSync(file, `[default]\naws_access_key_id = key\naws_secret_access_key = ${secret}\n`);
  vi.stubEnv("AWS_SHARED_CREDENTIALS_FILE", file);
  vi.useFakeTimers({ toFake: ["Date"] });
  write("first");
  const client = new S3Client({ region: "us-east-1", credentials: lookForLogin });
  const secret = async () => (await client.config.credentials()).secretAccessKey;
  expect(await secret()).toBe("first");
  write("second");
  expect(await secret()).toBe("first");
  vi.setSystemTime(Date.now() + 31_000);
  // It may look beside the request that finds the login near its end.
  await eventually(async () => expect(await secret()).toBe("second"));
  client.destroy();
  vi.useRealTimers();
  vi.unstubAllEnvs();
});

test("TLS: an authority of one's own is trusted by `s3.ca`; whatever is not trusted gets no row", async () => {
  await using bucket = await freshBucket();
  await using own = await selfSigned(["localhost"]);
  await using other = await selfSigned(["localhost"]);
  await using elsewhere = await selfSigned(["elsewhere.test"]);
  await using expired = await selfSigned(["localhost"], Date.now() - DAY_MS);
  await using front = await tlsFront(bucket.options.endpoint, own);
  await using misnamed = await tlsFront(bucket.options.endpoint, elsewhere);
  await using outdated = await tlsFront(bucket.options.endpoint, expired);
  await using target = await lakeTarget("sqlite", DEFAULT_FORM, bucket);
  let lease = 1;
  const apply = async (options: object, schema?: string): Promise<void> => {
    const { catalog } = target.options.place;
    const s3 = { ...bucket.options, endpoint: front.url, ...options };
    const place = placeOf({ catalog: `sqlite:${catalog}`, data: `s3://${bucket.bucket}/lake`, s3 }, "/");
    await fill(lakeSink({ ...target.options, place, schema }), lease++);
  };
  const untrusted = /certificate of the S3 that holds the lake's data is not trusted/;
  const refused = [
    [{}, untrusted],
    [{ ca: other.certificatePath }, untrusted],
    [{ endpoint: misnamed.url, ca: elsewhere.certificatePath }, untrusted],
    [{ endpoint: outdated.url, ca: expired.certificatePath }, untrusted],
    [{ ca: "/nowhere/ca.pem" }, /`ca` names can't be read \(ENOENT\): \/nowhere\/ca.pem/],
    [{ ca: own.keyPath }, /`ca` names holds no certificate/],
  ] as const;
  for (const [options, said] of refused) {
    const error = await failure(apply(options));
    expect(error).toMatchObject({ code: "MR2003", kind: "blocked", message: expect.stringMatching(said) });
    expect(error.hint).toMatch(/`s3\.ca`/);
  }
  const lost = ["https://localhost:1", bucket.options.endpoint.replace("http:", "https:")];
  for (const endpoint of lost)
    expect(await failure(apply({ endpoint }, "ssl_certificates"))).toMatchObject({ code: "MR2001", kind: "retryable" });
  await apply({ ca: own.certificatePath });
  expect(await target.readRows(users)).toHaveLength(ROWS);
});

function rows(round: number, at: bigint): Batch {
  return rowsBatch(at, [users, Array.from({ length: ROWS }, (_, i) => put([String(round * ROWS + i), "a", null]))]);
}

async function fill(sink: Sink, lease: number): Promise<void> {
  const rows = Array.from({ length: ROWS }, (_, i) => put([String(i), "a", null]));
  try {
    await sink.open(lease, timeout());
    await sink.prepare([users], timeout());
    await sink.apply(rowsBatch(10n, [users, rows]), new Reports(), timeout());
  } finally {
    await sink.close();
  }
}
