/** A connection that ends anywhere in its handshake or login passes by itself, whoever it was made to, with TLS and without. */
import { chmod } from "node:fs/promises";
import { dirname } from "node:path";
import { createConnection, createServer, type Socket } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import * as search from "../../../connectors/elasticsearch/config.ts";
import { Server } from "../../../connectors/mysql/source/wire/server.ts";
import { parseMysqlUrl } from "../../../connectors/mysql/url.ts";
import { connect } from "../../../src/postgres/connect.ts";
import { parsePostgresUrl } from "../../../src/postgres/url.ts";
import { sinkError } from "../../../connectors/postgres/sink/errors.ts";
import { classify } from "../../../connectors/postgres/source/errors.ts";
import { identifySystem } from "../../../connectors/postgres/source/wire/replication-connection.ts";
import { connectReplication } from "../../../connectors/postgres/source/wire/replication-connection.ts";
import * as cache from "../../../connectors/redis/config.ts";
import { findMillraceError } from "../../../src/core/errors.ts";
import { classify as ofState } from "../../../src/state/postgres/errors.ts";
import type { Sink } from "../../../src/core/contracts/sink.ts";
import { type Certificate, selfSigned } from "../../support/network/certificate.ts";
import { quietLog } from "../../support/run/quiet-log.ts";
import { elasticsearchUrl, ownMysql, ownPostgres, redisUrl } from "../../support/run/services.ts";
import { tlsFront } from "../../support/network/tls-front.ts";
import { reset } from "../../support/network/proxy-flow.ts";

/** `farewell`: closed; these bytes come in one piece with the last ones of the server. */
type Cut = "close" | "reset" | { readonly farewell: Buffer };

interface CuttingProxy extends AsyncDisposable {
  readonly port: number;
  /** New connections end behind this many messages of both sides together. */
  cutAfter(messageCount: number, how: Cut): void;
}

