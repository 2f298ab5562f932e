/** Commands open sinks while no daemon runs. */
import { systemClock } from "../../src/core/clock.ts";
import { expect, test } from "vitest";
import { definition, factory } from "../../connectors/redis/config.ts";
import { withOpenSink } from "../../src/cli/opened.ts";
import type { Lease } from "../../src/core/contracts/state-store.ts";
import type { Logger } from "../../src/core/contracts/telemetry.ts";
import { tcpProxy } from "../support/network/proxy.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { freshKeyPrefix, redisUrl } from "../support/run/services.ts";

test("a command outlasts a server that is away for a moment", async () => {
  await using keys = freshKeyPrefix();
  await using proxy = await tcpProxy(redisUrl());
  const options = definition.parse({ url: proxy.url(redisUrl()), prefix: keys.prefix });
  const codes: string[] = [];
  const create = async (log: Logger) => {
    const sink = await factory.create({ name: "cache", daemon: "shop", folder: "/", options }, log);
    const open = sink.open.bind(sink);
    return Object.assign(sink, {
      open: async (lease: number, signal: AbortSignal) => {
        try {
          return await open(lease, signal);
        } catch (error) {
          codes.push(String(Object(error).code));
          await proxy.resume();
          throw error;
        }
      },
    });
  };
  const held: Lease = { number: 1, holder: "", leftMs: 1 };
  await proxy.refuse();
  const numbers = { reserved: async () => 0, reserve: async () => {} };
  const state = { lease: { current: async () => held }, numbers };
  expect(
    await withOpenSink({ clock: systemClock, log: quietLog }, { connector: { create } }, state, async (_, own) => own),
  ).toBeNull();
  expect(codes).toEqual(["MR2001"]);
});
