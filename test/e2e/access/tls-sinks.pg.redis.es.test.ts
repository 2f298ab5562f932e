/** The daemon with a search and a cache sink that take nothing but TLS, their authority beside the configuration. */
import { copyFile } from "node:fs/promises";
import { join } from "node:path";
import { Redis } from "ioredis";
import { Client } from "pg";
import { expect, test } from "vitest";
import type { Checked } from "../../support/postgres/administer.ts";
import { selfSigned } from "../../support/network/certificate.ts";
import { Installation } from "../../support/daemon/daemon-process.ts";
import {
  elasticsearchUrl,
  freshDatabase,
  freshIndexPrefix,
  freshKeyPrefix,
  redisUrl,
} from "../../support/run/services.ts";
import { searchCall } from "../../support/caches/search-rows.ts";
import { tlsFront } from "../../support/network/tls-front.ts";

const ROW_COUNT = 500;

test("rows arrive over TLS, and check names what is not trusted", async () => {
  await using database = await freshDatabase();
  const admin = new Client({ connectionString: database.url });
  await admin.connect();
  await admin.query(`create table a (id int primary key, body text);
    insert into a select g, md5(g::text) from generate_series(1, ${ROW_COUNT}) g`);
  await admin.end();
  await using keys = freshKeyPrefix();
  await using indices = freshIndexPrefix();
  await using certificate = await selfSigned(["localhost"]);
  await using search = await tlsFront(elasticsearchUrl(), certificate);
  await using cache = await tlsFront(redisUrl(), certificate);
  const sinks = (tls: object) => ({
    search: { kind: "elasticsearch", url: search.url, prefix: indices.prefix, replicas: 0, ...tls },
    cache: { kind: "redis", url: cache.url.replace("https", "rediss"), prefix: keys.prefix, ...tls },
  });
  const name = `tls_${keys.prefix.replaceAll(/\W/g, "")}`;
  const source = { kind: "postgres", url: database.url };
  await using installation = new Installation({ name, source, sinks: sinks({ ca: "./ca.pem" }) });
  await copyFile(certificate.certificatePath, join(installation.folder, "ca.pem"));
  const { exitCode, stderr } = await installation.command("run", "--once");
  expect({ exitCode, stderr: exitCode === 0 ? "" : stderr }).toEqual({ exitCode: 0, stderr: "" });
  const redis = new Redis(redisUrl());
  expect(await redis.hget(`${keys.prefix}public:a:${ROW_COUNT}`, "body")).toHaveLength(32);
  redis.disconnect();
  await searchCall(elasticsearchUrl(), "POST", `/${indices.prefix}public.a/_refresh`);
  const counted = await searchCall(elasticsearchUrl(), "GET", `/${indices.prefix}public.a/_count`);
  expect(counted.text).toContain(`"count":${ROW_COUNT}`);

  installation.configure({ name, source, sinks: sinks({}) });
  const { stdout } = await installation.command("check", "--json");
  const { findings }: Checked = JSON.parse(stdout);
  const errors = findings.filter(({ level }) => level === "error");
  expect(errors.map(({ part }) => part).toSorted()).toEqual(["cache", "search"]);
  for (const { what, fix } of errors) expect(`${what} -> ${fix}`).toMatch(/not signed by an authority.* -> .*`ca`/);
});
