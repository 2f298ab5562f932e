/** `millrace drill` where every connection is encrypted: its proxies stand between, and the certificates still fit their names. */
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { selfSigned } from "../../support/network/certificate.ts";
import { tlsFront } from "../../support/network/tls-front.ts";
import { freshDatabase, freshKeyPrefix, ownPostgres, redisUrl } from "../../support/run/services.ts";

const TABLE =
  "create table orders (id int primary key, n int); insert into orders select g, g from generate_series(1, 1000) g";

test("connections over TLS break and recover, and all is equal", { tags: "heavy" }, async () => {
  await using certificate = await selfSigned(["localhost"]);
  await using server = await ownPostgres({ tls: certificate });
  const source = await freshDatabase(server);
  await using keys = freshKeyPrefix();
  await using front = await tlsFront(redisUrl(), certificate);
  const encrypted = new URL(source.url);
  encrypted.hostname = "localhost";
  encrypted.searchParams.set("sslmode", "verify-full");
  encrypted.searchParams.set("sslrootcert", certificate.certificatePath);
  await using pipeline = await RunningPipeline.start(TABLE, {
    kinds: [],
    source,
    untilStreaming: false,
    configure: (config) => ({
      ...config,
      source: { kind: "postgres", url: encrypted.href, heartbeat: "500ms" },
      sinks: {
        cache: {
          kind: "redis",
          url: front.url.replace("https", "rediss"),
          prefix: keys.prefix,
          ca: certificate.certificatePath,
        },
      },
    }),
  });
  await pipeline.daemon.streaming();
  await pipeline.settled();
  await pipeline.daemon.stop();
  await source.query("update orders set n = n + 1 where id <= 500");
  const { exitCode, stdout, stderr } = await pipeline.installation.command(
    "drill",
    "--minutes",
    "0.5",
    "--yes",
    "--json",
  );
  expect(exitCode, stdout + stderr).toBe(0);
  const report: {
    addresses: string[];
    breaks: { what: string; on: string; connections: number | null; recoveryMs: number | null }[];
  } = JSON.parse(stdout);
  const ports = report.addresses.map((address) => address.split(":").at(-1));
  expect(new Set(ports)).toEqual(new Set([encrypted.port, new URL(front.url).port]));
  expect(report.breaks.every(({ recoveryMs }) => recoveryMs !== null)).toBe(true);
  expect(report.breaks.find(({ what }) => what === "cut")?.connections).toBeGreaterThan(0);
  await pipeline.start();
});
