/** Sinks over TLS, before real servers: what is trusted, and what is said where TLS fails. */
import { copyFile, writeFile } from "node:fs/promises";
import { inspect } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import * as columns from "../../connectors/clickhouse/config.ts";
import * as search from "../../connectors/elasticsearch/config.ts";
import * as cache from "../../connectors/redis/config.ts";
import type { Finding } from "../../src/core/contracts/connector.ts";
import type { Sink } from "../../src/core/contracts/sink.ts";
import { failure, timeout } from "../conformance/stage.ts";
import { type Certificate, selfSigned } from "../support/network/certificate.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import {
  clickhouseUrl,
  elasticsearchUrl,
  freshColumns,
  freshIndexPrefix,
  freshKeyPrefix,
  redisUrl,
} from "../support/run/services.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";
import { tlsFront } from "../support/network/tls-front.ts";

interface Options {
  readonly url: string;
  readonly ca?: string;
  readonly cert?: string;
  readonly certKey?: string;
  readonly serverName?: string;
}

interface Kind {
  readonly name: string;
  readonly schemes: readonly [plain: string, encrypted: string];
  readonly server: () => string;
  readonly freshPrefix: () => { readonly prefix: string } & AsyncDisposable;
  readonly create: (options: Options & { readonly prefix?: string }, folder: string) => Promise<Sink>;
  readonly check: (options: Options, folder: string) => Promise<readonly Finding[]>;
}

const kinds: readonly Kind[] = [
  {
    name: "elasticsearch",
    schemes: ["http", "https"],
    server: elasticsearchUrl,
    freshPrefix: () => freshIndexPrefix(elasticsearchUrl()),
    create: async (options, folder) =>
      await search.factory.create(contextOf(search.definition.parse({ replicas: 0, ...options }), folder), quietLog),
    check: async (options, folder) =>
      await search.factory.check(contextOf(search.definition.parse(options), folder), timeout()),
  },
  {
    name: "clickhouse",
    schemes: ["http", "https"],
    server: clickhouseUrl,
    freshPrefix: () => freshColumns(),
    create: async ({ prefix: schema, ...options }, folder) =>
      await columns.factory.create(contextOf(columns.definition.parse({ schema, ...options }), folder), quietLog),
    check: async (options, folder) =>
      await columns.factory.check(contextOf(columns.definition.parse(options), folder), timeout()),
  },
  {
    name: "redis",
    schemes: ["redis", "rediss"],
    server: redisUrl,
    freshPrefix: () => freshKeyPrefix(redisUrl()),
    create: async (options, folder) =>
      await cache.factory.create(contextOf(cache.definition.parse(options), folder), quietLog),
    check: async (options, folder) =>
      await cache.factory.check(contextOf(cache.definition.parse(options), folder), timeout()),
  },
];

function contextOf<Options>(options: Options, folder: string) {
  return { name: "sink", daemon: "shop", folder, options };
}

const DAY_MS = 86_400_000;
const PASSWORD = "canary-7f3a";

describe.each(kinds)("$name", (kind) => {
  const [plain, encrypted] = kind.schemes;
  let named: Certificate;
  let other: Certificate;
  beforeAll(async () => {
    [named, other] = await Promise.all([selfSigned(["localhost"]), selfSigned(["localhost"])]);
  });
  afterAll(async () => {
    await Promise.all([named, other].map((certificate) => certificate[Symbol.asyncDispose]()));
  });

  function at(url: string, scheme = encrypted): string {
    return url.replace(/^\w+/, scheme);
  }

  async function opens(options: Options, folder = "/"): Promise<void> {
    await using fresh = kind.freshPrefix();
    const sink = await kind.create({ ...options, prefix: fresh.prefix }, folder);
    try {
      await sink.open(1, timeout());
      await sink.verify(timeout());
    } finally {
      await sink.close();
    }
    const findings = await kind.check(options, folder);
    expect(findings.filter(({ level }) => level === "error")).toEqual([]);
  }

  /** Refused until somebody has acted, with this sentence and fix, by the sink and by the check; the password is not told. */
  async function refused(options: Options, said: RegExp): Promise<void> {
    const withLogin = { ...options, url: options.url.replace("://", `://millrace:${PASSWORD}@`) };
    const sink = await kind.create(withLogin, "/");
    try {
      const error = await failure(sink.open(1, timeout()));
      expect([error.code, error.kind]).toEqual(["MR2003", "blocked"]);
      expect(`${error.message} -> ${error.hint}`).toMatch(said);
      expect(inspect(error, { depth: null })).not.toMatch(/canary|BEGIN PRIVATE/);
    } finally {
      await sink.close();
    }
    const found = (await kind.check(withLogin, "/")).find(({ level }) => level === "error");
    expect(`${found?.what} -> ${found?.fix}`).toMatch(said);
  }

  test("an authority of one's own, its file beside the configuration", async () => {
    await using front = await tlsFront(kind.server(), named);
    using folder = temporaryFolder();
    await copyFile(named.certificatePath, folder.file("ca.pem"));
    await opens({ url: at(front.url), ca: "./ca.pem" }, folder.path);
    const untrusted = /not signed by an authority that is trusted -> .*`ca`/;
    await refused({ url: at(front.url) }, untrusted);
    await refused({ url: at(front.url), ca: other.certificatePath }, untrusted);
  });

  test("a certificate for another host", async () => {
    await using elsewhere = await selfSigned(["elsewhere.test"]);
    await using front = await tlsFront(kind.server(), elsewhere);
    const options = { url: at(front.url), ca: elsewhere.certificatePath };
    await refused(options, /for another name than the url's host -> .*`serverName`/);
    await opens({ ...options, serverName: "elsewhere.test" });
    await refused({ ...options, serverName: "nowhere.test" }, /for another name/);
  });

  test("a certificate that has expired", async () => {
    await using expired = await selfSigned(["localhost"], Date.now() - DAY_MS);
    await using front = await tlsFront(kind.server(), expired);
    await refused({ url: at(front.url), ca: expired.certificatePath }, /has expired -> Renew/);
  });

  test("client certificates", async () => {
    await using client = await selfSigned(["client"]);
    await using front = await tlsFront(kind.server(), named, client);
    const options = { url: at(front.url), ca: named.certificatePath };
    await opens({ ...options, cert: client.certificatePath, certKey: client.keyPath });
    await refused(options, /wants a client certificate -> .*`cert` and `certKey`/);
  });

  test("plain text to a TLS port, and TLS to a plain one", async () => {
    await using front = await tlsFront(kind.server(), named);
    const alone = /speaks TLS alone on this port -> Use https:\/\/ or rediss/;
    await refused({ url: at(front.url, plain) }, alone);
    await refused({ url: at(kind.server()) }, /does not speak TLS on this port -> .*scheme/);
  });

  test("keys and files that can't be used", async () => {
    using folder = temporaryFolder();
    const empty = folder.file("empty.pem");
    await writeFile(empty, "no certificate");
    const url = at(kind.server());
    await refused({ url, ca: "/nowhere/ca.pem" }, /`ca` names can't be read \(ENOENT\): \/nowhere\/ca.pem/);
    await refused({ url, ca: empty }, /`ca` names holds no certificate/);
    const mixed = { cert: named.certificatePath, certKey: other.keyPath };
    await refused({ url, ...mixed }, /`cert` and `certKey` can't be used together/);
  });
});