/** What comes in one piece counts as a message. */
async function cuttingProxy(target: string): Promise<CuttingProxy> {
  const { hostname, port } = new URL(target);
  let rule: { readonly messageCount: number; readonly how: Cut } = { messageCount: 0, how: "close" };
  const open = new Set<Socket>();
  const listener = createServer((client) => {
    const { how, messageCount } = rule;
    const server = createConnection({ host: hostname, port: Number(port) });
    let left = messageCount;
    const end = (): void => {
      server.destroy();
      if (how === "reset") reset(client);
      else client.end();
    };
    const forward = (to: Socket) => (bytes: Buffer) => {
      if (left <= 0) return;
      left--;
      const isFarewell = left === 0 && to === client && typeof how === "object";
      to.write(isFarewell ? Buffer.concat([bytes, how.farewell]) : bytes, left === 0 ? end : undefined);
    };
    for (const socket of [client, server]) {
      open.add(socket);
      socket.on("error", () => socket.destroy());
      socket.on("close", () => open.delete(socket));
    }
    client.on("data", forward(server));
    server.on("data", forward(client));
    client.on("close", () => server.destroy());
    server.on("close", () => client.end());
    if (messageCount === 0) end();
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const address = listener.address();
  if (address === null || typeof address === "string") throw new Error("the proxy has no port");
  return {
    port: address.port,
    cutAfter(messageCount, how) {
      rule = { messageCount, how };
    },
    async [Symbol.asyncDispose]() {
      for (const socket of open) socket.destroy();
      await new Promise<void>((resolve) => listener.close(() => resolve()));
    },
  };
}

/** More than any of them has before it is at work. */
const MESSAGE_COUNT_MAX = 24;

let certificate: Certificate;
beforeAll(async () => {
  certificate = await selfSigned(["localhost"]);
  // Servers run as users of their own.
  await chmod(dirname(certificate.keyPath), 0o755);
  await chmod(certificate.keyPath, 0o644);
});
afterAll(async () => {
  await certificate[Symbol.asyncDispose]();
});

/** Cuts behind each message until the connection is made, and expects that each failure is one to try again. */
async function expectRetried(proxy: CuttingProxy, open: (port: number) => Promise<void>): Promise<void> {
  const wrong: object[] = [];
  let failureCount = 0;
  for (const how of ["close", "reset"] as const) {
    for (let messageCount = 0; messageCount <= MESSAGE_COUNT_MAX; messageCount++) {
      proxy.cutAfter(messageCount, how);
      try {
        await open(proxy.port);
        break;
      } catch (error) {
        failureCount++;
        const known = findMillraceError(error);
        if (known?.kind !== "retryable") wrong.push({ how, messageCount, code: known?.code, message: String(error) });
      }
    }
  }
  expect(wrong).toEqual([]);
  expect(failureCount).toBeGreaterThan(2);
}

test.each(["mysql", "mariadb"] as const)("%s", { tags: "heavy" }, async (flavour) => {
  const settings = { "ssl-cert": certificate.certificatePath, "ssl-key": certificate.keyPath };
  await using server = await ownMysql(flavour, { settings });
  await using proxy = await cuttingProxy(server.url);
  for (const mode of ["DISABLED", "PREFERRED", "REQUIRED"]) {
    await expectRetried(proxy, async (port) => {
      const address = parseMysqlUrl(`mysql://root@localhost:${port}/mysql?ssl-mode=${mode}`, "");
      (await new Server(address, 1).open(AbortSignal.timeout(10_000))).destroy();
    });
  }
});

test("postgres", async () => {
  await using server = await ownPostgres({ tls: certificate });
  await using proxy = await cuttingProxy(server.url);
  for (const mode of ["disable", "prefer", "require"]) {
    await expectRetried(proxy, async (port) => {
      const address = parsePostgresUrl(`postgres://postgres@localhost:${port}/postgres?sslmode=${mode}`);
      try {
        const { client } = await connect(address, { signal: AbortSignal.timeout(10_000) });
        await client.end();
      } catch (error) {
        const numbered = [classify(error, "connecting"), sinkError(error, "connecting"), ofState(error)];
        throw numbered.find(({ kind }) => kind !== "retryable") ?? numbered[0]!;
      }
    });
  }
});

/** ErrorResponse, as a backend sends it whose postmaster was killed. */
const FAREWELL = Buffer.from("E\0\0\0\x24SFATAL\0VFATAL\0C57P01\0Mfarewell\0\0", "latin1");

test("a postgres that ends in the piece in which it lets in", async () => {
  await using server = await ownPostgres();
  await using proxy = await cuttingProxy(server.url);
  const address = parsePostgresUrl(`postgres://postgres@localhost:${proxy.port}/postgres?sslmode=disable`);
  let isLetIn = false;
  for (let messageCount = 0; !isLetIn; messageCount++) {
    proxy.cutAfter(messageCount, { farewell: FAREWELL });
    try {
      const connection = await connectReplication(address, AbortSignal.timeout(10_000));
      isLetIn = true;
      await identifySystem(connection, AbortSignal.timeout(10_000));
    } catch (error) {
      expect(classify(error, "connecting")).toMatchObject({ kind: "retryable" });
    }
  }
});

const contextOf = <Options>(options: Options) => ({ name: "sink", daemon: "shop", folder: "/", options });

async function opens(sink: Sink): Promise<void> {
  try {
    await sink.open(1, AbortSignal.timeout(10_000));
  } finally {
    await sink.close();
  }
}

test.each(["redis", "rediss"])("%s", async (scheme) => {
  await using front = await tlsFront(redisUrl(), certificate);
  await using proxy = await cuttingProxy(scheme === "redis" ? redisUrl() : front.url);
  const tls = scheme === "redis" ? {} : { ca: certificate.certificatePath };
  await expectRetried(proxy, async (port) => {
    const options = cache.definition.parse({ url: `${scheme}://localhost:${port}/0`, prefix: "handshakes:", ...tls });
    await opens(await cache.factory.create(contextOf(options), quietLog));
  });
});

test.each(["http", "https"])("%s", async (scheme) => {
  await using front = await tlsFront(elasticsearchUrl(), certificate);
  await using proxy = await cuttingProxy(scheme === "http" ? elasticsearchUrl() : front.url);
  const tls = scheme === "http" ? {} : { ca: certificate.certificatePath };
  await expectRetried(proxy, async (port) => {
    const options = search.definition.parse({ url: `${scheme}://localhost:${port}`, prefix: "handshakes-", ...tls });
    await opens(await search.factory.create(contextOf(options), quietLog));
  });
});
